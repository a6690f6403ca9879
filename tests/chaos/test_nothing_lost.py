"""Every client holds every event of its channel exactly once and in order, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from services.broker import Broker
from shared.broadcaster import Broadcaster
from shared.connection import Connection, retry_until_connected
from shared.metrics import NatsMetrics, PublishMetrics
from shared.settings import ServiceSettings
from shared.streams import ensure_streams
from tests.bench.servers import free_port
from tests.support.services import until


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything."""

    clients: int
    channels: int
    rate: float  # events a second over all channels
    seconds: float
    kill_every: float
    broker_restarts: int


SMALL = Scale(clients=60, channels=6, rate=100, seconds=9, kill_every=3, broker_restarts=1)
FULL = Scale(clients=300, channels=10, rate=200, seconds=30, kill_every=5, broker_restarts=2)
SCALE = FULL if os.environ.get("CHAOS") == "full" else SMALL


class GatewayProcess:
    """A gateway that can be killed and comes back on the same port."""

    def __init__(self, urls: str, port: int) -> None:
        self._urls, self.port = urls, port
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; clients notice when it listens."""
        self._process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("veracity")), "gateway",
            env={**os.environ, "VERACITY_NATS_URL": self._urls, "VERACITY_PORT": str(self.port),
                 "VERACITY_LOG_LEVEL": "error", "VERACITY_NATS_RECONNECT_WAIT": "0.2", "VERACITY_DRAIN_SECONDS": "0"},
        )  # fmt: skip

    async def kill(self) -> None:
        """End it as a crash does."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()


@dataclass(slots=True)
class Follower:
    """One client that resumes from what it has processed, and counts."""

    channel: str
    ports: Sequence[int]
    rng: random.Random
    clumsy: bool  # drops its socket now and then
    since: int | None = None
    epoch: str | None = None
    number: int = 0  # of the last event, which count 1, 2, 3, … on each channel
    lost: int = 0
    repeated: int = 0
    unrecovered: int = 0
    connects: int = 0
    subscribed: asyncio.Event = field(default_factory=asyncio.Event)

    async def follow(self) -> None:
        """Follow the channel for ever."""
        while True:
            try:
                port = self.rng.choice(self.ports)
                async with connect(
                    f"ws://127.0.0.1:{port}/api/v1/ws/connect", max_queue=None, open_timeout=5, close_timeout=0.2
                ) as socket:
                    self.connects += 1
                    request = {"type": "subscribe", "channel": self.channel, "since": self.since, "epoch": self.epoch}
                    await socket.send(json.dumps({name: value for name, value in request.items() if value is not None}))
                    drop_after = self.rng.uniform(0.5, 3.0) if self.clumsy else 3_600.0
                    async with asyncio.timeout(drop_after):
                        async for text in socket:
                            self.take(json.loads(text))
            except (OSError, WebSocketException, InvalidHandshake, TimeoutError):
                pass  # it is what this test is about
            await asyncio.sleep(self.rng.uniform(0.02, 0.3))

    def take(self, message: dict[str, object]) -> None:
        """Check one message against what must come next."""
        if message["type"] == "subscribed":
            self.epoch = str(message["epoch"])
            if self.since is not None and message.get("recovered") is not True:
                self.unrecovered += 1
            if self.since is None:
                assert isinstance(message["seq"], int)
                self.since = message["seq"]
            self.subscribed.set()
        elif message["type"] == "story_update":
            data, seq = message["data"], message["seq"]
            assert isinstance(data, dict)
            assert isinstance(seq, int)
            number = int(data["n"])
            if number <= self.number:
                self.repeated += 1
            else:
                self.lost += number - self.number - 1
                self.number = number
            self.since = seq


@asynccontextmanager
async def publishing(urls: str, replicas: int) -> AsyncIterator[Broadcaster]:
    registry = CollectorRegistry()
    settings = ServiceSettings(
        nats_url=urls, nats_reconnect_wait=0.2, stream_replicas=replicas, stream_max_bytes=100_000_000
    )
    async with Connection(settings, "chaos", NatsMetrics(registry)) as nats:
        await retry_until_connected(nats, lambda: ensure_streams(nats.jetstream, settings), "streams", pause=0.2)
        yield Broadcaster(nats, PublishMetrics(registry), give_up_after=None, timeout=2.0)


