"""The small pure parts of the gateway: rates, wheel, backlog, hub, and what the broker's headers say."""

from __future__ import annotations

import json
import string
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import envelope
from services.gateway.backlog import Backlog
from services.gateway.engine import Connection
from services.gateway.hub import Hub
from services.gateway.pacer import Pacer
from services.gateway.session import Join
from services.gateway.wheel import Wheel
from shared import channels
from shared.channels import Kind
from shared.errors import InvalidPayload
from shared.limits import Rate


@given(st.integers(1, 20), st.floats(0.5, 100), st.lists(st.floats(0, 30), max_size=80))
def test_no_window_ever_lets_more_through_than_two_buckets(count: int, window: float, pauses: list[float]) -> None:
    """A token bucket lets at most its size plus what flows in during the window through."""
    rate, full_at, now, passed = Rate(count, window), 0.0, 1_000.0, []
    for pause in pauses:
        now += pause
        full_at, wait = rate.allow(full_at, now)
        assert wait >= 0
        if not wait:
            passed.append(now)
    for start in passed:
        assert sum(start <= time < start + window for time in passed) <= 2 * count


@given(st.integers(1, 50), st.floats(0.1, 100))
def test_after_the_wait_that_was_told_the_next_message_is_let_through(count: int, window: float) -> None:
    rate, full_at, now = Rate(count, window), 0.0, 5.0
    while True:
        full_at, wait = rate.allow(full_at, now)
        if wait:
            break
    assert rate.allow(full_at, now + wait)[1] == 0.0


@given(st.lists(st.integers(1, 10), max_size=50))
def test_every_entry_of_the_wheel_is_due_in_exactly_its_ticks(delays: list[int]) -> None:
    wheel: Wheel[int] = Wheel(10)
    for number, delay in enumerate(delays):
        wheel.schedule(number, delay)
    due_at = {entry: tick for tick in range(1, 11) for entry in wheel.tick()}
    assert due_at == dict(enumerate(delays))
    assert len(wheel) == 0


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=30), st.data())
def test_a_backlog_gives_back_every_byte_in_order_however_writes_are_cut(
    parts: list[bytes], data: st.DataObject
) -> None:
    backlog = Backlog()
    backlog.start(parts[0])
    for part in parts[1:]:
        backlog.add(part)
    assert backlog.size == sum(map(len, parts))
    written = b""
    while backlog.size:
        chunk = backlog.chunk()
        count = data.draw(st.integers(1, len(chunk)))
        written += chunk[:count]
        backlog.sent(count)
    assert written == b"".join(parts)


def test_a_conflating_backlog_keeps_the_newest_of_each_key_and_all_without_one() -> None:
    backlog = Backlog(conflate=True)
    backlog.start(b"half")
    for frame, key in [(b"a1", "a"), (b"b1", "b"), (b"x", None), (b"a2", "a"), (b"a3", "a")]:
        backlog.add(frame, key)
    assert backlog.chunk() == b"halfb1xa3"
    assert backlog.conflated == 2
    assert backlog.size == len(b"halfb1xa3")


def test_giving_up_keeps_only_the_frame_in_flight() -> None:
    backlog = Backlog()
    backlog.start(b"rest")
    backlog.add(b"queued")
    backlog.give_up([b"close"])
    assert backlog.chunk() == b"restclose"
    assert backlog.size == 9


def connection() -> Connection:
    return Connection(-1, 0, deflate=False, conflate=False)


def test_the_hub_says_when_a_channel_becomes_wanted_and_unwanted() -> None:
    hub, one, two = Hub(), connection(), connection()
    topic = hub.wait(one, Join(channels.TRENDS))
    assert hub.wait(two, Join(channels.TRENDS)) is topic
    assert hub.wait(two, Join(channels.TRENDS)) is topic, "joining twice changes nothing"
    topic.admit(one)
    topic.admit(two)
    assert len(topic) == 2
    assert hub.subscriptions[Kind.TRENDS] == 2
    assert not hub.leave(one, channels.TRENDS)
    assert not hub.leave(one, channels.TRENDS), "leaving twice changes nothing"
    assert hub.leave(two, channels.TRENDS)
    assert hub.topic(channels.TRENDS) is None
    assert hub.subscriptions[Kind.TRENDS] == 0


def test_asking_for_another_pace_moves_a_listener_and_leaves_nothing_behind() -> None:
    hub, one = Hub(), connection()
    topic = hub.wait(one, Join(channels.TRENDS))
    topic.admit(one)
    hub.wait(one, Join(channels.TRENDS, None, 2.0))
    assert not topic.everything.members
    topic.admit(one)
    assert topic.paced
    assert hub.subscriptions[Kind.TRENDS] == 1
    hub.wait(one, Join(channels.TRENDS))
    topic.admit(one)
    assert not topic.paced
    assert hub.leave(one, channels.TRENDS)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 2)), max_size=60), st.sampled_from([0.5, 1.0, 4.0]))
def test_a_pacer_keeps_the_pace_and_never_loses_the_newest(offers: list[tuple[str, float]], rate: float) -> None:
    pacer: Pacer[tuple[str, int]] = Pacer(rate)
    now, sent, newest = 0.0, list[tuple[str, int, float]](), dict[str, int]()
    for number, (key, pause) in enumerate(offers):
        end = now + pause
        while (due := pacer.next_due) is not None and due <= end:
            sent += [(*update, due) for update in pacer.due(due)]
        now, newest[key] = end, number
        if pacer.offer(key, (key, number), now):
            sent.append((key, number, now))
    while (due := pacer.next_due) is not None:
        sent += [(*update, due) for update in pacer.due(due)]
    for key in newest:
        times = [time for one, _, time in sent if one == key]
        assert all(later - earlier >= 1.0 / rate - 1e-9 for earlier, later in pairwise(times))
        assert [number for one, number, _ in sent if one == key][-1] == newest[key]
    assert len(sent) + pacer.conflated == len(offers)


