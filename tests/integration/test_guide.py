"""The exchanges of the guide this product began with, verbatim."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from services.broker import Broker
from shared.broadcaster import Broadcaster
from shared.connection import Connection
from shared.events import Signal
from tests.support.items import item, story, trend
from tests.support.services import client, running_gateway

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


async def test_a_new_connection_is_welcomed_on_the_channel_it_names(gateway: str) -> None:
    from websockets.asyncio.client import connect

    async with connect(f"{gateway}?channel=general") as socket:
        welcome = json.loads(await socket.recv())
    assert welcome["type"] == "connection"
    assert welcome["status"] == "connected"
    assert welcome["channel"] == "general"
    assert welcome["user_id"] is None
    assert welcome["heartbeat"] == {"interval": 30.0, "timeout": 90.0}
    assert TIMESTAMP.fullmatch(welcome["timestamp"])


async def test_subscribe(gateway: str) -> None:
    async with client(gateway) as joined:
        await joined.socket.send('{\n  "type": "subscribe",\n  "channel": "trends"\n}')
        answer = await joined.receive()
    assert (answer["type"], answer["channel"]) == ("subscribed", "trends")


async def test_unsubscribe(gateway: str) -> None:
    async with client(gateway) as joined:
        await joined.subscribe("stories")
        await joined.socket.send('{\n  "type": "unsubscribe", \n  "channel": "stories"\n}')
        answer = await joined.receive()
    assert (answer["type"], answer["channel"]) == ("unsubscribed", "stories")


async def test_pong_is_taken_and_not_answered(gateway: str) -> None:
    async with client(gateway) as joined:
        await joined.socket.send('{"type": "pong", "timestamp": "2024-01-01T00:00:00Z"}')
        await joined.send(type="ping")
        assert (await joined.receive())["type"] == "pong"


async def test_a_trend_update_arrives(gateway: str, producer: Broadcaster) -> None:
    async with client(gateway) as joined:
        await joined.subscribe("trends")
        published = await producer.trend_update(trend("flood"))
        update = await joined.receive()
    assert update["type"] == "trend_update"
    assert update["data"]["name"] == "flood"
    assert TIMESTAMP.fullmatch(update["timestamp"])
    assert (update["channel"], update["seq"]) == ("trends", published.seq)


async def test_a_story_update_arrives_on_all_stories_and_on_its_own_channel(
    gateway: str, producer: Broadcaster
) -> None:
    async with client(gateway) as joined:
        await joined.subscribe("stories", "story:123")
        await producer.story_update(story("123", [item(1, "Dam leaks"), item(2, "Dam leaks again")]))
        await producer.story_update(story("124", [item(3, "Bridge falls"), item(4, "Bridge is down")]))
        updates = [await joined.receive() for _ in range(3)]
    got = sorted((one["data"]["id"], one["channel"]) for one in updates)
    assert got == [("123", "stories"), ("123", "story:123"), ("124", "stories")]


async def test_a_trust_score_update_arrives_with_its_signals(gateway: str, producer: Broadcaster) -> None:
    signal = Signal(name="corroboration", value=0.9, weight=0.2, contribution=8.0, confidence=0.8, explanation="five")
    async with client(gateway) as joined:
        await joined.subscribe("trust_scores", "story:123", "stories")
        await producer.trust_score_update("123", 85.5, [signal])
        updates = {one["channel"]: one for one in [await joined.receive(), await joined.receive()]}
        assert await joined.silent(), "scores do not go to the channel of all stories"
    assert set(updates) == {"trust_scores", "story:123"}
    for update in updates.values():
        assert update["type"] == "trust_score_update"
        assert (update["story_id"], update["trust_score"]) == ("123", 85.5)
        assert update["signals"][0]["name"] == "corroboration"
        assert TIMESTAMP.fullmatch(update["timestamp"])


async def test_broadcast_takes_any_message_for_a_channel(gateway: str, producer: Broadcaster) -> None:
    async with client(gateway) as joined:
        await joined.subscribe("trends")
        await producer.broadcast("trends", {"type": "trend_update", "data": {"anything": 1}})
        assert (await joined.receive())["data"] == {"anything": 1}


async def test_the_curl_check_finds_the_endpoint(gateway: str) -> None:
    """The guide's curl sends Upgrade without a key: it must be told that the endpoint is there and what it lacks."""
    host, port = gateway.removeprefix("ws://").partition("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"GET /api/v1/ws/connect HTTP/1.1\r\nHost: localhost:8000\r\nUser-Agent: curl/8\r\nAccept: */*\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"the WebSocket endpoint is here" in answer


@pytest.mark.parametrize("subject", ["trends", "story.9", "trust_scores"])
async def test_a_plain_nats_pub_reaches_browsers_live_and_without_seq(
    gateway: str, nats: Connection, subject: str
) -> None:
    payload = {"trends": '{"name":"x"}', "story.9": '{"id":"9"}', "trust_scores": '{"story_id":"9","trust_score":1}'}
    channel = subject.replace(".", ":")
    async with client(gateway) as joined:
        await joined.subscribe(channel)
        await nats.client.publish(subject, payload[subject].encode())
        update = await joined.receive()
    assert update["channel"] == channel
    assert "seq" not in update
    assert update["type"] in ("trend_update", "story_update", "trust_score_update")


async def test_two_gateways_on_one_broker_deliver_to_their_own_clients(broker: Broker, producer: Broadcaster) -> None:
    async with (
        running_gateway(broker) as (first, _),
        running_gateway(broker) as (second, _),
        client(first) as one,
        client(second) as two,
    ):
        await one.subscribe("trends")
        await two.subscribe("trends")
        await producer.trend_update(trend("flood"))
        assert (await one.receive())["data"] == (await two.receive())["data"]
