"""`make bench`: every scenario, our gateway beside its peers in the same run, one table and var/bench.json.

Compare the rows of one run; between runs and machines only ratios mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import psutil
from prometheus_client.parser import text_string_to_metric_families

from services.broker import Broker
from shared import logs
from shared.settings import LogFormat
from tests.bench import servers
from tests.bench.publish import SMALL
from tests.bench.servers import LOAD_CORE, Server, pin
from tests.support.services import running_broadcaster

Row = dict[str, float | str]
Start = Callable[[Broker], AbstractAsyncContextManager[Server]]


class Load:
    """The load generator, a process on the other core."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def say(self, line: str) -> dict[str, float]:
        """Tell it something and return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        return await self.answer()

    async def answer(self) -> dict[str, float]:
        """Return its next answer."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise SystemExit("the load generator ended; what it said stands above")
        result: dict[str, float] = json.loads(line)
        return result


@asynccontextmanager
async def clients(server: Server, count: int, *options: str) -> AsyncIterator[tuple[Load, float]]:
    """Connect `count` clients; yields the load and the seconds connecting took."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.load", "127.0.0.1", str(server.port), server.path, str(count),
        "--subscribe", server.subscribe, "--answer", server.answer, *server.options, *options,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    pin(process.pid, LOAD_CORE)
    try:
        load = Load(process)
        yield load, (await load.answer())["connected_seconds"]
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.kill() if process.returncode is None else None
        await process.wait()


async def published(
    server: Server, rate: float, burst: int, seconds: float, channels: int = 1, size: int = SMALL
) -> int:
    """Publish at a pace, from a process on the load's core; return how many messages."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.publish", server.how, server.target, server.subject,
        *map(str, (rate, burst, seconds, channels, size)), stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    pin(process.pid, LOAD_CORE)
    output, _ = await process.communicate()
    return int(output)


async def deliver(
    server: Server,
    load: Load,
    count: int,
    *,
    rate: float,
    burst: int,
    seconds: float,
    channels: int = 1,
    size: int = SMALL,
) -> Row:
    """Publish and measure: CPU per delivery, lateness, and how much of what was expected came."""
    warming = asyncio.create_task(load.say("measure 1.5"))
    await published(server, rate, burst, 0.5, channels, size)  # caches, branches, the first subscription
    await warming
    if server.name.startswith("gateway"):
        await asyncio.to_thread(_lag, server.port)  # reading it begins it anew
    cpu, _ = server.usage()
    measuring = asyncio.create_task(load.say(f"measure {seconds + 1.0}"))
    messages = await published(server, rate, burst, seconds, channels, size)
    result = await measuring
    spent = server.usage()[0] - cpu
    expected = messages * count / channels
    return {
        "server": server.name,
        "us_per_delivery": 1e6 * spent / max(1.0, result["received"]),
        "p50_ms": result.get("p50", float("nan")),
        "p99_ms": result.get("p99", float("nan")),
        "delivered": result["received"] / expected,
        "bytes_per_delivery": result["bytes"] / max(1.0, result["received"]),
        "closed": result["closed"],
    }


async def fan_out(
    start: Start, broker: Broker, *, count: int, rate: float, burst: int, seconds: float, options: Sequence[str] = (),
    channels: int = 1, idle: float = 0.0, size: int = SMALL,
) -> Row:  # fmt: skip
    """Connect clients to a fresh server and deliver to them."""
    async with start(broker) as server:
        cpu, rss = server.usage()
        async with clients(server, count, *options) as (load, _):
            connected_cpu, connected_rss = server.usage()
            row = {
                "ms_per_connect": 1e3 * (connected_cpu - cpu) / count,
                "kb_per_connection": (connected_rss - rss) / count / 1024,
            }
            if idle:
                before, _ = server.usage()
                await asyncio.sleep(idle)
                row["idle_cpu_percent"] = 100 * (server.usage()[0] - before) / idle
            row |= await deliver(
                server, load, count, rate=rate, burst=burst, seconds=seconds, channels=channels, size=size
            )  # type: ignore[arg-type]
            if server.name.startswith("gateway"):
                row |= await asyncio.to_thread(_lag, server.port)
            return dict(row)


