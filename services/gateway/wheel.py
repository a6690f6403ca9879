"""A timer wheel: one tick serves every connection whose time has come, however many wait.

Pure: the ticks are driven from outside. Nothing is ever cancelled: whoever is gone is dropped when its turn comes.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Wheel(Generic[T]):
    """Entries due in up to `slots` ticks; 8 bytes an entry while it waits."""

    def __init__(self, slots: int) -> None:
        self._slots: list[list[T]] = [[] for _ in range(slots + 1)]
        self._now = 0

    def __len__(self) -> int:
        return sum(map(len, self._slots))

    def schedule(self, entry: T, ticks: int) -> None:
        """Make `entry` due in `ticks` ticks, at least one and at most as many as there are slots."""
        ticks = max(1, min(ticks, len(self._slots) - 1))
        self._slots[(self._now + ticks) % len(self._slots)].append(entry)

    def tick(self) -> list[T]:
        """Move one tick on and return what is due."""
        self._now = (self._now + 1) % len(self._slots)
        due, self._slots[self._now] = self._slots[self._now], []
        return due
