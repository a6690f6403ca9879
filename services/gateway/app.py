"""Puts one gateway together, runs it and stops it: the only place that knows all of its parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware

from services.gateway import pages, routes, upgrade
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
    app = _application(settings)
    app.include_router(routes.router(gateway))
    operations = app
    if settings.ops_port is not None:
        app.include_router(health.probes("gateway", gateway.missing))
        operations = FastAPI(title="Veracity Realtime gateway, operations", version="1")
    operations.include_router(health.router("gateway", gateway.missing, registry))
    operations.include_router(routes.operations(gateway))
    # Last: it answers whatever nothing else has.
    if (settings.dashboard / "index.html").is_file():
        app.mount("/", pages.Pages(directory=settings.dashboard, html=True), name="dashboard")
    else:
        app.include_router(pages.missing())
    gateway.engine.start()
    try:
        async with AsyncExitStack() as stack:
            deadline = settings.request_deadline
            server = HttpServer(
                app, settings.host, settings.port, ws=upgrade.factory(gateway), request_deadline=deadline
            )
            for part in (nats, gateway.delivery, gateway.canary, gateway.revocations, gateway.service, server):
                await stack.enter_async_context(part)
            if gateway.jwks is not None:
                await stack.enter_async_context(gateway.jwks)
            if settings.ops_port is not None:
                operating = await stack.enter_async_context(
                    HttpServer(operations, settings.host, settings.ops_port, request_deadline=deadline)
                )
                log.info("operations served", host=operating.host, port=operating.port)
            log.info("gateway started", host=server.host, port=server.port, max_connections=settings.max_connections)
            yield gateway, server
    finally:
        gateway.engine.close()


def _application(settings: GatewaySettings) -> FastAPI:
    app = FastAPI(title="Veracity Realtime gateway", version="1")
    # The pages that may connect a WebSocket may also read the history they start from.
    app.add_middleware(
        CORSMiddleware,
        allow_origins=sorted(settings.origins),
        allow_methods=["GET"],
        allow_headers=["authorization"],
        max_age=600,
    )
    return app


async def run(settings: GatewaySettings) -> None:
    """Run a gateway until the process is told to stop."""
    async with serving(settings) as (gateway, _server):
        await until_stopped()
        await gateway.drain()
