"""`veracity publish`: checks messages against the models, then publishes them as any producer does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from shared.broadcaster import Broadcaster
from shared.channels import Kind, parse_channel
from shared.connection import Connection
from shared.errors import InvalidPayload
from shared.metrics import NatsMetrics, PublishMetrics, new_registry
from shared.settings import ServiceSettings
from shared.streams import ensure_streams
from shared.wire import EVENT_MESSAGE

_EXPECTED = {
    Kind.TRENDS: {"trend_update"},
    Kind.STORY: {"story_update", "trust_score_update"},
    Kind.TRUST_SCORES: {"trust_score_update"},
    Kind.USER: {"user_message", "trend_update", "story_update", "trust_score_update"},
}


async def publish(settings: ServiceSettings, channel: str, text: bytes) -> list[str]:
    """Publish every message in `text`; return a line about each.

    Nothing is published unless all are right: raises InvalidChannel, or InvalidPayload naming the message. Raises
    PublishFailed if NATS does not acknowledge within half a minute.
    """
    kind = parse_channel(channel).kind
    if kind not in _EXPECTED:
        raise InvalidPayload(f"nothing can be published to {channel}: publish to trends, story:<id> or trust_scores")
    messages = [check(message, kind, number) for number, message in enumerate(_messages(text), 1)]
    registry = new_registry()
    async with Connection(settings, "veracity-publish", NatsMetrics(registry)) as nats:
        broadcaster = Broadcaster(nats, PublishMetrics(registry))
        await broadcaster.until_connected()
        if settings.manage_streams:
            await ensure_streams(nats.jetstream, settings)
        lines = []
        for message in messages:
            published = await broadcaster.broadcast(channel, message)
            lines.append(f"published {message['type']} to {channel}, seq {published.seq}")
        return lines


def _messages(text: bytes) -> Iterator[Any]:
    """Yield the messages: one JSON document, a list of them, or one a line."""
    try:
        whole = json.loads(text)
    except ValueError:
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                raise InvalidPayload(f"line {number} is not JSON: {error}") from error
        return
    yield from whole if isinstance(whole, list) else [whole]


def check(message: Any, kind: Kind, number: int) -> dict[str, Any]:
    """Return the message if it fits its model and channel; raises InvalidPayload saying where it does not."""
    try:
        event = EVENT_MESSAGE.validate_python(message)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()[:5]
        )
        raise InvalidPayload(f"message {number} does not fit its model: {problems}") from error
    if event.type not in _EXPECTED[kind]:
        raise InvalidPayload(f"message {number}: {event.type} does not belong on a {kind.value} channel")
    result: dict[str, Any] = json.loads(event.to_json())
    return result
