"""Running parts: a broker, gateways, a broadcaster, role processes; and a client that waits for messages by type."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from websockets.asyncio.client import ClientConnection, connect

from services.broker import Broker
from services.gateway.app import serving
from services.gateway.gateway import Gateway
from services.gateway.settings import GatewaySettings
from shared.broadcaster import Broadcaster
from shared.connection import Connection
from shared.metrics import NatsMetrics, PublishMetrics
from shared.settings import ServiceSettings
from shared.streams import ensure_streams

Message = dict[str, Any]
DATA = Path(__file__).parents[3] / "shared" / "data"


def settings(broker: Broker, **more: Any) -> GatewaySettings:
    """Return settings of a gateway on a free port, quick to leave subjects."""
    return GatewaySettings(
        nats_url=broker.url,
        **{"port": 0, "subscription_linger": 0.2, "drain_seconds": 0.0, "nats_reconnect_wait": 0.2, **more},
    )


@asynccontextmanager
async def running_gateway(broker: Broker, **more: Any) -> AsyncIterator[tuple[str, Gateway]]:
    """Run a gateway in this process; yields its WebSocket address and itself once it is ready."""
    async with serving(settings(broker, **more)) as (gateway, server):
        await until(lambda: not gateway.missing())
        yield f"ws://127.0.0.1:{server.port}/api/v1/ws/connect", gateway


@asynccontextmanager
async def running_broadcaster(broker: Broker, **more: Any) -> AsyncIterator[tuple[Broadcaster, Connection]]:
    """Yield a broadcaster on its own connection, with the streams in place."""
    registry = CollectorRegistry()
    configured = ServiceSettings(nats_url=broker.url, nats_reconnect_wait=0.2, **more)
    async with Connection(configured, "test", NatsMetrics(registry)) as nats:
        await nats.ready()
        await ensure_streams(nats.jetstream, configured)
        yield Broadcaster(nats, PublishMetrics(registry), timeout=2.0), nats


class Client:
    """A WebSocket client that keeps every message and lets a test wait for one."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.messages: list[Message] = []

    async def send(self, **message: Any) -> None:
        """Send one message."""
        await self.socket.send(json.dumps(message))

    async def receive(self, timeout: float = 5.0) -> Message:
        """Return the next message that is no heartbeat."""
        while True:
            text = await asyncio.wait_for(self.socket.recv(), timeout)
            message: Message = json.loads(text)
            self.messages.append(message)
            if message["type"] != "ping":
                return message

    async def until(self, message_type: str, timeout: float = 10.0) -> Message:
        """Return the next message of this type, whatever comes before it."""
        async with asyncio.timeout(timeout):
            while True:
                message = await self.receive(timeout)
                if message["type"] == message_type:
                    return message

    async def subscribe(self, *channels: str) -> None:
        """Subscribe and wait for every acknowledgement."""
        await self.send(type="subscribe", channels=list(channels))
        for _ in channels:
            await self.until("subscribed")

    async def silent(self, seconds: float = 0.3) -> bool:
        """Tell whether nothing comes for a while; the one wait by time, since nothing announces that nothing comes."""
        try:
            await self.receive(seconds)
        except TimeoutError:
            return True
        return False


@asynccontextmanager
async def client(url: str, **options: Any) -> AsyncIterator[Client]:
    """Connect and take the welcome."""
    # Without a bound on what waits unread: the library stops reading at one, and with it hears no close frame.
    async with connect(url, max_queue=None, **options) as socket:
        joined = Client(socket)
        assert (await joined.receive())["type"] == "connection"
        yield joined


@asynccontextmanager
async def process(broker: Broker, *command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `veracity COMMAND` as a process of its own; terminated and awaited at the end."""
    running = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("veracity")),
        *command,
        env={**os.environ, "VERACITY_NATS_URL": broker.url, "VERACITY_PORT": "0", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.terminate()
        await running.communicate()


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> None:
    """Return when `condition` holds; for states that nothing announces."""
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)