def _lag(port: int) -> dict[str, float]:
    """Return the longest turn of the gateway's loop since it was last asked."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            if family.name == "veracity_gateway_loop_lag_max_seconds":
                return {"loop_lag_max_ms": 1e3 * family.samples[0].value}
    return {}


# --- scenarios -------------------------------------------------------------------------------------------------------


def starts(*names: str) -> list[Start]:
    """Return those of the named servers that can run here."""
    there = servers.available()
    return [SERVERS[name] for name in names if there.get(name, True)]


SERVERS: dict[str, Start] = {
    "gateway": servers.gateway,
    "gateway, deflate": partial(servers.gateway, deflate=True),
    "nats": servers.nats_websocket,
    "fastapi": servers.fastapi_route,
    "send_loop": servers.send_loop,
    "node_ws": servers.node_ws,
    "socketio": servers.socketio,
}


async def paced(broker: Broker, seconds: float) -> list[Row]:
    """1,000 clients on one channel, 50 messages a second."""
    names = [name for name in SERVERS if name != "gateway, deflate"]
    return [await fan_out(start, broker, count=1_000, rate=50, burst=1, seconds=seconds) for start in starts(*names)]


async def compression(broker: Broker, seconds: float) -> list[Row]:
    """1,000 clients, 25 messages a second of 2,000 characters, plain and compressed once for all."""
    names = ("gateway", "gateway, deflate")
    return [
        await fan_out(start, broker, count=1_000, rate=25, burst=1, seconds=seconds, size=2_000)
        for start in starts(*names)
    ]


async def floor(broker: Broker, seconds: float) -> list[Row]:
    """As paced, but only the gateway and the C loop, in turns."""
    names = ("gateway", "send_loop")
    return [await fan_out(start, broker, count=1_000, rate=50, burst=1, seconds=seconds) for start in starts(*names)]


async def bursts(broker: Broker, seconds: float) -> list[Row]:
    """1,000 clients on one channel, 20 messages at once, 25 times a second."""
    names = ("gateway", "nats", "send_loop", "node_ws")
    return [await fan_out(start, broker, count=1_000, rate=500, burst=20, seconds=seconds) for start in starts(*names)]


async def wide(broker: Broker, seconds: float) -> list[Row]:
    """10,000 clients on one channel, 4 messages a second; before that, idle for ten seconds."""
    return [
        await fan_out(start, broker, count=10_000, rate=4, burst=1, seconds=seconds, idle=10.0)
        for start in starts("gateway", "nats", "fastapi", "node_ws")
    ]


async def channels(broker: Broker, seconds: float) -> list[Row]:
    """10,000 clients over 2,000 stories, 500 messages a second."""
    start = partial(servers.gateway, channel="story:{channel}")
    options = ("--channels", "2000")
    row = await fan_out(
        start, broker, count=10_000, rate=500, burst=1, seconds=max(seconds, 8), options=options, channels=2_000
    )
    return [row]


async def slow(broker: Broker, seconds: float) -> list[Row]:
    """950 clients that read, beside none and beside 50 that do not, with both policies of delivery."""
    rows = []
    for name, stalled, query in (
        ("none stalled", 0, ""),
        ("50 stalled, all", 50, "?delivery=all"),
        ("50 stalled, latest", 50, "?delivery=latest"),
    ):
        start = partial(servers.gateway, query=query, VERACITY_SEND_BUFFER_BYTES="262144")
        options = ("--stalled", str(stalled))
        async with start(broker) as server, clients(server, 950 + stalled, *options) as (load, _):
            row = await deliver(server, load, 950, rate=100, burst=1, seconds=seconds)
        rows.append({**row, "server": f"gateway, {name}"})
    return rows


async def abuse(broker: Broker, seconds: float) -> list[Row]:
    """500 clients, alone and beside an abuser: 10,000 messages a second from 50 connections that come back at once."""
    rows = []
    for name, rate in (("left alone", 0), ("abused", 10_000)):
        async with servers.gateway(broker) as server, clients(server, 500) as (load, _):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.bench.abuse", str(server.port), server.path,
                "--rate", str(rate), "--seconds", str(seconds + 3), stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            pin(process.pid, LOAD_CORE)
            row = await deliver(server, load, 500, rate=50, burst=1, seconds=seconds)
            row |= await asyncio.to_thread(_lag, server.port)
            output, _ = await process.communicate()
            told = json.loads(output)
            rows.append(
                {**row, "server": f"gateway, {name}", "abuse_sent": told["sent"], "abuse_closed": told["closed"]}
            )
    return rows


async def storm(broker: Broker, _: float) -> list[Row]:
    """5,000 clients connect and subscribe at once."""
    async with servers.gateway(broker) as server:
        cpu, _rss = server.usage()
        async with clients(server, 5_000, "--storm") as (_load, seconds):
            spent = server.usage()[0] - cpu
            return [{"server": "gateway", "connected_seconds": seconds, "ms_per_connect": 1e3 * spent / 5_000}]


async def restart(broker: Broker, _: float) -> list[Row]:
    """5,000 clients are drained over 10 s and come back to the next pod, each after a pause of up to 1 s."""
    async with (
        servers.gateway(broker, VERACITY_DRAIN_SECONDS="10") as server,
        servers.gateway(broker) as following,
        clients(server, 5_000) as (load, _s),
    ):
        rejoining = asyncio.create_task(load.say(f"rejoin 20 {following.port}"))
        started = time.monotonic()
        psutil.Process(server.pid).terminate()
        result = await rejoining
        by_second = {int(name.removeprefix("back_in_")): int(n) for name, n in result.items() if "back_in" in name}
        sys.stdout.write("clients back, by second of the drain:\n")
        for second in range(max(by_second, default=0) + 1):
            came = by_second.get(second, 0)
            sys.stdout.write(f"  {second:2} {came:5} {'#' * (came // 20)}\n")
        return [
            {
                "server": "gateway",
                "closed": result["closed"],
                "back": result["back"],
                "p99_ms": result["p99"],
                "longest_ms": result["longest"],
                "drain_seconds": time.monotonic() - started,
            }
        ]


async def out(broker: Broker, seconds: float) -> list[Row]:
    """1, 2 and 4 gateways on one broker, 500 clients each: what doubles and what does not."""
    rows: list[Row] = []
    for number in (1, 2, 4):
        async with AsyncExitStack() as stack:
            running = [await stack.enter_async_context(servers.gateway(broker)) for _ in range(number)]
            loads = [(await stack.enter_async_context(clients(server, 500)))[0] for server in running]
            nats = psutil.Process(broker.pid)
            before, nats_before = sum(server.usage()[0] for server in running), sum(nats.cpu_times()[:2])
            measuring = [asyncio.create_task(load.say(f"measure {seconds + 1}")) for load in loads]
            messages = await published(running[0], 50, 1, seconds)
            results = [await one for one in measuring]
            received = sum(result["received"] for result in results)
            spent = sum(server.usage()[0] for server in running) - before
            rows.append(
                {
                    "server": f"{number} gateway{'s' if number > 1 else ''}",
                    "us_per_delivery": 1e6 * spent / received,
                    "p99_ms": max(result.get("p99", 0.0) for result in results),
                    "delivered": received / (messages * 500 * number),
                    "nats_us_per_message": 1e6 * (sum(nats.cpu_times()[:2]) - nats_before) / messages,
                }
            )
    return rows


async def memory(broker: Broker, _: float) -> list[Row]:
    """What 1,000 subscribed clients add to the gateway's resident memory."""
    async with servers.gateway(broker) as server:
        async with clients(server, 10):
            _, rss = server.usage()
            async with clients(server, 1_000):
                added = server.usage()[1] - rss
    return [{"server": "gateway", "mb_for_1000_clients": added / 1_048_576, "kb_per_connection": added / 1_000 / 1_024}]


