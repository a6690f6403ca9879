"""The wire protocol, version 1: every message between a client and a gateway, as typed models.

Server messages about events travel from the producer to the browser as the producer encoded them; the gateway only
adds `channel`, `seq` and `delivered_at`. DESIGN of the protocol: services/gateway/README.md.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from shared.events import Score, Signal, Story, Trend

SUBPROTOCOL = "veracity.v1"


class CloseCode(IntEnum):
    """Why a connection ends. 4400-4499 are ours; RFC 6455 section 7.4.1 defines the others."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    RESTART = 1012
    TRY_AGAIN_LATER = 1013
    UNAUTHORIZED = 4401
    FORBIDDEN = 4403
    HEARTBEAT_TIMEOUT = 4408
    TOO_SLOW = 4413
    RATE_LIMITED = 4429


class ErrorCode(StrEnum):
    """What an `error` message is about."""

    INVALID_JSON = "invalid_json"
    INVALID_MESSAGE = "invalid_message"
    UNKNOWN_CHANNEL = "unknown_channel"
    FORBIDDEN = "forbidden"
    UNAUTHORIZED = "unauthorized"
    RATE_LIMITED = "rate_limited"
    TOO_MANY_CHANNELS = "too_many_channels"
    HISTORY_GONE = "history_gone"


def now_text() -> str:
    """Return the current time as every `timestamp` on the wire is written: ISO 8601, UTC, milliseconds."""
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1_000)
    return f"{_second_text(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=2)
