"""One client's conversation: what it may do and what it is answered.

Pure: a message and the time go in, effects come out; the gateway carries them out, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, assert_never

from pydantic import ValidationError

from services.gateway.limits import Rate
from shared.channels import Channel, Kind, parse_channel
from shared.errors import InvalidChannel
from shared.wire import (
    CLIENT_MESSAGE,
    Ack,
    Auth,
    ClientMessage,
    ErrorCode,
    ErrorMessage,
    Ping,
    Pong,
    ServerPong,
    Subscribe,
    Unsubscribe,
    Unsubscribed,
)


@dataclass(frozen=True, slots=True)
class Send:
    """Answer with this message."""

    message: ErrorMessage | ServerPong | Unsubscribed


@dataclass(frozen=True, slots=True)
class Join:
    """Let the client hear `channel`; acknowledge once the broker has confirmed it."""

    channel: Channel
    request_id: str | None = None
    max_rate: float | None = None
    since: int | None = None
    epoch: str | None = None
    snapshot: bool = False
    offline: bool = False  # from where the user has acknowledged, whatever is left of it


@dataclass(frozen=True, slots=True)
class Leave:
    """Let the client hear `channel` no longer."""

    channel: Channel


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Check this token; the answer repeats the request's id."""

    token: str
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The user has read their channel up to `seq`."""

    user_id: str
    seq: int


Effect = Send | Join | Leave | Authenticate | Acknowledge


@dataclass(frozen=True, slots=True)
class Answer:
    """What one message leads to: what kind of message it was, for the metrics, and what to do."""

    to: str
    effects: Sequence[Effect]


@dataclass(frozen=True, slots=True)
class Rules:
    """What one client may do."""

    messages: Rate
    max_channels: int
    auth_required: bool = False


class Session:
    """What the gateway knows of one client. Small: there are as many as clients."""

    __slots__ = ("_full_at", "channels", "expiry", "number", "user_id")

    def __init__(self, number: int, user_id: str | None = None) -> None:
        self.number = number
        self.user_id = user_id
        self.expiry: Any = None  # the gateway's timer for the end of the token
        # A tuple, not a set: nearly every client has a handful, and an empty set alone is 200 bytes.
        self.channels: tuple[Channel, ...] = ()
        self._full_at = 0.0

    def receive(self, text: str | bytes, rules: Rules, now: float) -> Answer:
        """Answer one message that arrived at `now` (monotonic seconds)."""
        self._full_at, wait = rules.messages.allow(self._full_at, now)
        if wait:
            reason = f"{rules.messages.count} messages in {rules.messages.window:g} seconds are allowed"
            return Answer("refused", [_error(ErrorCode.RATE_LIMITED, reason, retry_after=round(wait, 3))])
        if isinstance(text, bytes):
            reason = "messages are JSON in text frames, not binary"
            return Answer("invalid", [_error(ErrorCode.INVALID_MESSAGE, reason)])
        try:
            message = CLIENT_MESSAGE.validate_json(text)
        except ValidationError as error:
            return Answer("invalid", [_explain(error)])
        return Answer(message.type, self._effects(message, rules))

    def _effects(self, message: ClientMessage, rules: Rules) -> Sequence[Effect]:
        match message:
            case Subscribe():
                return [self._subscribe(name, message, rules) for name in message.names]
            case Unsubscribe():
                return self._unsubscribe(message)
            case Ping():
                return [Send(ServerPong())]
            case Pong():
                return []  # that it came at all is what counts; the engine has noted it
            case Auth():
                return [Authenticate(message.token, message.id)]
            case Ack():
                return self._acknowledge(message)
            case _:
                assert_never(message)

    def _subscribe(self, name: str, message: Subscribe, rules: Rules) -> Effect:
        effect = self.join(name, rules, message.id)
        if not isinstance(effect, Join):
            return effect
        rate = slower_rate(message.max_rate)
        return Join(effect.channel, message.id, rate, message.since, message.epoch, message.snapshot)

    def join(self, name: str, rules: Rules, request_id: str | None = None) -> Effect:
        """Join one channel, as a `subscribe` message or the address the client connected to asks."""
        try:
            channel = parse_channel(name)
        except InvalidChannel as error:
            return _error(ErrorCode.UNKNOWN_CHANNEL, str(error), channel=name[:160], id=request_id)
        if rules.auth_required and self.user_id is None and channel.kind is not Kind.GENERAL:
            return _error(ErrorCode.UNAUTHORIZED, "a token is needed here", channel=name, id=request_id)
        if channel.kind is Kind.USER and channel.id != self.user_id:
            return _error(ErrorCode.FORBIDDEN, "this channel is not yours", channel=name, id=request_id)
        if channel not in self.channels:
            if len(self.channels) >= rules.max_channels:
                message = f"{rules.max_channels} channels are allowed on one connection"
                return _error(ErrorCode.TOO_MANY_CHANNELS, message, channel=name, id=request_id)
            self.channels = (*self.channels, channel)
        return Join(channel, request_id)

    def _acknowledge(self, message: Ack) -> Sequence[Effect]:
        if self.user_id is None or message.channel != f"user:{self.user_id}":
            why = "only the messages of your own channel are acknowledged"
            return [_error(ErrorCode.FORBIDDEN, why, channel=message.channel[:160], id=message.id)]
        return [Acknowledge(self.user_id, message.seq)]

    def _unsubscribe(self, message: Unsubscribe) -> Sequence[Effect]:
        effects: list[Effect] = []
        for name in message.names:
            try:
                channel = parse_channel(name)
            except InvalidChannel as error:
                effects.append(_error(ErrorCode.UNKNOWN_CHANNEL, str(error), channel=name[:160], id=message.id))
                continue
            if channel in self.channels:
                self.channels = tuple(other for other in self.channels if other != channel)
                effects.append(Leave(channel))
            # Leaving a channel twice is no error: the client has what it wants.
            effects.append(Send(Unsubscribed(channel=name, id=message.id)))
        return effects


# Clients that ask for nearly the same pace share one.
_RATES = (100.0, 50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)


def slower_rate(asked: float | None) -> float | None:
    """Return the fastest pace we keep that is no faster than `asked` updates a second; None for no limit."""
    return None if asked is None else next((rate for rate in _RATES if rate <= asked), _RATES[-1])


def _error(code: ErrorCode, message: str, **more: str | float | None) -> Send:
    return Send(ErrorMessage.model_validate({"code": code, "message": message, **more}))


def _explain(error: ValidationError) -> Send:
    """Say in one line what is wrong with a client's message, without repeating what it sent."""
    first = error.errors(include_input=False, include_url=False)[0]
    if first["type"] == "json_invalid":
        return _error(ErrorCode.INVALID_JSON, f"not JSON: {first['ctx']['error']}"[:300])
    where = ".".join(str(part) for part in first["loc"])
    return _error(ErrorCode.INVALID_MESSAGE, f"{where}: {first['msg']}"[:300].removeprefix(": "))
