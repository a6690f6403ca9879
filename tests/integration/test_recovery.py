"""Nothing lost, nothing repeated: resume, snapshot, gaps, outages, restarts of the broker, drain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.broker import Broker
from services.gateway.gateway import Gateway
from services.gateway.history import Read
from shared import channels
from shared.broadcaster import Broadcaster
from shared.events import TrendPhase
from tests.support.items import item, story, trend
from tests.support.services import Client, Message, client, running_broadcaster, running_gateway, until


async def publish_trends(producer: Broadcaster, first: int, last: int) -> list[int]:
    """Publish trends whose mention counts are `first` to `last`; return their sequences."""
    return [(await producer.trend_update(trend("x", mentions=number))).seq for number in range(first, last + 1)]


def mentions(messages: list[Message]) -> list[int]:
    return [one["data"]["mention_count"] for one in messages if one["type"] == "trend_update"]


async def resume(joined: Client, channel: str, since: int, **more: Any) -> Message:
    await joined.send(type="subscribe", channel=channel, since=since, **more)
    return await joined.until("subscribed")


async def take(joined: Client, count: int) -> list[Message]:
    return [await joined.receive() for _ in range(count)]


async def test_the_acknowledgement_tells_where_the_channel_stands(gateway: str, producer: Broadcaster) -> None:
    sequences = await publish_trends(producer, 5, 7)
    async with client(gateway) as joined:
        await joined.send(type="subscribe", channel="trends")
        answer = await joined.until("subscribed")
        assert answer["seq"] == sequences[-1]
        assert answer["epoch"]
        assert "recovered" not in answer


@pytest.mark.parametrize("fresh", [True, False], ids=["on another pod", "on the same pod"])
async def test_a_client_that_resumes_gets_what_it_missed_once_and_in_order(
    broker: Broker, producer: Broadcaster, fresh: bool
) -> None:
    async with running_gateway(broker) as (url, _), running_gateway(broker) as (other, _):
        async with client(url) as stays, client(url) as joined:
            await stays.subscribe("trends")
            await joined.subscribe("trends")
            await publish_trends(producer, 5, 9)
            seen = (await take(joined, 5))[-1]["seq"]
        await publish_trends(producer, 10, 14)
        async with client(other if fresh else url) as joined:
            answer = await resume(joined, "trends", seen)
            assert answer["recovered"] is True
            await publish_trends(producer, 15, 16)
            assert mentions(await take(joined, 7)) == list(range(10, 17))
            assert await joined.silent()


async def test_resuming_with_nothing_missed_is_recovered_and_silent(gateway: str, producer: Broadcaster) -> None:
    (seq,) = await publish_trends(producer, 5, 5)
    async with client(gateway) as joined:
        assert (await resume(joined, "trends", seq))["recovered"] is True
        assert await joined.silent()


@pytest.mark.parametrize("channel", ["stories", "story:a"])
async def test_stories_resume_alone_and_all_together(gateway: str, producer: Broadcaster, channel: str) -> None:
    async def tell(story_id: str, revision: int) -> int:
        return (await producer.story_update(story(story_id, [item(revision, "t")], revision=revision))).seq

    seen = await tell("a", 1)
    for story_id, revision in (("b", 2), ("a", 3), ("b", 4), ("a", 5)):
        await tell(story_id, revision)
        await producer.trust_score_update(story_id, 50.0 + revision, [])
    async with client(gateway) as joined:
        assert (await resume(joined, channel, seen))["recovered"] is True
        await tell("a", 6)
        got = await take(joined, 5)
        assert await joined.silent()
    told = [one["data"]["revision"] if one["type"] == "story_update" else one["trust_score"] for one in got]
    assert told == ([2, 3, 4, 5, 6] if channel == "stories" else [3, 53.0, 5, 55.0, 6])
    assert [one["seq"] for one in got] == sorted(one["seq"] for one in got)


async def test_from_the_very_beginning_everything_comes(gateway: str, producer: Broadcaster) -> None:
    await publish_trends(producer, 5, 9)
    async with client(gateway) as joined:
        assert (await resume(joined, "trends", 0))["recovered"] is True
        assert mentions(await take(joined, 5)) == list(range(5, 10))


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda since: {"since": since + 1_000}, "from a future that never was"),
        (lambda since: {"since": since, "epoch": "another"}, "of another epoch"),
    ],
)
async def test_what_cannot_be_recovered_is_said_and_live_events_go_on(
    gateway: str, producer: Broadcaster, spoil: Callable[[int], dict[str, Any]], why: str
) -> None:
    (seq,) = await publish_trends(producer, 5, 5)
    async with client(gateway) as joined:
        await joined.send(type="subscribe", channel="trends", **spoil(seq))
        assert (await joined.until("subscribed"))["recovered"] is False, why
        assert (await joined.receive())["code"] == "history_gone"
        await publish_trends(producer, 6, 6)
        assert mentions(await take(joined, 1)) == [6]


async def test_what_the_store_has_evicted_is_never_claimed_to_be_recovered(broker: Broker, gateway: str) -> None:
    async with running_broadcaster(broker) as (producer, nats):
        sequences = await publish_trends(producer, 5, 20)
        await nats.jetstream.purge_stream("TRENDS", seq=sequences[5])
        async with client(gateway) as joined:
            assert (await resume(joined, "trends", sequences[2]))["recovered"] is False
        async with client(gateway) as joined:
            assert (await resume(joined, "trends", 0))["recovered"] is False
        async with client(gateway) as joined:
            assert (await resume(joined, "trends", sequences[5]))["recovered"] is True
            assert mentions(await take(joined, 10)) == list(range(11, 21))


async def test_a_replay_is_bounded_and_a_longer_one_refused(broker: Broker, producer: Broadcaster) -> None:
    async with running_gateway(broker, recovery_max_messages=10) as (url, _):
        sequences = await publish_trends(producer, 5, 20)
        async with client(url) as joined:
            assert (await resume(joined, "trends", sequences[0]))["recovered"] is False
        async with client(url) as joined:
            assert (await resume(joined, "trends", sequences[8]))["recovered"] is True
            assert mentions(await take(joined, 7)) == list(range(14, 21))


async def test_the_seam_holds_under_full_publishing_load(broker: Broker, producer: Broadcaster) -> None:
    """Clients come and go while events are published as fast as they are acknowledged: each sees every one once."""
    async with running_gateway(broker) as (url, _), running_gateway(broker, window_bytes=2_000) as (other, _):
        (first,) = await publish_trends(producer, 5, 5)
        publishing = asyncio.create_task(publish_trends(producer, 6, 600))

        async def follow(number: int) -> list[int]:
            seen, got = first, list[int]()
            while not got or got[-1] < 600:
                async with client((url, other)[len(got) % 2]) as joined:
                    answer = await resume(joined, "trends", seen)
                    assert answer["recovered"] is True
                    for _ in range(20 + number * 7):
                        message = await joined.receive()
                        seen = message["seq"]
                        got.append(message["data"]["mention_count"])
                        if got[-1] == 600:
                            break
            return got

        everyone = await asyncio.gather(*(follow(number) for number in range(12)))
        await publishing
    assert all(got == list(range(6, 601)) for got in everyone)


async def test_who_comes_while_others_wait_in_vain_is_waited_for_as_long_as_they_are(
    broker: Broker, producer: Broadcaster
) -> None:
    """Patience was counted for the channel: a client that came while another waited got what was left of it."""
    async with running_gateway(broker) as (url, gateway), client(url) as vain, client(url) as late:
        (last,) = await publish_trends(producer, 1, 1)
        await vain.subscribe("trends")
        topic = gateway.delivery.hub.topic(channels.TRENDS)
        assert topic is not None
        await vain.send(type="subscribe", channel="trends", since=last + 1_000, epoch=topic.epoch)
        began = topic.attempts
        await until(lambda: topic.attempts >= began + 15)
        await late.send(type="subscribe", channel="trends", since=last + 1, epoch=topic.epoch)
        assert (await vain.until("subscribed"))["recovered"] is False
        await publish_trends(producer, 2, 2)
        assert (await late.until("subscribed"))["recovered"] is True


async def test_who_comes_while_the_stream_is_read_for_others_and_asks_for_more_is_read_for_too(
    broker: Broker, producer: Broadcaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The read for others begins too late for the newcomer: it was taken for all there is, and loss was claimed."""
    async with running_gateway(broker, window_bytes=1_000) as (url, gateway), client(url) as one, client(url) as two:
        seqs = await publish_trends(producer, 1, 20)
        reading, go_on = asyncio.Event(), asyncio.Event()
        read = gateway.delivery.history.read

        async def slowly(channel: channels.Channel, start: int, **bounds: int) -> Read:
            reading.set()
            await go_on.wait()
            return await read(channel, start, **bounds)

        monkeypatch.setattr(gateway.delivery.history, "read", slowly)
        await one.send(type="subscribe", channel="trends", since=seqs[14])
        await reading.wait()
        await two.send(type="subscribe", channel="trends", since=seqs[4])
        topic = gateway.delivery.hub.topic(channels.TRENDS)
        assert topic is not None
        await until(lambda: len(topic.waiting) == 2)
        go_on.set()
        for joined, missed in ((one, 5), (two, 15)):
            assert (await joined.until("subscribed"))["recovered"] is True
            for number in range(21 - missed, 21):
                assert (await joined.until("trend_update"))["data"]["mention_count"] == number


