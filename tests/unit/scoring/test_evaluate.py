"""The figures of `veracity evaluate trust`, and that a moved score is explained to the last point."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scoring import evaluate, headline
from services.scoring.evidence import Evidence
from services.scoring.score import assess, compared, told
from services.scoring.sources import load_sources
from tests.support.items import item, story
from tests.support.services import DATA

TABLE = load_sources()
NOW = datetime(2026, 3, 2, tzinfo=UTC)

titles = st.sampled_from(
    ["Council approves harbour bridge", "You won't believe this bridge", "Bridge approved!", "17 things about bridges"]
)
reports = st.lists(
    st.tuples(
        titles, st.sampled_from(["reuters.com", "a.example", "b.example", "infowars.example"]), st.integers(0, 90)
    ),
    min_size=1,
    max_size=8,
)


def evidence(found: list[tuple[str, str, int]]) -> Evidence:
    items = [
        item(number, title, source=source, minutes=minutes) for number, (title, source, minutes) in enumerate(found)
    ]
    return Evidence.of(story("s", items))


@given(reports, reports)
def test_what_the_signals_moved_adds_up_to_the_move(
    earlier: list[tuple[str, str, int]], later: list[tuple[str, str, int]]
) -> None:
    before = assess(evidence(earlier), TABLE, NOW)
    after = compared(assess(evidence(earlier + later), TABLE, NOW), told(before, 1))
    assert after.previous_score == before.score
    changes = [signal.change for signal in after.signals]
    assert all(change is not None for change in changes)
    assert sum(change or 0.0 for change in changes) == pytest.approx(after.score - before.score, abs=0.02)


def test_a_score_of_another_version_is_not_compared() -> None:
    score = assess(evidence([("Council approves bridge", "reuters.com", 0)]), TABLE, NOW)
    before = told(score, 1)
    before.contributions["a signal that is no more"] = 5.0
    assert compared(score, before).previous_score is None


@pytest.mark.skipif(not DATA.exists(), reason=f"labels are not here: {DATA}")
def test_scores_agree_with_labels_as_well_as_before() -> None:
    results = {result.name: result for result in evaluate.evaluate(DATA)}
    assert results["headlines: clickbait or not, held out"].auc > 0.94
    assert results["headlines: clickbait or not, held out"].brier < 0.09
    assert results["domains: upper or lower third of pc1"].auc > 0.95
    assert results["reports: the score with the source's name"].auc > 0.79


@pytest.mark.skipif(not DATA.exists(), reason=f"labels are not here: {DATA}")
def test_the_fitted_model_is_what_fitting_gives(tmp_path: Path) -> None:
    fitted = evaluate.fit_headlines(evaluate.read_headlines(DATA / "clickbait" / "headlines.csv"))
    built_in = headline.fitted()
    assert fitted.weights == pytest.approx(built_in.weights, abs=0.01)
    evaluate.write_model(fitted, tmp_path / "headline.json")
    assert (tmp_path / "headline.json").read_text().endswith("}\n")


def test_every_mark_is_explained_and_nothing_crashes_on_odd_titles() -> None:
    for title in ("", "...", "1", "É!", "WHAT?", "a" * 4_000):
        judgement = headline.judge(title, headline.fitted())
        assert 0.0 <= judgement.sells <= 1.0
        assert set(judgement.because) <= headline.MARKS.keys()
