"""What flows through the system: items go in; trends, stories and trust scores come out.

Frozen models, checked where bytes become objects. Times are UTC, rates are per hour, scores are 0 to 100, values and
confidences are 0 to 1.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from shared.channels import ID_PATTERN

Id = Annotated[str, Field(pattern=f"^{ID_PATTERN}$")]
Unit = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


def _utc(value: object) -> object:
    """Read a naive time as UTC: feeds and CSV files leave the zone out, and every stored time here is UTC."""
    if isinstance(value, str):
        value = datetime.fromisoformat(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    return value


Time = Annotated[AwareDatetime, BeforeValidator(_utc)]


class _Event(BaseModel):
    """Common rules: immutable, and a field a newer producer added does not break an older reader."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Engagement(_Event):
    """What an item's audience did, as far as its platform tells; None where it does not."""

    score: int | None = None
    comments: int | None = Field(default=None, ge=0)
    shares: int | None = Field(default=None, ge=0)


class Item(_Event):
    """One news article or post, normalised."""

    id: Id
    platform: Id
    source: str = Field(min_length=1, max_length=253, description="registrable domain or account that published it")
    title: str = Field(min_length=1, max_length=1_000)
    url: str | None = Field(default=None, max_length=4_096)
    text: str = Field(default="", max_length=20_000)
    author: str | None = Field(default=None, max_length=200)
    published_at: Time
    hashtags: tuple[str, ...] = ()
    engagement: Engagement | None = None
    simulated: bool = False


class ItemRef(_Event):
    """The part of an item that trends and stories carry as evidence."""

    id: Id
    platform: Id
    source: str
    title: str
    url: str | None = None
    author: str | None = None
    published_at: Time
    engagement: Engagement | None = None
    simulated: bool = False

    @classmethod
    def of(cls, item: Item) -> ItemRef:
        """Return the reference to `item`."""
        return cls.model_construct(
            id=item.id,
            platform=item.platform,
            source=item.source,
            title=item.title,
            url=item.url,
            author=item.author,
            published_at=item.published_at,
            engagement=item.engagement,
            simulated=item.simulated,
        )


class TrendPhase(StrEnum):
    """Where a trend stands in its life."""

    STARTED = "started"
    CHANGED = "changed"
    ENDED = "ended"


class TermKind(StrEnum):
    """What kind of term bursts."""

    KEYWORD = "keyword"
    HASHTAG = "hashtag"
    ENTITY = "entity"


class Trend(_Event):
    """A term that is mentioned markedly more, by more sources, than its own past explains."""

    id: Id
    name: str = Field(min_length=1, max_length=200)
    kind: TermKind = TermKind.KEYWORD
    phase: TrendPhase
    mention_count: int = Field(ge=0, description="mentions in the current window")
    velocity: Finite = Field(description="mentions per hour")
    acceleration: Finite = Field(description="change of velocity, mentions per hour per hour")
    score: Finite = Field(default=0.0, description="surprise: deviations above what the term's past predicts")
    platforms: dict[str, int] = Field(default_factory=dict)
    sources: int = Field(default=0, ge=0, description="distinct sources in the current window")
    terms: tuple[str, ...] = ()
    top_items: tuple[ItemRef, ...] = ()
    first_seen: Time
    last_seen: Time
    revision: int = Field(default=0, ge=0)
    simulated: bool = False


class Story(_Event):
    """Items that report the same happening."""

    id: Id
    title: str = Field(min_length=1, max_length=1_000)
    item_count: int = Field(ge=1)
    sources: tuple[str, ...] = ()
    platforms: dict[str, int] = Field(default_factory=dict)
    velocity: Finite = Field(default=0.0, description="items per hour over the last hour of event time")
    first_seen: Time
    last_seen: Time
    items: tuple[ItemRef, ...] = Field(default=(), description="the evidence: first and newest items, bounded")
    merged_into: Id | None = Field(default=None, description="the story that took this one over, in its last update")
    revision: int = Field(default=0, ge=0)
    simulated: bool = False


class Signal(_Event):
    """One reason behind a trust score."""

    name: str = Field(min_length=1)
    value: Unit | None = Field(
        default=None, description="absent: nothing is known, so the signal neither raises nor lowers the score"
    )
    weight: Unit = Field(description="its share in the score, after confidence")
    contribution: Finite = Field(description="points it moves the score from the neutral 50")
    confidence: Unit
    explanation: str
    previous_value: Unit | None = Field(default=None, description="its value when the score was last told")
    change: Finite | None = Field(
        default=None, description="points it moved the score by since then; those of all signals add up to the move"
    )


class TrustScore(_Event):
    """How far a story can be trusted now, and why."""

    story_id: Id
    score: Score
    confidence: Unit
    signals: tuple[Signal, ...]
    previous_score: Score | None = None
    model: str = Field(default="", description="version of the rules and fitted weights the score comes from")
    scored_at: Time
    simulated: bool = False
