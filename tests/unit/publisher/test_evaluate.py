"""The figures of `veracity evaluate`, and the marks below which a change is a step back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.publisher.evaluate import bcubed, evaluate_stories, evaluate_trends, story_table, trend_table
from tests.support.services import DATA

UCI = DATA / "uci_news_stream" / "news_items.csv"
TOP = DATA / "top_news_stream" / "news_items.csv"


def test_bcubed_counts_each_item_by_what_is_with_it() -> None:
    # Five, two and five that belong together; the answer joins the two with one five.
    truth = {**{f"a{n}": "a" for n in range(5)}, "b0": "b", "b1": "b", **{f"c{n}": "c" for n in range(5)}}
    first = {**truth, **{item: "c" for item in truth if truth[item] == "b"}}
    precision, recall = bcubed(truth, first)
    assert recall == 1.0
    assert precision == pytest.approx((5 * 1 + 2 * 2 / 7 + 5 * 5 / 7) / 12)


@given(st.dictionaries(st.integers(0, 40).map(str), st.sampled_from("abc"), min_size=1))
def test_the_truth_agrees_with_itself(truth: dict[str, str]) -> None:
    assert bcubed(truth, truth) == pytest.approx((1.0, 1.0))
    assert bcubed(truth, {item: item for item in truth})[0] == pytest.approx(1.0)
    assert bcubed(truth, dict.fromkeys(truth, "one"))[1] == pytest.approx(1.0)


@pytest.mark.skipif(not UCI.exists(), reason=f"labelled stories are not here: {UCI}")
def test_stories_are_told_apart_as_well_as_before() -> None:
    results = evaluate_stories(UCI)
    assert [result.f1 > mark for result, mark in zip(results, (0.80, 0.86, 0.80), strict=True)] == [True] * 3, (
        story_table(results)
    )
    assert all(result.rate > 500 for result in results)


@pytest.mark.skipif(not TOP.exists(), reason=f"the news of July 2022 is not here: {TOP}")
def test_known_bursts_are_told_most_of_them_within_a_day() -> None:
    bursts, by_day = evaluate_trends(TOP)
    assert all(burst.told is not None for burst in bursts), trend_table(bursts, by_day)
    delays = sorted(burst.delay_hours or 0.0 for burst in bursts)
    assert delays[len(delays) // 2] < 10
    assert sum(delay < 24 for delay in delays) >= 12
