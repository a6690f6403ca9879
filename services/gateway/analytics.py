"""What channels are worth to people: joins, leaves, how long they stay, what is sent. Pure; time is passed in.

Kept by kind for ever and by channel for as many as fit; ids never become labels of a metric.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from pydantic import BaseModel

from shared.channels import Channel, Kind

# Lengths are counted in steps of a fourth root of two: a median is right within a tenth.
_STEPS = 4


def _step(seconds: float) -> int:
    return round(math.log2(1.0 + max(0.0, seconds)) * _STEPS)


@dataclass(slots=True)
class Tally:
    """What happened on one channel, or on all of a kind.

    `peak` is the most subscriptions at a time; over several pods, the sum of theirs. `messages` and `bytes` are events
    written to clients, before compression. `lengths` counts the subscriptions that have ended: key k stands for
    2^(k/4) - 1 seconds.
    """

    subscribes: int = 0
    unsubscribes: int = 0
    concurrent: int = 0
    peak: int = 0
    messages: int = 0
    bytes: int = 0
    lengths: dict[int, int] = field(default_factory=dict)

    @property
    def median_seconds(self) -> float | None:
        """The median length of the subscriptions that have ended, right within a tenth; None before the first."""
        left = sum(self.lengths.values()) / 2
        for step, count in sorted(self.lengths.items()):
            left -= count
            if left <= 0:
                return float(2.0 ** (step / _STEPS) - 1.0)
        return None

    def plus(self, other: Tally) -> Tally:
        """Return both together."""
        return Tally(
            self.subscribes + other.subscribes,
            self.unsubscribes + other.unsubscribes,
            self.concurrent + other.concurrent,
            self.peak + other.peak,
            self.messages + other.messages,
            self.bytes + other.bytes,
            dict(Counter(self.lengths) + Counter(other.lengths)),
        )


class Report(BaseModel):
    """Analytics of one pod or of several."""

    pods: int = 1
    kinds: dict[str, Tally]
    channels: dict[str, Tally]


class Row(BaseModel):
    """A tally as people read it."""

    name: str
    subscribes: int
    unsubscribes: int
    concurrent: int
    peak: int
    messages: int
    bytes: int
    median_seconds: float | None


class Summary(BaseModel):
    """Analytics as `/api/v1/analytics` shows them: every kind, and the channels that sent most."""

    scope: str
    pods: int
    kinds: list[Row]
    top: list[Row]


class Analytics:
    """Counts for one pod. Past `max_channels`, the half of the channels that matters least is forgotten."""

    def __init__(self, max_channels: int = 4_096) -> None:
        self._max_channels = max_channels
        self.kinds = {kind: Tally() for kind in Kind}
        self._channels: dict[Channel, Tally] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def joined(self, channel: Channel) -> None:
        """Count a subscription that begins."""
        for tally in (self.kinds[channel.kind], self._tally(channel)):
            tally.subscribes += 1
            tally.concurrent += 1
            tally.peak = max(tally.peak, tally.concurrent)

    def left(self, channel: Channel, seconds: float) -> None:
        """Count a subscription that ends after `seconds`."""
        step = _step(seconds)
        for tally in (self.kinds[channel.kind], self._tally(channel)):
            tally.unsubscribes += 1
            tally.concurrent = max(0, tally.concurrent - 1)
            tally.lengths[step] = tally.lengths.get(step, 0) + 1

    def sent(self, channel: Channel, connections: int, size: int) -> None:
        """Count an event of `size` bytes that was written to so many connections."""
        for tally in (self.kinds[channel.kind], self._tally(channel)):
            tally.messages += connections
            tally.bytes += connections * size

    def report(self, top: int) -> Report:
        """Return every kind and the `top` channels by messages, then by subscribes."""
        best = heapq.nlargest(top, self._channels.items(), key=lambda item: _weight(item[1]))
        return Report(
            kinds={kind.value: tally for kind, tally in self.kinds.items()},
            channels={channel.name: tally for channel, tally in best},
        )

    def _tally(self, channel: Channel) -> Tally:
        tally = self._channels.get(channel)
        if tally is None:
            if len(self._channels) >= self._max_channels:
                kept = heapq.nlargest(
                    self._max_channels // 2,
                    self._channels.items(),
                    key=lambda item: (item[1].concurrent > 0, *_weight(item[1])),
                )
                self._channels = dict(kept)
            tally = self._channels[channel] = Tally()
        return tally


def _weight(tally: Tally) -> tuple[int, int]:
    return tally.messages, tally.subscribes


def together(reports: Iterable[Report]) -> Report:
    """Return the sum over pods."""
    total = Report(pods=0, kinds={}, channels={})
    for report in reports:
        total.pods += report.pods
        for sums, more in ((total.kinds, report.kinds), (total.channels, report.channels)):
            for name, tally in more.items():
                sums[name] = sums[name].plus(tally) if name in sums else tally
    return total


def summary(report: Report, scope: str, top: int) -> Summary:
    """Return a report as people read it."""
    best = heapq.nlargest(top, report.channels.items(), key=lambda item: _weight(item[1]))
    kinds = [_row(name, tally) for name, tally in report.kinds.items()]
    return Summary(scope=scope, pods=report.pods, kinds=kinds, top=[_row(name, tally) for name, tally in best])


def _row(name: str, tally: Tally) -> Row:
    median = tally.median_seconds
    return Row(
        name=name,
        subscribes=tally.subscribes,
        unsubscribes=tally.unsubscribes,
        concurrent=tally.concurrent,
        peak=tally.peak,
        messages=tally.messages,
        bytes=tally.bytes,
        median_seconds=None if median is None else round(median, 1),
    )