SCENARIOS: dict[str, Callable[[Broker, float], Awaitable[list[Row]]]] = {
    "memory": memory,
    "paced": paced,
    "floor": floor,
    "compression": compression,
    "burst": bursts,
    "wide": wide,
    "channels": channels,
    "slow": slow,
    "abuse": abuse,
    "storm": storm,
    "restart": restart,
    "out": out,
}

COLUMNS = {
    "us_per_delivery": ("µs/delivery", "{:.2f}"),
    "p50_ms": ("p50 ms", "{:.1f}"),
    "p99_ms": ("p99 ms", "{:.1f}"),
    "delivered": ("delivered", "{:.1%}"),
    "bytes_per_delivery": ("bytes", "{:.0f}"),
    "kb_per_connection": ("KB/conn", "{:.2f}"),
    "ms_per_connect": ("ms/connect", "{:.2f}"),
    "idle_cpu_percent": ("idle CPU", "{:.2f}%"),
    "loop_lag_max_ms": ("loop lag ms", "{:.1f}"),
    "connected_seconds": ("s to connect", "{:.2f}"),
    "closed": ("closed", "{:.0f}"),
    "abuse_sent": ("abuser sent", "{:.0f}"),
    "abuse_closed": ("abuser closed", "{:.0f}"),
    "back": ("back", "{:.0f}"),
    "longest_ms": ("longest ms without service beyond the pause", "{:.0f}"),
    "nats_us_per_message": ("NATS µs/msg", "{:.0f}"),
    "mb_for_1000_clients": ("MB/1000", "{:.2f}"),
}


