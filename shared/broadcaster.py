"""The producer SDK: publish an event and know that it is stored, once.

Each publish is acknowledged by JetStream, carries a `Nats-Msg-Id` so that a repeat is removed, and is retried with
backoff until it is acknowledged or given up with a typed error.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nats.errors
import nats.js.errors

from shared import channels, logs
from shared.channels import Channel, Kind, parse_channel
from shared.connection import Connection
from shared.errors import InvalidPayload, NatsUnavailable, PublishFailed
from shared.events import Item, Signal, Story, Trend
from shared.metrics import PublishMetrics
from shared.streams import ITEMS, stream_of
from shared.wire import StoryUpdate, TrendUpdate, TrustScoreUpdate, UserMessage, now_text

log = logs.get(__name__)

# What passes with time: a lost connection, a leader election, a full outbound buffer.
_PASSING = (
    nats.errors.TimeoutError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.OutboundBufferLimitError,
    nats.errors.NoRespondersError,
    nats.errors.StaleConnectionError,
    nats.js.errors.NoStreamResponseError,
    nats.js.errors.ServiceUnavailableError,
    TimeoutError,
    ConnectionError,
)


@dataclass(frozen=True, slots=True)
class Published:
    """The acknowledgement: the event's sequence in its stream, and whether it was stored before."""

    seq: int
    duplicate: bool


def content_id(prefix: str, payload: bytes) -> str:
    """Return a message id that is equal for equal content, so that saying the same thing twice stores it once."""
    return f"{prefix}:{hashlib.blake2b(payload, digest_size=12).hexdigest()}"


class Broadcaster:
    """Publishes events; one per process, used by any number of tasks.

    `give_up_after` bounds the time one event may take, in seconds; None keeps trying for ever, which lets backpressure
    reach the source while NATS is away. When PublishFailed is raised the event is still the caller's: publishing it
    again with the same id is safe.
    """

    def __init__(
        self,
        connection: Connection,
        metrics: PublishMetrics,
        *,
        give_up_after: float | None = 30.0,
        timeout: float = 5.0,
    ) -> None:
        self._connection, self._metrics = connection, metrics
        self._give_up_after, self._timeout = give_up_after, timeout
        self._rng = random.Random()

    async def trend_update(self, trend: Trend) -> Published:
        """Publish a trend to everyone on `trends`."""
        message_id = content_id(trend.id, trend.model_dump_json().encode())
        return await self._event(channels.TRENDS, TrendUpdate(data=trend).to_json(), message_id)

    async def story_update(self, story: Story) -> Published:
        """Publish a story to everyone on `stories` and on `story:<id>`."""
        message_id = content_id(story.id, story.model_dump_json().encode())
        return await self._event(channels.story(story.id), StoryUpdate(data=story).to_json(), message_id)

    async def trust_score_update(
        self,
        story_id: str,
        trust_score: float,
        signals: Sequence[Signal],
        *,
        previous_score: float | None = None,
        confidence: float | None = None,
        simulated: bool | None = None,
        model: str | None = None,
        story_revision: int | None = None,
        message_id: str | None = None,
    ) -> Published:
        """Publish a story's score to everyone on `trust_scores` and on `story:<id>`.

        The two channels have a sequence each, so the score is stored under both subjects; the returned
        acknowledgement is that of `trust_scores`.
        """
        payload = TrustScoreUpdate(
            story_id=story_id,
            trust_score=trust_score,
            signals=list(signals),
            previous_score=previous_score,
            confidence=confidence,
            simulated=simulated,
            model=model,
            story_revision=story_revision,
        ).to_json()
        message_id = message_id or uuid.uuid4().hex
        await self._event(channels.story(story_id), payload, f"{message_id}:story")
        return await self._event(channels.TRUST_SCORES, payload, message_id)

    async def user_message(self, user_id: str, data: Mapping[str, Any], *, message_id: str | None = None) -> Published:
        """Publish a personal message to `user:<user_id>`; it waits there while the user is offline."""
        message = UserMessage(data=dict(data))
        return await self._event(channels.user(user_id), message.to_json(), message_id or uuid.uuid4().hex)

    async def broadcast(self, channel: str, message: Mapping[str, Any], *, message_id: str | None = None) -> Published:
        """Publish any message (a JSON object with a `type`) to everyone on `channel`.

        Raises InvalidChannel for an unknown channel and InvalidPayload for `general`, which is the gateway's own, for a
        message without a type, and for values JSON does not know.
        """
        if not isinstance(message.get("type"), str):
            raise InvalidPayload("a message needs a `type`, such as trend_update: clients choose their handler by it")
        try:
            payload = json.dumps({"timestamp": now_text(), **message}, allow_nan=False, separators=(",", ":")).encode()
        except (TypeError, ValueError) as error:
            raise InvalidPayload(f"the message cannot be written as JSON: {error}") from error
        return await self._event(parse_channel(channel), payload, message_id or uuid.uuid4().hex)

    async def item(self, item: Item) -> Published:
        """Hand an item to the roles; its id removes repeats of the same item."""
        payload = item.model_dump_json(exclude_defaults=True).encode()
        return await self._publish(channels.items_subject(item.platform), payload, item.id, ITEMS, "item")

    async def _event(self, channel: Channel, payload: bytes, message_id: str) -> Published:
        subject, stream = channel.durable_subject, stream_of(channel)
        if subject is None or stream is None or channel.kind is Kind.STORIES:
            raise InvalidPayload(f"nothing can be published to {channel.name}: publish to a channel that events have")
        return await self._publish(subject, payload, message_id, stream, channel.kind.value)

    async def _publish(self, subject: str, payload: bytes, message_id: str, stream: str, kind: str) -> Published:
        deadline = None if self._give_up_after is None else time.monotonic() + self._give_up_after
        attempt = 0
        while True:
            attempt += 1
            try:
                await self._until_connected(deadline)
                ack = await self._connection.jetstream.publish(
                    subject, payload, timeout=self._timeout, stream=stream, headers={"Nats-Msg-Id": message_id}
                )
            except _PASSING as error:
                pause = self._rng.uniform(0.0, min(2.0, 0.05 * 2.0 ** min(attempt, 10)))
                if deadline is not None and time.monotonic() + pause >= deadline:
                    self._metrics.failures.labels(kind).inc()
                    raise PublishFailed(subject, message_id, attempt, repr(error)) from error
                self._metrics.retries.labels(kind).inc()
                await asyncio.sleep(pause)
            except (nats.errors.Error, OSError) as error:
                self._metrics.failures.labels(kind).inc()
                raise PublishFailed(subject, message_id, attempt, repr(error)) from error
            else:
                (self._metrics.duplicates if ack.duplicate else self._metrics.published).labels(kind).inc()
                return Published(seq=ack.seq, duplicate=bool(ack.duplicate))

    async def until_connected(self) -> None:
        """Wait for NATS as long as one event may take; raises NatsUnavailable after that."""
        deadline = None if self._give_up_after is None else time.monotonic() + self._give_up_after
        try:
            await self._until_connected(deadline)
        except TimeoutError as error:
            raise NatsUnavailable("publishing", f"no connection in {self._give_up_after:g} s") from error

    async def _until_connected(self, deadline: float | None) -> None:
        # Publishing while disconnected would fill the client's buffer with what we still hold: wait instead.
        if not self._connection.connected:
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
            async with asyncio.timeout(timeout):
                await self._connection.ready()
