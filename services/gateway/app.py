"""Puts one gateway together, runs it and stops it: the only place that knows all of its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from services.gateway import routes, upgrade
from services.gateway.gateway import Gateway
from services.gateway.metrics import GatewayMetrics
from services.gateway.settings import GatewaySettings
from shared import health, logs
from shared.connection import Connection
from shared.lifecycle import HttpServer, until_stopped
from shared.metrics import NatsMetrics, new_registry

log = logs.get(__name__)


@asynccontextmanager
async def serving(settings: GatewaySettings) -> AsyncIterator[tuple[Gateway, HttpServer]]:
    """Run a gateway while the block runs; yields it once its port accepts connections."""
    registry = new_registry()
    nats = Connection(settings, "veracity-gateway", NatsMetrics(registry))
    gateway = Gateway(settings, nats, GatewayMetrics(registry))
    app = FastAPI(title="Veracity Realtime gateway", version="1")
    app.include_router(health.router("gateway", gateway.missing, registry))
    app.include_router(routes.router(gateway))
    server = HttpServer(app, settings.host, settings.port, ws=upgrade.factory(gateway))
    gateway.engine.start()
    try:
        async with nats, gateway.delivery, gateway.canary, server:
            log.info("gateway started", host=server.host, port=server.port, max_connections=settings.max_connections)
            yield gateway, server
    finally:
        gateway.engine.close()


async def run(settings: GatewaySettings) -> None:
    """Run a gateway until the process is told to stop."""
    async with serving(settings) as (gateway, _server):
        await until_stopped()
        await gateway.drain()
