"""What every HTTP port has against the internet: bounded heads, a deadline for each request, headers for browsers.

uvicorn's own protocol, through the callbacks it offers, and one ASGI wrapper.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 32_768  # a token of 16 KiB and all that browsers and proxies add

_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cache-control", b"no-store"),
)
_POLICY = b"default-src 'none'; frame-ancestors 'none'"
# FastAPI's pages about the API load their scripts from there.
_DOCUMENTATION_POLICY = (
    b"default-src 'self'; script-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; img-src 'self' data: "
    b"https://fastapi.tiangolo.com; style-src 'self' 'unsafe-inline' https://cdn.jsdelivr.net; frame-ancestors 'none'"
)
_DOCUMENTATION = ("/docs", "/redoc")


class GuardedHttp(HttpToolsProtocol):
    """uvicorn's HTTP protocol, which by itself waits for ever and takes headers of any length.

    A request is here within `deadline` seconds of the connection, or of its first byte, or the connection ends.
    """

    def __init__(self, *args: Any, deadline: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._deadline = deadline
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._unparsed = 0
        self._head_complete = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self._deadline, self._too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin to wait for the whole of a request."""
        self._head_bytes = self._unparsed = 0
        self._head_complete = False
        if self._timer is None:
            self._timer = self.loop.call_later(self._deadline, self._too_late)
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Take a part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Let the request be answered."""
        self._head_complete = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait no more: the request is here."""
        self._wait_no_more()
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """Hand the socket over, without a clock."""
        self._wait_no_more()
        super().handle_websocket_upgrade()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, or one too long."""
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")
        else:
            super().send_400_response(msg)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a header that does not end is bounded before there is one to count."""
        self._unparsed += len(data)
        if self._unparsed > 2 * MAX_HEAD_BYTES and not self._head_complete:
            self._refuse(b"431 Request Header Fields Too Large")
            return
        super().data_received(data)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise ValueError("the request's head is too long")  # the parser stops, and send_400_response answers

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self._refuse(b"408 Request Timeout")

    def _refuse(self, status: bytes) -> None:
        self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()


Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


def with_security_headers(app: App) -> App:
    """Return `app` with headers on every answer that tell browsers what not to do with it."""

    async def wrapped(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        documentation = str(scope.get("path", "")).startswith(_DOCUMENTATION)
        policy = (b"content-security-policy", _DOCUMENTATION_POLICY if documentation else _POLICY)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                names = {name for name, _ in given}
                message["headers"] = given + [header for header in (*_HEADERS, policy) if header[0] not in names]
            await send(message)

        await app(scope, receive, sending)

    return wrapped
