"""Metrics of the scoring service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram


class ScoringMetrics:
    """What came in and what was told."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.stories = Counter("veracity_scoring_stories", "Story updates taken in", registry=registry)
        self.refused = Counter("veracity_scoring_refused", "Stored stories that could not be read", registry=registry)
        self.unchanged = Counter("veracity_scoring_unchanged", "Scores that had not moved enough", registry=registry)
        self.scores = Histogram(
            "veracity_scoring_score", "Scores told, points", buckets=tuple(range(10, 101, 10)), registry=registry
        )
