"""An echo server on the gateway's engine: what a client says comes back. It shows that the engine knows no channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from fastapi import FastAPI

from services.gateway import frames, upgrade
from services.gateway.engine import Connection, Engine, Frame, Limits
from services.gateway.handshake import PATH, Accept, Policy, Reject, Request, decide
from shared.lifecycle import HttpServer


class Echo:
    """An application for the engine and a gatekeeper that lets everybody in, on any path."""

    def __init__(self, limits: Limits, policy: Policy) -> None:
        self.policy = policy
        self.engine = Engine(self, limits)

    def decide(self, request: Request) -> Accept | Reject:
        """Let everybody in who speaks the protocol."""
        return decide(replace(request, path=PATH), self.policy, connections=len(self.engine), draining=False)

    def admit(self, fd: int, accept: Accept) -> None:
        """Park the socket and answer; there is nothing else to do."""
        self.engine.greet(self.engine.park(fd, None, deflate=accept.deflate), accept.response)

    def received(self, connection: Connection, message: str | bytes) -> None:
        """Send it back, compressed if that was agreed."""
        opcode = frames.TEXT if isinstance(message, str) else frames.BINARY
        payload = message.encode() if isinstance(message, str) else message
        packed = frames.encode(opcode, frames.deflate(payload), compressed=True) if connection.deflate else None
        self.engine.send(connection, Frame(frames.encode(opcode, payload), packed))

    def closed(self, connection: Connection, code: int) -> None:
        """Nothing was kept."""

    def caught_up(self, connection: Connection, conflated: int) -> None:
        """Nobody needs to know."""

    def heartbeat(self, connection: Connection) -> bytes | None:
        """No heartbeats: the cases say when anything is sent."""
        return None


@asynccontextmanager
async def echoing(*, message_bytes: int = 65_536, backlog_bytes: int = 1_048_576) -> AsyncIterator[tuple[int, Echo]]:
    """Run an echo server; yields its port."""
    echo = Echo(Limits(message_bytes=message_bytes, backlog_bytes=backlog_bytes), Policy())
    echo.engine.start()
    try:
        async with HttpServer(FastAPI(), "127.0.0.1", 0, ws=upgrade.factory(echo)) as server:
            yield server.port, echo
    finally:
        echo.engine.close()
