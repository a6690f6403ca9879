"""Which client hears which channel, and which channels anybody here hears at all.

Pure: leaving returns whether the channel became unwanted; the caller asks NATS.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from services.gateway.engine import Connection, Frame, Group
from services.gateway.pacer import Pacer
from services.gateway.session import Join
from services.gateway.window import Window
from shared.channels import Channel, Kind


class Topic:
    """One channel: its listeners, those who wait to become some, and what is known of its order.

    Listeners hear everything, or asked for a slower pace, by rate. While `held` is a list, order is in doubt and live
    events are held back in it.
    """

    __slots__ = ("attempts", "epoch", "everything", "has_history", "held", "paced", "states", "waiting", "window")

    def __init__(self) -> None:
        self.everything = Group()
        self.paced: dict[float, tuple[Group, Pacer[Frame]]] = {}
        self.waiting: dict[Connection, Join] = {}
        self.window = Window()
        self.attempts = 0  # at serving those who wait; each of them counts from when it came
        self.epoch = ""
        self.has_history = True
        self.held: list[Any] | None = []  # what they are is the delivery's business
        self.states: OrderedDict[str, Frame] | None = None  # newest of each thing, once a snapshot was asked for

    def __len__(self) -> int:
        listeners = len(self.everything.members) + sum(len(group.members) for group, _ in self.paced.values())
        return listeners + len(self.waiting)

    def __contains__(self, connection: Connection) -> bool:
        return connection in self.waiting or any(connection in group.members for group in self.groups())

    def hold(self, event: Any) -> None:
        """Keep a live event until order is known."""
        assert self.held is not None  # asked before
        self.held.append(event)

    def release(self) -> list[Any]:
        """Hold nothing back any more; return what was."""
        held, self.held = self.held or [], None
        return held

    def admit(self, connection: Connection) -> None:
        """Let a waiting connection hear what comes from now on."""
        self.add(connection, self.waiting.pop(connection).max_rate)

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
        self.waiting.pop(connection, None)
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

    def topics(self) -> Iterator[Topic]:
        """Yield every channel's topic."""
        return iter(list(self._topics.values()))

    def wait(self, connection: Connection, join: Join) -> Topic:
        """Let `connection` wait for its channel, which is wanted from now on; return the channel's topic.

        Joining a channel again means waiting for it anew, with what the new request asks for.
        """
        topic = self._topics.get(join.channel)
        if topic is None:
            topic = self._topics[join.channel] = Topic()
        if connection in topic:
            topic.discard(connection)
        else:
            self._subscriptions[join.channel.kind] += 1
        topic.waiting[connection] = replace(join, waits_since=topic.attempts)
        return topic

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
