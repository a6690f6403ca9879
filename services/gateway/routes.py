"""The gateway's HTTP side: what is not a WebSocket upgrade, for people, operators and probes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import JSONResponse

from services.gateway import asyncapi
from services.gateway.delivery import HistoryPage
from services.gateway.gateway import Gateway
from services.gateway.handshake import PATH
from services.gateway.history import NoHistory
from shared.channels import Kind, parse_channel
from shared.errors import InvalidChannel, NatsUnavailable


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

    @routes.get(
        "/api/v1/channels/{channel}/history",
        tags=["history"],
        summary="Events of a channel: load first, subscribe with `since` second",
        responses={
            403: {"description": "this channel is not yours"},
            404: {"description": "no such channel, or one without history"},
            503: {"description": "the store cannot be asked now: try again"},
        },
    )
    async def history(
        channel: str,
        since: Annotated[int | None, Query(ge=0, description="events after this `seq`; without it the newest")] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    ) -> HistoryPage:
        """Return events as the channel's clients get them; `seq` of the answer is the `since` to go on from."""
        try:
            wanted = parse_channel(channel)
        except InvalidChannel as error:
            raise HTTPException(404, str(error)) from error
        if wanted.kind is Kind.USER:
            raise HTTPException(403, "this channel is not yours")
        try:
            return await gateway.delivery.page(wanted, since, limit)
        except NoHistory as error:
            raise HTTPException(404, f"{channel} has no history") from error
        except NatsUnavailable as error:
            raise HTTPException(503, str(error), {"retry-after": "2"}) from error

    @routes.get("/asyncapi.json", tags=["websocket"], summary="The wire protocol as AsyncAPI 3")
    async def describe() -> dict[str, Any]:
        return asyncapi.document()

    return routes
