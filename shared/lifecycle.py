"""How a service runs and stops: its HTTP server, its signals, its exit.

The process's signals are ours, not uvicorn's: uvicorn closes every connection in one loop, and a service has to hand
over before that.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from types import TracebackType
from typing import Any

import uvicorn
from fastapi import FastAPI

from shared import logs
from shared.errors import StartupFailed
from shared.guard import GuardedHttp, with_security_headers
from shared.tasks import end

log = logs.get(__name__)

_ACCEPTS_A_TURN = 32


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers, and with an event for "it listens"."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.listening.set()


def bind(host: str, port: int) -> socket.socket:
    """Return a listening address of ours; raises StartupFailed with advice if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise StartupFailed(
                f"port {port} on {host} is taken by another process: stop that one, or set VERACITY_PORT to a free port"
            ) from error
        raise StartupFailed(f"cannot listen on {host}:{port}: {error.strerror}; check VERACITY_HOST") from error
    return sock


class HttpServer:
    """Serves a FastAPI application while the `async with` block runs.

    `ws` is uvicorn's option of that name: the protocol class that takes over WebSocket upgrades.
    """

    def __init__(
        self,
        app: FastAPI,
        host: str,
        port: int,
        *,
        ws: Callable[..., asyncio.Protocol] | None = None,
        backlog: int = 4096,
        request_deadline: float = 15.0,
    ) -> None:
        self._socket, self._backlog = bind(host, port), backlog
        self.host, self.port = host, int(self._socket.getsockname()[1])
        self._server = _Server(
            uvicorn.Config(
                with_security_headers(app),
                http=partial(GuardedHttp, deadline=request_deadline),  # type: ignore[arg-type]  # as for ws
                ws="none" if ws is None else ws,  # type: ignore[arg-type]  # any protocol factory works, the type says class
                lifespan="off",
                log_config=None,
                access_log=False,
                backlog=_ACCEPTS_A_TURN,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=5,
                server_header=False,
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> HttpServer:
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name="http")
        await self._server.listening.wait()
        # asyncio accepts as many in one turn as its backlog: few, so that a storm does not hold the loop; the kernel
        # keeps the others waiting for as long as its own queue is long.
        self._socket.listen(self._backlog)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._task is not None:
            await self._task

    def stop_accepting(self) -> None:
        """Close the listening socket; connections that are open stay."""
        for server in self._server.servers:
            server.close()


async def until_stopped() -> None:
    """Return on the first SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await stop.wait()
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    log.info("stopping")


async def run_until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends, fails or the process is told to stop; in the last case it is cancelled and awaited."""
    task = asyncio.create_task(work, name="work")
    stop = asyncio.create_task(until_stopped(), name="signals")
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    await end(task, stop)
    with contextlib.suppress(asyncio.CancelledError):
        await task
