"""What every producing process is made of: NATS, the streams, a broadcaster and an HTTP port, started and stopped.

A role brings its own work; `run` keeps all of it together and turns "stop" into an orderly end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from shared import health, logs
from shared.broadcaster import Broadcaster
from shared.connection import Connection
from shared.lifecycle import HttpServer, run_until_stopped
from shared.metrics import NatsMetrics, PublishMetrics, new_registry
from shared.settings import ServiceSettings
from shared.streams import keep_streams
from shared.tasks import end

log = logs.get(__name__)


class Producer:
    """The parts a role works with. `missing` collects reasons for not being ready, see `shared.health`."""

    def __init__(self, settings: ServiceSettings, name: str) -> None:
        self.settings, self.name = settings, name
        self.registry: CollectorRegistry = new_registry()
        self.nats = Connection(settings, f"veracity-{name}", NatsMetrics(self.registry))
        # Without a deadline: while NATS is away the role waits, and through it whoever feeds it.
        self.broadcaster = Broadcaster(self.nats, PublishMetrics(self.registry), give_up_after=None)
        self.app = FastAPI(title=f"Veracity Realtime {name}", version="1")
        self.streams_there = asyncio.Event()
        self.app.include_router(health.router(name, self.missing, self.registry))

    def missing(self) -> list[str]:
        """Return what this process waits for, nothing when it does its work."""
        if not self.nats.connected:
            return ["nats"]
        return [] if self.streams_there.is_set() else ["streams"]

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Serve HTTP, keep the streams and do `work` until it ends or the process is told to stop."""
        server = HttpServer(
            self.app, self.settings.host, self.settings.port, request_deadline=self.settings.request_deadline
        )
        async with self.nats, server:
            log.info("service started", host=server.host, port=server.port)
            await run_until_stopped(self._work(work))
            log.info("service stopped")

    async def _work(self, work: Callable[[], Awaitable[None]]) -> None:
        keeping = asyncio.create_task(keep_streams(self.nats, self.settings, self.streams_there), name="streams")
        working = asyncio.create_task(self._once_there(work), name=self.name)
        try:
            done, _ = await asyncio.wait({keeping, working}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(keeping, working)

    async def _once_there(self, work: Callable[[], Awaitable[None]]) -> None:
        await self.streams_there.wait()
        await work()
