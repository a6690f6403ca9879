"""One client's conversation: every kind of message, every refusal."""

from __future__ import annotations

import json

import pytest

from services.gateway.permissions import NOTHING
from services.gateway.session import Acknowledge, Answer, Authenticate, Effect, Join, Leave, Rules, Send, Session
from shared import channels
from shared.limits import Rate
from shared.wire import ErrorMessage, ServerPong, Unsubscribed

RULES = Rules(Rate(100, 60.0), max_channels=3)


def receive(session: Session, message: object, now: float = 1.0, rules: Rules = RULES) -> Answer:
    text = message if isinstance(message, str | bytes) else json.dumps(message)
    return session.receive(text, rules, now)


def error(effect: Effect) -> ErrorMessage:
    assert isinstance(effect, Send)
    assert isinstance(effect.message, ErrorMessage)
    return effect.message


def test_subscribing_joins_and_repeats_the_request_id() -> None:
    answer = receive(Session(1), {"type": "subscribe", "channel": "story:42", "id": "r1"})
    assert list(answer.effects) == [Join(channels.story("42"), "r1")]


def test_subscribing_to_several_channels_joins_each_once() -> None:
    session = Session(1)
    answer = receive(session, {"type": "subscribe", "channels": ["trends", "stories", "trends"]})
    assert [effect.channel.name for effect in answer.effects if isinstance(effect, Join)] == ["trends", "stories"]
    assert len(session.channels) == 2


def test_subscribing_twice_is_acknowledged_twice_and_counted_once() -> None:
    session = Session(1)
    for _ in range(2):
        answer = receive(session, {"type": "subscribe", "channel": "trends"})
        assert list(answer.effects) == [Join(channels.TRENDS, None)]
    assert session.channels == (channels.TRENDS,)


def test_a_pace_is_rounded_to_the_next_slower_one_we_keep() -> None:
    answer = receive(Session(1), {"type": "subscribe", "channel": "trends", "max_rate": 3})
    assert list(answer.effects) == [Join(channels.TRENDS, None, 2.0)]


def test_unsubscribing_leaves_and_says_so() -> None:
    session = Session(1)
    receive(session, {"type": "subscribe", "channel": "trends"})
    leave, send = receive(session, {"type": "unsubscribe", "channel": "trends", "id": "x"}).effects
    assert leave == Leave(channels.TRENDS, joined=1)
    assert isinstance(send, Send)
    assert isinstance(send.message, Unsubscribed)
    assert (send.message.channel, send.message.id) == ("trends", "x")


def test_unsubscribing_from_a_channel_never_joined_is_no_error() -> None:
    (effect,) = receive(Session(1), {"type": "unsubscribe", "channel": "trends"}).effects
    assert isinstance(effect, Send)
    assert isinstance(effect.message, Unsubscribed)


