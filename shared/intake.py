"""The durable way out of a stream: batches in order, confirmed when the work on them is done.

Two ways to use it: a shared intake, where any number of processes take from one consumer and confirm message by
message, and a positioned one, whose reader keeps its own position and starts again from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.client import JetStreamContext

from shared.connection import Connection
from shared.errors import NatsUnavailable


@dataclass(frozen=True, slots=True)
class Received:
    """One stored message: its sequence in the stream, its subject and its bytes."""

    seq: int
    subject: str
    payload: bytes
    _message: Msg

    async def confirm(self) -> None:
        """Never deliver it again; a positioned intake takes all earlier ones as confirmed, too.

        Raises NatsUnavailable if that could not be said: it will come again.
        """
        try:
            await self._message.ack()
        except (nats.errors.Error, OSError) as error:
            raise NatsUnavailable("confirming a message", repr(error)) from error


class Intake:
    """A durable pull consumer of one stream. Open it before fetching, and again after NatsUnavailable."""

    def __init__(self, connection: Connection, stream: str, subject: str, durable: str) -> None:
        self._connection, self._stream, self._subject, self._durable = connection, stream, subject, durable
        self._subscription: JetStreamContext.PullSubscription | None = None

    def __repr__(self) -> str:
        return f"<Intake {self._durable} of {self._stream}>"

    async def open_shared(self, *, ack_wait: float = 30.0, max_pending: int = 1_000) -> None:
        """Join all who take from this consumer; what a dead process had taken comes again after `ack_wait` seconds."""
        config = ConsumerConfig(
            durable_name=self._durable,
            filter_subject=self._subject,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=ack_wait,
            max_ack_pending=max_pending,
        )
        await self._open(config)

    async def epoch(self) -> str:
        """Return when the stream was created: sequences of a stream made anew are not comparable to those before."""
        try:
            info = await self._connection.jetstream.stream_info(self._stream)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise NatsUnavailable(f"looking at {self!r}", repr(error)) from error
        return "" if info.created is None else info.created.isoformat()

    async def open_at(self, after: int, *, max_pending: int = 20_000) -> None:
        """Start right after sequence `after` (0 for the beginning); only one process may do this at a time.

        The consumer is made anew, so everything after `after` comes again, in order and at once.
        """
        try:
            await self._connection.jetstream.delete_consumer(self._stream, self._durable)
        except nats.js.errors.NotFoundError:
            pass  # the first start
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise NatsUnavailable(f"opening {self!r}", repr(error)) from error
        config = ConsumerConfig(
            durable_name=self._durable,
            filter_subject=self._subject,
            ack_policy=AckPolicy.ALL,
            ack_wait=600.0,
            max_ack_pending=max_pending,
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=after + 1,
        )
        await self._open(config)

    async def _open(self, config: ConsumerConfig) -> None:
        await self.close()
        try:
            self._subscription = await self._connection.jetstream.pull_subscribe(
                self._subject, durable=self._durable, stream=self._stream, config=config
            )
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise NatsUnavailable(f"opening {self!r}", repr(error)) from error

    async def fetch(self, limit: int, wait: float) -> Sequence[Received]:
        """Return up to `limit` messages as soon as there are any, none after `wait` seconds.

        Raises NatsUnavailable when the consumer is gone or cannot be asked.
        """
        if self._subscription is None:
            raise NatsUnavailable(f"reading {self!r}", "it is not open")
        try:
            messages = await self._subscription.fetch(limit, timeout=wait)
        except TimeoutError:
            return ()
        except (nats.errors.Error, OSError) as error:
            raise NatsUnavailable(f"reading {self!r}", repr(error)) from error
        return [Received(m.metadata.sequence.stream, m.subject, m.data, m) for m in messages]

    async def close(self) -> None:
        """Stop taking; what was taken and not confirmed comes again."""
        subscription, self._subscription = self._subscription, None
        if subscription is None:
            return
        try:
            await subscription.unsubscribe()
        except (nats.errors.Error, OSError):
            return  # the connection is gone, and the subscription with it