async def test_a_snapshot_is_the_newest_state_of_each_thing_and_then_comes_live(
    gateway: str, producer: Broadcaster
) -> None:
    for name, trend_id, count in (("x", "t1", 5), ("y", "t2", 6), ("x", "t1", 9)):
        await producer.trend_update(trend(name, trend_id=trend_id, mentions=count))
    ended = trend("z", trend_id="t3").model_copy(update={"phase": TrendPhase.ENDED})
    await producer.trend_update(ended)
    async with client(gateway) as joined, client(gateway) as second:
        await joined.send(type="subscribe", channel="trends", snapshot=True)
        assert (await joined.until("subscribed"))["snapshot"] == 2
        assert [one["data"]["id"] for one in await take(joined, 2)] == ["t2", "t1"]
        await producer.trend_update(trend("y", trend_id="t2", mentions=20))
        assert mentions(await take(joined, 1)) == [20]
        await second.send(type="subscribe", channel="trends", snapshot=True)
        await second.until("subscribed")
        assert mentions(await take(second, 2)) == [9, 20], "kept current by what came live"


async def test_events_published_while_the_gateway_is_cut_off_are_filled_in_before_the_next(
    broker: Broker, gateway: str
) -> None:
    """The broker restarts: what was published before the gateway is back arrives all the same, in order."""
    async with client(gateway) as joined:
        async with running_broadcaster(broker) as (producer, _):
            await joined.subscribe("trends", "stories")
            await publish_trends(producer, 5, 6)
            assert mentions(await take(joined, 2)) == [5, 6]
        broker.stop()
        broker.start()
        async with running_broadcaster(broker) as (producer, _):
            await publish_trends(producer, 7, 12)
            assert mentions(await take(joined, 6)) == list(range(7, 13))
            assert await joined.silent()