def test_ping_is_answered_and_pong_is_not() -> None:
    (effect,) = receive(Session(1), {"type": "ping"}).effects
    assert isinstance(effect, Send)
    assert isinstance(effect.message, ServerPong)
    assert not receive(Session(1), {"type": "pong", "timestamp": "2024-01-01T00:00:00Z"}).effects


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", "invalid_json"),
        ("", "invalid_json"),
        ("[" * 10_000, "invalid_json"),
        (b"\x00\x01", "invalid_message"),
        ("[]", "invalid_message"),
        ("null", "invalid_message"),
        ({}, "invalid_message"),
        ({"type": "dance"}, "invalid_message"),
        ({"type": 7}, "invalid_message"),
        ({"type": "subscribe"}, "invalid_message"),
        ({"type": "subscribe", "channel": 5}, "invalid_message"),
        ({"type": "subscribe", "channel": "trends", "channels": ["stories"]}, "invalid_message"),
        ({"type": "subscribe", "channels": []}, "invalid_message"),
        ({"type": "subscribe", "channels": "trends"}, "invalid_message"),
        ({"type": "subscribe", "channel": "trends", "id": "x" * 65}, "invalid_message"),
        ({"type": "subscribe", "channel": "trends", "since": -1}, "invalid_message"),
        ({"type": "subscribe", "channel": "trends", "max_rate": 0}, "invalid_message"),
        ({"type": "subscribe", "channel": "trends", "max_rate": "fast"}, "invalid_message"),
        ({"type": "subscribe", "channel": "nope"}, "unknown_channel"),
        ({"type": "subscribe", "channel": "story:*"}, "unknown_channel"),
        ({"type": "subscribe", "channel": "story:>"}, "unknown_channel"),
        ({"type": "subscribe", "channel": "story:a.b"}, "unknown_channel"),
        ({"type": "subscribe", "channel": "story:"}, "unknown_channel"),
        ({"type": "subscribe", "channel": "story:1\n"}, "unknown_channel"),
        ({"type": "subscribe", "channel": "story:\u0661"}, "unknown_channel"),
        ({"type": "subscribe", "channel": "Trends"}, "unknown_channel"),
        ({"type": "unsubscribe", "channel": "trends "}, "unknown_channel"),
        ({"type": "subscribe", "channel": "user:7"}, "forbidden"),
        ({"type": "ack", "channel": "user:7", "seq": 1}, "forbidden"),
        ({"type": "ack", "channel": "trends", "seq": 1}, "forbidden"),
        ({"type": "auth", "token": ""}, "invalid_message"),
    ],
)
def test_what_is_wrong_is_named_and_the_conversation_goes_on(message: object, code: str) -> None:
    session = Session(1)
    (effect,) = receive(session, message).effects
    assert error(effect).code == code
    assert session.channels == ()
    assert len(error(effect).message) < 400
    assert receive(session, {"type": "subscribe", "channel": "trends"}).effects == [Join(channels.TRENDS, None)]


def test_an_unknown_field_is_ignored_so_that_newer_clients_work() -> None:
    assert receive(Session(1), {"type": "subscribe", "channel": "trends", "new": 1}).effects == [
        Join(channels.TRENDS, None)
    ]


def test_a_user_may_hear_their_own_channel_only() -> None:
    session = Session(1, user_id="7")
    assert receive(session, {"type": "subscribe", "channel": "user:7"}).effects == [Join(channels.user("7"), None)]
    (effect,) = receive(session, {"type": "subscribe", "channel": "user:8"}).effects
    assert error(effect).code == "forbidden"


def test_a_token_is_handed_on_and_an_acknowledgement_of_the_own_channel_too() -> None:
    session = Session(1, user_id="7")
    assert receive(session, {"type": "auth", "token": "t", "id": "a"}).effects == [Authenticate("t", "a")]
    assert receive(session, {"type": "ack", "channel": "user:7", "seq": 9}).effects == [Acknowledge("7", 9)]


def test_where_a_token_is_required_nothing_is_joined_without() -> None:
    rules = Rules(Rate(100, 60.0), max_channels=3, anonymous=NOTHING)
    (effect,) = receive(
        Session(1, None, rules.anonymous), {"type": "subscribe", "channel": "trends"}, rules=rules
    ).effects
    assert error(effect).code == "unauthorized"
    known = receive(Session(1, user_id="7"), {"type": "subscribe", "channel": "trends"}, rules=rules)
    assert known.effects == [Join(channels.TRENDS, None)]


def test_the_channels_of_one_connection_are_bounded() -> None:
    session = Session(1)
    answer = receive(session, {"type": "subscribe", "channels": [f"story:{n}" for n in range(5)]})
    assert [isinstance(effect, Join) for effect in answer.effects] == [True, True, True, False, False]
    assert error(answer.effects[-1]).code == "too_many_channels"


def test_past_the_rate_messages_are_refused_until_the_bucket_has_one_again() -> None:
    session, rules = Session(1), Rules(Rate(3, 60.0), max_channels=3)
    for _ in range(3):
        assert receive(session, {"type": "ping"}, now=10.0, rules=rules).to == "ping"
    (effect,) = receive(session, {"type": "ping"}, now=10.0, rules=rules).effects
    refused = error(effect)
    assert refused.code == "rate_limited"
    assert refused.retry_after == pytest.approx(20.0)
    assert receive(session, {"type": "ping"}, now=30.0, rules=rules).to == "ping"
