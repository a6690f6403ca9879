"""Signals to a trust score, and whether it has moved enough to be told. Pure.

The score is 50, neither trusted nor distrusted, plus what each signal contributes; the contributions add up to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from services.scoring import headline
from services.scoring.evidence import Evidence
from services.scoring.signals import SIGNALS
from services.scoring.sources import SourceTable
from shared.events import Signal, TrustScore

NEUTRAL = 50.0
MODEL = f"trust-2+{headline.fitted().version}"  # changes with the rules below and with what was fitted


@dataclass(frozen=True, slots=True)
class Rules:
    """What makes a score worth telling again."""

    min_change: float = 2.0  # points
    min_confidence_change: float = 0.1


@dataclass(frozen=True, slots=True)
class Told:
    """What was last told of a story: enough to see whether the next score is news."""

    revision: int  # of the story
    score: float
    confidence: float
    values: dict[str, float | None]
    contributions: dict[str, float]


def assess(evidence: Evidence, table: SourceTable, now: datetime) -> TrustScore:
    """Return the score of a story by all its evidence.

    A signal with value v, share w and confidence c contributes 100 w c (v - 1/2) points: at most half its share either
    way, and nothing where nothing is known. The score's confidence is the sum of w c.
    """
    signals = []
    for name, (share, read) in SIGNALS.items():
        reading = read(evidence, table)
        weight = share * reading.confidence
        contribution = 0.0 if reading.value is None else 100.0 * weight * (reading.value - 0.5)
        signals.append(
            Signal(
                name=name,
                value=None if reading.value is None else round(reading.value, 4),
                weight=round(weight, 4),
                contribution=round(contribution, 2),
                confidence=round(reading.confidence, 4),
                explanation=reading.explanation,
            )
        )
    # Of the rounded contributions, so that what a reader adds up is what is shown.
    score = round(NEUTRAL + sum(signal.contribution for signal in signals), 2)
    return TrustScore(
        story_id=evidence.story_id,
        score=min(100.0, max(0.0, score)),
        confidence=round(sum(signal.weight for signal in signals), 4),
        signals=tuple(signals),
        model=MODEL,
        scored_at=now,
        simulated=evidence.simulated,
    )


def told(score: TrustScore, revision: int) -> Told:
    """Return what to remember of a score that is told."""
    return Told(
        revision,
        score.score,
        score.confidence,
        {signal.name: signal.value for signal in score.signals},
        {signal.name: signal.contribution for signal in score.signals},
    )


def compared(score: TrustScore, before: Told) -> TrustScore:
    """Return `score` with what it was before and what each signal moved it by.

    A signal of an older version that is no more would leave a difference unexplained: then nothing is compared.
    """
    if before.contributions.keys() != {signal.name for signal in score.signals}:
        return score
    signals = [
        signal.model_copy(
            update={
                "previous_value": before.values.get(signal.name),
                "change": round(signal.contribution - before.contributions[signal.name], 2),
            }
        )
        for signal in score.signals
    ]
    return score.model_copy(update={"previous_score": before.score, "signals": tuple(signals)})


def material(score: TrustScore, before: Told | None, rules: Rules) -> bool:
    """Tell whether `score` is news after `before`: it is the first, it moved, or it rests on other evidence."""
    if before is None:
        return True
    return (
        abs(score.score - before.score) >= rules.min_change
        or abs(score.confidence - before.confidence) >= rules.min_confidence_change
        or any((signal.value is None) != (before.values.get(signal.name) is None) for signal in score.signals)
    )
