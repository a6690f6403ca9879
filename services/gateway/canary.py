"""A probe through NATS and back every few seconds: a gateway is ready only while the way events take works.

An open socket to the broker proves little; a message that returns proves the path.
"""

from __future__ import annotations

import asyncio
import time
import uuid

import nats.errors

from services.gateway.metrics import GatewayMetrics
from shared import logs
from shared.connection import Connection
from shared.errors import NatsUnavailable
from shared.tasks import end

log = logs.get(__name__)

_PATIENCE = 2  # probes lost in a row before the path counts as broken


class Canary:
    """Sends itself a message on a subject of its own; `async with` runs it."""

    def __init__(self, connection: Connection, metrics: GatewayMetrics, *, interval: float) -> None:
        self._connection, self._metrics, self._interval = connection, metrics, interval
        self._subject = f"canary.{uuid.uuid4().hex}"
        self._back = asyncio.Event()
        self._lost = 0
        self._task: asyncio.Task[None] | None = None

    @property
    def broken(self) -> bool:
        """Whether probes have stopped coming back."""
        return self._lost >= _PATIENCE

    async def __aenter__(self) -> Canary:
        self._task = asyncio.create_task(self._run(), name="canary")
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)

    def _receive(self, _subject: bytes, _payload: bytes, _headers: bytes | None) -> None:
        self._back.set()

    async def _run(self) -> None:
        await self._connection.ready()
        await self._connection.listen(self._subject, self._receive)
        while True:
            await self._connection.ready()
            await self._probe()
            await asyncio.sleep(self._interval)

    async def _probe(self) -> None:
        self._back.clear()
        sent = time.perf_counter()
        try:
            await self._connection.client.publish(self._subject, b"")
            async with asyncio.timeout(self._interval):
                await self._back.wait()
        except (TimeoutError, nats.errors.Error, OSError, NatsUnavailable) as error:
            self._lost += 1
            self._metrics.canaries_lost.inc()
            log.warning("canary lost", in_a_row=self._lost, error=repr(error))
            return
        self._lost = 0
        self._metrics.canary.observe(time.perf_counter() - sent)
