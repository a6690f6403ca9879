"""Channels, the names clients use, and NATS subjects, the names the broker uses, mapped both ways.

The only module that knows either grammar: a name that passes here can never carry a NATS wildcard or separator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

from shared.errors import InvalidChannel

ID_PATTERN = r"[A-Za-z0-9_-]{1,128}"
_ID = re.compile(ID_PATTERN)  # with fullmatch: `$` would let a trailing newline through


class Kind(StrEnum):
    """What a channel carries; the only label metrics use, so that ids never become label values."""

    GENERAL = "general"
    TRENDS = "trends"
    STORIES = "stories"
    STORY = "story"
    TRUST_SCORES = "trust_scores"
    USER = "user"


_PLAIN = {kind.value: kind for kind in (Kind.GENERAL, Kind.TRENDS, Kind.STORIES, Kind.TRUST_SCORES)}
_WITH_ID = {"story": Kind.STORY, "user": Kind.USER}

ITEMS_SUBJECT = "items.>"
_DURABLE_PREFIX = "events."


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel: its kind and, for `story:<id>` and `user:<id>`, the id."""

    kind: Kind
    id: str | None = None

    @property
    def name(self) -> str:
        """The name clients use, such as `story:42`."""
        return self.kind.value if self.id is None else f"{self.kind.value}:{self.id}"

    @property
    def subject(self) -> str | None:
        """The live NATS subject a gateway listens on; None for `general`, which never leaves the gateway."""
        match self.kind:
            case Kind.GENERAL:
                return None
            case Kind.STORIES:
                return "story.*"
            case Kind.STORY | Kind.USER:
                return f"{self.kind.value}.{self.id}"
            case _:
                return self.kind.value

    @property
    def durable_subject(self) -> str | None:
        """The subject events of this channel are stored under; a stream republishes it to `subject`."""
        return None if self.subject is None else _DURABLE_PREFIX + self.subject


GENERAL = Channel(Kind.GENERAL)
TRENDS = Channel(Kind.TRENDS)
STORIES = Channel(Kind.STORIES)
TRUST_SCORES = Channel(Kind.TRUST_SCORES)


def is_id(text: str) -> bool:
    """Tell whether `text` may stand as a story's or user's id in channels and subjects."""
    return _ID.fullmatch(text) is not None


def story(story_id: str) -> Channel:
    """Return the channel of one story; raises InvalidChannel if the id is outside the grammar."""
    return parse_channel(f"story:{story_id}")


def user(user_id: str) -> Channel:
    """Return the personal channel of one user; raises InvalidChannel if the id is outside the grammar."""
    return parse_channel(f"user:{user_id}")


@lru_cache(maxsize=65_536)
def parse_channel(name: str) -> Channel:
    """Return the channel a client named; raises InvalidChannel otherwise. The cache makes equal channels one object."""
    plain = _PLAIN.get(name)
    if plain is not None:
        return Channel(plain)
    prefix, colon, channel_id = name.partition(":")
    kind = _WITH_ID.get(prefix)
    if kind is None or not colon or not is_id(channel_id):
        raise InvalidChannel(name)
    return Channel(kind, channel_id)


@lru_cache(maxsize=65_536)
def channel_of_subject(subject: str) -> Channel:
    """Return the most specific channel of a live or durable subject; raises InvalidChannel for any other subject.

    `story.*`, the wildcard itself, is the channel `stories`; `story.42` is `story:42`.
    """
    live = subject.removeprefix(_DURABLE_PREFIX)
    if live == STORIES.subject:
        return STORIES
    head, dot, tail = live.partition(".")
    if not dot and head in (Kind.TRENDS.value, Kind.TRUST_SCORES.value):
        return parse_channel(head)
    if dot and head in _WITH_ID:
        return parse_channel(f"{head}:{tail}")
    raise InvalidChannel(subject)


def items_subject(platform: str) -> str:
    """Return the subject items of one platform are stored under; raises InvalidChannel for an unusable name."""
    if not is_id(platform):
        raise InvalidChannel(platform)
    return f"items.{platform}"
