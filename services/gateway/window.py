"""What a gateway knows of one channel's order: the newest sequence, and the recent events with nothing missing between.

Pure. It sees gaps and repeats, and answers whether it can bring a client up to date by itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from services.gateway.engine import Frame


@dataclass(frozen=True, slots=True)
class Recent:
    """One event as clients of the channel got it."""

    seq: int
    frame: Frame


class Verdict(Enum):
    """How a sequence fits to what was seen before."""

    NEXT = "next"
    REPEAT = "repeat"
    GAP = "gap"


class Window:
    """The events after `base`, in order, none missing: up to `last`, the newest there is as far as the gateway knows.

    `last` is None until the stream has been asked; nothing can be judged before that.
    """

    __slots__ = ("base", "bytes", "events", "last")

    def __init__(self) -> None:
        self.base = 0
        self.last: int | None = None
        self.events: deque[Recent] | None = None  # most channels are silent most of the time
        self.bytes = 0

    def __repr__(self) -> str:
        return f"<Window {self.base}..{self.last}, {len(self.events or ())} events>"

    def begin(self, last: int) -> int:
        """Start anew after `last`, the newest sequence stored under the channel's subject now (0 for none).

        Returns the bytes of events that frees.
        """
        freed, self.bytes = self.bytes, 0
        self.base = self.last = last
        self.events = None
        return freed

    def judge(self, seq: int, previous: int) -> Verdict:
        """Say how an event fits whose predecessor on the channel has sequence `previous`."""
        if self.last is None or previous > self.last:
            return Verdict.GAP
        return Verdict.NEXT if seq > self.last else Verdict.REPEAT

    def advance(self, seq: int, frame: Frame | None) -> None:
        """Note the next event; without a frame it is one that this channel's clients do not get."""
        self.last = seq
        if frame is not None:
            if self.events is None:
                self.events = deque()
            self.events.append(Recent(seq, frame))
            self.bytes += len(frame.plain)

    def forget_oldest(self) -> int:
        """Let the oldest event go; return the bytes that frees, 0 if there is none."""
        if not self.events:
            return 0
        oldest = self.events.popleft()
        self.base = oldest.seq
        self.bytes -= len(oldest.frame.plain)
        return len(oldest.frame.plain)

    def covers(self, since: int) -> bool:
        """Tell whether everything after `since` is here."""
        return self.last is not None and self.base <= since <= self.last

    def after(self, since: int) -> Sequence[Recent]:
        """Return the events after `since`, in order."""
        return [event for event in self.events or () if event.seq > since]
