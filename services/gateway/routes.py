"""The gateway's HTTP side: what is not a WebSocket upgrade, for people, operators and probes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, HTTPException, Query
from fastapi.responses import JSONResponse

from services.gateway import asyncapi
from services.gateway.analytics import Summary, summary
from services.gateway.credentials import Unauthorized
from services.gateway.delivery import HistoryPage
from services.gateway.gateway import Gateway
from services.gateway.handshake import PATH, bearer_token
from services.gateway.history import NoHistory
from services.gateway.permissions import refusal
from shared.channels import parse_channel
from shared.errors import InvalidChannel, NatsUnavailable
from shared.wire import ErrorCode


def router(gateway: Gateway) -> APIRouter:
    """Return the routes for everybody; health and metrics are `shared.health`'s."""
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

    @routes.get(
        "/api/v1/channels/{channel}/history",
        tags=["history"],
        summary="Events of a channel: load first, subscribe with `since` second",
        responses={
            401: {"description": "the token is not valid, or one is needed"},
            403: {"description": "this channel is not yours"},
            404: {"description": "no such channel, or one without history"},
            503: {"description": "the store cannot be asked now: try again"},
        },
    )
    async def history(
        channel: str,
        since: Annotated[int | None, Query(ge=0, description="events after this `seq`; without it the newest")] = None,
        limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
        authorization: Annotated[
            str | None, Header(description="`Bearer` and a token, where the channel needs one")
        ] = None,
    ) -> HistoryPage:
        """Return events as the channel's clients get them; `seq` of the answer is the `since` to go on from.

        Whoever may subscribe may read, and nobody else.
        """
        try:
            wanted = parse_channel(channel)
        except InvalidChannel as error:
            raise HTTPException(404, str(error)) from error
        try:
            refused = refusal(wanted, *gateway.identify(bearer_token(authorization)))
        except Unauthorized as error:
            raise HTTPException(401, str(error), {"www-authenticate": "Bearer"}) from error
        if refused is ErrorCode.UNAUTHORIZED:
            raise HTTPException(401, "a token is needed here", {"www-authenticate": "Bearer"})
        if refused is not None:
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


def operations(gateway: Gateway) -> APIRouter:
    """Return the routes for operators, which may have a port of their own."""
    routes = APIRouter(tags=["operations"])

    @routes.get("/api/v1/ws/stats", summary="What this gateway is doing now")
    async def stats() -> dict[str, Any]:
        return gateway.stats()

    @routes.get(
        "/api/v1/analytics",
        summary="What channels are worth to people, on this pod or on all",
        responses={503: {"description": "the other pods cannot be asked now: try again"}},
    )
    async def analytics(
        scope: Annotated[Literal["pod", "all"], Query(description="this pod alone, or all together")] = "all",
        top: Annotated[int, Query(ge=0, le=100, description="channels that sent most")] = 20,
    ) -> Summary:
        """Return joins, leaves, listeners, messages, bytes and the median stay, by kind and for the top channels."""
        if scope == "pod":
            return summary(gateway.delivery.analytics.report(top), scope, top)
        try:
            return summary(await gateway.service.everywhere(), scope, top)
        except NatsUnavailable as error:
            raise HTTPException(503, str(error), {"retry-after": "2"}) from error

    return routes
