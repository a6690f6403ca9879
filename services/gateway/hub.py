"""Which client hears which channel, and which channels anybody here hears at all.

Pure: joining and leaving return whether the channel became wanted or unwanted; the caller asks NATS.
"""

from __future__ import annotations

from collections.abc import Iterator

from services.gateway.engine import Connection, Frame, Group
from services.gateway.pacer import Pacer
from shared.channels import Channel, Kind


class Topic:
    """One channel's listeners: those who hear everything, and those who asked for a slower pace, by rate."""

    __slots__ = ("everything", "paced")

    def __init__(self) -> None:
        self.everything = Group()
        self.paced: dict[float, tuple[Group, Pacer[Frame]]] = {}

    def __len__(self) -> int:
        return len(self.everything.members) + sum(len(group.members) for group, _ in self.paced.values())

    def __contains__(self, connection: Connection) -> bool:
        return any(connection in group.members for group in self.groups())

    def groups(self) -> Iterator[Group]:
        """Yield every group of listeners."""
        yield self.everything
        for group, _ in self.paced.values():
            yield group

    def add(self, connection: Connection, rate: float | None) -> None:
        """Let `connection` hear this channel, at most `rate` updates of each thing a second if it is given."""
        if rate is None:
            self.everything.add(connection)
            return
        if rate not in self.paced:
            self.paced[rate] = Group(), Pacer(rate)
        self.paced[rate][0].add(connection)

    def discard(self, connection: Connection) -> None:
        """Let `connection` hear nothing more of this channel."""
        self.everything.discard(connection)
        for rate, (group, _) in list(self.paced.items()):
            group.discard(connection)
            if not group.members:
                del self.paced[rate]


class Hub:
    """Channels with at least one client, each with its listeners."""

    def __init__(self) -> None:
        self._topics: dict[Channel, Topic] = {}
        self._subscriptions: dict[Kind, int] = dict.fromkeys(Kind, 0)

    def __repr__(self) -> str:
        return f"<Hub {len(self._topics)} channels, {sum(self._subscriptions.values())} subscriptions>"

    def __iter__(self) -> Iterator[Channel]:
        return iter(list(self._topics))

    def __len__(self) -> int:
        return len(self._topics)

    @property
    def subscriptions(self) -> dict[Kind, int]:
        """How many subscriptions clients hold, by kind of channel."""
        return dict(self._subscriptions)

    def topic(self, channel: Channel) -> Topic | None:
        """Return the listeners of `channel`, None if there are none."""
        return self._topics.get(channel)

    def join(self, connection: Connection, channel: Channel, rate: float | None = None) -> bool:
        """Add `connection`; return whether it is the channel's first. Joining again changes nothing but the rate."""
        topic = self._topics.get(channel)
        first = topic is None
        if topic is None:
            topic = self._topics[channel] = Topic()
        if connection in topic:
            topic.discard(connection)
        else:
            self._subscriptions[channel.kind] += 1
        topic.add(connection, rate)
        return first

    def leave(self, connection: Connection, channel: Channel) -> bool:
        """Remove `connection`; return whether it was the channel's last."""
        topic = self._topics.get(channel)
        if topic is None or connection not in topic:
            return False
        topic.discard(connection)
        self._subscriptions[channel.kind] -= 1
        if len(topic):
            return False
        del self._topics[channel]
        return True