async def test_a_gap_in_live_events_is_healed_from_the_stream(broker: Broker, producer: Broadcaster) -> None:
    async with running_gateway(broker) as (url, gateway), client(url) as joined:
        await joined.subscribe("trends")
        await publish_trends(producer, 5, 5)
        await take(joined, 1)
        deaf(gateway)
        await publish_trends(producer, 6, 8)
        await until(lambda: gateway.delivery.history is not None)
        hearing(gateway)
        await publish_trends(producer, 9, 9)
        assert mentions(await take(joined, 4)) == [6, 7, 8, 9]


def deaf(gateway: Gateway) -> None:
    """Lose every message from NATS, as a slow consumer does."""
    listeners = gateway._nats.client.listeners
    for subject in [subject for subject in listeners if not subject.startswith("_INBOX")]:
        listeners[subject + " lost"] = listeners[subject]
        listeners[subject] = lambda *_: None


def hearing(gateway: Gateway) -> None:
    listeners = gateway._nats.client.listeners
    for lost in [subject for subject in listeners if subject.endswith(" lost")]:
        listeners[lost.removesuffix(" lost")] = listeners.pop(lost)


async def test_a_stream_made_anew_is_another_epoch_and_nobody_is_told_otherwise(broker: Broker) -> None:
    async with running_gateway(broker) as (url, _), client(url) as joined:
        async with running_broadcaster(broker) as (producer, nats):
            await joined.send(type="subscribe", channel="trends")
            before = await joined.until("subscribed")
            await publish_trends(producer, 5, 9)
            await take(joined, 5)
            await nats.jetstream.delete_stream("TRENDS")
        broker.stop()
        broker.start()
        async with running_broadcaster(broker) as (producer, _):
            after = await joined.until("subscribed", timeout=15)
            assert after["recovered"] is False
            assert after["epoch"] != before["epoch"]
            assert (await joined.receive())["code"] == "history_gone"
            await publish_trends(producer, 30, 31)
            assert mentions(await take(joined, 2)) == [30, 31]


