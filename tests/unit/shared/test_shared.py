"""The contract: channels and subjects, models, wire messages, streams as data, settings, log throttling."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared import channels
from shared.channels import Channel, Kind, channel_of_subject, parse_channel
from shared.connection import reconnect_delay
from shared.errors import InvalidChannel, StartupFailed
from shared.events import Item, Signal
from shared.logs import Throttle
from shared.settings import ServiceSettings, load
from shared.streams import specs, stream_config, stream_of
from shared.wire import CLIENT_MESSAGE, EVENT_MESSAGE, ErrorCode, ErrorMessage, Subscribed, TrustScoreUpdate
from tests.support.items import item, story, trend

ids = st.text("ABCxyz019_-", min_size=1, max_size=128)


@pytest.mark.parametrize(
    ("name", "subject", "durable"),
    [
        ("general", None, None),
        ("trends", "trends", "events.trends"),
        ("stories", "story.*", "events.story.*"),
        ("story:42", "story.42", "events.story.42"),
        ("trust_scores", "trust_scores", "events.trust_scores"),
        ("user:Ann-1_x", "user.Ann-1_x", "events.user.Ann-1_x"),
    ],
)
def test_the_table_of_channels_and_subjects(name: str, subject: str | None, durable: str | None) -> None:
    channel = parse_channel(name)
    assert (channel.name, channel.subject, channel.durable_subject) == (name, subject, durable)
    if subject is not None and durable is not None:
        assert channel_of_subject(subject) == channel_of_subject(durable) == channel


@given(ids, st.sampled_from(["story", "user"]))
def test_every_id_goes_to_a_subject_and_back(channel_id: str, kind: str) -> None:
    channel = parse_channel(f"{kind}:{channel_id}")
    assert channel.subject is not None
    assert channel_of_subject(channel.subject) == channel


@given(st.text(max_size=40))
def test_no_name_that_passes_carries_what_means_something_to_nats(name: str) -> None:
    try:
        channel = parse_channel(name)
    except InvalidChannel:
        return
    if channel.kind in (Kind.STORY, Kind.USER):
        assert channel.subject is not None
        assert channel.subject.count(".") == 1
        assert not set("*> \t\r\n\0") & set(channel.subject)


@pytest.mark.parametrize(
    "subject", ["", "events.", "story", "story.", "story.a.b", "user.*", "user.>", "items.news", "x"]
)
def test_other_subjects_are_no_channels(subject: str) -> None:
    with pytest.raises(InvalidChannel):
        channel_of_subject(subject)


@pytest.mark.parametrize("platform", ["", "a.b", "news>", "x y"])
def test_a_platform_must_fit_into_a_subject(platform: str) -> None:
    with pytest.raises(InvalidChannel):
        channels.items_subject(platform)


def test_a_time_without_zone_is_utc_and_others_are_turned_into_it() -> None:
    naive = Item(id="i", platform="news", source="s", title="t", published_at="2026-01-01T12:00:00")
    there = Item(id="i", platform="news", source="s", title="t", published_at="2026-01-01T14:00:00+02:00")
    assert naive.published_at == there.published_at == datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "wrong",
    [{"id": "a.b"}, {"title": ""}, {"published_at": "yesterday"}, {"platform": "a b"}, {"published_at": None}],
)
def test_an_item_that_is_none_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Item.model_validate({**item(1, "title").model_dump(), **wrong})


@pytest.mark.parametrize("score", [-0.1, 100.1, float("nan"), float("inf")])
def test_a_score_outside_its_range_is_refused(score: float) -> None:
    with pytest.raises(ValidationError):
        TrustScoreUpdate(story_id="1", trust_score=score, signals=[])


def test_events_survive_the_way_to_json_and_back() -> None:
    signal = Signal(name="s", weight=0.0, contribution=0.0, confidence=0.0, explanation="nothing is known")
    messages = [
        {"type": "trend_update", "data": trend("x").model_dump(mode="json")},
        {"type": "story_update", "data": story("1", [item(1, "a")]).model_dump(mode="json")},
        {"type": "trust_score_update", "story_id": "1", "trust_score": 5, "signals": [signal.model_dump()]},
    ]
    for message in messages:
        event = EVENT_MESSAGE.validate_python(message)
        assert EVENT_MESSAGE.validate_json(event.to_json()) == event, "also with a signal without a value"


def test_absent_fields_are_left_out_on_the_wire() -> None:
    assert set(CLIENT_MESSAGE.validate_json('{"type":"ping"}').model_dump(exclude_none=True)) == {"type"}
    text = Subscribed(channel="trends").to_json()
    assert b"recovered" not in text
    assert b'"retry_after"' not in ErrorMessage(code=ErrorCode.FORBIDDEN, message="no").to_json()


def test_every_channel_kind_with_history_has_a_stream_that_stores_its_subject() -> None:
    by_name = {spec.name: spec for spec in specs(ServiceSettings())}
    for name in ("trends", "stories", "story:1", "trust_scores", "user:1"):
        channel = parse_channel(name)
        spec = by_name[stream_of(channel) or ""]
        prefix = spec.subject.removesuffix("*")
        assert (channel.durable_subject or "").startswith(prefix)
    assert stream_of(Channel(Kind.GENERAL)) is None


def test_no_stream_republishes_onto_a_subject_it_stores() -> None:
    """JetStream refuses a destination that overlaps the stream's own subjects."""
    for spec in specs(ServiceSettings()):
        config = stream_config(spec, ServiceSettings())
        assert spec.live is None or not spec.live.startswith(spec.subject.partition(".")[0] + ".")
        assert config.duplicate_window is not None
        assert config.max_age is not None
        assert config.duplicate_window <= config.max_age


@given(st.integers(0, 40), st.integers(0, 1_000))
def test_reconnects_wait_a_random_part_of_a_growing_bound(attempt: int, seed: int) -> None:
    delay = reconnect_delay(attempt, 0.25, 8.0, random.Random(seed))
    assert 0.0 <= delay <= min(8.0, 0.25 * 2.0**attempt)


def test_wrong_settings_are_named_one_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERACITY_PORT", "eighty")
    monkeypatch.setenv("VERACITY_STREAM_REPLICAS", "9")
    with pytest.raises(StartupFailed) as caught:
        load(ServiceSettings)
    assert "VERACITY_PORT: " in str(caught.value)
    assert "VERACITY_STREAM_REPLICAS: " in str(caught.value)


def test_several_brokers_are_a_list() -> None:
    assert ServiceSettings(nats_url="nats://a, nats://b,").nats_servers == ["nats://a", "nats://b"]


def test_a_repeated_complaint_is_logged_once_a_period_and_then_says_how_many_it_held_back() -> None:
    lines: list[int] = []
    throttle = Throttle(period=60.0, size=2)
    for now in (0.0, 1.0, 59.0, 60.0):
        throttle.allow("subject", now, lines.append)
    assert lines == [0, 2]
    for key in ("a", "b", "c"):
        throttle.allow(key, 61.0, lines.append)
    assert len(lines) == 5, "other keys have a period of their own"
