"""Tokens and personal channels: who gets in, who hears what, and what waits for a user who is away."""

from __future__ import annotations

import time
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.broker import Broker
from services.gateway.credentials import OneKey, Unauthorized, Verifier, configured_key
from shared.broadcaster import Broadcaster
from shared.errors import StartupFailed
from tests.support.services import Client, client, running_gateway, until
from tests.support.tokens import OTHER, SECRET, UNSIGNED, bearer, token


async def messages(joined: Client, count: int) -> list[Any]:
    """Return the data of the next personal messages."""
    return [(await joined.until("user_message"))["data"]["n"] for _ in range(count)]


async def test_a_user_hears_their_own_channel_by_any_way_of_showing_a_token(
    broker: Broker, producer: Broadcaster
) -> None:
    async with running_gateway(broker, jwt_secret=SECRET) as (url, _):
        for options in (bearer(token()), {"subprotocols": ["veracity.v1", f"bearer.{token()}"]}):
            async with client(url, **options) as joined:
                assert joined.messages[0]["user_id"] == "ann"
                assert (await joined.until("subscribed"))["channel"] == "user:ann"
        async with client(url) as joined:
            await joined.send(type="auth", token=token(), id="a1")
            answer = await joined.until("authenticated")
            assert (answer["user_id"], answer["id"]) == ("ann", "a1")
            await joined.until("subscribed")
            await producer.user_message("ann", {"n": 1})
            await producer.user_message("bob", {"n": 2})
            assert await messages(joined, 1) == [1]
            assert await joined.silent()
            await joined.send(type="subscribe", channel="user:bob")
            assert (await joined.receive())["code"] == "forbidden"


async def test_what_came_while_a_user_was_away_waits_until_it_is_acknowledged(
    broker: Broker, producer: Broadcaster
) -> None:
    async with (
        running_gateway(broker, jwt_secret=SECRET) as (phone, pod),
        running_gateway(broker, jwt_secret=SECRET) as (laptop, _),
    ):
        for number in (1, 2, 3):
            await producer.user_message("ann", {"n": number})
        async with client(phone, **bearer(token())) as joined:
            assert (await joined.until("subscribed"))["recovered"] is True
            assert await messages(joined, 3) == [1, 2, 3]
            second = joined.messages[-2]["seq"]
            await joined.send(type="ack", channel="user:ann", seq=second)
            await until(lambda: not pod.delivery.cursors._moves and pod.delivery.cursors._work.is_set() is False)
            await joined.send(type="ping")
            await joined.until("pong")
        await producer.user_message("ann", {"n": 4})
        async with client(laptop, **bearer(token())) as joined:
            await joined.until("subscribed")
            assert await messages(joined, 2) == [3, 4]
            await producer.user_message("ann", {"n": 5})
            assert await messages(joined, 1) == [5]
            await joined.send(type="ack", channel="user:ann", seq=1_000_000)
            await joined.send(type="ping")
            await joined.until("pong")
        async with client(phone, **bearer(token("bob"))) as joined:
            await joined.until("subscribed")
            assert await joined.silent()


async def test_an_acknowledgement_survives_the_gateway_it_was_given_to(broker: Broker, producer: Broadcaster) -> None:
    await producer.user_message("ann", {"n": 1})
    async with running_gateway(broker, jwt_secret=SECRET) as (url, _), client(url, **bearer(token())) as joined:
        assert await messages(joined, 1) == [1]
        await joined.send(type="ack", channel="user:ann", seq=joined.messages[-1]["seq"])
        await joined.send(type="ping")
        await joined.until("pong")
    await producer.user_message("ann", {"n": 2})
    async with running_gateway(broker, jwt_secret=SECRET) as (url, _), client(url, **bearer(token())) as joined:
        assert await messages(joined, 1) == [2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (token(secret=OTHER), "wrong key"),
        (token(seconds=-60), "expired"),
        (token(nbf=time.time() + 600), "not yet valid"),
        (token("a.b"), "no user id"),
        (token("*"), "wildcard"),
        (token(iss="somebody"), "wrong issuer"),
        (token(iss="veracity", aud="another"), "wrong audience"),
        (jwt.encode({"sub": "ann", "iss": "veracity", "aud": "live"}, SECRET, algorithm="HS256"), "no end"),
        (jwt.encode({"exp": time.time() + 60, "iss": "veracity", "aud": "live"}, SECRET, algorithm="HS256"), "nobody"),
        (UNSIGNED, "algorithm none"),
        (jwt.encode({"sub": "ann", "exp": time.time() + 60}, SECRET * 2, algorithm="HS512"), "another algorithm"),
        ("garbage", "no token"),
    ],
)
async def test_a_token_that_proves_nothing_is_refused_before_the_upgrade(
    broker: Broker, text: str, reason: str
) -> None:
    options = {"jwt_secret": SECRET, "jwt_issuer": "veracity", "jwt_audience": "live"}
    async with running_gateway(broker, **options) as (url, _):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, **bearer(text))
        assert refused.value.response.status_code == 401, reason
        assert text.encode() not in bytes(refused.value.response.body or b"")
        async with client(url) as joined:
            await joined.send(type="auth", token=text)
            assert (await joined.receive())["code"] == "unauthorized"
        async with client(url, **bearer(token(iss="veracity", aud="live"))) as joined:
            assert joined.messages[0]["user_id"] == "ann"


