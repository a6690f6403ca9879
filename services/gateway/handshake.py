"""Decides on a WebSocket handshake (RFC 6455 section 4.2): the request's head in, an answer out.

Pure: the upgrade protocol feeds it and writes what it returns.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.exceptions import InvalidHeaderFormat
from websockets.headers import parse_connection, parse_extension, parse_subprotocol, parse_upgrade
from websockets.utils import accept_key

from services.gateway.credentials import Principal
from shared.wire import SUBPROTOCOL

PATH = "/api/v1/ws/connect"
_KEY_LENGTH = 24  # 16 bytes in base64


@dataclass(frozen=True, slots=True)
class Request:
    """The head of an upgrade request. Header names are lower case; repeated headers are joined by commas."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    peer: str = ""  # the address the connection comes from


@dataclass(frozen=True, slots=True)
class Policy:
    """What the gateway asks of a handshake."""

    allowed_origins: frozenset[str] = frozenset("*")
    max_connections: int = 15_000
    deflate: bool = True
    retry_after: int = 5  # seconds, in the 503 of a full or draining gateway


@dataclass(frozen=True, slots=True)
class Accept:
    """The handshake succeeds: write `response`, then speak WebSocket."""

    response: bytes
    deflate: bool
    request: Request
    token: str | None = None
    principal: Principal | None = None  # whom the token speaks for, once it has been checked


@dataclass(frozen=True, slots=True)
class Reject:
    """The handshake fails: write `response` and close."""

    status: int
    reason: str
    response: bytes


def parse_request(head: bytes, peer: str = "") -> Request:
    """Return the request in `head`, which uvicorn has parsed and written out again: one well-formed line a header."""
    lines = head.decode("latin-1").split("\r\n")
    method, target, _version = lines[0].split(" ", 2)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            continue
        name, value = name.strip().lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    url = urlsplit(target)
    query = {name: values[-1] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
    return Request(method, url.path, query, headers, peer)


def decide(request: Request, policy: Policy, *, connections: int, draining: bool) -> Accept | Reject:
    """Return the answer to `request` from a gateway that has `connections` clients and may be draining."""
    if request.path != PATH:
        return _reject(HTTPStatus.NOT_FOUND, f"WebSockets connect to {PATH}")
    problem = _malformed(request)
    if problem is not None:
        return problem
    if not origin_allowed(request.headers.get("origin"), policy.allowed_origins):
        return _reject(HTTPStatus.FORBIDDEN, "this origin may not connect: add it to VERACITY_ALLOWED_ORIGINS")
    if draining or connections >= policy.max_connections:
        why = "this gateway is draining" if draining else "this gateway is full"
        return _reject(HTTPStatus.SERVICE_UNAVAILABLE, f"{why}: try again", {"retry-after": str(policy.retry_after)})
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "upgrade: websocket",
        "connection: Upgrade",
        f"sec-websocket-accept: {accept_key(request.headers['sec-websocket-key'])}",
    ]
    if SUBPROTOCOL in _subprotocols(request):
        lines.append(f"sec-websocket-protocol: {SUBPROTOCOL}")
    extension = negotiate_deflate(request.headers.get("sec-websocket-extensions")) if policy.deflate else None
    if extension is not None:
        lines.append(f"sec-websocket-extensions: {extension}")
    return Accept("\r\n".join([*lines, "\r\n"]).encode("ascii"), extension is not None, request, bearer(request))


def bearer_token(authorization: str | None) -> str | None:
    """Return the token in an Authorization header (RFC 6750 section 2.1), None if it brings none."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def bearer(request: Request) -> str | None:
    """Return the token a client brings: in the Authorization header, or as a browser can, in a subprotocol's name."""
    token = bearer_token(request.headers.get("authorization"))
    if token is not None:
        return token
    named = (name for name in _subprotocols(request) if name.startswith("bearer."))
    return next((name.removeprefix("bearer.") for name in named), None)


