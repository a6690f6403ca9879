"""Rate limits without state of their own: one number a connection, time passed in.

The generic cell rate algorithm (ITU-T I.371): a token bucket that remembers only when it will be full again.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` messages in any `window` seconds, all of them at once if need be."""

    count: int
    window: float

    def allow(self, full_at: float, now: float) -> tuple[float, float]:
        """Spend one message at `now` from a bucket that is full at `full_at` (monotonic seconds, 0 at first).

        Returns the new `full_at` and 0.0, or the old one and the seconds to wait before the next message is allowed.
        """
        cost = self.window / self.count
        earned = max(full_at, now)
        wait = earned + cost - self.window - now
        # A rounding error must not refuse the last message of a full bucket.
        if wait > 1e-9:
            return full_at, wait
        return earned + cost, 0.0
