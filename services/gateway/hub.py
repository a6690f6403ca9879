"""Which client hears which channel, and which channels anybody here hears at all.

Pure: joining and leaving return whether the channel became wanted or unwanted; the caller asks NATS.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.gateway.engine import Connection, Group
from shared.channels import Channel, Kind


class Hub:
    """Channels with at least one client, each with the group of connections that hear it."""

    def __init__(self) -> None:
        self._groups: dict[Channel, Group] = {}
        self._subscriptions: dict[Kind, int] = dict.fromkeys(Kind, 0)

    def __repr__(self) -> str:
        return f"<Hub {len(self._groups)} channels, {sum(self._subscriptions.values())} subscriptions>"

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._groups))

    def __len__(self) -> int:
        return len(self._groups)

    @property
    def subscriptions(self) -> dict[Kind, int]:
        """How many subscriptions clients hold, by kind of channel."""
        return dict(self._subscriptions)

    def group(self, channel: Channel) -> Group | None:
        """Return the connections on `channel`, None if there are none."""
        return self._groups.get(channel)

    def join(self, connection: Connection, channel: Channel) -> bool:
        """Add `connection`; return whether it is the channel's first. Joining twice changes nothing."""
        group = self._groups.get(channel)
        first = group is None
        if group is None:
            group = self._groups[channel] = Group()
        if connection not in group.members:
            group.add(connection)
            self._subscriptions[channel.kind] += 1
        return first

    def leave(self, connection: Connection, channel: Channel) -> bool:
        """Remove `connection`; return whether it was the channel's last."""
        group = self._groups.get(channel)
        if group is None or connection not in group.members:
            return False
        group.discard(connection)
        self._subscriptions[channel.kind] -= 1
        if group.members:
            return False
        del self._groups[channel]
        return True