async def test_the_heartbeat_tells_the_newest_sequence_of_each_channel(broker: Broker, producer: Broadcaster) -> None:
    async with running_gateway(broker, heartbeat_interval=0.3, heartbeat_timeout=30) as (url, _), client(url) as joined:
        await joined.subscribe("trends", "story:1")
        (seq,) = await publish_trends(producer, 5, 5)
        while True:
            message = json.loads(await asyncio.wait_for(joined.socket.recv(), 5))
            if message["type"] == "ping" and message["at"]["trends"] == seq:
                break
    assert message["at"]["story:1"] == 0
    assert "general" not in message["at"]


async def test_a_draining_gateway_sends_everybody_elsewhere_within_its_window(broker: Broker) -> None:
    async with running_gateway(broker, drain_seconds=1.5) as (url, gateway):
        joined = [client(url) for _ in range(12)]
        clients = [await one.__aenter__() for one in joined]
        started = asyncio.get_running_loop().time()
        draining = asyncio.create_task(gateway.drain())

        async def leave(one: Client) -> tuple[float, float, int]:
            told = await one.until("reconnect")
            with pytest.raises(ConnectionClosed) as closed:
                await one.receive()
            assert closed.value.rcvd is not None
            return told["after_ms"] / 1_000, asyncio.get_running_loop().time() - started, closed.value.rcvd.code

        leaving = asyncio.gather(*(leave(one) for one in clients))
        await until(lambda: gateway.missing() == ["draining"])
        with pytest.raises(InvalidStatus) as refused:
            async with client(url):
                pass
        assert refused.value.response.status_code == 503
        left = await leaving
        await draining
        assert len(gateway.engine) == 0
    assert {code for _, _, code in left} == {1012}
    assert all(abs(closed - told) < 0.4 for told, closed, _ in left), "closed when they were told to come back"
    assert max(told for told, _, _ in left) - min(told for told, _, _ in left) > 0.3, "spread over the window"
    assert max(closed for _, closed, _ in left) < 1.6


async def test_an_old_connection_is_sent_elsewhere(broker: Broker) -> None:
    async with running_gateway(broker, max_connection_age=0.2) as (url, _), client(url) as joined:
        assert (await joined.until("reconnect"))["reason"]
        with pytest.raises(ConnectionClosed) as closed:
            await joined.receive()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1012


async def test_a_broken_path_through_nats_turns_readiness_off_and_on_again(broker: Broker) -> None:
    async with running_gateway(broker, canary_interval=0.2) as (_, gateway):
        broker.pause()
        await until(lambda: "canary" in gateway.missing())
        broker.resume()
        await until(lambda: gateway.missing() == [])


async def test_history_comes_over_http_too(gateway: str, producer: Broadcaster) -> None:
    import httpx

    sequences = await publish_trends(producer, 5, 14)
    base = gateway.replace("ws://", "http://").partition("/api/")[0]
    async with httpx.AsyncClient(base_url=f"{base}/api/v1/channels") as http:
        newest = (await http.get("/trends/history", params={"limit": 3})).json()
        assert [one["seq"] for one in newest["events"]] == sequences[-3:]
        since = (await http.get("/trends/history", params={"since": sequences[4], "limit": 3})).json()
        assert [one["seq"] for one in since["events"]] == sequences[5:8]
        assert (since["recovered"], since["complete"]) == (True, False)
        assert since["epoch"]
        rest = (await http.get("/trends/history", params={"since": sequences[7]})).json()
        assert (len(rest["events"]), rest["complete"]) == (2, True)
        assert (await http.get("/trends/history", params={"since": 99_999})).json()["recovered"] is False
        assert (await http.get("/story:none/history")).json()["events"] == []
        assert (await http.get("/nope/history")).status_code == 404
        assert (await http.get("/user:1/history")).status_code == 403
        assert (await http.get("/trends/history", params={"limit": 0})).status_code == 422
    async with client(gateway) as joined:
        assert (await resume(joined, "trends", rest["seq"]))["recovered"] is True
        assert await joined.silent()