def too_many(wait: float) -> Reject:
    """Return the answer to an address that connects too often."""
    why = "too many handshakes from this address: wait, then try again"
    return _reject(HTTPStatus.TOO_MANY_REQUESTS, why, {"retry-after": str(math.ceil(wait))})


def unauthorized(reason: str) -> Reject:
    """Return the answer to a client whose token proves nothing."""
    return _reject(HTTPStatus.UNAUTHORIZED, reason, {"www-authenticate": "Bearer"})


def origin_allowed(origin: str | None, allowed: frozenset[str]) -> bool:
    """Tell whether a page of `origin` may connect. A client without an Origin is no browser: nothing to hijack."""
    return origin is None or "*" in allowed or origin.lower() in allowed


@lru_cache(maxsize=256)
def negotiate_deflate(header: str | None) -> str | None:
    """Return the permessage-deflate parameters we agree to, None if the client offers none we can take.

    Neither side keeps a context (RFC 7692 section 7.1.1): a broadcast is then compressed once for everybody, and an
    idle connection holds no inflater. A client that insists on a small window for what we send is declined.
    """
    if header is None:
        return None
    try:
        offers = parse_extension(header)
    except InvalidHeaderFormat:
        return None
    for name, parameters in offers:
        if name != "permessage-deflate":
            continue
        names = [parameter for parameter, _ in parameters]
        known = {"server_no_context_takeover", "client_no_context_takeover", "client_max_window_bits"}
        if len(names) == len(set(names)) and set(names) <= known:
            return "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    return None


def _subprotocols(request: Request) -> list[str]:
    header = request.headers.get("sec-websocket-protocol")
    if header is None:
        return []
    try:
        return [str(name) for name in parse_subprotocol(header)]
    except InvalidHeaderFormat:
        return []


def _malformed(request: Request) -> Reject | None:
    """Check the request against RFC 6455 section 4.2.1, most telling complaint first."""
    headers = request.headers
    if request.method != "GET":
        return _reject(HTTPStatus.METHOD_NOT_ALLOWED, "a WebSocket handshake is a GET", {"allow": "GET"})
    try:
        upgrading = _asks_for_upgrade(headers.get("upgrade", ""), headers.get("connection", ""))
    except InvalidHeaderFormat as error:
        return _reject(HTTPStatus.BAD_REQUEST, str(error))
    if not upgrading:
        return _reject(HTTPStatus.UPGRADE_REQUIRED, "this is a WebSocket endpoint", {"upgrade": "websocket"})
    if "sec-websocket-key" not in headers:
        return _reject(
            HTTPStatus.BAD_REQUEST,
            "the WebSocket endpoint is here; the handshake lacks Sec-WebSocket-Key (RFC 6455 section 4.1)",
        )
    if headers.get("sec-websocket-version") != "13":
        return _reject(
            HTTPStatus.UPGRADE_REQUIRED,
            "Sec-WebSocket-Version must be 13",
            {"sec-websocket-version": "13", "upgrade": "websocket"},
        )
    key = headers["sec-websocket-key"]
    if len(key) != _KEY_LENGTH or not key.endswith("==") or not key.isascii():
        return _reject(HTTPStatus.BAD_REQUEST, "Sec-WebSocket-Key must be 16 bytes in base64")
    return None


@lru_cache(maxsize=256)  # browsers send a handful of forms
def _asks_for_upgrade(upgrade: str, connection: str) -> bool:
    return "websocket" in {name.lower() for name in parse_upgrade(upgrade)} and "upgrade" in {
        name.lower() for name in parse_connection(connection)
    }


def _reject(status: HTTPStatus, reason: str, headers: dict[str, str] | None = None) -> Reject:
    body = json.dumps({"error": status.phrase, "message": reason}).encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "connection: close",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
        "\r\n",
    ]
    return Reject(status.value, reason, "\r\n".join(lines).encode("ascii") + body)
