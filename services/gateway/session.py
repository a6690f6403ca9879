"""One client's conversation: what it may do and what it is answered.

Pure: a message and the time go in, effects come out; the gateway carries them out, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, assert_never

from pydantic import ValidationError

from services.gateway.permissions import EVERYTHING, Grant, refusal
from shared.channels import Channel, parse_channel
from shared.errors import InvalidChannel
from shared.limits import Buckets, Rate
from shared.wire import (
    CLIENT_MESSAGE,
    Ack,
    Auth,
    ClientMessage,
    CloseCode,
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
    waits_since: int = 0  # the channel's attempts at serving those who wait when this one began to


@dataclass(frozen=True, slots=True)
class Leave:
    """Let the client hear `channel` no longer; it has heard it since `joined` (monotonic seconds)."""

    channel: Channel
    joined: float


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


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection."""

    code: CloseCode
    reason: str


Effect = Send | Join | Leave | Authenticate | Acknowledge | Close


@dataclass(frozen=True, slots=True)
class Answer:
    """What one message leads to: what kind of message it was, for the metrics, and what to do."""

    to: str
    effects: Sequence[Effect]


class Rules:
    """What clients may do, alone and together: one for all sessions of a pod."""

    def __init__(
        self,
        messages: Rate,
        max_channels: int,
        *,
        anonymous: Grant = EVERYTHING,
        refusals: Rate | None = None,
        users: Rate | None = None,
        subscribes: Rate | None = None,
    ) -> None:
        """Let each client send `messages`, its user on all of its connections `users`; a channel takes `subscribes`.

        A client that is refused more often than `refusals` allows is closed.
        """
        self.messages, self.max_channels, self.anonymous = messages, max_channels, anonymous
        self.refusals = refusals or Rate(20, 60.0)
        self.users = Buckets[str](users or Rate(1_000, 60.0))
        self.subscribes = Buckets[Channel](subscribes or Rate(30_000, 60.0))


_CHANNELS_A_MESSAGE = 10  # a message that names more costs as much as several


@lru_cache(maxsize=4_096)
def _shared(*items: Any) -> tuple[Any, ...]:
    """Return equal rows as one object: most clients hear the same few channels, and joined in the same second."""
    return items


