"""Reads a message as it comes from NATS and makes of it the frame every client of a channel gets.

Pure, and once per message and channel: the producer's bytes are checked and `channel`, `seq` and, where it is missing,
`timestamp` are spliced in without encoding the rest again.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic_core import from_json

from shared.channels import Channel, Kind
from shared.errors import InvalidPayload
from shared.wire import now_text

# The type a bare object published to a live subject is taken for: `nats pub trends '{"name":"x"}'` is a trend.
_DEFAULT_TYPE = {
    Kind.TRENDS: "trend_update",
    Kind.STORY: "story_update",
    Kind.TRUST_SCORES: "trust_score_update",
    Kind.USER: "user_message",
}
_EVENT_TYPES = frozenset(_DEFAULT_TYPE.values())
_ALLOWED = {
    Kind.TRENDS: frozenset({"trend_update"}),
    Kind.STORY: frozenset({"story_update", "trust_score_update"}),
    Kind.TRUST_SCORES: frozenset({"trust_score_update"}),
    Kind.USER: _EVENT_TYPES,
}
# Only a gateway says these; a producer that could would speak for it.
_CONTROL_TYPES = frozenset(
    ("connection", "authenticated", "subscribed", "unsubscribed", "ping", "pong", "reconnect", "error", "conflated")
    + ("subscribe", "unsubscribe", "auth", "ack")
)
_SPLICED = ("channel", "seq", "delivered_at")


@dataclass(frozen=True, slots=True)
class Sequence:
    """Where a stored message stands: its sequence, and the one before it on the same subject (0 for none)."""

    seq: int
    previous: int


@dataclass(frozen=True, slots=True)
class Event:
    """A checked message: its type, the entity it is the newest state of, and its bytes as the producer wrote them.

    There is always a field in `body`, `type` at least, so that more can follow after a comma.
    """

    type: str
    entity: str | None
    body: bytes  # a JSON object without what the gateway adds, cut before its closing brace
    final: bool = False  # the thing has ended with it: a trend that is over, a story that went into another


NOTHING = Event("", None, b"")  # stands for a stored message that is no event: it has a place in the order all the same


_STREAM_HEADER = re.compile(rb"^Nats-(Sequence|Last-Sequence|Time-Stamp): *(.*?) *\r$", re.MULTILINE)


def read_headers(headers: bytes | None) -> tuple[Sequence | None, float | None]:
    """Return what a republishing stream said of a message: its sequence and when it was stored (Unix seconds).

    `headers` is the block as the broker sends it. Both are None for a message published to the live subject directly.
    """
    if headers is None:
        return None, None
    found = dict(_STREAM_HEADER.findall(headers))
    try:
        sequence = Sequence(int(found[b"Sequence"]), int(found.get(b"Last-Sequence", b"0")))
        stored = found.get(b"Time-Stamp")
        return sequence, None if stored is None else _unix(stored.decode("ascii"))
    except (KeyError, ValueError):
        return None, None  # none, or some that somebody else made up


def read_event(payload: bytes, kind: Kind) -> Event:
    """Check `payload`, which arrived on the subject of a channel of `kind`; raises InvalidPayload saying what is wrong.

    Unknown types pass, so that an old gateway carries what a new producer says; known ones must fit their channel.
    """
    try:
        message = from_json(payload, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidPayload(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise InvalidPayload(f"a JSON object is expected, not {type(message).__name__}")
    kind = Kind.STORY if kind is Kind.STORIES else kind
    if "type" not in message:
        message = _wrap(message, kind)
        payload = _dump(message)
    elif any(name in message for name in _SPLICED):
        for name in _SPLICED:
            message.pop(name, None)
        payload = _dump(message)
    event_type = message["type"]
    _check(message, event_type, kind)
    body = payload.rstrip()
    if not body.endswith(b"}"):  # from_json accepts nothing after the object but white space
        raise InvalidPayload("the object does not end the message")
    body = body[:-1].rstrip()
    if not isinstance(message.get("timestamp"), str):
        body = _dump({**message, "timestamp": now_text()})[:-1]
    return Event(event_type, _entity(message, event_type), body, _final(message))


def for_channel(event: Event, channel: Channel) -> bool:
    """Tell whether `channel` carries this event: `story:<id>` carries its scores, `stories` leaves them out."""
    return not (channel.kind is Kind.STORIES and event.type == "trust_score_update")


def splice(event: Event, channel: str, seq: int | None, delivered_at: str) -> bytes:
    """Return the event's text as clients of `channel` get it from a gateway that has had it since `delivered_at`."""
    place = "" if seq is None else f',"seq":{seq}'
    tail = f',"channel":"{channel}"{place},"delivered_at":"{delivered_at}"}}'
    return event.body + tail.encode("ascii")


def _wrap(message: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """Read a bare object as the channel's own kind of event."""
    event_type = _DEFAULT_TYPE[kind]
    if event_type == "trust_score_update" or (kind is Kind.STORY and "trust_score" in message):
        return {"type": "trust_score_update", **message}
    return {"type": event_type, "data": message}


def _check(message: dict[str, Any], event_type: Any, kind: Kind) -> None:
    if not isinstance(event_type, str) or not event_type:
        raise InvalidPayload("`type` must be a string")
    if event_type in _CONTROL_TYPES:
        raise InvalidPayload(f"{event_type} messages come from gateways, not from producers")
    if event_type in _EVENT_TYPES and event_type not in _ALLOWED[kind]:
        raise InvalidPayload(f"{event_type} does not belong on a {kind.value} subject")
    if event_type == "trust_score_update":
        score = message.get("trust_score")
        if not isinstance(message.get("story_id"), str):
            raise InvalidPayload("trust_score_update needs a `story_id`")
        if isinstance(score, bool) or not isinstance(score, int | float):
            raise InvalidPayload("trust_score_update needs a number as `trust_score`")
        if not isinstance(message.get("signals", []), list):
            raise InvalidPayload("`signals` must be a list")
    elif event_type in _EVENT_TYPES and not isinstance(message.get("data"), dict):
        raise InvalidPayload(f"{event_type} needs an object as `data`")


def _entity(message: dict[str, Any], event_type: str) -> str | None:
    """Return what the message is the newest state of; None for one that must never be replaced by a later one."""
    if event_type == "trust_score_update":
        return f"score:{message['story_id']}"
    if event_type in ("trend_update", "story_update"):
        entity = message["data"].get("id")
        return f"{event_type}:{entity}" if isinstance(entity, str) else None
    return None


def _final(message: dict[str, Any]) -> bool:
    data = message.get("data")
    return isinstance(data, dict) and (data.get("phase") == "ended" or data.get("merged_into") is not None)


def _dump(message: dict[str, Any]) -> bytes:
    return json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _unix(text: str) -> float:
    # The broker writes nanoseconds, which fromisoformat takes only up to Python's microseconds.
    head, dot, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{head}{dot}{fraction[:6]}+00:00").timestamp()
