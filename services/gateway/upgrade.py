"""The way from uvicorn to the engine: checks the handshake, then takes the socket out of uvicorn's hands.

uvicorn makes one `Upgrade` for each upgrade request (its `ws=` option); it lives for one call.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, Protocol

from services.gateway.handshake import Accept, Reject, Request, parse_request
from shared import logs

log = logs.get(__name__)

# What is left in the transport's buffer would come after the handshake's answer, or never.
_LINGERING_RESPONSE = "a response to an earlier request is still being written"


class Gatekeeper(Protocol):
    """Decides who comes in."""

    def decide(self, request: Request) -> Accept | Reject:
        """Return the answer to a handshake."""

    def admit(self, fd: int, accept: Accept) -> None:
        """Take over a socket and answer its handshake with `accept.response`."""


class Upgrade(asyncio.Protocol):
    """uvicorn's contract for a WebSocket protocol: made with its state, given the transport, fed the request's head.

    uvicorn has already taken its own protocol out of `server_state.connections`, and a parked socket never enters it:
    uvicorn's shutdown must not touch it, the gateway's drain closes it.
    """

    def __init__(self, gatekeeper: Gatekeeper) -> None:
        self._gatekeeper = gatekeeper
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport; the head follows in `data_received`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer the handshake whose head is `data`."""
        transport, self._transport = self._transport, None
        if transport is None:
            return  # bytes after a rejected handshake
        peer = transport.get_extra_info("peername")
        answer = self._gatekeeper.decide(parse_request(data, peer[0] if peer else ""))
        if isinstance(answer, Reject):
            log.info("handshake rejected", status=answer.status, reason=answer.reason)
            transport.write(answer.response)
            transport.close()
            return
        if transport.get_write_buffer_size():
            log.warning("handshake dropped", reason=_LINGERING_RESPONSE)
            transport.abort()
            return
        self._park(transport, answer)

    def _park(self, transport: asyncio.Transport, answer: Accept) -> None:
        # asyncio has made the socket non-blocking and switched Nagle's algorithm off; a duplicate shares both.
        fd = os.dup(transport.get_extra_info("socket").fileno())
        transport.abort()  # closes uvicorn's descriptor; ours keeps the connection
        self._gatekeeper.admit(fd, answer)


def factory(gatekeeper: Gatekeeper) -> Callable[..., Upgrade]:
    """Return what uvicorn's `ws=` option takes; a parked socket has no use for the config and state it is given."""

    def make(*_args: Any, **_kwargs: Any) -> Upgrade:
        return Upgrade(gatekeeper)

    return make
