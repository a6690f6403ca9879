"""Runs a detector on the stream of items: takes the lease, restores the memory, reads on in order, publishes.

An item is confirmed only after a checkpoint that contains it, and events carry ids made of their content: whatever dies
in between, the next process does the same again and JetStream removes the repeats.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Generic, Protocol, TypeVar

from pydantic import ValidationError

from services.publisher.checkpoint import Checkpoint, Checkpoints
from services.publisher.lease import Lease
from services.publisher.metrics import RoleMetrics
from services.publisher.settings import RoleSettings
from shared import logs
from shared.channels import ITEMS_SUBJECT
from shared.connection import Connection
from shared.errors import NatsUnavailable
from shared.events import Item
from shared.intake import Intake, Received
from shared.streams import ITEMS
from shared.tasks import end

log = logs.get(__name__)

_BATCH = 256
_WAIT = 1.0  # seconds; also how often event time moves while nothing comes
_MAX_UNCONFIRMED = 5_000  # items; a checkpoint is due then whatever the time
_REPORT_SECONDS = 10.0

Event = TypeVar("Event", covariant=True)
E = TypeVar("E")


class Detector(Protocol[Event]):
    """A pure part: items in, events out; its whole memory can be written down."""

    def __len__(self) -> int: ...

    @property
    def watermark(self) -> datetime | None:
        """The newest event time seen."""

    def observe(self, item: Item) -> Sequence[Event]:
        """Take in one item."""

    def advance(self, now: datetime) -> Sequence[Event]:
        """Let event time pass."""

    def snapshot(self) -> bytes:
        """Write the memory down."""

    def restore(self, snapshot: bytes) -> None:
        """Read it back; raises ValueError if it is not one."""


class Pipeline(Generic[E]):
    """One role: `make` gives a detector with an empty memory, `publish` sends one of its events."""

    def __init__(
        self,
        role: str,
        connection: Connection,
        settings: RoleSettings,
        metrics: RoleMetrics,
        make: Callable[[], Detector[E]],
        publish: Callable[[E], Awaitable[object]],
    ) -> None:
        self._role, self._connection, self._settings, self._metrics = role, connection, settings, metrics
        self._make, self._publish = make, publish
        self._lease = Lease(connection, role, settings.lease_seconds)
        self._checkpoints = Checkpoints(connection, role)
        self._intake = Intake(connection, ITEMS, ITEMS_SUBJECT, role)
        self._detector = make()
        self._epoch = ""
        self._last: Received | None = None  # taken in, not confirmed
        self._unconfirmed = 0
        self._items = self._events = 0
        self._reported = (0, 0)

    async def run(self) -> None:
        """Do the role's work for ever, or stand by while another process does."""
        while True:
            await self._connection.ready()
            try:
                async with self._lease.holding() as lost:
                    working = asyncio.create_task(self._work(), name=self._role)
                    try:
                        await asyncio.wait({working, lost}, return_when=asyncio.FIRST_COMPLETED)
                    finally:
                        await end(working)
                        self._metrics.active.set(0)
                    if working.done() and not working.cancelled():
                        working.result()
            except NatsUnavailable as error:
                log.warning("role paused", role=self._role, error=str(error))
                await asyncio.sleep(_WAIT)

    async def _work(self) -> None:
        await self._restore()
        self._metrics.active.set(1)
        checkpointed = reported = idle_since = time.monotonic()
        try:
            while True:
                received = await self._intake.fetch(_BATCH, _WAIT)
                now = time.monotonic()
                if received:
                    idle_since = now
                    await self._take_in(received)
                else:
                    await self._idle(now - idle_since)
                    idle_since = now
                if self._unconfirmed and (
                    now - checkpointed >= self._settings.checkpoint_interval or self._unconfirmed >= _MAX_UNCONFIRMED
                ):
                    await self._checkpoint()
                    checkpointed = now
                if now - reported >= _REPORT_SECONDS:
                    self._report()
                    reported = now
        finally:
            # Stopping: write down what was done, as far as NATS lets us; without it the next one does it again.
            await self._leave()

    async def _restore(self) -> None:
        self._detector, self._last, self._unconfirmed = self._make(), None, 0
        stored = await self._checkpoints.load()
        # Without a memory the stream is read from its beginning: the memory is then made of what it still holds.
        position, self._epoch = 0, await self._intake.epoch()
        if stored is not None:
            try:
                self._detector.restore(stored.memory)
                position = stored.seq if stored.epoch == self._epoch else 0
            except ValueError as error:
                log.warning("checkpoint not usable, starting empty", role=self._role, error=str(error)[:300])
                self._detector = self._make()
        await self._intake.open_at(position)
        log.info("role started", role=self._role, after=position, open=len(self._detector))

    async def _take_in(self, received: Sequence[Received]) -> None:
        for message in received:
            try:
                item = Item.model_validate_json(message.payload)
            except ValidationError as error:
                self._metrics.refused.inc()
                log.warning(
                    "stored item not readable", seq=message.seq, subject=message.subject, error=str(error)[:300]
                )
                continue
            for event in self._detector.observe(item):
                await self._send(event)
        self._items += len(received)
        self._metrics.items.inc(len(received))
        self._metrics.open.set(len(self._detector))
        self._last = received[-1]
        self._metrics.position.set(self._last.seq)
        self._unconfirmed += len(received)

    async def _idle(self, seconds: float) -> None:
        """Let event time pass as time does while no item comes, so that a trend ends though nobody mentions it."""
        watermark = self._detector.watermark
        if watermark is not None:
            for event in self._detector.advance(watermark + timedelta(seconds=seconds)):
                await self._send(event)

    async def _send(self, event: E) -> None:
        await self._publish(event)
        self._events += 1

    async def _checkpoint(self) -> None:
        assert self._last is not None  # called with unconfirmed items only
        size = await self._checkpoints.save(Checkpoint(self._last.seq, self._epoch, self._detector.snapshot()))
        await self._last.confirm()
        self._unconfirmed = 0
        self._metrics.checkpoints.inc()
        self._metrics.checkpoint_bytes.set(size)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(5.0):
                if self._unconfirmed and self._lease.held and self._connection.connected:
                    await self._checkpoint()
                await self._intake.close()
        except (NatsUnavailable, TimeoutError) as error:
            log.warning("stopped without a checkpoint", role=self._role, error=str(error))
        self._report()

    def _report(self) -> None:
        if (self._items, self._events) == self._reported:
            return
        items, events = self._items - self._reported[0], self._events - self._reported[1]
        self._reported = (self._items, self._events)
        log.info(
            "role so far",
            role=self._role,
            items_in=self._items,
            events_out=self._events,
            items_now=items,
            events_now=events,
            open=len(self._detector),
        )
