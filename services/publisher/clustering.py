"""Groups items into stories as they come: each joins the story it resembles most, or starts one.

Pure and deterministic: items go in with their own times, changed stories come out; memory is bounded by a window of
event time and by counts.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import Protocol

from pydantic import TypeAdapter

from services.publisher import text
from services.publisher.dedupe import Seen
from shared.events import Item, ItemRef, Story

# A pair of neighbouring words tells less than its parts together, but tells more where both agree.
_PAIR_WEIGHT = 0.3
# Items there might have been before the first: keeps the first hundred from calling every word rare.
_PRIOR_ITEMS = 50
_MAX_TERMS = 160  # of one story: past it the weakest go
_FIRST_ITEMS, _LAST_ITEMS = 4, 16  # evidence a story carries: how it began, and its newest
_MAX_SOURCES = 64  # named in an update; all are counted
_VELOCITY_SECONDS = 3_600.0
# A story asks whether it is another one when it has grown to these sizes; asking at each item would only cost time.
_MERGE_AT = frozenset((2, 3, 5, 8, 13, 21, 34, 55, 89))


@dataclass(frozen=True, slots=True)
class Rules:
    """When an item belongs to a story and when a story is worth telling again. Found on real streams, see README."""

    similarity: float = 0.12  # least resemblance, 0 to 1, to join a story
    merge_similarity: float = 0.25  # cosine of two stories that are one
    window: float = 72 * 3_600.0  # seconds of event time a story stays open after its last item
    decay: float = 200 * 3_600.0  # seconds after which a silent story resembles 1/e as much
    min_items: int = 2  # one report is not a story yet
    max_stories: int = 20_000
    quiet: float = 600.0  # seconds of event time after which any new item is worth an update


class Watch(Protocol):
    """Hears of every decision, also of those that are not told; for evaluation."""

    def joined(self, item_id: str, story_id: str) -> None:
        """An item has joined a story."""

    def merged(self, gone: str, stays: str) -> None:
        """A story has gone into another."""


@dataclass(slots=True)
class _State:
    """One open story."""

    id: str
    title: str
    first_seen: float
    last_seen: float
    weights: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    norm: float = 0.0
    items: int = 0
    first_items: list[ItemRef] = field(default_factory=list)
    last_items: list[ItemRef] = field(default_factory=list)
    sources: dict[str, int] = field(default_factory=dict)
    platforms: dict[str, int] = field(default_factory=dict)
    recent: list[float] = field(default_factory=list)  # times of items in the last hour
    simulated: bool = True
    revision: int = 0
    told_items: int = 0
    told_platforms: int = 0
    told_at: float = 0.0

    def refresh(self) -> None:
        """Bring the vector's length up to date."""
        self.norm = math.sqrt(sum(weight * weight for weight in self.weights.values())) or 1.0


@dataclass(slots=True)
class _Snapshot:
    """All that a restart needs; the index is built from it."""

    watermark: float
    stories: list[_State]
    seen: list[str]


_SNAPSHOT = TypeAdapter(_Snapshot)


