"""Who gets in: the opening handshake as a table."""

from __future__ import annotations

import pytest

from services.gateway.handshake import Accept, Policy, Reject, decide, negotiate_deflate, origin_allowed, parse_request

HEAD = {
    "Host": "gateway",
    "Upgrade": "websocket",
    "Connection": "keep-alive, Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def answer(
    target: str = "/api/v1/ws/connect?channel=general",
    *,
    method: str = "GET",
    policy: Policy | None = None,
    connections: int = 0,
    draining: bool = False,
    **headers: str | None,
) -> Accept | Reject:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    head = {**HEAD, **named}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items() if value is not None)]
    request = parse_request("\r\n".join([*lines, "\r\n"]).encode("latin-1"))
    return decide(request, policy or Policy(), connections=connections, draining=draining)


def test_the_key_of_rfc_6455_section_1_3_is_answered_as_there() -> None:
    accepted = answer()
    assert isinstance(accepted, Accept)
    assert accepted.response.startswith(b"HTTP/1.1 101 ")
    assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in accepted.response
    assert accepted.response.endswith(b"\r\n\r\n")
    assert accepted.request.query == {"channel": "general"}


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (404, {"target": "/elsewhere"}),
        (405, {"method": "POST"}),
        (426, {"Upgrade": "h2c"}),
        (426, {"Connection": "keep-alive"}),
        (426, {"Sec_WebSocket_Version": "8"}),
        (426, {"Sec_WebSocket_Version": None}),
        (400, {"Sec_WebSocket_Key": None}),
        (400, {"Sec_WebSocket_Key": "short"}),
        (400, {"Upgrade": "web socket"}),
        (
            403,
            {"Origin": "https://evil.example", "policy": Policy(allowed_origins=frozenset({"https://good.example"}))},
        ),
        (403, {"Origin": "null", "policy": Policy(allowed_origins=frozenset({"https://good.example"}))}),
        (503, {"connections": 10, "policy": Policy(max_connections=10)}),
        (503, {"draining": True}),
    ],
)
def test_what_is_refused_and_how(status: int, changes: dict[str, object]) -> None:
    refused = answer(**changes)  # type: ignore[arg-type]  # a table of keyword arguments
    assert isinstance(refused, Reject)
    assert refused.status == status
    assert refused.response.startswith(f"HTTP/1.1 {status} ".encode())


def test_a_full_gateway_says_when_to_come_back() -> None:
    refused = answer(connections=1, policy=Policy(max_connections=1, retry_after=7))
    assert isinstance(refused, Reject)
    assert b"retry-after: 7\r\n" in refused.response


def test_a_client_without_origin_is_no_browser() -> None:
    assert origin_allowed(None, frozenset({"https://good.example"}))
    assert origin_allowed("https://GOOD.example", frozenset({"https://good.example"}))


def test_our_subprotocol_is_chosen_when_offered() -> None:
    accepted = answer(Sec_WebSocket_Protocol="chat, veracity.v1")
    assert isinstance(accepted, Accept)
    assert b"sec-websocket-protocol: veracity.v1\r\n" in accepted.response


@pytest.mark.parametrize(
    ("offer", "taken"),
    [
        (None, False),
        ("permessage-deflate", True),
        ("permessage-deflate; client_max_window_bits", True),
        ("permessage-deflate; server_max_window_bits=10", False),
        ("permessage-deflate; server_max_window_bits=10, permessage-deflate", True),
        ("permessage-deflate; nonsense", False),
        ("permessage-deflate; client_max_window_bits; client_max_window_bits", False),
        ("x-webkit-deflate-frame", False),
        ("permessage-deflate; =", False),
    ],
)
def test_compression_is_agreed_without_context(offer: str | None, taken: bool) -> None:
    agreed = negotiate_deflate(offer)
    assert (agreed is not None) is taken
    if agreed is not None:
        assert "server_no_context_takeover" in agreed
        assert "client_no_context_takeover" in agreed
