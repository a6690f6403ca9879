"""Rate limits: one number each, time passed in, memory bounded.

The generic cell rate algorithm (ITU-T I.371): a token bucket that remembers only when it will be full again.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` messages in any `window` seconds, all of them at once if need be."""

    count: int
    window: float

    def allow(self, full_at: float, now: float, cost: int = 1) -> tuple[float, float]:
        """Spend `cost` messages at `now` from a bucket that is full at `full_at` (monotonic seconds, 0 at first).

        Returns the new `full_at` and 0.0, or the old one and the seconds to wait before they are allowed. More than
        the bucket holds is allowed once it is full.
        """
        spent = self.window * min(cost, self.count) / self.count
        earned = max(full_at, now)
        wait = earned + spent - self.window - now
        # A rounding error must not refuse the last message of a full bucket.
        if wait > 1e-9:
            return full_at, wait
        return earned + spent, 0.0


class Buckets(Generic[K]):
    """A bucket for each key. A full bucket is not kept: nobody who behaves costs memory for longer than the window.

    Past `max_keys`, the half nearest to full is forgotten: it had the least left to wait for.
    """

    def __init__(self, rate: Rate, max_keys: int = 65_536) -> None:
        self.rate, self._max_keys = rate, max_keys
        self._full_at: dict[K, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def allow(self, key: K, now: float, cost: int = 1) -> float:
        """Spend `cost` from the bucket of `key`; return 0.0, or the seconds to wait."""
        full_at, wait = self.rate.allow(self._full_at.get(key, 0.0), now, cost)
        if not wait:
            if key not in self._full_at and len(self._full_at) >= self._max_keys:
                self._forget(now)
            self._full_at[key] = full_at
        return wait

    def _forget(self, now: float) -> None:
        kept = {key: full_at for key, full_at in self._full_at.items() if full_at > now}
        if len(kept) > self._max_keys // 2:
            longest = sorted(kept, key=kept.__getitem__, reverse=True)[: self._max_keys // 2]
            kept = {key: kept[key] for key in longest}
        self._full_at = kept
