"""Finds terms that are mentioned markedly more, by more sources, than their own past explains.

Pure and deterministic, on event time: items go in with their own times, trends that start, change or end come out.
Memory is bounded by the window and by counts.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pydantic import TypeAdapter

from services.publisher import text
from services.publisher.dedupe import Seen
from shared.events import Item, ItemRef, TermKind, Trend, TrendPhase

_BUCKETS = 12  # of a window; an item leaves the window with its bucket
_TOP_ITEMS = 8
_MAX_TREND_TERMS = 8
_ENOUGH_OVERLAP = 0.5  # of the smaller set of items: the two terms tell of one thing
_FORGOTTEN = 0.02  # decayed mentions below which a term's past is nothing


@dataclass(frozen=True, slots=True)
class Rules:
    """When a term bursts, when its trend has changed enough to say so, and when it is over."""

    window: float = 4 * 3_600.0  # seconds of event time mentions are counted over
    half_life: float = 48 * 3_600.0  # seconds in which a term's past counts half
    start_score: float = 4.0  # deviations above what the past predicts
    end_score: float = 1.5
    min_mentions: int = 5
    min_sources: int = 3
    change: float = 0.5  # relative change of velocity worth an update
    max_items: int = 50_000  # in the window
    max_terms: int = 100_000


@dataclass(slots=True)
class _Mention:
    """One item in the window, with what it mentions."""

    ref: ItemRef
    terms: tuple[str, ...]
    at: float


@dataclass(slots=True)
class _Term:
    """One term: its mentions in the window by item, who made them, and the decayed count of those before."""

    name: str
    kind: TermKind
    items: dict[str, float] = field(default_factory=dict)  # item id → time
    sources: dict[str, int] = field(default_factory=dict)
    mass: float = 0.0
    mass_at: float = 0.0

    def past(self, now: float, half_life: float) -> float:
        """Return the decayed count at `now`."""
        return self.mass * math.exp2(-(now - self.mass_at) / half_life)

    @property
    def weight(self) -> float:
        """Mentions with each source's later ones counting less: a hundred by one source weigh as seven by seven."""
        return sum(1.0 + math.log2(count) for count in self.sources.values())


@dataclass(slots=True)
class _Active:
    """One trend that has started and not ended."""

    id: str
    name: str
    kind: TermKind
    terms: list[str]
    first_seen: float
    revision: int = 0
    told_velocity: float = 0.0
    told_platforms: int = 0


@dataclass(slots=True)
class _Snapshot:
    """All that a restart needs."""

    watermark: float
    total: float
    total_at: float
    mentions: list[_Mention]
    terms: dict[str, _Term]
    active: list[_Active]
    seen: list[str]


_SNAPSHOT = TypeAdapter(_Snapshot)