class StoryClusterer:
    """The open stories and the index that finds the ones an item resembles."""

    def __init__(self, rules: Rules | None = None, watch: Watch | None = None) -> None:
        self._rules, self._watch = rules or Rules(), watch
        self._stories: dict[str, _State] = {}
        self._index: dict[str, dict[str, int]] = defaultdict(dict)  # term → story → items of it that have the term
        self._frequency: Counter[str] = Counter()  # term → items in open stories that have it
        self._items = 0
        self._watermark = -math.inf
        self._swept = -math.inf
        self._seen = Seen(200_000)

    def __len__(self) -> int:
        return len(self._stories)

    def __repr__(self) -> str:
        return f"<StoryClusterer {len(self._stories)} stories, {self._items} items, {len(self._index)} terms>"

    @property
    def watermark(self) -> datetime | None:
        """The newest event time seen, None before the first item."""
        return None if math.isinf(self._watermark) else datetime.fromtimestamp(self._watermark, UTC)

    def observe(self, item: Item) -> list[Story]:
        """Put `item` into a story; return the stories worth telling about now, in the order to tell them.

        An item seen before, or older than the window, changes nothing.
        """
        at = item.published_at.timestamp()
        if at < self._watermark - self._rules.window or not self._seen.add(item.id):
            return []
        self._watermark = max(self._watermark, at)
        vector = self._vector(features(item.title))
        story = self._most_similar(vector, at) or self._start(item, at)
        self._join(story, item, at, vector)
        if self._watch is not None:
            self._watch.joined(item.id, story.id)
        told = []
        if story.items in _MERGE_AT:
            absorbed = self._merge(story)
            if absorbed is not None:
                gone, story = absorbed
                if self._watch is not None:
                    self._watch.merged(gone.id, story.id)
                if gone.revision:
                    told.append(self._tell(gone, merged_into=story.id))
        if self._worth_telling(story):
            told.append(self._tell(story))
        return told

    def advance(self, now: datetime) -> list[Story]:
        """Let event time pass to `now`; stories past the window close, which nobody needs to be told."""
        self._watermark = max(self._watermark, now.timestamp())
        self._sweep()
        return []

    # --- resemblance -------------------------------------------------------------------------------------------------

    def _vector(self, counts: dict[str, float]) -> dict[str, float]:
        """Return the unit TF-IDF vector of an item.

        A term's weight is half what the open stories say of it and half what English does: the first knows what
        everybody writes about today, the second knows at once, and of words no story has yet, which carry little.
        """
        total = self._items + 1 + _PRIOR_ITEMS
        vector = {
            term: count * 0.5 * (math.log(total / (self._frequency[term] + 1)) + _rarity(term))
            for term, count in counts.items()
        }
        length = math.sqrt(sum(weight * weight for weight in vector.values())) or 1.0
        return {term: weight / length for term, weight in vector.items()}

    def _most_similar(self, vector: dict[str, float], at: float) -> _State | None:
        """Return the story an item joins, None if it resembles none enough.

        The resemblance is the mean of two: the cosine with the story's sum of vectors, which knows what a story is
        about, and the share of the item's words that are this story's own, which knows what tells stories apart.
        """
        cosine: dict[str, float] = defaultdict(float)
        share: dict[str, float] = defaultdict(float)
        total = sum(vector.values()) or 1.0
        for term, weight in vector.items():
            stories = self._index.get(term)
            if stories is None:
                continue
            own = weight / total / (self._frequency[term] + 1)
            for story_id, count in stories.items():
                cosine[story_id] += weight * self._stories[story_id].weights[term]
                share[story_id] += own * count
        best, best_score = None, self._rules.similarity
        for story_id, product in cosine.items():
            story = self._stories[story_id]
            fading = math.exp(-max(0.0, at - story.last_seen) / self._rules.decay)
            score = fading * (0.5 * product / story.norm + 0.5 * share[story_id])
            if score > best_score:
                best, best_score = story, score
        return best

    def _merge(self, story: _State) -> tuple[_State, _State] | None:
        """Join `story` with the one it has grown to equal; return (the one that is gone, the one that stays)."""
        products: dict[str, float] = defaultdict(float)
        for term, weight in story.weights.items():
            for other_id in self._index[term]:
                products[other_id] += weight * self._stories[other_id].weights[term]
        del products[story.id]
        if not products:
            return None
        twin = self._stories[max(products, key=lambda other_id: products[other_id] / self._stories[other_id].norm)]
        if products[twin.id] / (twin.norm * story.norm) < self._rules.merge_similarity:
            return None
        stays, gone = (story, twin) if story.items > twin.items else (twin, story)
        self._forget(gone)
        for term, weight in gone.weights.items():
            self._add_term(stays, term, weight, gone.counts[term])
        self._items += gone.items
        stays.items += gone.items
        stays.first_seen, stays.last_seen = min(stays.first_seen, gone.first_seen), max(stays.last_seen, gone.last_seen)
        stays.sources = dict(Counter(stays.sources) + Counter(gone.sources))
        stays.platforms = dict(Counter(stays.platforms) + Counter(gone.platforms))
        stays.recent = sorted(stays.recent + gone.recent)
        stays.simulated = stays.simulated and gone.simulated
        items = sorted(_evidence(stays) + _evidence(gone), key=lambda ref: ref.published_at)
        stays.first_items, stays.last_items = items[:_FIRST_ITEMS], items[_FIRST_ITEMS:][-_LAST_ITEMS:]
        self._prune(stays)
        return gone, stays

    # --- stories -----------------------------------------------------------------------------------------------------

    def _start(self, item: Item, at: float) -> _State:
        if len(self._stories) >= self._rules.max_stories:
            self._forget(min(self._stories.values(), key=lambda story: story.last_seen))
        story = _State(id=item.id, title=item.title, first_seen=at, last_seen=at)
        self._stories[story.id] = story
        return story

    def _join(self, story: _State, item: Item, at: float, vector: dict[str, float]) -> None:
        for term, weight in vector.items():
            self._add_term(story, term, weight, 1)
        self._prune(story)
        self._items += 1
        story.items += 1
        story.first_seen, story.last_seen = min(story.first_seen, at), max(story.last_seen, at)
        story.sources[item.source] = story.sources.get(item.source, 0) + 1
        story.platforms[item.platform] = story.platforms.get(item.platform, 0) + 1
        story.simulated = story.simulated and item.simulated
        since = story.last_seen - _VELOCITY_SECONDS
        story.recent = [time for time in (*story.recent, at) if time > since]
        items = story.first_items if len(story.first_items) < _FIRST_ITEMS else story.last_items
        items.append(ItemRef.of(item))
        del story.last_items[:-_LAST_ITEMS]

    def _add_term(self, story: _State, term: str, weight: float, count: int) -> None:
        story.weights[term] = story.weights.get(term, 0.0) + weight
        story.counts[term] = story.counts.get(term, 0) + count
        self._index[term][story.id] = story.counts[term]
        self._frequency[term] += count

    def _prune(self, story: _State) -> None:
        if len(story.weights) > _MAX_TERMS:
            strongest = sorted(story.weights, key=lambda term: -story.weights[term])
            for term in strongest[_MAX_TERMS // 2 :]:
                self._drop_term(story, term)
                del story.weights[term], story.counts[term]
        story.refresh()

    def _drop_term(self, story: _State, term: str) -> None:
        del self._index[term][story.id]
        self._frequency[term] -= story.counts[term]
        if not self._index[term]:
            del self._index[term], self._frequency[term]

    def _forget(self, story: _State) -> None:
        for term in story.weights:
            self._drop_term(story, term)
        self._items -= story.items
        del self._stories[story.id]

    def _sweep(self) -> None:
        """Close the stories past the window, at most once in ten minutes of event time."""
        if self._watermark < self._swept + 600.0:
            return
        self._swept = self._watermark
        closed = self._watermark - self._rules.window
        for story in [story for story in self._stories.values() if story.last_seen < closed]:
            self._forget(story)

    def _worth_telling(self, story: _State) -> bool:
        if story.items < self._rules.min_items:
            return False
        grown = story.items - story.told_items
        return (
            len(story.platforms) > story.told_platforms
            or grown >= max(1, story.told_items // 10)
            or (grown > 0 and self._watermark - story.told_at >= self._rules.quiet)
        )

    def _tell(self, story: _State, merged_into: str | None = None) -> Story:
        story.revision += 1
        story.told_items, story.told_platforms, story.told_at = story.items, len(story.platforms), self._watermark
        sources = sorted(story.sources, key=lambda source: (-story.sources[source], source))
        return Story(
            id=story.id,
            title=story.title,
            item_count=story.items,
            sources=tuple(sources[:_MAX_SOURCES]),
            platforms=story.platforms,
            velocity=float(len(story.recent)),
            first_seen=datetime.fromtimestamp(story.first_seen, UTC),
            last_seen=datetime.fromtimestamp(story.last_seen, UTC),
            items=tuple(_evidence(story)),
            merged_into=merged_into,
            revision=story.revision,
            simulated=story.simulated,
        )

    # --- restart -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return all that `restore` needs to go on where this one stands, as JSON."""
        state = _Snapshot(self._watermark, list(self._stories.values()), self._seen.newest(50_000))
        return _SNAPSHOT.dump_json(state)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot; raises ValueError if it is not one."""
        state = _SNAPSHOT.validate_json(snapshot)
        self._watermark = state.watermark
        for item_id in state.seen:
            self._seen.add(item_id)
        for story in state.stories:
            self._stories[story.id] = story
            self._items += story.items
            for term, count in story.counts.items():
                self._index[term][story.id] = count
                self._frequency[term] += count


def _evidence(story: _State) -> list[ItemRef]:
    return [*story.first_items, *story.last_items]


def _rarity(term: str) -> float:
    """Return how rare a stem is in English; that of a pair is the mean of its words."""
    parts = term.split(" ")
    return sum(map(text.rarity, parts)) / len(parts)


def features(title: str) -> dict[str, float]:
    """Return what a headline is compared by: stems of its content words, and pairs of neighbours at a lower weight."""
    stems = [text.stem(word) for word in text.content_words(title)]
    counts: dict[str, float] = {}
    for stem in stems:
        counts[stem] = min(2.0, counts.get(stem, 0.0) + 1.0)
    for first, second in pairwise(stems):
        counts.setdefault(f"{first} {second}", _PAIR_WEIGHT)
    return counts
