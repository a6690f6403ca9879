"""What is known of a story when it is scored, in the form the signals ask for. Pure, and as bounded as the story."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.events import ItemRef, Story

_WORD = re.compile(r"[^\W_]+")
_SAME_TEXT = 0.8  # Jaccard similarity of two headlines' words from which one is a copy of the other


@dataclass(frozen=True, slots=True)
class Evidence:
    """A story's reports, oldest first, and what the story counts beyond those it carries."""

    story_id: str
    items: Sequence[ItemRef]
    sources: Sequence[str]
    platforms: dict[str, int]
    item_count: int
    first_seen: datetime
    last_seen: datetime
    simulated: bool

    @classmethod
    def of(cls, story: Story) -> Evidence:
        """Return the evidence a story carries."""
        return cls(
            story_id=story.id,
            items=sorted(story.items, key=lambda item: item.published_at),
            sources=story.sources or tuple(dict.fromkeys(item.source for item in story.items)),
            platforms=dict(story.platforms) or dict(Counter(item.platform for item in story.items)),
            item_count=story.item_count,
            first_seen=story.first_seen,
            last_seen=story.last_seen,
            simulated=story.simulated,
        )

    @property
    def age_hours(self) -> float:
        """Hours between the first and the newest report."""
        return max(0.0, (self.last_seen - self.first_seen).total_seconds() / 3_600.0)

    def independent_sources(self) -> list[str]:
        """Return sources that tell the story in words of their own: of several with the same headline, the first."""
        told: list[tuple[str, frozenset[str]]] = []
        for item in self.items:
            words = frozenset(word.lower() for word in _WORD.findall(item.title))
            if any(source == item.source or _similar(words, other) for source, other in told):
                continue
            told.append((item.source, words))
        return [source for source, _ in told]


def _similar(one: frozenset[str], other: frozenset[str]) -> bool:
    return len(one & other) >= _SAME_TEXT * len(one | other)
