"""The reasons behind a trust score: one function a signal, evidence in, a reading out. Pure.

A reading's value is 0 to 1, or None where nothing is known; its confidence says how much the evidence carries, so that
missing evidence moves nothing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from services.scoring import headline
from services.scoring.evidence import Evidence
from services.scoring.sources import SourceTable


@dataclass(frozen=True, slots=True)
class Reading:
    """What one signal says: its value, how sure it is, and the sentence that explains both."""

    value: float | None
    confidence: float
    explanation: str


UNKNOWN = 0.0  # confidence of a reading without a value


def source_credibility(evidence: Evidence, table: SourceTable) -> Reading:
    """Mean credibility of the sources some table knows; surer with more of them, and with a larger share of all."""
    known = {source: kind for source in evidence.sources if (kind := table.find(source)) is not None}
    total = len(evidence.sources)
    if not known:
        return Reading(None, UNKNOWN, f"none of the {_count(total, 'source')} is known: no judgement from who reports")
    weight = sum(kind.confidence for kind in known.values())
    value = sum(kind.credibility * kind.confidence for kind in known.values()) / weight
    certainty = weight / len(known)
    confidence = certainty * (len(known) / total) ** 0.5 * (1.0 - 0.5 ** len(known))
    best = max(known, key=lambda source: known[source].credibility)
    return Reading(
        value,
        confidence,
        f"{len(known)} of {_count(total, 'source')} known, on average {value:.0%} credible; the best is {best}",
    )


def corroboration(evidence: Evidence) -> Reading:
    """How many sources tell it in their own words: each further one halves about a third of the remaining doubt.

    That nobody else reports says little in the first minutes and more with each hour.
    """
    sources = evidence.independent_sources()
    count = len(sources)
    value = 1.0 - 0.5 ** ((count - 1) / 2.0)
    waited = min(1.0, evidence.age_hours / 6.0)
    confidence = max(1.0 - 1.0 / (count + 0.5), 0.25 + 0.5 * waited)
    copies = len({item.source for item in evidence.items}) - count
    more = f"; {_count(copies, 'source')} repeat the same words" if copies > 0 else ""
    told = "one source alone tells it" if count == 1 else f"{count} sources tell it in words of their own"
    return Reading(value, confidence, told + more)


def cross_platform(evidence: Evidence) -> Reading:
    """Whether several platforms carry it, and how evenly (entropy of their shares); one platform says nothing."""
    counts = [count for count in evidence.platforms.values() if count > 0]
    total = sum(counts)
    if len(counts) < 2:
        return Reading(None, UNKNOWN, "seen on one platform only: nothing to compare")
    entropy = -sum(count / total * math.log(count / total) for count in counts) / math.log(len(counts))
    names = " and ".join(sorted(evidence.platforms)[:3])
    return Reading(
        0.5 + 0.5 * entropy,
        1.0 - 0.5 ** (total / 5.0),
        f"{_count(total, 'report')} on {len(counts)} platforms ({names}), evenness {entropy:.0%}",
    )


def velocity_pattern(evidence: Evidence) -> Reading:
    """Whether the volume comes from many sources or is pushed by few: one minus the concentration of reports.

    The concentration is the Herfindahl index of reports by source, scaled so that equal shares are 0.
    """
    counts = Counter(item.source for item in evidence.items)
    total = sum(counts.values())
    if total < 4:
        return Reading(None, UNKNOWN, f"{_count(total, 'report')} so far: too few for a pattern")
    index = sum((count / total) ** 2 for count in counts.values())
    concentration = (index - 1.0 / total) / (1.0 - 1.0 / total)
    busiest, most = counts.most_common(1)[0]
    return Reading(
        1.0 - concentration,
        1.0 - 0.5 ** (total / 6.0),
        f"{total} reports by {_count(len(counts), 'source')}; {busiest} made {most / total:.0%} of them",
    )


def temporal_consistency(evidence: Evidence) -> Reading:
    """Whether reports follow one another as news does; a long silence before a revival makes it an old story again.

    Half a day of silence is a night; past it the value halves with each further day.
    """
    times = [item.published_at for item in evidence.items]
    if len(times) < 3:
        return Reading(None, UNKNOWN, f"{_count(len(times), 'report')} so far: too few to compare their times")
    gap = max((later - earlier).total_seconds() / 3_600.0 for earlier, later in pairwise(times))
    value = 0.5 ** (max(0.0, gap - 12.0) / 24.0)
    return Reading(
        value,
        1.0 - 0.5 ** (len(times) / 4.0),
        f"longest silence between reports {_duration(gap)}, over {_duration(evidence.age_hours)} in all",
    )


def content_quality(evidence: Evidence) -> Reading:
    """How soberly the headlines are written: one minus the mean likelihood that they sell rather than tell."""
    titles = list(dict.fromkeys(item.title for item in evidence.items))
    if not titles:
        return Reading(None, UNKNOWN, "no headline to read")
    judgements = [headline.judge(title, headline.fitted()) for title in titles]
    found = Counter(mark for judgement in judgements for mark in judgement.because)
    marks = ", ".join(f"{name} ({count})" for name, count in found.most_common(3))
    return Reading(
        1.0 - sum(judgement.sells for judgement in judgements) / len(titles),
        1.0 - 0.5 ** (len(titles) / 2.0),
        f"{_count(len(titles), 'headline')}: " + (f"marks of selling: {marks}" if marks else "no mark of selling"),
    )


# Each signal with its share of the whole, adding up to 1.
SIGNALS: Mapping[str, tuple[float, Callable[[Evidence, SourceTable], Reading]]] = {
    "source_credibility": (0.30, source_credibility),
    "corroboration": (0.25, lambda evidence, _: corroboration(evidence)),
    "content_quality": (0.15, lambda evidence, _: content_quality(evidence)),
    "cross_platform": (0.10, lambda evidence, _: cross_platform(evidence)),
    "velocity_pattern": (0.10, lambda evidence, _: velocity_pattern(evidence)),
    "temporal_consistency": (0.10, lambda evidence, _: temporal_consistency(evidence)),
}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _duration(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h"
