"""What makes a trend and what makes a story, on small invented news and with their guarantees."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.publisher import bursts, clustering
from services.publisher.bursts import BurstDetector
from services.publisher.clustering import StoryClusterer
from services.publisher.normalise import normalise
from services.publisher.sources.newsroom import Newsroom
from shared.events import Item, Story, Trend, TrendPhase
from tests.support.items import START, item

QUIET = [
    "Council repairs the old fountain",
    "Orchestra plays a summer concert",
    "Bakery wins a regional prize",
    "Library extends opening hours",
    "Ferry gets a new captain",
    "Museum shows ancient coins",
]


def quiet(count: int, start: int = 0, minutes: float = 5.0) -> list[Item]:
    return [
        item(start + n, f"{QUIET[n % len(QUIET)]} {n % 7}", minutes=n * minutes, source=f"o{n % 9}.example")
        for n in range(count)
    ]


def burst(count: int, *, sources: int, at: float, start: int = 10_000) -> list[Item]:
    return [
        item(start + n, f"Volcano erupts near harbour {n}", minutes=at + n, source=f"b{n % sources}.example")
        for n in range(count)
    ]


def observe(detector: BurstDetector, items: list[Item]) -> list[Trend]:
    return [trend for one in items for trend in detector.observe(one)]


def test_a_term_many_sources_suddenly_mention_is_a_trend() -> None:
    detector = BurstDetector()
    observe(detector, quiet(300))
    (trend,) = [one for one in observe(detector, burst(8, sources=8, at=1_500)) if one.phase is TrendPhase.STARTED]
    assert trend.name.lower() in ("volcano erupts", "erupts near", "near harbour", "volcano", "erupts", "harbour")
    assert trend.mention_count >= 5
    assert trend.sources >= 3
    assert trend.velocity == trend.mention_count / 4
    assert trend.score >= 4
    assert trend.top_items


def test_one_source_repeating_itself_is_no_trend() -> None:
    detector = BurstDetector()
    observe(detector, quiet(300))
    assert observe(detector, burst(200, sources=1, at=1_500)) == []


def test_what_is_always_mentioned_is_no_trend() -> None:
    detector = BurstDetector()
    items = [item(n, f"Weather tomorrow {n}", minutes=n * 10, source=f"w{n % 8}.example") for n in range(600)]
    started = [one for one in observe(detector, items) if one.phase is TrendPhase.STARTED]
    assert all(one.first_seen < START + timedelta(hours=24) for one in started), (
        "only while there is no past to know it by"
    )


def test_a_trend_changes_as_it_grows_and_ends_when_it_dies_down() -> None:
    detector = BurstDetector()
    observe(detector, quiet(300))
    phases = [one.phase for one in observe(detector, burst(40, sources=10, at=1_500))]
    assert phases[0] is TrendPhase.STARTED
    assert TrendPhase.CHANGED in phases
    assert len(phases) < 12, "growth is told in steps"
    ended = detector.advance(START + timedelta(minutes=1_500 + 600))
    assert [one.phase for one in ended] == [TrendPhase.ENDED]
    assert len(detector) == 0


def test_a_growing_trend_accelerates_and_a_fading_one_slows_down() -> None:
    detector = BurstDetector()
    observe(detector, quiet(300))
    growing = observe(detector, burst(40, sources=10, at=1_500))[-1]
    assert growing.acceleration > 0
    fading = observe(detector, quiet(40, start=50_000, minutes=1.0)[:1])
    fading = detector.advance(START + timedelta(minutes=1_500 + 200))
    assert all(one.acceleration < 0 for one in fading)


def test_two_words_of_one_happening_are_one_trend() -> None:
    detector = BurstDetector()
    observe(detector, quiet(300))
    trends = observe(detector, burst(12, sources=12, at=1_500))
    assert len({trend.id for trend in trends}) == 1
    assert len(trends[-1].terms) > 1


def test_items_seen_before_and_items_older_than_the_window_change_nothing() -> None:
    detector = BurstDetector()
    items = quiet(300)
    observe(detector, items)
    before = detector.snapshot()
    assert observe(detector, items[-20:]) == []
    assert detector.observe(item(9_999_999, "Volcano", minutes=-6_000)) == []
    assert detector.snapshot() == before


def test_the_window_and_the_terms_are_bounded() -> None:
    detector = BurstDetector(bursts.Rules(max_items=100, max_terms=500))
    for n in range(3_000):
        detector.observe(item(n, f"word{n} other{n * 7} third{n * 13}", minutes=n * 0.1))
    detector.advance(START + timedelta(hours=6))
    state = repr(detector)
    assert int(state.split(" items")[0].rsplit(" ", 1)[1]) <= 100
    assert int(state.split(" terms")[0].rsplit(" ", 1)[1]) <= 600


def tell(clusterer: StoryClusterer, items: list[Item]) -> list[Story]:
    return [story for one in items for story in clusterer.observe(one)]


FLOOD = ["Dam leaks above Port Alder", "Port Alder evacuated as dam leaks", "Leaking dam: Port Alder residents flee"]
MERGER = ["Harlan Motors merges with Corvex", "Corvex and Harlan Motors agree merger", "Harlan Corvex merger approved"]


def test_reports_of_one_happening_are_one_story_with_a_stable_id() -> None:
    items = [
        item(n, title, minutes=n)
        for n, title in enumerate(pair for both in zip(FLOOD, MERGER, strict=True) for pair in both)
    ]
    stories = tell(StoryClusterer(), items)
    assert {story.id for story in stories} == {"i0", "i1"}
    last = {story.id: story for story in stories}
    assert last["i0"].item_count == last["i1"].item_count == 3
    assert last["i0"].title == FLOOD[0]
    assert len(last["i0"].sources) == 3
    assert [story.revision for story in stories if story.id == "i0"] == [1, 2]


def test_one_report_is_not_told_as_a_story() -> None:
    assert tell(StoryClusterer(), quiet(5)) == []


def test_a_new_platform_is_worth_telling() -> None:
    clusterer = StoryClusterer()
    tell(clusterer, [item(n, FLOOD[n % 3], minutes=n * 0.01) for n in range(40)])
    assert clusterer.observe(item(40, FLOOD[0], minutes=0.5, platform="social"))[-1].platforms["social"] == 1


def test_a_big_story_is_told_in_steps() -> None:
    stories = tell(StoryClusterer(), [item(n, FLOOD[n % 3], minutes=n * 0.01) for n in range(300)])
    assert len(stories) < 60
    assert stories[-1].item_count > 260


def test_a_silent_story_closes_and_the_same_words_later_are_a_new_one() -> None:
    clusterer = StoryClusterer(clustering.Rules(window=3_600.0))
    first = tell(clusterer, [item(1, FLOOD[0]), item(2, FLOOD[1], minutes=1)])
    clusterer.advance(START + timedelta(hours=3))
    assert len(clusterer) == 0
    second = tell(clusterer, [item(3, FLOOD[0], minutes=200), item(4, FLOOD[1], minutes=201)])
    assert first[-1].id != second[-1].id


def test_two_stories_that_turn_out_to_be_one_are_merged_and_the_one_that_goes_says_where() -> None:
    clusterer = StoryClusterer(clustering.Rules(similarity=0.45, merge_similarity=0.3))
    titles = [
        "Volcano erupts near harbour",
        "Volcano erupts near harbour tonight",
        "Eruption ash cloud grounds flights",
        "Ash cloud grounds flights",
        "Volcano ash cloud grounds harbour flights",
        "Volcano erupts near harbour, ash cloud grounds flights",
        "Volcano harbour ash cloud grounds flights",
        "Volcano erupts near harbour ash cloud",
    ]
    stories = tell(clusterer, [item(n, title, minutes=n) for n, title in enumerate(titles)])
    merged = [story for story in stories if story.merged_into is not None]
    assert len(merged) == 1
    survivor = [story for story in stories if story.id == merged[0].merged_into][-1]
    assert survivor.item_count == len(titles)


def test_open_stories_are_bounded() -> None:
    clusterer = StoryClusterer(clustering.Rules(max_stories=10))
    tell(clusterer, [item(n, f"word{n} other{n} third{n}") for n in range(100)])
    assert len(clusterer) == 10


@pytest.mark.parametrize("make", [BurstDetector, StoryClusterer])
@given(cut=st.integers(1, 250), seed=st.integers(0, 20))
@settings(max_examples=12, deadline=None)
def test_a_restart_from_a_snapshot_changes_nothing(
    make: Callable[[], BurstDetector | StoryClusterer], cut: int, seed: int
) -> None:
    """One detector sees all; another is written down and read back in the middle: both tell the same, byte for byte."""
    newsroom = Newsroom(seed=seed)
    items = [normalise(newsroom.compose(START + timedelta(minutes=n)), START + timedelta(days=9)) for n in range(300)]
    whole = make()
    expected = [event.model_dump_json() for one in items for event in whole.observe(one)]
    first, second = make(), make()
    told = [event.model_dump_json() for one in items[:cut] for event in first.observe(one)]
    second.restore(first.snapshot())
    told += [event.model_dump_json() for one in items[cut:] for event in second.observe(one)]
    assert told == expected
    assert expected


@pytest.mark.parametrize("make", [BurstDetector, StoryClusterer])
@pytest.mark.parametrize("damaged", [b"", b"{}", b'{"watermark": 1}', b"\xff"])
def test_what_is_no_snapshot_is_refused(make: Callable[[], BurstDetector | StoryClusterer], damaged: bytes) -> None:
    with pytest.raises(ValueError, match="validation error"):
        make().restore(damaged)