class BurstDetector:
    """The window of recent mentions, each term's past, and the trends going on."""

    def __init__(self, rules: Rules | None = None) -> None:
        self._rules = rules or Rules()
        self._bucket_seconds = self._rules.window / _BUCKETS
        self._terms: dict[str, _Term] = {}
        self._mentions: dict[str, _Mention] = {}
        self._buckets: dict[int, list[str]] = {}  # bucket of event time → item ids
        self._active: dict[str, _Active] = {}  # trend id → trend
        self._trend_of: dict[str, str] = {}  # term → trend id
        self._total = 0.0  # decayed count of all items before the window
        self._total_at = 0.0
        self._watermark = -math.inf
        self._seen = Seen(200_000)

    def __len__(self) -> int:
        return len(self._active)

    def __repr__(self) -> str:
        return f"<BurstDetector {len(self._active)} trends, {len(self._terms)} terms, {len(self._mentions)} items>"

    @property
    def watermark(self) -> datetime | None:
        """The newest event time seen, None before the first item."""
        return None if math.isinf(self._watermark) else datetime.fromtimestamp(self._watermark, UTC)

    def observe(self, item: Item) -> list[Trend]:
        """Count `item`; return the trends that start, change or end with it, in that order of event time.

        An item seen before, or older than the window, changes nothing.
        """
        at = item.published_at.timestamp()
        if at <= self._watermark - self._rules.window or not self._seen.add(item.id):
            return []
        told = self._move(at)
        mentioned = text.terms(item.title, item.hashtags)
        self._mentions[item.id] = _Mention(ItemRef.of(item), tuple(term.key for term in mentioned), at)
        self._buckets.setdefault(self._bucket(at), []).append(item.id)
        for term in mentioned:
            known = self._terms.get(term.key)
            if known is None:
                known = self._terms[term.key] = _Term(term.name, term.kind, mass_at=at)
            known.items[item.id] = at
            known.sources[item.source] = known.sources.get(item.source, 0) + 1
        if len(self._mentions) > self._rules.max_items:
            self._expire(min(self._buckets))
        return told + self._judge([term.key for term in mentioned])

    def advance(self, now: datetime) -> list[Trend]:
        """Let event time pass to `now`; return the trends that end with it."""
        return self._move(now.timestamp())

    # --- time --------------------------------------------------------------------------------------------------------

    def _bucket(self, at: float) -> int:
        return math.floor(at / self._bucket_seconds)

    def _move(self, at: float) -> list[Trend]:
        """Move the window to end at `at`, if that is later; end trends that have died down meanwhile."""
        if at <= self._watermark:
            return []
        before, self._watermark = self._watermark, at
        if not math.isinf(before) and self._bucket(before) == self._bucket(at):
            return []
        oldest = self._bucket(at - self._rules.window)
        for bucket in sorted(bucket for bucket in self._buckets if bucket < oldest):
            self._expire(bucket)
        if len(self._terms) > self._rules.max_terms:
            self._shed()
        return [told for trend in list(self._active.values()) for told in self._end_if_over(trend)]

    def _expire(self, bucket: int) -> None:
        """Move a bucket's items from the window into their terms' past."""
        half_life = self._rules.half_life
        for item_id in self._buckets.pop(bucket):
            mention = self._mentions.pop(item_id)
            self._total = self._total * math.exp2(-(mention.at - self._total_at) / half_life) + 1.0
            self._total_at = mention.at
            for key in mention.terms:
                term = self._terms[key]
                del term.items[item_id]
                source = mention.ref.source
                term.sources[source] -= 1
                if not term.sources[source]:
                    del term.sources[source]
                term.mass = term.past(mention.at, half_life) + 1.0
                term.mass_at = mention.at

    def _shed(self) -> None:
        """Forget terms without mentions, weakest past first, until a tenth of the room is free."""
        idle = [
            (term.past(self._watermark, self._rules.half_life), key)
            for key, term in self._terms.items()
            if not term.items
        ]
        for past, key in sorted(idle):
            if past > _FORGOTTEN and len(self._terms) <= 0.9 * self._rules.max_terms:
                return
            del self._terms[key]

    # --- judging -----------------------------------------------------------------------------------------------------

    def score(self, key: str) -> float:
        """Return how many deviations the term's mentions in the window lie above what its past predicts.

        A count with mean e deviates by about sqrt(e) (Poisson). The mean is the term's share of all past items times
        the items in the window, so that a busy hour of the day raises no term; an unseen term has a small share.
        """
        term = self._terms.get(key)
        if term is None:
            return 0.0
        half_life, now = self._rules.half_life, self._watermark
        total = self._total * math.exp2(-(now - self._total_at) / half_life) if self._total else 0.0
        expected = len(self._mentions) * (term.past(now, half_life) + 0.1) / (total + 200.0)
        return (term.weight - expected) / math.sqrt(expected + 1.0)

    def _judge(self, keys: list[str]) -> list[Trend]:
        """Return what there is to tell about the terms just mentioned: trends that changed, then trends that start."""
        told: list[Trend] = []
        for trend_id in dict.fromkeys(self._trend_of[key] for key in keys if key in self._trend_of):
            told += self._change_if_due(self._active[trend_id])
        bursting = [key for key in keys if key not in self._trend_of and self._bursts(key)]
        # The most specific term names the trend: a name before a word, two words before one.
        bursting.sort(key=lambda key: (self._terms[key].kind is TermKind.KEYWORD, -key.count(" "), key))
        for key in bursting:
            trend = self._related(key)
            if trend is None:
                told.append(self._start(key))
            elif len(trend.terms) < _MAX_TREND_TERMS:
                trend.terms.append(key)
                self._trend_of[key] = trend.id
        return told

    def _bursts(self, key: str) -> bool:
        term, rules = self._terms[key], self._rules
        return (
            len(term.items) >= rules.min_mentions
            and len(term.sources) >= rules.min_sources
            and self.score(key) >= rules.start_score
        )

    def _related(self, key: str) -> _Active | None:
        """Return the trend that tells of the same items as `key`."""
        items = self._terms[key].items.keys()
        best, most = None, _ENOUGH_OVERLAP
        for trend in self._active.values():
            others = self._items_of(trend)
            overlap = len(items & others) / max(1, min(len(items), len(others)))
            if overlap >= most:
                best, most = trend, overlap
        return best

    def _items_of(self, trend: _Active) -> set[str]:
        return {item_id for key in trend.terms if key in self._terms for item_id in self._terms[key].items}

    # --- trends ------------------------------------------------------------------------------------------------------

    def _start(self, key: str) -> Trend:
        term = self._terms[key]
        first = min(term.items.values())
        digest = hashlib.blake2b(f"{key}\n{first}".encode(), digest_size=8).hexdigest()
        trend = _Active(f"t{digest}", term.name, term.kind, [key], first)
        self._active[trend.id] = trend
        self._trend_of[key] = trend.id
        return self._tell(trend, TrendPhase.STARTED)

    def _change_if_due(self, trend: _Active) -> list[Trend]:
        """Tell a change of velocity or a new platform; growth is told in steps, so that a big trend is not a flood."""
        items = self._items_of(trend)
        velocity = len(items) / (self._rules.window / 3_600.0)
        platforms = {self._mentions[item_id].ref.platform for item_id in items}
        changed = abs(velocity - trend.told_velocity) >= self._rules.change * trend.told_velocity
        return [self._tell(trend, TrendPhase.CHANGED)] if changed or len(platforms) > trend.told_platforms else []

    def _end_if_over(self, trend: _Active) -> list[Trend]:
        if max((self.score(key) for key in trend.terms), default=0.0) >= self._rules.end_score:
            return self._change_if_due(trend)
        del self._active[trend.id]
        for key in trend.terms:
            del self._trend_of[key]
        return [self._tell(trend, TrendPhase.ENDED)]

    def _tell(self, trend: _Active, phase: TrendPhase) -> Trend:
        mentions = sorted(
            (self._mentions[item_id] for item_id in self._items_of(trend)),
            key=lambda mention: (mention.at, mention.ref.id),
        )
        hours = self._rules.window / 3_600.0
        middle = self._watermark - self._rules.window / 2
        late = sum(mention.at > middle for mention in mentions)
        platforms = Counter(mention.ref.platform for mention in mentions)
        trend.revision += 1
        trend.told_velocity, trend.told_platforms = len(mentions) / hours, len(platforms)
        return Trend(
            id=trend.id,
            name=trend.name,
            kind=trend.kind,
            phase=phase,
            mention_count=len(mentions),
            velocity=len(mentions) / hours,
            # Of the window's two halves: velocities over half the hours, half a window apart.
            acceleration=(late - (len(mentions) - late)) / (hours / 2) / (hours / 2),
            score=round(max((self.score(key) for key in trend.terms), default=0.0), 3),
            platforms=dict(platforms),
            sources=len({mention.ref.source for mention in mentions}),
            terms=tuple(self._terms[key].name for key in trend.terms if key in self._terms),
            top_items=tuple(mention.ref for mention in _top(mentions)),
            first_seen=datetime.fromtimestamp(trend.first_seen, UTC),
            last_seen=datetime.fromtimestamp(max((m.at for m in mentions), default=self._watermark), UTC),
            revision=trend.revision,
            simulated=bool(mentions) and all(mention.ref.simulated for mention in mentions),
        )

    # --- restart -----------------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return all that `restore` needs to go on where this one stands, as JSON."""
        state = _Snapshot(
            watermark=self._watermark,
            total=self._total,
            total_at=self._total_at,
            mentions=list(self._mentions.values()),
            terms=self._terms,
            active=list(self._active.values()),
            seen=self._seen.newest(50_000),
        )
        return _SNAPSHOT.dump_json(state)

    def restore(self, snapshot: bytes) -> None:
        """Go on from a snapshot; raises ValueError if it is not one."""
        state = _SNAPSHOT.validate_json(snapshot)
        self._watermark, self._total, self._total_at = state.watermark, state.total, state.total_at
        self._terms = state.terms
        for item_id in state.seen:
            self._seen.add(item_id)
        for mention in state.mentions:
            self._mentions[mention.ref.id] = mention
            self._buckets.setdefault(self._bucket(mention.at), []).append(mention.ref.id)
        for trend in state.active:
            self._active[trend.id] = trend
            self._trend_of.update(dict.fromkeys(trend.terms, trend.id))


def _top(mentions: list[_Mention]) -> list[_Mention]:
    """Return the newest mentions, one a source before a second of any."""
    newest = mentions[::-1]
    first_of: dict[str, _Mention] = {}
    for mention in newest:
        first_of.setdefault(mention.ref.source, mention)
    chosen = list(first_of.values())[:_TOP_ITEMS]
    rest = [mention for mention in newest if mention not in chosen]
    return chosen + rest[: _TOP_ITEMS - len(chosen)]
