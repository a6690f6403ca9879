"""Which channels a client may hear: what its token grants, or what anonymous clients are granted. Pure.

A grant speaks of public channels only; `user:<id>` belongs to its user and to nobody else, whatever a token says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from shared.channels import Channel, Kind, parse_channel
from shared.errors import InvalidChannel
from shared.wire import ErrorCode


@dataclass(frozen=True, slots=True)
class Grant:
    """Public channels: whole kinds, and single ones."""

    kinds: frozenset[Kind]
    channels: frozenset[Channel] = frozenset()

    def covers(self, channel: Channel) -> bool:
        """Tell whether `channel` is among them."""
        return channel.kind in self.kinds or channel in self.channels


NOTHING = Grant(frozenset())
EVERYTHING = Grant(frozenset(Kind) - {Kind.USER})


def parse_grant(patterns: Iterable[str]) -> tuple[Grant, list[str]]:
    """Return what `patterns` grant, and those that mean nothing here, which grant nothing.

    A pattern is `*` for every public channel, `story:*` for every single story, or a channel's name.
    """
    kinds: set[Kind] = set()
    channels: set[Channel] = set()
    unknown: list[str] = []
    for pattern in patterns:
        if pattern == "*":
            kinds |= EVERYTHING.kinds
        elif pattern == "story:*":
            kinds.add(Kind.STORY)
        else:
            try:
                channel = parse_channel(pattern)
            except InvalidChannel:
                unknown.append(pattern)
                continue
            if channel.kind is not Kind.USER:
                channels.add(channel)
    if EVERYTHING.kinds <= kinds:
        return EVERYTHING, unknown  # one object for everybody who may hear everything
    return Grant(frozenset(kinds), frozenset(channels)), unknown


def refusal(channel: Channel, user_id: str | None, grant: Grant) -> ErrorCode | None:
    """Return why a client may not hear `channel`, None if it may.

    Nothing here depends on whether the channel has ever been used: a refusal tells nobody that a story or user exists.
    """
    if channel.kind is Kind.GENERAL:
        return None
    if channel.kind is Kind.USER:
        return None if user_id is not None and channel.id == user_id else ErrorCode.FORBIDDEN
    if grant.covers(channel):
        return None
    # Who has shown no token may get further with one; who has will not.
    return ErrorCode.UNAUTHORIZED if user_id is None else ErrorCode.FORBIDDEN
