"""The gateway as a NATS micro service: `nats micro ls` shows every pod, and each asks all the others for analytics.

A pod answers `$SRV.STATS.veracity-gateway` with its own counts; who wants those of all pods asks that and adds up.
"""

from __future__ import annotations

import asyncio
import json
import platform
from importlib.metadata import version

import nats.errors
from nats.aio.subscription import Subscription
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import EndpointConfig, EndpointStats, Service, ServiceConfig

from services.gateway.analytics import Analytics, Report, together
from shared import logs
from shared.connection import Connection
from shared.errors import NatsUnavailable
from shared.tasks import end

log = logs.get(__name__)

NAME = "veracity-gateway"
_SUBJECT = "veracity.gateway.analytics"
_TOP = 100  # channels each pod tells the others of
_SILENCE = 0.25  # seconds without another answer: all pods have answered
_LONGEST = 2.0


class GatewayService:
    """Registers this pod and asks all of them; `async with` runs it."""

    def __init__(self, connection: Connection, analytics: Analytics) -> None:
        self._connection, self._analytics = connection, analytics
        self._service: Service | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def registered(self) -> bool:
        """Whether other pods' questions are answered."""
        return self._service is not None

    async def __aenter__(self) -> GatewayService:
        self._task = asyncio.create_task(self._register(), name="micro-service")
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)
        if self._service is not None and self._connection.connected:
            try:
                await self._service.stop()
            except (nats.errors.Error, OSError) as error:
                log.info("service left with its connection", error=repr(error))

    async def _register(self) -> None:
        await self._connection.ready()
        config = ServiceConfig(
            name=NAME,
            version=version("veracity-realtime"),
            description="Delivers trends, stories and trust scores to browsers over WebSockets",
            metadata={"host": platform.node()},
            stats_handler=self._statistics,
        )
        try:
            service = await add_service(self._connection.client, config)
            await service.add_endpoint(EndpointConfig(name="analytics", subject=_SUBJECT, handler=self._answer))
            await self._connection.flush()
            self._service = service
        except (nats.errors.Error, NatsUnavailable, TimeoutError, OSError) as error:
            log.warning("not registered as a micro service: analytics stay this pod's own", error=repr(error))

    def _report(self) -> dict[str, object]:
        return self._analytics.report(_TOP).model_dump(mode="json")

    def _statistics(self, _stats: EndpointStats) -> dict[str, object]:
        return self._report()

    async def _answer(self, request: Request) -> None:
        await request.respond(json.dumps(self._report()).encode())

    async def everywhere(self) -> Report:
        """Return the analytics of all pods together; raises NatsUnavailable."""
        client = self._connection.client
        inbox = client.new_inbox()
        try:
            answers = await client.subscribe(inbox)
            try:
                await client.publish(f"$SRV.STATS.{NAME}", b"", reply=inbox)
                return together(await _gather(answers))
            finally:
                await answers.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            raise NatsUnavailable("analytics of all gateways", repr(error)) from error


async def _gather(answers: Subscription) -> list[Report]:
    """Return what pods answer until none does for a moment: nobody knows how many there are."""
    reports: list[Report] = []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _LONGEST
    while loop.time() < deadline:
        try:
            message = await answers.next_msg(timeout=_SILENCE)
        except TimeoutError:
            break
        try:
            statistics = json.loads(message.data)
            reports += [Report.model_validate(endpoint["data"]) for endpoint in statistics["endpoints"][:1]]
        except (ValueError, KeyError, TypeError) as error:
            log.warning("a gateway of another version answered", error=str(error)[:200])
    return reports
