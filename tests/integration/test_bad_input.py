"""What clients and producers get wrong costs them an answer or a line in the log, and nobody else anything."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.broker import Broker
from shared.broadcaster import Broadcaster
from shared.connection import Connection
from tests.support.items import trend
from tests.support.services import client, running_gateway, until


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "invalid_json"),
        ('{"type":"dance"}', "invalid_message"),
        ('{"type":"subscribe","channel":7}', "invalid_message"),
        ('{"type":"subscribe","channel":"story:*"}', "unknown_channel"),
        ('{"type":"subscribe","channel":"user:1"}', "forbidden"),
        (b"\x00", "invalid_message"),
    ],
)
async def test_a_wrong_message_is_answered_and_the_connection_goes_on(
    gateway: str, text: str | bytes, code: str
) -> None:
    async with client(gateway) as joined:
        await joined.socket.send(text)
        answer = await joined.receive()
        assert (answer["type"], answer["code"]) == ("error", code)
        await joined.subscribe("trends")


async def test_an_unknown_channel_in_the_address_is_an_error_and_the_client_is_on_general(gateway: str) -> None:
    async with client(f"{gateway}?channel=nope") as joined:
        assert joined.messages[0]["channel"] == "general"
        assert (await joined.receive())["code"] == "unknown_channel"


async def test_a_channel_in_the_address_is_subscribed(gateway: str, producer: Broadcaster) -> None:
    async with client(f"{gateway}?channel=trends") as joined:
        assert joined.messages[0]["channel"] == "trends"
        assert (await joined.receive())["type"] == "subscribed"
        await producer.trend_update(trend("x"))
        assert (await joined.receive())["type"] == "trend_update"


async def test_an_oversized_message_ends_the_connection_with_1009(gateway: str) -> None:
    async with client(gateway) as joined:
        await joined.socket.send("x" * 70_000)
        with pytest.raises(ConnectionClosed) as closed:
            await joined.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_the_rate_limit_answers_with_the_time_to_wait(broker: Broker) -> None:
    async with running_gateway(broker, rate_limit_messages=5) as (url, _), client(url) as joined:
        for _ in range(6):
            await joined.send(type="ping")
        answers = [await joined.receive() for _ in range(6)]
    assert [answer["type"] for answer in answers] == ["pong"] * 5 + ["error"]
    assert answers[-1]["code"] == "rate_limited"
    assert 0 < answers[-1]["retry_after"] <= 12


async def test_a_full_gateway_refuses_politely(broker: Broker) -> None:
    async with running_gateway(broker, max_connections=1) as (url, _), client(url):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url)
    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["retry-after"]


async def test_a_foreign_origin_is_refused(broker: Broker) -> None:
    async with running_gateway(broker, allowed_origins="https://veracity.example") as (url, _):
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, origin="https://evil.example")  # type: ignore[arg-type]  # a NewType of str
        assert refused.value.response.status_code == 403
        async with client(url, origin="https://veracity.example"):
            pass


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"garbage",
        b"[1,2]",
        b'{"type":"reconnect","after_ms":0}',
        b'{"type":"story_update","data":{}}',
        b"\xff" * 900_000,
    ],
)
async def test_what_is_no_event_is_dropped_and_counted_and_the_next_one_arrives(
    broker: Broker, nats: Connection, payload: bytes
) -> None:
    async with running_gateway(broker) as (url, _), client(url) as joined:
        await joined.subscribe("trends")
        await nats.client.publish("trends", payload)
        await nats.client.publish("trends", b'{"type":"trend_update","data":{"name":"good"}}')
        assert (await joined.receive())["data"] == {"name": "good"}
        metrics = await asyncio.to_thread(fetch, url, "/metrics")
    assert 'veracity_gateway_events_rejected_total{kind="trends"} 1.0' in metrics


async def test_random_bytes_on_the_port_cost_nobody_else_anything(broker: Broker) -> None:
    import random

    rng = random.Random(7)
    async with running_gateway(broker) as (url, gateway), client(url) as joined:
        host, port = url.removeprefix("ws://").partition("/")[0].split(":")
        head = (
            b"GET /api/v1/ws/connect HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        for number in range(60):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write((head if number % 2 else b"") + rng.randbytes(rng.randint(1, 600)))
            writer.close()
            await writer.wait_closed()
            del reader
        await until(lambda: len(gateway.engine) == 1)
        await joined.send(type="ping")
        assert (await joined.receive())["type"] == "pong"


async def test_a_client_may_ask_for_a_slower_pace_and_gets_the_newest_at_it(
    gateway: str, producer: Broadcaster
) -> None:
    async with client(gateway) as paced, client(gateway) as other:
        await paced.send(type="subscribe", channel="trends", max_rate=5)
        assert (await paced.until("subscribed"))["max_rate"] == 5
        await other.subscribe("trends")
        for mentions in range(5, 25):
            await producer.trend_update(trend("x", mentions=mentions))
        assert [(await other.receive())["data"]["mention_count"] for _ in range(20)] == list(range(5, 25))
        got = [await paced.receive() for _ in range(2)]
        assert [one["data"]["mention_count"] for one in got] == [5, 24]


async def test_a_correction_is_never_held_back(gateway: str, producer: Broadcaster) -> None:
    async with client(gateway) as paced:
        await paced.send(type="subscribe", channel="story:1", max_rate=0.01)
        await paced.until("subscribed")
        for number in range(3):
            correction = {"type": "story_correction", "story_id": "1", "data": {"number": number}}
            await producer.broadcast("story:1", correction)
        assert [(await paced.receive())["data"]["number"] for _ in range(3)] == [0, 1, 2]


async def test_subjects_are_subscribed_for_the_first_client_and_left_after_the_last(broker: Broker) -> None:
    async with running_gateway(broker) as (url, gateway), client(url) as one, client(url) as two:
        await one.subscribe("story:1")
        await two.subscribe("story:1", "trends")
        assert len(gateway.delivery.subscriptions) == 2
        await one.send(type="unsubscribe", channel="story:1")
        await one.until("unsubscribed")
        assert len(gateway.delivery.subscriptions) == 2
        await two.socket.close()
        await until(lambda: len(gateway.delivery.subscriptions) == 0)


async def test_nothing_published_after_the_acknowledgement_is_missed(gateway: str, producer: Broadcaster) -> None:
    """`subscribed` comes only once the broker has confirmed: the very next event must arrive, every time."""
    for number in range(30):
        async with client(gateway) as joined:
            await joined.send(type="subscribe", channel=f"story:{number}")
            await joined.until("subscribed")
            await producer.broadcast(f"story:{number}", {"type": "story_update", "data": {"id": str(number)}})
            assert (await joined.receive())["data"] == {"id": str(number)}


async def test_a_gateway_keeps_its_clients_while_nats_is_away_and_delivers_again_after(broker: Broker) -> None:
    async with running_gateway(broker) as (url, gateway), client(url) as joined:
        await joined.subscribe("trends")
        assert (await asyncio.to_thread(status, url, "/readyz"))[0] == 200
        broker.stop()
        await until(lambda: gateway.missing() != [])
        assert await asyncio.to_thread(status, url, "/readyz") == (503, ["nats"])
        assert (await asyncio.to_thread(status, url, "/healthz"))[0] == 200
        await joined.send(type="subscribe", channel="story:1")
        broker.start()
        await joined.until("subscribed", timeout=20)
        from tests.support.services import running_broadcaster

        async with running_broadcaster(broker) as (producer, _):
            await producer.trend_update(trend("back"))
            assert (await joined.receive())["data"]["name"] == "back"


async def test_a_gateway_starts_without_nats_and_serves_once_it_is_there(broker: Broker) -> None:
    broker.stop()
    from services.gateway.app import serving
    from tests.support.services import settings

    async with serving(settings(broker)) as (gateway, server):
        url = f"ws://127.0.0.1:{server.port}/api/v1/ws/connect"
        async with client(url) as joined:
            await joined.send(type="subscribe", channel="trends")
            assert await joined.silent(), "no acknowledgement before the broker has confirmed"
            assert (await asyncio.to_thread(status, url, "/readyz"))[0] == 503
            broker.start()
            await joined.until("subscribed", timeout=20)
            await until(lambda: gateway.missing() == [])


async def test_the_http_side_tells_what_there_is(gateway: str, producer: Broadcaster) -> None:
    async with client(gateway) as joined:
        await joined.subscribe("trends", "story:1")
        await producer.trend_update(trend("x"))
        await joined.receive()
        stats = json.loads(await asyncio.to_thread(fetch, gateway, "/api/v1/ws/stats"))
        metrics = await asyncio.to_thread(fetch, gateway, "/metrics")
    assert stats["connections"] == 1
    assert stats["subscriptions"]["trends"] == 1
    for line in (
        "veracity_gateway_connections 1.0",
        'veracity_gateway_subscriptions{kind="story"} 1.0',
        "veracity_gateway_nats_subscriptions 2.0",
        'veracity_gateway_events_received_total{kind="trends"} 1.0',
        'veracity_gateway_messages_delivered_total{kind="trends"} 1.0',
        "veracity_gateway_delivery_seconds_count 1.0",
        'veracity_gateway_client_messages_total{type="subscribe"} 1.0',
        "veracity_gateway_backlog_bytes 0.0",
        "veracity_nats_connected 1.0",
        "veracity_nats_reconnects_total 0.0",
    ):
        assert line in metrics
    document = json.loads(await asyncio.to_thread(fetch, gateway, "/asyncapi.json"))
    assert document["asyncapi"].startswith("3.")
    assert "TrustScoreUpdate" in document["components"]["messages"]
    assert "swagger" in await asyncio.to_thread(fetch, gateway, "/docs")
    assert (await asyncio.to_thread(status, gateway, "/api/v1/ws/connect"))[0] == 426


def http(url: str, path: str) -> str:
    return url.replace("ws://", "http://").partition("/api/")[0] + path


def fetch(url: str, path: str) -> str:
    with urllib.request.urlopen(http(url, path)) as answer:
        text: str = answer.read().decode()
        return text


def status(url: str, path: str) -> tuple[int, list[str]]:
    try:
        with urllib.request.urlopen(http(url, path)) as answer:
            return answer.status, []
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()).get("missing", [])
