"""`veracity evaluate stories` and `trends`: how well what is told agrees with labels, in order of time, nothing peeked.

Stories are measured by B-cubed precision and recall; trends by how long after its first report a known burst is told.
"""

from __future__ import annotations

import csv
import hashlib
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from pydantic import ValidationError

from services.publisher.bursts import BurstDetector
from services.publisher.clustering import Rules, StoryClusterer
from shared.events import Item, Trend, TrendPhase
from shared.tables import read_table


@dataclass(frozen=True, slots=True)
class Clustering:
    """B-cubed figures of one clustering, the number of true and of found stories, and items a second."""

    name: str
    items: int
    precision: float
    recall: float
    true_stories: int
    found_stories: int
    rate: float

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / (self.precision + self.recall)


def bcubed(truth: Mapping[str, str], found: Mapping[str, str]) -> tuple[float, float]:
    """Return B-cubed precision and recall of `found`, item → cluster, against `truth` over the same items.

    A. Bagga and B. Baldwin, Entity-based cross-document coreferencing using the vector space model, COLING 1998: for
    each item, the share of its cluster that belongs with it, and the share of what belongs with it that is in its
    cluster; the means over all items.
    """
    both = Counter((truth[item], found[item]) for item in truth)
    true_sizes, found_sizes = Counter(truth.values()), Counter(found[item] for item in truth)
    precision = sum(count * count / found_sizes[cluster] for (_, cluster), count in both.items())
    recall = sum(count * count / true_sizes[label] for (label, _), count in both.items())
    return precision / len(truth), recall / len(truth)


@dataclass(slots=True)
class _Assignments:
    """Which story each item is in by now; told by the clusterer."""

    story_of: dict[str, str] = field(default_factory=dict)
    into: dict[str, str] = field(default_factory=dict)

    def joined(self, item_id: str, story_id: str) -> None:
        self.story_of[item_id] = story_id

    def merged(self, gone: str, stays: str) -> None:
        self.into[gone] = stays

    def final(self, item_id: str) -> str:
        story = self.story_of[item_id]
        while story in self.into:
            story = self.into[story]
        return story


def cluster(name: str, rows: Sequence[tuple[Item, str]], rules: Rules | None = None) -> Clustering:
    """Cluster labelled items in their order and compare."""
    watch = _Assignments()
    clusterer = StoryClusterer(rules, watch=watch)
    started = time.perf_counter()
    for item, _ in rows:
        clusterer.observe(item)
    elapsed = time.perf_counter() - started
    truth = {item.id: label for item, label in rows if item.id in watch.story_of}
    found = {item_id: watch.final(item_id) for item_id in truth}
    precision, recall = bcubed(truth, found)
    return Clustering(
        name, len(truth), precision, recall, len(set(truth.values())), len(set(found.values())), len(rows) / elapsed
    )


def evaluate_stories(path: Path, rules: Rules | None = None) -> list[Clustering]:
    """Evaluate on a CSV file with `title`, `story_id`, and `retimed_at` or `published_at`.

    The whole stream, and each half of its stories alone: what is tuned on one half is measured on the other.
    """
    rows = sorted(_labelled(path), key=lambda row: row[0].published_at)
    halves: dict[int, list[tuple[Item, str]]] = defaultdict(list)
    for row in rows:
        halves[hashlib.blake2b(row[1].encode(), digest_size=1).digest()[0] % 2].append(row)
    results = [cluster("all stories", rows, rules)]
    results += [cluster(f"half {number + 1} of the stories", halves[number], rules) for number in sorted(halves)]
    return results


def _labelled(path: Path) -> Iterable[tuple[Item, str]]:
    for number, row in enumerate(read_table(path, "title", "story_id"), 1):
        at = row.get("retimed_at") or row.get("published_at") or ""
        source = row.get("hostname") or row.get("source") or "unknown"
        try:
            item = Item.model_validate(
                {
                    "id": f"row{number}",
                    "platform": "news",
                    "source": source,
                    "title": row["title"],
                    "published_at": at,
                }
            )
        except ValidationError:
            continue  # a row without a title or a time is no item, as in a replay
        yield item, row["story_id"]


# --- trends ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Burst:
    """A known burst: what to look for in a trend's name, and what happened; and when it was told of, if it was."""

    term: str
    what: str
    first_report: datetime | None
    told: datetime | None

    @property
    def delay_hours(self) -> float | None:
        """Hours from the first report of that day to the trend."""
        if self.first_report is None or self.told is None:
            return None
        return (self.told - self.first_report).total_seconds() / 3_600.0


