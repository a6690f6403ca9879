"""Makers of items, stories and signals with sensible defaults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shared.events import Item, ItemRef, Story, Trend, TrendPhase

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def item(
    number: int, title: str, *, source: str = "", minutes: float = 0.0, platform: str = "news", **more: object
) -> Item:
    """Return an item published `minutes` after START, by a source of its own unless one is given."""
    return Item.model_validate(
        {
            "id": f"i{number}",
            "platform": platform,
            "source": source or f"outlet{number}.example",
            "title": title,
            "published_at": START + timedelta(minutes=minutes),
            **more,
        }
    )


def story(story_id: str, items: list[Item], *, revision: int = 1, **more: object) -> Story:
    """Return the story these items make."""
    platforms: dict[str, int] = {}
    for one in items:
        platforms[one.platform] = platforms.get(one.platform, 0) + 1
    return Story.model_validate(
        {
            "id": story_id,
            "title": items[0].title,
            "item_count": len(items),
            "sources": tuple(dict.fromkeys(one.source for one in items)),
            "platforms": platforms,
            "first_seen": min(one.published_at for one in items),
            "last_seen": max(one.published_at for one in items),
            "items": [ItemRef.of(one) for one in items],
            "revision": revision,
            **more,
        }
    )


def trend(name: str, *, trend_id: str = "t1", mentions: int = 7) -> Trend:
    """Return a trend that has just started."""
    return Trend(
        id=trend_id,
        name=name,
        phase=TrendPhase.STARTED,
        mention_count=mentions,
        velocity=float(mentions),
        acceleration=1.0,
        platforms={"news": mentions},
        first_seen=START,
        last_seen=START + timedelta(hours=1),
    )
