"""Starts one server at a time on a core of its own and says how a client speaks to it."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from services.broker import Broker, executable

PEERS = Path(__file__).parent / "peers"
VAR = Path(__file__).parents[2] / "var" / "bench"
CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]


def pin(pid: int, core: int) -> None:
    """Keep a process on one core, where the system can."""
    if len(CORES) > 1:
        psutil.Process(pid).cpu_affinity([core])


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Server:
    """A running server and how to use it: what clients send, what answers them, and how messages get in."""

    name: str
    port: int
    pid: int
    path: str
    subscribe: str
    answer: str
    how: str  # of publishing: stored, core or feed
    target: str
    subject: str
    options: Sequence[str] = field(default=())  # more arguments for the load

    def usage(self) -> tuple[float, float]:
        """Return (CPU seconds used, resident bytes) so far."""
        process = psutil.Process(self.pid)
        times = process.cpu_times()
        return times.user + times.system, float(process.memory_info().rss)


async def _listening(port: int) -> None:
    """Return once something accepts connections on `port`."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            await writer.wait_closed()
            return


@asynccontextmanager
async def _process(command: Sequence[str], port: int, core: int, **environment: str) -> AsyncIterator[int]:
    VAR.mkdir(parents=True, exist_ok=True)
    with (VAR / "servers.log").open("ab") as log:
        running = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log, stderr=log, cwd=PEERS.parents[2]
        )
    try:
        pin(running.pid, core)
        await _listening(port)
        yield running.pid
    finally:
        running.terminate()
        running.wait()


@asynccontextmanager
async def gateway(
    broker: Broker, *, deflate: bool = False, channel: str = "trends", query: str = "", **environment: str
) -> AsyncIterator[Server]:
    """Run our gateway, everything on, through JetStream and NATS."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("veracity")), "gateway"]
    settings = {
        "VERACITY_NATS_URL": broker.url,
        "VERACITY_PORT": str(port),
        "VERACITY_LOG_LEVEL": "warning",
        "VERACITY_MAX_CONNECTIONS": "19000",
        **environment,
    }
    async with _process(command, port, SERVER_CORE, **settings) as pid:
        yield Server(
            name="gateway, deflate" if deflate else "gateway",
            port=port,
            pid=pid,
            path=f"/api/v1/ws/connect{query}",
            subscribe=f'{{"type":"subscribe","channel":"{channel}"}}',
            answer='"subscribed"',
            how="stored",
            target=broker.url,
            subject=f"events.{channel.replace(':', '.')}",
            options=("--deflate", "--count-frames") if deflate else (),
        )


@asynccontextmanager
async def nats_websocket(_: Broker) -> AsyncIterator[Server]:
    """Run nats-server's own WebSocket: clients speak the NATS protocol in frames."""
    port, websocket = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "ws.conf"
        config.write_text(
            f'listen: "127.0.0.1:{port}"\nmax_connections: 25000\n'
            f'websocket {{ listen: "127.0.0.1:{websocket}", no_tls: true, compression: false }}\n'
        )
        async with _process([executable(), "-c", str(config)], websocket, SERVER_CORE, GOMAXPROCS="1") as pid:
            yield Server(
                name="nats-server",
                port=websocket,
                pid=pid,
                path="/",
                subscribe='CONNECT {"verbose":false}\r\nSUB trends 1\r\nPING\r\n',
                answer="PONG",
                how="core",
                target=f"nats://127.0.0.1:{port}",
                subject="trends",
            )


@asynccontextmanager
async def _fed(
    name: str, command: Sequence[str], path: str, subscribe: str = "", answer: str = ""
) -> AsyncIterator[Server]:
    port, feed = free_port(), free_port()
    async with _process([*command, str(port), str(feed)], port, SERVER_CORE) as pid:
        yield Server(name, port, pid, path, subscribe, answer, "feed", str(feed), "trends")


@asynccontextmanager
async def fastapi_route(_: Broker) -> AsyncIterator[Server]:
    """Run a FastAPI WebSocket route."""
    async with _fed("FastAPI route", [sys.executable, "-m", "tests.bench.peers.fastapi_route"], "/ws") as server:
        yield server


@asynccontextmanager
async def send_loop(_: Broker) -> AsyncIterator[Server]:
    """Run the C loop of send(); needs a compiler."""
    VAR.mkdir(parents=True, exist_ok=True)
    binary = VAR / "send_loop"
    subprocess.run(["cc", "-O2", "-o", str(binary), str(PEERS / "send_loop.c")], check=True)
    async with _fed("C send() loop", [str(binary)], "/") as server:
        yield server


@asynccontextmanager
async def node_ws(_: Broker) -> AsyncIterator[Server]:
    """Run node's `ws`."""
    async with _fed("node ws", ["node", str(_packages() / "ws.cjs")], "/") as server:
        yield server


@asynccontextmanager
async def socketio(_: Broker) -> AsyncIterator[Server]:
    """Run Socket.IO over its WebSocket transport."""
    command = ["node", str(_packages() / "socketio.cjs")]
    async with _fed("Socket.IO", command, "/socket.io/?EIO=4&transport=websocket", "40", "40{") as server:
        yield server


def _packages() -> Path:
    """Install the node peers once, outside the repository's tracked files; return where."""
    folder = VAR / "node"
    if not (folder / "node_modules" / "socket.io").exists():
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "ws@8", "socket.io@4", "bufferutil@4"],
            cwd=folder, check=True,
        )  # fmt: skip
    for script in PEERS.glob("*.cjs"):
        shutil.copy(script, folder)
    return folder


def available() -> dict[str, bool]:
    """Return whether the peers that need a compiler or node can run here."""
    node = shutil.which("node") is not None and shutil.which("npm") is not None
    return {"send_loop": shutil.which("cc") is not None, "node_ws": node, "socketio": node}