def spliced(payload: str, channel: str = "trends", seq: int | None = 7) -> dict[str, object]:
    event = envelope.read_event(payload.encode(), channels.parse_channel(channel).kind)
    result: dict[str, object] = json.loads(envelope.splice(event, channel, seq, "2026-01-01T00:00:01.000Z"))
    return result


def test_channel_and_seq_are_added_and_the_rest_stays() -> None:
    message = spliced('{"type":"trend_update","data":{"a":[1,2]},"timestamp":"2026-01-01T00:00:00Z"}')
    assert message == {
        "type": "trend_update",
        "data": {"a": [1, 2]},
        "timestamp": "2026-01-01T00:00:00Z",
        "channel": "trends",
        "seq": 7,
        "delivered_at": "2026-01-01T00:00:01.000Z",
    }


def test_without_a_sequence_there_is_no_seq() -> None:
    assert "seq" not in spliced('{"type":"trend_update","data":{}}', seq=None)


def test_a_missing_timestamp_is_added() -> None:
    assert isinstance(spliced('{"type":"trend_update","data":{}}')["timestamp"], str)


@pytest.mark.parametrize(
    ("payload", "channel", "message_type"),
    [
        ('{"name":"x"}', "trends", "trend_update"),
        ('{"id":"1"}', "stories", "story_update"),
        ('{"id":"1"}', "story:1", "story_update"),
        ('{"story_id":"1","trust_score":3}', "story:1", "trust_score_update"),
        ('{"story_id":"1","trust_score":3}', "trust_scores", "trust_score_update"),
        ('{"hello":1}', "user:1", "user_message"),
    ],
)
def test_a_bare_object_is_taken_for_the_channels_own_event(payload: str, channel: str, message_type: str) -> None:
    assert spliced(payload, channel)["type"] == message_type


def test_what_a_producer_says_about_channel_and_seq_is_not_believed() -> None:
    message = spliced('{"type":"trend_update","data":{},"channel":"user:1","seq":99}')
    assert (message["channel"], message["seq"]) == ("trends", 7)


@pytest.mark.parametrize(
    ("payload", "channel"),
    [
        ("", "trends"),
        ("nonsense", "trends"),
        ("[1]", "trends"),
        ('"text"', "trends"),
        ('{"type":"trend_update"}', "trends"),
        ('{"type":"trend_update","data":[]}', "trends"),
        ('{"type":"trend_update","data":{"v":NaN}}', "trends"),
        ('{"type":"trend_update","data":{}} trailing', "trends"),
        ('{"type":"story_update","data":{}}', "trends"),
        ('{"type":7,"data":{}}', "trends"),
        ('{"type":"reconnect","after_ms":0}', "trends"),
        ('{"type":"error","code":"x"}', "user:1"),
        ('{"type":"trust_score_update","trust_score":1}', "trust_scores"),
        ('{"type":"trust_score_update","story_id":"1","trust_score":"high"}', "trust_scores"),
        ('{"type":"trust_score_update","story_id":"1","trust_score":true}', "trust_scores"),
        ('{"type":"trust_score_update","story_id":"1","trust_score":1,"signals":{}}', "trust_scores"),
        ("\udcff", "trends"),
    ],
)
def test_what_is_no_event_of_the_channel_is_refused(payload: str, channel: str) -> None:
    with pytest.raises(InvalidPayload):
        envelope.read_event(payload.encode("utf-8", "surrogateescape"), channels.parse_channel(channel).kind)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(alphabet=string.printable, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=5), st.booleans())
def test_splicing_keeps_any_data_whole(data: dict[str, object], spaces: bool) -> None:
    payload = json.dumps({"type": "trend_update", "data": data}, indent=2 if spaces else None)
    assert spliced(payload)["data"] == data


@given(st.binary(max_size=200))
def test_no_bytes_at_all_crash_the_envelope(payload: bytes) -> None:
    try:
        event = envelope.read_event(payload, Kind.TRENDS)
    except InvalidPayload:
        return
    assert isinstance(json.loads(envelope.splice(event, "trends", 1, "2026-01-01T00:00:01.000Z")), dict)


@pytest.mark.parametrize(
    ("headers", "seq", "stored"),
    [
        (None, None, None),
        (b"NATS/1.0\r\n\r\n", None, None),
        (b"NATS/1.0\r\nNats-Sequence: x\r\n\r\n", None, None),
        (b"NATS/1.0\r\nOther-Nats-Sequence: 7\r\n\r\n", None, None),
        (b"NATS/1.0\r\nNats-Sequence: 5\r\n\r\n", (5, 0), None),
        (
            b"NATS/1.0\r\nNats-Sequence: 5\r\nNats-Time-Stamp: 2026-01-01T00:00:00.123456789Z\r\n"  # noqa: ISC004
            b"Nats-Last-Sequence: 3\r\n\r\n",
            (5, 3),
            1767225600.123456,
        ),
        (b"NATS/1.0\r\nNats-Sequence:5\r\nNats-Time-Stamp:2026-01-01T00:00:00Z\r\n\r\n", (5, 0), 1767225600.0),
        (b"NATS/1.0\r\nNats-Sequence: 5\r\nNats-Time-Stamp: yesterday\r\n\r\n", None, None),
    ],
)
def test_what_the_stream_says_of_a_message(
    headers: bytes | None, seq: tuple[int, int] | None, stored: float | None
) -> None:
    sequence, time = envelope.read_headers(headers)
    assert (None if sequence is None else (sequence.seq, sequence.previous)) == seq
    assert time == (None if stored is None else pytest.approx(stored))
