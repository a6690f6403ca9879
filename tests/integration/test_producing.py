"""The producer SDK and the streams against the real broker: acknowledged, once, retried, migrated, refused."""

from __future__ import annotations

import asyncio

import pytest
from nats.js.api import RetentionPolicy, StorageType, StreamConfig
from prometheus_client import CollectorRegistry

from services.broker import Broker
from shared.broadcaster import Broadcaster
from shared.connection import Connection
from shared.errors import InvalidChannel, InvalidPayload, PublishFailed, StreamConflict
from shared.metrics import NatsMetrics, PublishMetrics
from shared.settings import ServiceSettings
from shared.streams import ensure_streams
from tests.support.items import item, story, trend
from tests.support.services import running_broadcaster, until


async def test_the_same_event_twice_is_stored_and_republished_once(broker: Broker) -> None:
    async with running_broadcaster(broker) as (producer, nats):
        live: list[bytes] = []

        async def receive(message: object) -> None:
            live.append(message.data)  # type: ignore[attr-defined]  # a nats message

        await nats.client.subscribe("trends", cb=receive)
        await nats.flush()
        first = await producer.trend_update(trend("x"))
        second = await producer.trend_update(trend("x"))
        third = await producer.trend_update(trend("x", mentions=9))
        await until(lambda: len(live) == 2)
    assert not first.duplicate
    assert second.duplicate
    assert (second.seq, third.seq) == (first.seq, first.seq + 1)


async def test_the_republished_message_names_its_sequence_and_the_one_before_on_its_subject(broker: Broker) -> None:
    async with running_broadcaster(broker) as (producer, nats):
        headers: list[tuple[str, str, str]] = []

        async def receive(message: object) -> None:
            found = message.headers  # type: ignore[attr-defined]
            headers.append((message.subject, found["Nats-Sequence"], found["Nats-Last-Sequence"]))  # type: ignore[attr-defined]

        await nats.client.subscribe("story.*", cb=receive)
        await nats.flush()
        for number, story_id in enumerate("abaab"):
            await producer.story_update(story(story_id, [item(number, "t")], revision=number + 1))
        await until(lambda: len(headers) == 5)
    assert headers == [
        ("story.a", "1", "0"),
        ("story.b", "2", "0"),
        ("story.a", "3", "1"),
        ("story.a", "4", "3"),
        ("story.b", "5", "2"),
    ]


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        ("general", {"type": "notice"}),
        ("stories", {"type": "story_update", "data": {}}),
        ("trends", {"data": {}}),
        ("trends", {"type": 7}),
        ("trends", {"type": "trend_update", "data": {"v": float("nan")}}),
        ("trends", {"type": "trend_update", "data": {"v": object()}}),
    ],
)
async def test_what_cannot_be_an_event_is_refused_before_it_is_sent(
    producer: Broadcaster, channel: str, message: dict[str, object]
) -> None:
    with pytest.raises(InvalidPayload):
        await producer.broadcast(channel, message)


async def test_an_unknown_channel_is_refused(producer: Broadcaster) -> None:
    with pytest.raises(InvalidChannel):
        await producer.broadcast("story:>", {"type": "story_update", "data": {}})


async def test_user_messages_are_stored_for_their_user(broker: Broker) -> None:
    async with running_broadcaster(broker) as (producer, nats):
        await producer.user_message("ann", {"hello": 1})
        stored = await nats.jetstream.get_last_msg("USERS", "events.user.ann")
    assert stored.data is not None
    assert b'"hello":1' in stored.data


async def test_a_publish_waits_out_a_broker_that_is_away_for_a_while(broker: Broker) -> None:
    async with running_broadcaster(broker) as (producer, _):
        broker.stop()
        publishing = asyncio.create_task(producer.trend_update(trend("x")))
        await asyncio.sleep(0.3)
        assert not publishing.done()
        broker.start()
        assert (await asyncio.wait_for(publishing, 20)).seq == 1


async def test_a_publish_that_gives_up_says_so_and_can_be_repeated(broker: Broker) -> None:
    registry = CollectorRegistry()
    settings = ServiceSettings(nats_url=broker.url, nats_reconnect_wait=0.2)
    async with Connection(settings, "test", NatsMetrics(registry)) as nats:
        await nats.ready()
        await ensure_streams(nats.jetstream, settings)
        hasty = Broadcaster(nats, PublishMetrics(registry), give_up_after=0.5, timeout=0.2)
        broker.pause()
        with pytest.raises(PublishFailed) as failed:
            await hasty.trend_update(trend("x"))
        broker.resume()
        assert failed.value.subject == "events.trends"
        patient = Broadcaster(nats, PublishMetrics(CollectorRegistry()))
        # The broker may have stored it while it could not answer: either way it is there once.
        await patient.trend_update(trend("x"))
        assert (await nats.jetstream.stream_info("TRENDS")).state.messages == 1


async def test_setting_up_the_streams_twice_changes_nothing_and_new_settings_are_applied(broker: Broker) -> None:
    async with running_broadcaster(broker) as (producer, nats):
        await producer.trend_update(trend("x"))
        before = await nats.jetstream.stream_info("TRENDS")
        changed = ServiceSettings(nats_url=broker.url, events_max_age=3_600.0, stream_max_bytes=50_000_000)
        await ensure_streams(nats.jetstream, changed)
        after = await nats.jetstream.stream_info("TRENDS")
        await ensure_streams(nats.jetstream, changed)
    assert after.config.max_age == 3_600.0
    assert after.config.max_bytes == 50_000_000
    assert (after.created, after.state.messages) == (before.created, 1), "nothing stored is lost"


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (StreamConfig(name="OTHERS", subjects=["events.trends"]), "another stream already stores"),
        (StreamConfig(name="TRENDS", subjects=["events.trends"], storage=StorageType.MEMORY), "stored in"),
        (StreamConfig(name="TRENDS", subjects=["events.trends"], retention=RetentionPolicy.WORK_QUEUE), "retention"),
    ],
)
async def test_a_stream_in_the_way_is_refused_with_its_name_and_advice(
    broker: Broker, config: StreamConfig, reason: str
) -> None:
    settings = ServiceSettings(nats_url=broker.url)
    async with Connection(settings, "test", NatsMetrics(CollectorRegistry())) as nats:
        await nats.ready()
        await nats.jetstream.add_stream(config)
        with pytest.raises(StreamConflict, match=reason) as conflict:
            await ensure_streams(nats.jetstream, settings)
    assert "TRENDS" in str(conflict.value)
