"""Holds back updates of a thing that changes faster than its listeners want: of those that wait, the newest counts.

Pure; time is passed in. One pacer serves everybody who asked for the same rate on the same channel.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Pacer(Generic[T]):
    """Lets one update of each key through in `1 / rate` seconds."""

    def __init__(self, rate: float) -> None:
        self._interval = 1.0 / rate
        self._free_at: dict[Hashable, float] = {}  # in order of time, since every entry waits equally long
        self._waiting: dict[Hashable, T] = {}
        self.conflated = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, key: Hashable, update: T, now: float) -> bool:
        """Tell whether `update` may go out now; otherwise it waits in the place of an older one with its key."""
        free_at = self._free_at.get(key)
        if free_at is None or (free_at <= now and key not in self._waiting):
            self._free_at.pop(key, None)
            self._free_at[key] = now + self._interval
            return True
        self.conflated += key in self._waiting
        self._waiting[key] = update
        return False

    def due(self, now: float) -> list[T]:
        """Return the updates whose time has come, and forget keys that nothing waits for."""
        ready: list[T] = []
        for key in [key for key, free_at in self._free_at.items() if free_at <= now]:
            del self._free_at[key]
            if key in self._waiting:
                ready.append(self._waiting.pop(key))
                self._free_at[key] = now + self._interval
        return ready

    @property
    def next_due(self) -> float | None:
        """When the next waiting update may go out; None if none waits."""
        return min((self._free_at[key] for key in self._waiting), default=None)
