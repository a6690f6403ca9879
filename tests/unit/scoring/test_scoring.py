"""Trust scores: each signal on evidence made for it, and what holds for every score."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring import signals
from services.scoring.evidence import Evidence
from services.scoring.score import NEUTRAL, Rules, assess, material, told
from services.scoring.signals import SIGNALS, Reading
from services.scoring.sources import KINDS, SourceTable, load_sources
from shared.errors import StartupFailed
from shared.events import Item
from tests.support.items import item, story

TABLE = SourceTable({"wire.example": KINDS["wire agency"], "joke.example": KINDS["satire"]})
NOW = datetime(2026, 3, 2, tzinfo=UTC)
TITLES = [
    "Dam leaks above town",
    "Residents flee leaking dam",
    "Engineers inspect the cracked dam wall",
    "Town evacuated",
]


def evidence(*items: Item) -> Evidence:
    return Evidence.of(story("s", list(items)))


def reports(*sources: str, minutes: float = 10.0) -> list[Item]:
    return [
        item(n, TITLES[n % len(TITLES)] + f" part {n}" * (n // 4), source=source, minutes=n * minutes)
        for n, source in enumerate(sources)
    ]


def value(reading: Reading) -> float:
    assert reading.value is not None
    return reading.value


def test_known_sources_speak_for_a_story_or_against_it() -> None:
    good = signals.source_credibility(evidence(*reports("wire.example")), TABLE)
    bad = signals.source_credibility(evidence(*reports("joke.example")), TABLE)
    assert value(good) > 0.9 > 0.1 > value(bad)
    assert "wire.example" in good.explanation


def test_unknown_sources_say_nothing_and_that_is_no_value() -> None:
    reading = signals.source_credibility(evidence(*reports("nobody.example")), TABLE)
    assert (reading.value, reading.confidence) == (None, 0.0)


def test_unknown_sources_among_known_ones_lower_the_confidence_only() -> None:
    alone = signals.source_credibility(evidence(*reports("wire.example")), TABLE)
    among = signals.source_credibility(evidence(*reports("wire.example", "a.example", "b.example")), TABLE)
    assert value(alone) == value(among)
    assert among.confidence < alone.confidence


def test_a_subdomain_is_known_by_its_parent() -> None:
    assert TABLE.find("news.wire.example") == KINDS["wire agency"]
    assert TABLE.find("example") is None


def test_each_source_with_words_of_its_own_corroborates() -> None:
    values = [
        value(signals.corroboration(evidence(*reports(*[f"s{n}.example" for n in range(count)]))))
        for count in (1, 2, 3, 4)
    ]
    assert values[0] == 0.0
    assert values == sorted(values)
    assert values[-1] < 1.0


def test_copies_of_one_text_do_not_corroborate() -> None:
    copies = [item(n, "Dam leaks above town", source=f"s{n}.example", minutes=n) for n in range(6)]
    reading = signals.corroboration(evidence(*copies))
    assert value(reading) == 0.0
    assert "5 sources repeat the same words" in reading.explanation


def test_silence_of_others_says_more_the_longer_it_lasts() -> None:
    soon = signals.corroboration(evidence(*reports("a.example")))
    later = signals.corroboration(evidence(*reports("a.example", "a.example", minutes=600)))
    assert later.confidence > soon.confidence


def test_one_platform_cannot_be_compared_and_several_even_ones_agree() -> None:
    assert signals.cross_platform(evidence(*reports("a.example", "b.example"))).value is None
    even = [item(n, TITLES[n % 4], platform=("news", "social")[n % 2]) for n in range(8)]
    uneven = [item(n, TITLES[n % 4], platform="social" if n == 0 else "news") for n in range(8)]
    assert value(signals.cross_platform(evidence(*even))) > value(signals.cross_platform(evidence(*uneven)))


def test_volume_pushed_by_one_source_is_told_from_volume_of_many() -> None:
    many = signals.velocity_pattern(evidence(*reports(*[f"s{n}.example" for n in range(8)])))
    one = signals.velocity_pattern(evidence(*reports(*["a.example"] * 8)))
    assert value(many) == 1.0
    assert value(one) == 0.0
    assert signals.velocity_pattern(evidence(*reports("a.example"))).value is None


def test_an_old_story_revived_is_less_consistent() -> None:
    steady = signals.temporal_consistency(evidence(*reports("a", "b", "c", "d", minutes=60)))
    revived = [*reports("a.example", "b.example"), item(9, "Dam leaks again", minutes=60 * 24 * 4)]
    assert value(steady) == 1.0
    assert value(signals.temporal_consistency(evidence(*revived))) < 0.2


@pytest.mark.parametrize(
    "loud",
    [
        "You WON'T BELIEVE what the MAYOR did!!!",
        "17 Reasons Your Cat Hates You",
        "This is why everyone is leaving",
        "What your favourite pizza says about you",
    ],
)
def test_headlines_that_sell_are_told_from_headlines_that_tell(loud: str) -> None:
    sober = signals.content_quality(evidence(item(1, "Council approves budget for harbour bridge")))
    assert value(sober) > 0.8
    assert value(signals.content_quality(evidence(item(1, loud)))) < 0.5


def test_agencies_in_capitals_are_no_shouting() -> None:
    assert value(signals.content_quality(evidence(item(1, "NATO and NASA sign accord with OPEC")))) > 0.7


def test_the_shares_of_the_signals_are_the_whole() -> None:
    assert sum(share for share, _ in SIGNALS.values()) == pytest.approx(1.0)


anything = st.lists(
    st.builds(
        item,
        st.integers(0, 10_000),
        st.text(min_size=1, max_size=60).filter(str.strip),
        source=st.sampled_from(["wire.example", "joke.example", "a.example", "b.example"]),
        minutes=st.floats(0, 20_000),
        platform=st.sampled_from(["news", "social"]),
    ),
    min_size=1,
    max_size=20,
)


@given(anything)
def test_what_holds_for_every_score(items: list[Item]) -> None:
    score = assess(evidence(*items), TABLE, NOW)
    assert 0.0 <= score.score <= 100.0
    assert 0.0 <= score.confidence <= 1.0
    assert score.score == pytest.approx(NEUTRAL + sum(one.contribution for one in score.signals), abs=0.01)
    for signal in score.signals:
        assert signal.explanation
        assert abs(signal.contribution) <= 50.0 * signal.weight + 0.01
        if signal.value is None:
            assert (signal.contribution, signal.confidence, signal.weight) == (0.0, 0.0, 0.0)


def test_a_story_nobody_can_judge_stays_near_neutral_with_low_confidence() -> None:
    score = assess(evidence(item(1, "Something happened somewhere", source="nobody.example")), TABLE, NOW)
    assert 40 <= score.score <= 60
    assert score.confidence < 0.3


def test_many_independent_known_sources_raise_a_story_and_satire_alone_lowers_it() -> None:
    trusted = assess(evidence(*reports("wire.example", "a.example", "b.example", "c.example")), TABLE, NOW)
    joke = assess(evidence(*reports("joke.example")), TABLE, NOW)
    assert trusted.score > 60 > 45 > joke.score


def test_a_score_is_news_when_it_is_first_moves_or_rests_on_other_evidence() -> None:
    first = assess(evidence(*reports("wire.example", "a.example")), TABLE, NOW)
    assert material(first, None, Rules())
    before = told(first, 1)
    assert not material(first, before, Rules())
    moved = assess(evidence(*reports("wire.example", "a.example", "b.example", "c.example")), TABLE, NOW)
    assert material(moved, before, Rules())
    assert material(first, told(moved, 1), Rules(min_change=1_000, min_confidence_change=10)), "other signals are known"


def test_the_table_that_ships_is_whole_and_a_rating_file_can_be_put_on_top(tmp_path: Path) -> None:
    shipped = load_sources()
    assert len(shipped) > 100
    extra = tmp_path / "ratings.csv"
    extra.write_text("domain,pc1\nreuters.com,0.1\nnew.example,0.9\n", encoding="utf-8")
    table = load_sources(extra)
    assert table.find("reuters.com") != shipped.find("reuters.com")
    known = table.find("new.example")
    assert known is not None
    assert known.credibility == 0.9


@pytest.mark.parametrize(
    "content",
    ["host,pc1\na,1\n", "domain,pc1\na.example,7\n", "domain,kind\na.example,gossip\n", "domain,pc1\na.example,x\n"],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(StartupFailed, match="source table"):
        load_sources(path)
