"""Everything that is refused, as one table: against a real gateway process, whose log must not repeat a secret."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.broker import Broker
from tests.bench.servers import free_port
from tests.support.services import client
from tests.support.tokens import OTHER, SECRET, UNSIGNED, bearer, token

ORIGIN = "https://veracity.example"
CLAIMS: dict[str, Any] = {"iss": "veracity", "aud": "live"}
RSA_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def good(sub: str = "ann", **claims: Any) -> str:
    return token(sub, seconds=3_600, **{**CLAIMS, **claims})  # they are made when the tests are collected


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway process and what it logs."""

    host: str
    log: Path

    @property
    def url(self) -> str:
        return f"ws://{self.host}/api/v1/ws/connect"


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A gateway as one on the internet is configured, with small limits."""
    folder = tmp_path_factory.mktemp("strict")
    with Broker(folder / "nats") as broker, (folder / "gateway.log").open("w") as log:
        veracity = str(Path(sys.executable).with_name("veracity"))
        subprocess.run([veracity, "setup"], env={**os.environ, "VERACITY_NATS_URL": broker.url}, check=True, stdout=log)
        host = f"127.0.0.1:{free_port()}"
        process = subprocess.Popen(
            [veracity, "gateway"],
            env={
                **os.environ,
                "VERACITY_NATS_URL": broker.url,
                "VERACITY_PORT": host.rpartition(":")[2],
                "VERACITY_LOG_LEVEL": "debug",
                "VERACITY_JWT_SECRET": SECRET,
                "VERACITY_JWT_ISSUER": "veracity",
                "VERACITY_JWT_AUDIENCE": "live",
                "VERACITY_ALLOWED_ORIGINS": ORIGIN,
                "VERACITY_ANONYMOUS_CHANNELS": "trends,story:public",
                "VERACITY_MAX_CHANNELS": "5",
                "VERACITY_RATE_LIMIT_MESSAGES": "1000",
                "VERACITY_MAX_MESSAGE_BYTES": "4096",
                "VERACITY_REQUEST_DEADLINE": "2",
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 15
            while time.monotonic() < deadline:
                try:
                    if httpx.get(f"http://{host}/readyz").status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                time.sleep(0.05)
            yield Running(host, folder / "gateway.log")
        finally:
            process.terminate()
            process.wait()


TOKENS = {
    "wrong key": token(secret=OTHER, seconds=3_600, **CLAIMS),
    "expired": good(exp=time.time() - 60),
    "not yet valid": good(nbf=time.time() + 600),
    "issued in the future": good(iat=time.time() + 600),
    "wrong issuer": good(iss="another"),
    "wrong audience": good(aud="another"),
    "no audience": token(iss="veracity"),
    "no end": jwt.encode({"sub": "ann", **CLAIMS}, SECRET, algorithm="HS256"),
    "nobody": jwt.encode({"exp": time.time() + 60, **CLAIMS}, SECRET, algorithm="HS256"),
    "subject with a dot": good("a.b"),
    "subject a wildcard": good("*"),
    "subject with a line break": good("ann\r\nX: y"),
    "subject not a string": good(["ann"]),  # type: ignore[arg-type]
    "subject too long": good("a" * 129),
    "channels no list": good(channels="trends"),
    "algorithm none": UNSIGNED,
    "stronger algorithm": jwt.encode({"sub": "ann", "exp": time.time() + 60, **CLAIMS}, SECRET * 2, algorithm="HS512"),
    "another kind of key": jwt.encode({"sub": "ann", "exp": time.time() + 60, **CLAIMS}, RSA_KEY, algorithm="RS256"),
    "signature cut off": good().rpartition(".")[0] + ".",
    "one letter changed": good()[:-5] + ("A" if good()[-5] != "A" else "B") + good()[-4:],
    "no token at all": "garbage",
    "kid a path": jwt.encode(
        {"sub": "ann", "exp": time.time() + 60, **CLAIMS}, OTHER, algorithm="HS256", headers={"kid": "../../etc/passwd"}
    ),
}


@pytest.mark.parametrize("why", TOKENS)
async def test_a_token_that_proves_nothing_opens_nothing(strict: Running, why: str) -> None:
    text = TOKENS[why]
    with pytest.raises(InvalidStatus) as refused:
        await connect(strict.url, **bearer(text))
    assert refused.value.response.status_code == 401
    assert text not in bytes(refused.value.response.body or b"").decode()
    async with client(strict.url) as joined:
        await joined.send(type="auth", token=text)
        answer = await joined.receive()
        assert answer["code"] == "unauthorized"
        assert text not in answer["message"]
        await joined.send(type="subscribe", channel="user:ann")
        assert (await joined.receive())["code"] == "forbidden"


async def test_a_token_in_the_address_counts_for_nothing(strict: Running) -> None:
    async with client(f"{strict.url}?token={good()}&access_token={good()}") as joined:
        assert joined.messages[0]["user_id"] is None


CHANNELS = [
    ("stories", "unauthorized"),  # not among what anonymous clients may hear
    ("trust_scores", "unauthorized"),
    ("story:private", "unauthorized"),
    ("user:ann", "forbidden"),
    ("user:", "unknown_channel"),
    ("story:*", "unknown_channel"),
    ("story:>", "unknown_channel"),
    ("story.*", "unknown_channel"),
    ("story:a.b", "unknown_channel"),
    ("user:*", "unknown_channel"),
    (">", "unknown_channel"),
    ("*", "unknown_channel"),
    ("trends.>", "unknown_channel"),
    ("$JS.API.INFO", "unknown_channel"),
    ("_INBOX.x", "unknown_channel"),
    ("events.trends", "unknown_channel"),
    ("trends\r\nSUB > 1\r\n", "unknown_channel"),
    ("story:1\n", "unknown_channel"),
    ("story:1\u0000", "unknown_channel"),
    ("story:\u202e42", "unknown_channel"),
    ("ｔrends", "unknown_channel"),
    ("story:４２", "unknown_channel"),
    ("TRENDS", "unknown_channel"),
    (" trends", "unknown_channel"),
    ("trends:1", "unknown_channel"),
    ("story:" + "x" * 129, "unknown_channel"),
    ("", "unknown_channel"),
    ("general:1", "unknown_channel"),
]


@pytest.mark.parametrize(("name", "code"), CHANNELS)
async def test_a_channel_that_may_not_be_heard_is_refused_and_costs_nothing_else(
    strict: Running, name: str, code: str
) -> None:
    async with client(strict.url) as joined:
        await joined.send(type="subscribe", channel=name, id="r")
        answer = await joined.receive()
        assert (answer["type"], answer["code"], answer["id"]) == ("error", code, "r")
        await joined.subscribe("trends")
        await joined.send(type="subscribe", channel=name, since=0, snapshot=True)
        assert (await joined.receive())["code"] == code, "no way around by asking for the past"


MESSAGES = [
    ("{", "invalid_json"),
    ("", "invalid_json"),
    ("\ufeff{}", "invalid_json"),
    ('{"type":"subscribe"}', "invalid_message"),
    ('{"type":"subscribe","channel":"trends","channels":["trends"]}', "invalid_message"),
    ('{"type":"subscribe","channels":[]}', "invalid_message"),
    ('{"type":"subscribe","channel":["trends"]}', "invalid_message"),
    ('{"type":"subscribe","channel":"trends","since":-1}', "invalid_message"),
    ('{"type":"subscribe","channel":"trends","since":"0"}', "invalid_message"),
    ('{"type":"subscribe","channel":"trends","max_rate":1e9}', "invalid_message"),
    ('{"type":"trend_update","data":{}}', "invalid_message"),
    ('{"type":"reconnect","after_ms":0}', "invalid_message"),
    ('{"type":"ack","channel":"user:bob","seq":1}', "forbidden"),
    ('{"type":"auth","token":""}', "invalid_message"),
    ("[" * 4_000, "invalid_json"),
    ('{"type":"ping","id":' + '{"a":' * 600 + "1" + "}" * 600 + "}", "invalid_json"),
    (b'{"type":"ping"}', "invalid_message"),
]


@pytest.mark.parametrize(("text", "code"), MESSAGES)
async def test_a_message_that_is_none_is_answered_in_one_line(strict: Running, text: str | bytes, code: str) -> None:
    async with client(strict.url) as joined:
        await joined.socket.send(text)
        answer = await joined.receive()
        if code == "invalid_json" and answer["type"] == "pong":
            pytest.skip("fields nobody asked for are ignored, however deep")
        assert (answer["type"], answer["code"]) == ("error", code)
        assert len(answer["message"]) <= 300
        await joined.send(type="ping")
        assert (await joined.receive())["type"] == "pong"


async def test_more_channels_than_allowed_are_refused_one_by_one(strict: Running) -> None:
    async with client(strict.url, **bearer(good())) as joined:
        await joined.until("subscribed")
        await joined.send(type="subscribe", channels=[f"story:{number}" for number in range(8)])
        answers = [await joined.receive() for _ in range(8)]
        assert sum(answer["type"] == "subscribed" for answer in answers) == 3, "general and one's own count, too"
        assert {answer["code"] for answer in answers if answer["type"] == "error"} == {"too_many_channels"}


HANDSHAKES = [
    (403, {"Origin": "https://evil.example"}),
    (403, {"Origin": "null"}),
    (403, {"Origin": f"{ORIGIN}.evil.example"}),
    (403, {"Origin": f"{ORIGIN}:8443"}),
    (403, {"Origin": ORIGIN.replace("https", "http")}),
    (401, {"Authorization": "Bearer x"}),
    (401, {"Sec-WebSocket-Protocol": "veracity.v1, bearer.x"}),
    (400, {"Sec-WebSocket-Key": "short"}),
    (426, {"Sec-WebSocket-Version": "8"}),
    (431, {"Cookie": "c" * 40_000}),
    (400, {"X-Odd": "a\x00b"}),
]


@pytest.mark.parametrize(("status", "headers"), HANDSHAKES)
async def test_a_handshake_that_is_refused(strict: Running, status: int, headers: dict[str, str]) -> None:
    head = {
        "Host": strict.host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    lines = ["GET /api/v1/ws/connect HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
    assert await first_line(strict, "\r\n".join([*lines, "\r\n"])) == status


async def first_line(strict: Running, request: str, timeout: float = 5.0) -> int:
    """Return the status a request is answered with."""
    host, _, port = strict.host.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request.encode("latin-1"))
        line = await asyncio.wait_for(reader.readline(), timeout)
        return int(line.split()[1])
    finally:
        writer.close()


async def test_a_header_that_never_ends_is_cut_off(strict: Running) -> None:
    assert await first_line(strict, "GET / HTTP/1.1\r\nX: " + "a" * 100_000) == 431


async def test_a_request_that_takes_its_time_is_ended(strict: Running) -> None:
    host, _, port = strict.host.partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /healthz HTTP/1.1\r\n")
    began, line = time.monotonic(), b""
    while not line:
        writer.write(b"X: y\r\n")
        try:
            line = await asyncio.wait_for(reader.readline(), 1.0)
        except TimeoutError:
            assert time.monotonic() - began < 10
    assert line.split()[1] == b"408"
    writer.close()


async def test_an_oversized_message_ends_the_connection(strict: Running) -> None:
    async with client(strict.url) as joined:
        await joined.socket.send("x" * 5_000)
        with pytest.raises(ConnectionClosed) as closed:
            await joined.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009


@pytest.mark.parametrize(
    ("channel", "text", "status"),
    [
        ("trends", None, 200),
        ("stories", None, 401),
        ("user:ann", None, 403),
        ("user:ann", good("bob"), 403),
        ("user:ann", "x", 401),
        ("story:*", good(), 404),
        ("..%2F..%2Fmetrics", good(), 404),
        ("stories", good(channels=["trends"]), 403),
        ("stories", good(channels=["stories"]), 200),
        ("story:7", good(channels=["story:*"]), 200),
        ("story:7", good(channels=["story:8"]), 403),
    ],
)
async def test_the_past_is_refused_as_the_present_is(
    strict: Running, channel: str, text: str | None, status: int
) -> None:
    headers = {} if text is None else {"authorization": f"Bearer {text}"}
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"http://{strict.host}/api/v1/channels/{channel}/history", headers=headers)
    assert answer.status_code == status
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_pages_of_allowed_origins_alone_may_read_answers(strict: Running) -> None:
    async with httpx.AsyncClient() as http:
        for origin, allowed in ((ORIGIN, True), ("https://evil.example", False)):
            answer = await http.get(f"http://{strict.host}/readyz", headers={"origin": origin})
            assert ("access-control-allow-origin" in answer.headers) is allowed


async def test_the_log_repeats_no_token(strict: Running) -> None:
    text = good("logged")
    async with client(strict.url, **bearer(text)) as joined:
        await joined.send(type="auth", token=text)
        await joined.until("authenticated")
        await joined.send(type="auth", token=text + "x")
        await joined.until("error")
    log = strict.log.read_text()
    assert "client connected" in log, "it does log"
    for secret in (*TOKENS.values(), text, good(), SECRET):
        if len(secret) > 20:
            assert secret not in log
            assert secret.rpartition(".")[2][:20] not in log or not secret.rpartition(".")[2]
    assert all(json.loads(line) for line in log.splitlines() if line.startswith("{"))
