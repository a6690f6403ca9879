"""The JetStream streams as data, and `ensure_streams`, which makes the broker match them.

Four streams store, de-duplicate and sequence events and republish each to its live subject; a fifth keeps items until
the roles have read them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import nats.js.errors
from nats.js.api import RePublish, RetentionPolicy, StorageType, StreamConfig, StreamInfo
from nats.js.client import JetStreamContext

from shared import logs
from shared.channels import ITEMS_SUBJECT, Channel, Kind
from shared.connection import Connection, retry_until_connected
from shared.errors import NatsUnavailable, StreamConflict
from shared.settings import ServiceSettings

log = logs.get(__name__)

ITEMS = "ITEMS"

# JetStream's error code for "subjects overlap with an existing stream".
_SUBJECT_OVERLAP = 10065


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """One stream: what it stores and, for events, where each stored message goes live."""

    name: str
    subject: str
    live: str | None
    max_age: float
    max_messages_per_subject: int


STREAM_OF_KIND = {
    Kind.TRENDS: "TRENDS",
    Kind.STORIES: "STORIES",
    Kind.STORY: "STORIES",
    Kind.TRUST_SCORES: "TRUST_SCORES",
    Kind.USER: "USERS",
}


def stream_of(channel: Channel) -> str | None:
    """Return the name of the stream that keeps the channel's history; None for `general`."""
    return STREAM_OF_KIND.get(channel.kind)


def specs(settings: ServiceSettings) -> list[StreamSpec]:
    """Return every stream the system needs."""
    age = settings.events_max_age
    # Only users' messages are bounded by subject: elsewhere an eviction in the middle of a stream would go unnoticed by
    # whoever asks for all that came after a sequence.
    return [
        StreamSpec("TRENDS", "events.trends", "trends", age, -1),
        StreamSpec("STORIES", "events.story.*", "story.{{wildcard(1)}}", age, -1),
        StreamSpec("TRUST_SCORES", "events.trust_scores", "trust_scores", age, -1),
        StreamSpec("USERS", "events.user.*", "user.{{wildcard(1)}}", settings.user_max_age, settings.user_max_messages),
        StreamSpec(ITEMS, ITEMS_SUBJECT, None, settings.items_max_age, -1),
    ]


def stream_config(spec: StreamSpec, settings: ServiceSettings) -> StreamConfig:
    """Return the JetStream configuration of one stream."""
    return StreamConfig(
        name=spec.name,
        subjects=[spec.subject],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType(settings.stream_storage.value),
        num_replicas=settings.stream_replicas,
        max_age=spec.max_age,
        max_bytes=settings.stream_max_bytes,
        max_msgs_per_subject=spec.max_messages_per_subject,
        # JetStream refuses a duplicate window longer than the messages live.
        duplicate_window=min(settings.stream_duplicate_window, spec.max_age),
        allow_direct=True,
        republish=None if spec.live is None else RePublish(src=spec.subject, dest=spec.live),
    )


async def ensure_streams(jetstream: JetStreamContext, settings: ServiceSettings) -> None:
    """Create every stream that is missing and update every one that differs; repeating it changes nothing.

    Raises StreamConflict where an existing stream cannot become ours: another stream holds the subjects, or this one
    was made with settings JetStream does not let change (storage, retention). Raises NatsUnavailable while JetStream
    is not ready, such as a cluster that still elects its leader.
    """
    for spec in specs(settings):
        wanted = stream_config(spec, settings)
        try:
            existing = await jetstream.stream_info(spec.name)
        except nats.js.errors.NotFoundError:
            await _create(jetstream, spec, wanted)
            continue
        except nats.js.errors.ServiceUnavailableError as error:
            raise NatsUnavailable("looking at streams", repr(error)) from error
        await _update(jetstream, spec, wanted, existing)


async def keep_streams(connection: Connection, settings: ServiceSettings, there: asyncio.Event) -> None:
    """Run for ever: ensure the streams now and after every reconnect, since a broker may come back with none.

    Sets `there` once they are. Raises StreamConflict, which ends the service with a sentence that says what to do.
    """
    connected = asyncio.Event()
    connection.on_connected.append(connected.set)
    if connection.connected:
        connected.set()
    while True:
        await connected.wait()
        connected.clear()
        await retry_until_connected(connection, lambda: _there(connection, settings), "setting up streams")
        there.set()


async def _there(connection: Connection, settings: ServiceSettings) -> None:
    """See that the streams are there: make them, or wait for those whose business it is."""
    if settings.manage_streams:
        await ensure_streams(connection.jetstream, settings)
        return
    for spec in specs(settings):
        try:
            await connection.jetstream.stream_info(spec.name)
        except nats.js.errors.NotFoundError as error:
            raise NatsUnavailable(f"the stream {spec.name}", "not there yet: run `veracity setup`") from error


async def _create(jetstream: JetStreamContext, spec: StreamSpec, wanted: StreamConfig) -> None:
    try:
        await jetstream.add_stream(wanted)
    except nats.js.errors.ServiceUnavailableError as error:
        raise NatsUnavailable(f"creating the stream {spec.name}", repr(error)) from error
    except nats.js.errors.APIError as error:
        if error.err_code == _SUBJECT_OVERLAP:
            raise StreamConflict(spec.name, f"another stream already stores {spec.subject}") from error
        raise StreamConflict(spec.name, error.description or repr(error)) from error
    log.info("stream created", stream=spec.name, subject=spec.subject, live=spec.live)


async def _update(jetstream: JetStreamContext, spec: StreamSpec, wanted: StreamConfig, existing: StreamInfo) -> None:
    have = existing.config
    if have.storage != wanted.storage:
        raise StreamConflict(spec.name, f"it is stored in {have.storage}, {wanted.storage} is asked for")
    if have.retention != wanted.retention:
        raise StreamConflict(spec.name, f"its retention is {have.retention}, {wanted.retention} is needed")
    if all(getattr(have, field) == getattr(wanted, field) for field in _COMPARED) and _same_republish(have, wanted):
        return
    try:
        await jetstream.update_stream(wanted)
    except nats.js.errors.APIError as error:
        raise StreamConflict(spec.name, error.description or repr(error)) from error
    log.info("stream updated", stream=spec.name, subject=spec.subject, live=spec.live)


_COMPARED = (
    "subjects",
    "num_replicas",
    "max_age",
    "max_bytes",
    "max_msgs_per_subject",
    "duplicate_window",
    "allow_direct",
)


def _same_republish(have: StreamConfig, wanted: StreamConfig) -> bool:
    if have.republish is None or wanted.republish is None:
        return have.republish is wanted.republish
    return (have.republish.src, have.republish.dest) == (wanted.republish.src, wanted.republish.dest)