def evaluate_trends(path: Path) -> tuple[list[Burst], dict[str, list[Trend]]]:
    """Replay a CSV file (`slug_title` or `title`, `outlet`, `first_seen_at`); find what is known of July 2022.

    Return them, and the trends of each day by their score, best first.
    """
    detector = BurstDetector()
    started: list[Trend] = []
    items = sorted(_news(path), key=lambda item: item.published_at)
    for item in items:
        started += [trend for trend in detector.observe(item) if trend.phase is TrendPhase.STARTED]
    by_day: dict[str, list[Trend]] = defaultdict(list)
    for trend in started:
        by_day[trend.last_seen.date().isoformat()].append(trend)
    for trends in by_day.values():
        trends.sort(key=lambda trend: -trend.mention_count)
    known = files("services.publisher").joinpath("known_bursts.csv").read_text(encoding="utf-8").splitlines()
    bursts = []
    for row in csv.DictReader(line for line in known if not line.startswith("#")):
        since = datetime.fromisoformat(row["since"])
        word = re.compile(rf"\b({row['term']})\b", re.IGNORECASE)
        reports = (item.published_at for item in items if item.published_at >= since and word.search(item.title))
        told = (trend.last_seen for trend in started if trend.last_seen >= since and word.search(trend.name))
        bursts.append(Burst(row["term"], row["what"], next(reports, None), next(told, None)))
    return bursts, dict(by_day)


def _news(path: Path) -> Iterable[Item]:
    for number, row in enumerate(read_table(path), 1):
        try:
            yield Item.model_validate(
                {
                    "id": f"row{number}",
                    "platform": "news",
                    "source": row.get("outlet") or row.get("source") or "unknown",
                    "title": row.get("title") or row.get("slug_title"),
                    "published_at": row.get("first_seen_at") or row.get("published_at"),
                }
            )
        except ValidationError:
            continue  # no title or no time: no item, as in a replay


# --- tables and pictures ---------------------------------------------------------------------------------------------


def story_table(results: Sequence[Clustering]) -> str:
    """Return the figures as a Markdown table."""
    lines = [
        "| stories | items | B-cubed P | R | F1 | true | found | items/s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {one.name} | {one.items} | {one.precision:.3f} | {one.recall:.3f} | {one.f1:.3f} | {one.true_stories} "
        f"| {one.found_stories} | {one.rate:.0f} |"
        for one in results
    ]
    return "\n".join(lines)


def trend_table(bursts: Sequence[Burst], by_day: Mapping[str, Sequence[Trend]]) -> str:
    """Return the known bursts with their delays, and the top trends of each day for whoever wants to judge them."""
    lines = ["| known burst | first report | told | after |", "| --- | --- | --- | --- |"]
    for one in bursts:
        first = "-" if one.first_report is None else f"{one.first_report:%d %b %H:%M}"
        told = "never" if one.told is None else f"{one.told:%d %b %H:%M}"
        after = "-" if one.delay_hours is None else f"{one.delay_hours:.1f} h"
        lines.append(f"| {one.what} ({one.term}) | {first} | {told} | {after} |")
    lines += ["", f"{sum(map(len, by_day.values()))} trends on {len(by_day)} days; the largest of each day:"]
    lines += [f"{day}: {', '.join(trend.name for trend in trends[:20])}" for day, trends in sorted(by_day.items())]
    return "\n".join(lines)


def draw_stories(results: Sequence[Clustering], path: Path) -> None:
    """Draw precision, recall and F1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for number, name in enumerate(("precision", "recall", "f1")):
        places = [place + (number - 1) * 0.25 for place in range(len(results))]
        axes.bar(places, [getattr(one, name) for one in results], width=0.25, label=name)
    axes.set(xticks=range(len(results)), ylim=(0, 1), title="Stories, B-cubed")
    axes.set_xticklabels([one.name for one in results])
    axes.legend()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)


def draw_trends(bursts: Sequence[Burst], path: Path) -> None:
    """Draw how long after its first report each burst was told."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    told = [one for one in bursts if one.delay_hours is not None]
    figure, axes = pyplot.subplots(figsize=(7, 0.4 * len(told) + 1))
    axes.barh([one.what for one in told], [one.delay_hours or 0.0 for one in told])
    axes.set(xlabel="hours from the first report to the trend", title="Known bursts")
    axes.invert_yaxis()
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
