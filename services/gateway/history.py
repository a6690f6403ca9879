"""Reads a channel's history from its JetStream stream, by batched Direct Get: no consumer, any replica answers.

The request is `$JS.API.DIRECT.GET.<stream>` with `seq`, `next_by_subj` and `batch`; replies come one by one, then a
status (NATS ADR-31). nats-py has no wrapper for it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import nats.errors
import nats.js.errors

from services.gateway.envelope import read_headers
from shared.channels import Channel
from shared.connection import Connection
from shared.errors import NatsUnavailable
from shared.streams import stream_of

_BATCH = 256
_TIMEOUT = 5.0
_NO_MESSAGE = 10037  # JetStream's error code for "no message found"


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored event: its sequence, its live subject, its bytes, and when it was stored (Unix seconds)."""

    seq: int
    subject: str
    payload: bytes
    stored: float | None


@dataclass(frozen=True, slots=True)
class Read:
    """Stored events in order; `complete` says that there were no more when it was read."""

    events: Sequence[Stored]
    complete: bool
    whole: bool = False  # it began at the stream's beginning, and the stream still holds all it ever stored


class NoHistory(Exception):
    """There is no stream for the channel: it is live only."""


class History:
    """The streams behind the channels. Every method raises NatsUnavailable while they cannot be asked."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._epochs: dict[str, str] = {}

    def forget_epochs(self) -> None:
        """Ask for the streams' epochs again: after a disconnect they may have been made anew."""
        self._epochs.clear()

    async def epoch(self, channel: Channel) -> str:
        """Return the epoch of the channel's stream: its time of creation. Raises NoHistory if there is no stream."""
        stream = _stream(channel)
        if stream not in self._epochs:
            try:
                info = await self._connection.jetstream.stream_info(stream)
            except nats.js.errors.ServiceUnavailableError as error:
                raise NatsUnavailable("asking for an epoch", repr(error)) from error
            except nats.js.errors.NotFoundError as error:
                raise NoHistory(stream) from error
            except (nats.errors.Error, TimeoutError, OSError) as error:
                raise NatsUnavailable("asking for an epoch", repr(error)) from error
            created = info.created
            self._epochs[stream] = "" if created is None else f"{round(created.timestamp() * 1e6):x}"
        return self._epochs[stream]

    async def last(self, channel: Channel) -> int:
        """Return the newest sequence stored under the channel's subject, 0 if there is none.

        Asked of the stream's leader: a replica may be behind, and what it does not know yet would be missed.
        """
        try:
            message = await self._connection.jetstream.get_last_msg(_stream(channel), channel.durable_subject or "")
        except nats.js.errors.ServiceUnavailableError as error:
            raise NatsUnavailable("asking for a channel's end", repr(error)) from error
        except nats.js.errors.NotFoundError as error:
            if error.err_code == _NO_MESSAGE:
                return 0
            raise NoHistory(channel.name) from error
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise NatsUnavailable("asking for a channel's end", repr(error)) from error
        return message.seq or 0

    async def read(self, channel: Channel, start: int, *, limit: int, max_bytes: int) -> Read:
        """Return the events from sequence `start` on, inclusive, up to `limit` of them or about `max_bytes`."""
        events: list[Stored] = []
        size = 0
        whole = start <= 1 and await self._nothing_evicted(channel)
        while True:
            request = {"seq": start, "next_by_subj": channel.durable_subject, "batch": min(_BATCH, limit - len(events))}
            found, pending = await self._request(channel, request)
            events += found
            size += sum(len(one.payload) for one in found)
            if not found or not pending:
                return Read(events, complete=True, whole=whole)
            if len(events) >= limit or size >= max_bytes:
                return Read(events, complete=False, whole=whole)
            start = found[-1].seq + 1

    async def _nothing_evicted(self, channel: Channel) -> bool:
        try:
            state = (await self._connection.jetstream.stream_info(_stream(channel))).state
        except nats.js.errors.NotFoundError as error:
            raise NoHistory(channel.name) from error
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise NatsUnavailable("looking at a stream", repr(error)) from error
        return state.first_seq <= 1 and not state.num_deleted

    async def _request(self, channel: Channel, request: Mapping[str, object]) -> tuple[list[Stored], int]:
        """Return the replies to one Direct Get, and how many more there are."""
        found: list[Stored] = []
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def receive(_: bytes, payload: bytes, headers: bytes | None) -> None:
            if done.done():
                return
            status = _status(headers)
            if status == 204:
                done.set_result(_number(headers, b"Nats-Num-Pending"))
            elif status == 404:
                done.set_result(0)
            elif status is not None:
                done.set_exception(NatsUnavailable("reading history", f"JetStream answers {status}"))
            else:
                stored = _stored(payload, headers)
                if stored is not None:
                    found.append(stored)

        client = self._connection.client
        inbox = client.new_inbox()
        listening = await self._connection.listen(inbox, receive)
        try:
            subject = f"$JS.API.DIRECT.GET.{_stream(channel)}"
            await client.publish(subject, json.dumps(request).encode(), reply=inbox)
            async with asyncio.timeout(_TIMEOUT):
                pending = await done
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise NatsUnavailable("reading history", repr(error)) from error
        finally:
            await listening.stop()
        return found, pending


def _stream(channel: Channel) -> str:
    stream = stream_of(channel)
    if stream is None:
        raise NoHistory(channel.name)
    return stream


def _status(headers: bytes | None) -> int | None:
    """Return the status of an answer that is no message, such as `NATS/1.0 404 Message Not Found`."""
    first = b"" if headers is None else headers.partition(b"\r\n")[0]
    code = first.removeprefix(b"NATS/1.0").strip()[:3]
    return int(code) if code.isdigit() else None


def _number(headers: bytes | None, name: bytes) -> int:
    for line in (headers or b"").split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key == name and value.strip().isdigit():
            return int(value)
    return 0


def _stored(payload: bytes, headers: bytes | None) -> Stored | None:
    sequence, stored = read_headers(headers)
    if sequence is None:
        return None
    for line in (headers or b"").split(b"\r\n"):
        key, _, value = line.partition(b":")
        if key == b"Nats-Subject":
            return Stored(sequence.seq, value.strip().decode().removeprefix("events."), payload, stored)
    return None