def _second_text(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


# --- client to server ------------------------------------------------------------------------------------------------

RequestId = Annotated[str, Field(max_length=64)]


class _ClientMessage(BaseModel):
    # Fields of a newer client are ignored; a wrong type is an error, never a guess.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Subscribe(_ClientMessage):
    """Join one or more channels.

    `since` asks for everything after that `seq`, in the `epoch` it was seen in; `snapshot` for the current state of
    each thing first; `max_rate` for at most that many updates of each thing a second.
    """

    type: Literal["subscribe"]
    channel: str | None = None
    channels: list[str] | None = Field(default=None, min_length=1, max_length=1_000)
    since: Annotated[int, Field(ge=0)] | None = None
    epoch: Annotated[str, Field(max_length=64)] | None = None
    max_rate: Annotated[float, Field(ge=0.01, le=100)] | None = None
    snapshot: bool = False
    id: RequestId | None = None

    @model_validator(mode="after")
    def _exactly_one_form(self) -> Subscribe:
        if (self.channel is None) == (self.channels is None):
            raise ValueError("give either channel or channels")
        if self.since is not None and self.channels is not None and len(self.channels) > 1:
            raise ValueError("since goes with one channel: each channel has its own sequence")
        return self

    @property
    def names(self) -> list[str]:
        """The channels asked for, each once, in the order asked."""
        return [self.channel] if self.channel is not None else list(dict.fromkeys(self.channels or ()))


class Unsubscribe(_ClientMessage):
    """Leave one or more channels."""

    type: Literal["unsubscribe"]
    channel: str | None = None
    channels: list[str] | None = Field(default=None, min_length=1, max_length=1_000)
    id: RequestId | None = None

    @model_validator(mode="after")
    def _exactly_one_form(self) -> Unsubscribe:
        if (self.channel is None) == (self.channels is None):
            raise ValueError("give either channel or channels")
        return self

    @property
    def names(self) -> list[str]:
        """The channels to leave, each once, in the order given."""
        return [self.channel] if self.channel is not None else list(dict.fromkeys(self.channels or ()))


class Pong(_ClientMessage):
    """The answer to a `ping`: the client is there."""

    type: Literal["pong"]
    timestamp: str | int | float | None = None


class Ping(_ClientMessage):
    """Asks the server for a `pong`."""

    type: Literal["ping"]
    timestamp: str | int | float | None = None


class Auth(_ClientMessage):
    """Presents or renews a token on a live connection."""

    type: Literal["auth"]
    token: Annotated[str, Field(min_length=1, max_length=16_384)]
    id: RequestId | None = None


class Ack(_ClientMessage):
    """The user has read their personal channel up to `seq`: it is not delivered again on another device."""

    type: Literal["ack"]
    channel: str
    seq: Annotated[int, Field(ge=0)]
    id: RequestId | None = None


ClientMessage = Annotated[Subscribe | Unsubscribe | Pong | Ping | Auth | Ack, Field(discriminator="type")]
CLIENT_MESSAGE: TypeAdapter[Subscribe | Unsubscribe | Pong | Ping | Auth | Ack] = TypeAdapter(ClientMessage)


# --- server to client ------------------------------------------------------------------------------------------------


class _ServerMessage(BaseModel):
    model_config = ConfigDict(frozen=True)

    timestamp: str = Field(default_factory=now_text)

    def to_json(self) -> bytes:
        """Return the message as it travels; absent optional fields are left out."""
        return self.model_dump_json(exclude_none=True).encode()


class Heartbeat(BaseModel):
    """What the server expects: it pings every `interval` seconds and closes after `timeout` seconds of silence."""

    interval: float
    timeout: float


class ConnectionMessage(_ServerMessage):
    """The welcome: the first message on every connection."""

    type: Literal["connection"] = "connection"
    status: Literal["connected"] = "connected"
    channel: str
    connection_id: str
    user_id: str | None
    heartbeat: Heartbeat

    def to_json(self) -> bytes:
        """Return the message as it travels, `user_id` included even when the client is anonymous."""
        return self.model_dump_json().encode()


class Subscribed(_ServerMessage):
    """The subscription is in force on the broker: nothing published from now on is missed."""

    type: Literal["subscribed"] = "subscribed"
    channel: str
    recovered: bool | None = None
    seq: int | None = None
    epoch: str | None = None
    max_rate: float | None = None
    snapshot: int | None = None
    id: str | None = None


class Unsubscribed(_ServerMessage):
    """The channel was left."""

    type: Literal["unsubscribed"] = "unsubscribed"
    channel: str
    id: str | None = None


class ServerPing(_ServerMessage):
    """Heartbeat: answer with `pong`, or send anything else, to stay connected."""

    type: Literal["ping"] = "ping"
    at: dict[str, int] | None = None


class ServerPong(_ServerMessage):
    """The answer to a client's `ping`."""

    type: Literal["pong"] = "pong"


class Authenticated(_ServerMessage):
    """The token was accepted; the connection ends with it unless it is renewed."""

    type: Literal["authenticated"] = "authenticated"
    user_id: str
    expires_in: float
    id: str | None = None


class Conflated(_ServerMessage):
    """The client was slow and asked for the latest only: so many older states were left out, and it is current now."""

    type: Literal["conflated"] = "conflated"
    count: int


class Reconnect(_ServerMessage):
    """The server goes away; come back after `after_ms`."""

    type: Literal["reconnect"] = "reconnect"
    after_ms: int
    reason: str


class ErrorMessage(_ServerMessage):
    """A request was not carried out; the connection stays open."""

    type: Literal["error"] = "error"
    code: ErrorCode
    message: str
    channel: str | None = None
    retry_after: float | None = None
    id: str | None = None


class _EventMessage(_ServerMessage):
    # What a gateway adds; producers leave it out. `timestamp` says when the event was published, `delivered_at` when
    # the gateway passed it on: the difference, and that to the client's own clock, is how far behind it is.
    channel: str | None = None
    seq: int | None = None
    delivered_at: str | None = None


class TrendUpdate(_EventMessage):
    """A trend started, changed or ended."""

    type: Literal["trend_update"] = "trend_update"
    data: Trend


class StoryUpdate(_EventMessage):
    """A story appeared or grew."""

    type: Literal["story_update"] = "story_update"
    data: Story


class TrustScoreUpdate(_EventMessage):
    """A story's trust score moved: by what each signal's `change` says, because of the story's `story_revision`."""

    type: Literal["trust_score_update"] = "trust_score_update"
    story_id: str
    trust_score: Score
    signals: list[Signal]
    previous_score: Score | None = None
    confidence: float | None = None
    simulated: bool | None = None
    model: str | None = None
    story_revision: int | None = None


class UserMessage(_EventMessage):
    """A personal message."""

    type: Literal["user_message"] = "user_message"
    data: dict[str, Any]  # the application's own payload: any JSON object


EventMessage = Annotated[TrendUpdate | StoryUpdate | TrustScoreUpdate | UserMessage, Field(discriminator="type")]
EVENT_MESSAGE: TypeAdapter[TrendUpdate | StoryUpdate | TrustScoreUpdate | UserMessage] = TypeAdapter(EventMessage)
