"""Settings of the publisher's roles, on top of what every service has."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.publisher import bursts, clustering
from services.publisher.sources.keys import parse_hashes
from shared.errors import StartupFailed
from shared.settings import ServiceSettings


class IngestSettings(ServiceSettings):
    """Where items come from and how fast they may."""

    port: int = Field(8001, ge=0, le=65_535, description="HTTP port; 0 picks a free one")
    feeds: Path | None = Field(None, description="TOML file with the feeds to read")
    feed_interval: float = Field(300.0, gt=0, description="seconds between two reads of a feed")
    feed_concurrency: int = Field(8, gt=0, description="feeds read at a time")
    feed_timeout: float = Field(10.0, gt=0, description="seconds a feed may take")
    feed_max_bytes: int = Field(10_485_760, gt=0, description="larger feeds are refused")
    ingest_api_keys: str = Field(
        "", description="SHA-256 hashes of the keys that may POST items, separated by commas; needed off this machine"
    )
    push_rate: int = Field(6_000, gt=0, description="items one key may hand over in a minute")
    push_max_items: int = Field(1_000, gt=0, description="items in one POST")
    push_max_bytes: int = Field(8_388_608, gt=0, description="bytes of one POST")
    seen_items: int = Field(200_000, gt=0, description="ids remembered to leave repeats out")
    newsroom_rate: float = Field(2.0, gt=0, description="items a second from the simulated newsroom")

    @property
    def api_keys(self) -> tuple[str, ...]:
        """The hashes; raises StartupFailed where the port can be reached from elsewhere and there are none."""
        hashes = parse_hashes(self.ingest_api_keys)
        if not hashes and self.host not in ("127.0.0.1", "::1", "localhost"):
            raise StartupFailed(
                f"items on {self.host} need VERACITY_INGEST_API_KEYS: `veracity api-key` makes a key and its hash"
            )
        return hashes


class RoleSettings(ServiceSettings):
    """What the roles that make events of items have in common."""

    checkpoint_interval: float = Field(20.0, gt=0, description="seconds between two checkpoints of a role's memory")
    lease_seconds: float = Field(10.0, ge=1, description="a role whose process is silent this long goes to a standby")


class TrendSettings(RoleSettings):
    """When a term is a trend."""

    port: int = Field(8002, ge=0, le=65_535, description="HTTP port; 0 picks a free one")
    trend_window: float = Field(4 * 3_600.0, gt=0, description="seconds of event time mentions are counted over")
    trend_half_life: float = Field(48 * 3_600.0, gt=0, description="seconds in which a term's past counts half")
    trend_score: float = Field(4.0, gt=0, description="deviations above the expected that start a trend")
    trend_min_mentions: int = Field(5, gt=0, description="fewer mentions are no trend")
    trend_min_sources: int = Field(3, gt=0, description="fewer sources are no trend")

    @property
    def rules(self) -> bursts.Rules:
        """What the burst detector needs to know."""
        return bursts.Rules(
            window=self.trend_window,
            half_life=self.trend_half_life,
            start_score=self.trend_score,
            min_mentions=self.trend_min_mentions,
            min_sources=self.trend_min_sources,
        )


class StorySettings(RoleSettings):
    """When items are one story."""

    port: int = Field(8003, ge=0, le=65_535, description="HTTP port; 0 picks a free one")
    story_similarity: float = Field(0.12, gt=0, lt=1, description="least resemblance of an item to the story it joins")
    story_window: float = Field(72 * 3_600.0, gt=0, description="seconds of event time a silent story stays open")
    story_min_items: int = Field(2, gt=0, description="fewer items are not told as a story")
    story_max_open: int = Field(20_000, gt=0, description="open stories; past it the longest silent closes")

    @property
    def rules(self) -> clustering.Rules:
        """What the clusterer needs to know."""
        return clustering.Rules(
            similarity=self.story_similarity,
            window=self.story_window,
            min_items=self.story_min_items,
            max_stories=self.story_max_open,
        )