async def publish(broadcaster: Broadcaster, scale: Scale) -> dict[str, int]:
    """Publish at the rate, every event until it is acknowledged; return how many each channel got."""
    counts = dict.fromkeys((f"story:c{number}" for number in range(scale.channels)), 0)
    loop, started, sent = asyncio.get_running_loop(), asyncio.get_running_loop().time(), 0
    while loop.time() < started + scale.seconds:
        await asyncio.sleep(max(0.0, started + sent / scale.rate - loop.time()))
        channel = f"story:c{sent % scale.channels}"
        counts[channel] += 1
        data = {"id": channel, "n": counts[channel]}
        await broadcaster.broadcast(
            channel, {"type": "story_update", "data": data}, message_id=f"{channel}-{counts[channel]}"
        )
        sent += 1
    return counts


async def havoc(gateways: Sequence[GatewayProcess], brokers: Sequence[Broker], scale: Scale) -> None:
    """Kill a gateway every few seconds, in turns, and a broker now and then; all come back."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    kills = max(1, int(scale.seconds / scale.kill_every))
    restarts = [
        scale.seconds * (number + 0.6) / (scale.broker_restarts + 0.6) for number in range(scale.broker_restarts)
    ]
    deaths = sorted(
        [(scale.kill_every * (number + 0.5), "gateway") for number in range(kills)] + [(at, "nats") for at in restarts]
    )
    for number, (at, what) in enumerate(deaths):
        await asyncio.sleep(max(0.0, started + at - loop.time()))
        if what == "gateway":
            gateway = gateways[number % len(gateways)]
            await gateway.kill()
            await gateway.start()
        else:
            broker = brokers[number % len(brokers)]
            await asyncio.to_thread(broker.kill)
            await asyncio.sleep(0.5)
            await asyncio.to_thread(broker.start)


async def run(brokers: Sequence[Broker], scale: Scale, replicas: int) -> None:
    urls = ",".join(broker.url for broker in brokers)
    rng = random.Random(11)
    async with AsyncExitStack() as stack:
        broadcaster = await stack.enter_async_context(publishing(urls, replicas))
        gateways = [GatewayProcess(urls, free_port()) for _ in range(2)]
        for gateway in gateways:
            await gateway.start()
            stack.push_async_callback(gateway.kill)
        followers = [
            Follower(
                channel=f"story:c{number % scale.channels}",
                ports=[gateway.port for gateway in gateways],
                rng=random.Random(rng.random()),
                clumsy=number % 10 == 0,
            )
            for number in range(scale.clients)
        ]
        following = [asyncio.create_task(follower.follow()) for follower in followers]
        try:
            async with asyncio.timeout(30):
                await asyncio.gather(*(follower.subscribed.wait() for follower in followers))
            dying = asyncio.create_task(havoc(gateways, brokers, scale))
            counts = await publish(broadcaster, scale)
            await dying
            try:
                await until(lambda: all(follower.number == counts[follower.channel] for follower in followers), 60)
            except TimeoutError:
                pass  # the figures below say who misses what
        finally:
            for task in following:
                task.cancel()
            await asyncio.gather(*following, return_exceptions=True)
    expected = sum(counts[follower.channel] for follower in followers)
    missing = sum(counts[follower.channel] - follower.number for follower in followers)
    lost = sum(follower.lost for follower in followers) + missing
    figures = {
        "events published": sum(counts.values()),
        "expected at clients": expected,
        "received": expected - lost,
        "lost": lost,
        "repeated": sum(follower.repeated for follower in followers),
        "not recovered": sum(follower.unrecovered for follower in followers),
        "connects": sum(follower.connects for follower in followers),
    }
    sys.stdout.write(f"\n{len(brokers)} broker(s), 2 gateways, {scale.clients} clients: {figures}\n")
    assert expected > 0
    assert (figures["lost"], figures["repeated"], figures["not recovered"]) == (0, 0, 0), figures


@pytest.mark.timeout(240)
async def test_gateways_are_killed_and_the_broker_restarts_and_nothing_is_lost_or_repeated(tmp_path: Path) -> None:
    with Broker(tmp_path / "nats") as broker:
        await run([broker], SCALE, replicas=1)


@pytest.mark.timeout(240)
async def test_a_cluster_loses_nodes_and_nothing_is_lost_or_repeated(tmp_path: Path) -> None:
    routes = [free_port() for _ in range(3)]
    brokers = [
        Broker(
            tmp_path / f"nats{number}",
            options=(
                *("-n", f"n{number}", "--cluster_name", "chaos", "--cluster", f"nats://127.0.0.1:{routes[number]}"),
                *("--routes", ",".join(f"nats://127.0.0.1:{route}" for route in routes)),
            ),
        )
        for number in range(3)
    ]
    with brokers[0], brokers[1], brokers[2]:
        await run(brokers, SCALE, replicas=3)