async def test_a_connection_ends_with_its_token_unless_it_is_renewed(broker: Broker) -> None:
    async with running_gateway(broker, jwt_secret=SECRET, jwt_leeway=0) as (url, _):
        async with client(url, **bearer(token(seconds=2))) as ends, client(url, **bearer(token(seconds=2))) as renewed:
            assert (await ends.until("error"))["code"] == "unauthorized", "warned first"
            await renewed.send(type="auth", token=token("bob"))
            await renewed.send(type="auth", token=token())
            await renewed.until("authenticated")
            assert [one["message"] for one in renewed.messages if "another user" in one.get("message", "")]
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await ends.receive()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
            await renewed.send(type="ping")
            await renewed.until("pong")


async def test_where_a_token_is_required_a_client_without_hears_nothing_and_is_soon_gone(broker: Broker) -> None:
    options = {"jwt_secret": SECRET, "auth_required": True, "auth_deadline": 0.5}
    async with running_gateway(broker, **options) as (url, _), client(url) as joined:
        await joined.send(type="subscribe", channel="trends")
        assert (await joined.receive())["code"] == "unauthorized"
        with pytest.raises(ConnectionClosed) as closed:
            await joined.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4401


@pytest.mark.parametrize(
    ("private", "algorithm"),
    [
        (rsa.generate_private_key(65_537, 2_048), "RS256"),
        (ec.generate_private_key(ec.SECP256R1()), "ES256"),
        (ed25519.Ed25519PrivateKey.generate(), "EdDSA"),
    ],
)
def test_the_key_decides_the_algorithm(private: Any, algorithm: str) -> None:
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = configured_key(None, public.decode())
    assert key is not None
    verifier = Verifier(OneKey(key), leeway=0)
    assert verifier is not None
    claims = {"sub": "ann", "exp": time.time() + 60}
    assert verifier.verify(jwt.encode(claims, private, algorithm=algorithm)).user_id == "ann"
    with pytest.raises(Unauthorized):
        verifier.verify(token())


@pytest.mark.parametrize(
    "options",
    [
        {"jwt_secret": "short"},
        {"jwt_public_key": "no pem"},
        {"jwt_secret": SECRET, "jwt_public_key": "both"},
        {"jwt_secret": SECRET, "jwks_url": "http://127.0.0.1/keys"},
        {"auth_required": True},
        {"anonymous_channels": "trends, story:>"},
        {"trusted_proxies": "10.0.0.0/8, everybody"},
    ],
    ids=["short", "no key", "two keys", "key and address", "no key at all", "no channel", "no network"],
)
async def test_what_is_unusable_stops_the_start(broker: Broker, options: dict[str, Any]) -> None:
    with pytest.raises(StartupFailed, match="VERACITY_"):
        async with running_gateway(broker, **options):
            pass


async def history(url: str, channel: str, text: str | None = None) -> httpx.Response:
    address = url.replace("ws://", "http://").removesuffix("/api/v1/ws/connect")
    headers = {} if text is None else {"authorization": f"Bearer {text}"}
    async with httpx.AsyncClient() as http:
        return await http.get(f"{address}/api/v1/channels/{channel}/history", headers=headers)


async def test_history_over_http_asks_for_what_the_channel_asks_for(broker: Broker, producer: Broadcaster) -> None:
    await producer.user_message("ann", {"n": 1})
    async with running_gateway(broker, jwt_secret=SECRET) as (url, _):
        own = await history(url, "user:ann", token())
        assert [event["data"]["n"] for event in own.json()["events"]] == [1]
        assert (await history(url, "user:ann", token("bob"))).status_code == 403
        assert (await history(url, "user:ann")).status_code == 403
        assert (await history(url, "trends")).status_code == 200
        refused = await history(url, "trends", token(secret=OTHER))
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
        limited = token(channels=["story:*"])
        assert (await history(url, "trends", limited)).status_code == 403
        assert (await history(url, "story:1", limited)).status_code == 200
    async with running_gateway(broker, jwt_secret=SECRET, auth_required=True) as (url, _):
        assert (await history(url, "trends")).status_code == 401
        assert (await history(url, "trends", token())).status_code == 200
