"""The gateway's HTTP side: what is not a WebSocket upgrade, for people, operators and probes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from services.gateway import asyncapi
from services.gateway.gateway import Gateway
from services.gateway.handshake import PATH


def router(gateway: Gateway) -> APIRouter:
    """Return the gateway's own routes; health and metrics are `shared.health`'s."""
    routes = APIRouter()

    @routes.get(
        PATH,
        tags=["websocket"],
        summary="Connect a WebSocket",
        status_code=426,
        responses={101: {"description": "switched to WebSocket"}, 503: {"description": "full or draining: try again"}},
    )
    async def connect(channel: str = "general") -> JSONResponse:
        """Say how to connect; a request that asks for the upgrade never gets here."""
        body = {
            "error": "Upgrade Required",
            "message": f"connect a WebSocket here: ws://<host>{PATH}?channel={channel}",
            "protocol": "/asyncapi.json",
        }
        return JSONResponse(body, status_code=426, headers={"upgrade": "websocket", "connection": "upgrade"})

    @routes.get("/api/v1/ws/stats", tags=["operations"], summary="What this gateway is doing now")
    async def stats() -> dict[str, Any]:
        return gateway.stats()

    @routes.get("/asyncapi.json", tags=["websocket"], summary="The wire protocol as AsyncAPI 3")
    async def describe() -> dict[str, Any]:
        return asyncapi.document()

    return routes