def median(runs: list[list[Row]]) -> list[Row]:
    """Return each server's row with the median of its runs in every column."""
    rows = []
    for same in zip(*runs, strict=True):
        row: Row = {"server": same[0]["server"]}
        for name in same[0]:
            if name != "server":
                row[name] = statistics.median(float(one[name]) for one in same)
        rows.append(row)
    return rows


def table(name: str, about: str, rows: list[Row]) -> str:
    """Return one scenario as a Markdown table."""
    shown = [column for column in COLUMNS if any(column in row for row in rows)]
    lines = [f"### {name}: {about}", "", "| server | " + " | ".join(COLUMNS[column][0] for column in shown) + " |"]
    lines.append("| --- " * (len(shown) + 1) + "|")
    for row in rows:
        cells = [COLUMNS[column][1].format(row[column]) if column in row else "" for column in shown]
        lines.append("| " + " | ".join([str(row["server"]), *cells]) + " |")
    return "\n".join(lines)


async def main() -> None:
    """Run the scenarios asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], help="all of them by default")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--repeat", type=int, default=3, help="runs; the table shows their medians")
    parser.add_argument("--json", type=Path, default=Path("var/bench.json"))
    options = parser.parse_args()
    logs.configure("bench", "warning", LogFormat.CONSOLE)
    results: dict[str, list[Row]] = {}
    for name in options.scenarios or SCENARIOS:
        runs = []
        for number in range(options.repeat):
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name} {number + 1}/{options.repeat}\n")
            with tempfile.TemporaryDirectory() as folder, Broker(Path(folder) / "nats") as broker:
                pin(broker.pid, LOAD_CORE)
                # In memory: the broker shares the load's core, and its disk is not what is measured.
                async with running_broadcaster(broker, stream_storage="memory", stream_max_bytes=16_777_216):
                    pass  # the streams are there now
                runs.append(await SCENARIOS[name](broker, options.seconds))
        results[name] = median(runs)
        sys.stdout.write(table(name, (SCENARIOS[name].__doc__ or "").strip(), results[name]) + "\n\n")
        sys.stdout.flush()
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    asyncio.run(main())