class Session:
    """What the gateway knows of one client. Small: there are as many as clients."""

    __slots__ = ("_full_at", "_joined", "_refused_until", "channels", "expiry", "grant", "number", "user_id")

    def __init__(self, number: int, user_id: str | None = None, grant: Grant = EVERYTHING) -> None:
        self.number = number
        self.user_id = user_id
        self.grant = grant
        self.expiry: Any = None  # the gateway's timer for the end of the token
        # A tuple, not a set: nearly every client has a handful, and an empty set alone is 200 bytes.
        self.channels: tuple[Channel, ...] = ()
        self._joined: tuple[int, ...] = ()  # when, one for each channel
        self._full_at = 0.0
        self._refused_until = 0.0

    def receive(self, text: str | bytes, rules: Rules, now: float) -> Answer:
        """Answer one message that arrived at `now` (monotonic seconds)."""
        self._full_at, wait = rules.messages.allow(self._full_at, now)
        if wait:
            return self._refuse(rules.messages, wait, rules, now)
        if self.user_id is not None and (wait := rules.users.allow(self.user_id, now)):
            return self._refuse(rules.users.rate, wait, rules, now)
        if isinstance(text, bytes):
            reason = "messages are JSON in text frames, not binary"
            return Answer("invalid", [_error(ErrorCode.INVALID_MESSAGE, reason)])
        try:
            message = CLIENT_MESSAGE.validate_json(text)
        except ValidationError as error:
            return Answer("invalid", [_explain(error)])
        if isinstance(message, Subscribe | Unsubscribe) and len(message.names) > _CHANNELS_A_MESSAGE:
            more = (len(message.names) - 1) // _CHANNELS_A_MESSAGE
            self._full_at, wait = rules.messages.allow(self._full_at, now, more)
            if wait:
                return self._refuse(rules.messages, wait, rules, now, message.id)
        return Answer(message.type, self._effects(message, rules, now))

    def _refuse(self, rate: Rate, wait: float, rules: Rules, now: float, request_id: str | None = None) -> Answer:
        """Refuse a message that came too soon, and in the end the client that does not listen."""
        reason = f"{rate.count} messages in {rate.window:g} seconds are allowed"
        effects: list[Effect] = [
            _error(ErrorCode.RATE_LIMITED, reason, retry_after=round(wait, 3), id=request_id),
        ]
        self._refused_until, deaf = rules.refusals.allow(self._refused_until, now)
        if deaf:
            effects.append(Close(CloseCode.RATE_LIMITED, "too many messages after being told to wait"))
        return Answer("refused", effects)

    def _effects(self, message: ClientMessage, rules: Rules, now: float) -> Sequence[Effect]:
        match message:
            case Subscribe():
                return [self._subscribe(name, message, rules, now) for name in message.names]
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

    def _subscribe(self, name: str, message: Subscribe, rules: Rules, now: float) -> Effect:
        effect = self.join(name, rules, now, message.id)
        if not isinstance(effect, Join):
            return effect
        rate = slower_rate(message.max_rate)
        return Join(effect.channel, message.id, rate, message.since, message.epoch, message.snapshot)

    def join(self, name: str, rules: Rules, now: float, request_id: str | None = None) -> Effect:
        """Join one channel, as a `subscribe` message or the address the client connected to asks."""
        try:
            channel = parse_channel(name)
        except InvalidChannel as error:
            return _error(ErrorCode.UNKNOWN_CHANNEL, str(error), channel=name[:160], id=request_id)
        refused = refusal(channel, self.user_id, self.grant)
        if refused is not None:
            return _error(refused, _REFUSALS[refused], channel=name, id=request_id)
        if channel not in self.channels:
            if len(self.channels) >= rules.max_channels:
                message = f"{rules.max_channels} channels are allowed on one connection"
                return _error(ErrorCode.TOO_MANY_CHANNELS, message, channel=name, id=request_id)
            wait = rules.subscribes.allow(channel, now)
            if wait:
                why = "this channel is joined too often now"
                return _error(ErrorCode.RATE_LIMITED, why, channel=name, retry_after=round(wait, 3), id=request_id)
            self.channels = _shared(*self.channels, channel)
            self._joined = _shared(*self._joined, int(now))
        return Join(channel, request_id)

    def leave(self, channel: Channel) -> Leave | None:
        """Leave one channel; None if it was never joined."""
        if channel not in self.channels:
            return None
        at = self.channels.index(channel)
        joined = self._joined[at]
        self.channels = _shared(*self.channels[:at], *self.channels[at + 1 :])
        self._joined = _shared(*self._joined[:at], *self._joined[at + 1 :])
        return Leave(channel, joined)

    def leave_all(self) -> Sequence[Leave]:
        """Leave every channel."""
        left = [Leave(channel, joined) for channel, joined in zip(self.channels, self._joined, strict=True)]
        self.channels, self._joined = (), ()
        return left

    def identify(self, user_id: str, grant: Grant) -> Sequence[Effect]:
        """Take what a token says; return what the client has to leave because the token grants it no longer."""
        self.user_id, self.grant = user_id, grant
        effects: list[Effect] = []
        for channel in self.channels:
            refused = refusal(channel, user_id, grant)
            left = None if refused is None else self.leave(channel)
            if refused is not None and left is not None:
                effects.append(left)
                effects.append(_error(refused, _REFUSALS[refused], channel=channel.name))
        return effects

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
            left = self.leave(channel)
            if left is not None:
                effects.append(left)
            # Leaving a channel twice is no error: the client has what it wants.
            effects.append(Send(Unsubscribed(channel=name, id=message.id)))
        return effects


_REFUSALS = {
    ErrorCode.UNAUTHORIZED: "a token is needed here",
    ErrorCode.FORBIDDEN: "this channel is not yours",
}

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
