"""Remembers what has been seen, up to a bound: the oldest is forgotten first.

Pure. JetStream removes repeats of the last two minutes by id; this removes the ones feeds repeat for days.
"""

from __future__ import annotations

from collections import OrderedDict


class Seen:
    """The newest `size` ids. Seeing one again keeps it."""

    def __init__(self, size: int) -> None:
        self._ids: OrderedDict[str, None] = OrderedDict()
        self._size = size

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._ids

    def add(self, item_id: str) -> bool:
        """Note `item_id`; return whether it is new."""
        if item_id in self._ids:
            self._ids.move_to_end(item_id)
            return False
        if len(self._ids) >= self._size:
            self._ids.popitem(last=False)
        self._ids[item_id] = None
        return True

    def newest(self, count: int) -> list[str]:
        """Return up to `count` of the newest ids, oldest of them first."""
        return list(self._ids)[-count:]

    def forget(self, item_id: str) -> None:
        """Take `item_id` back: what was to be done with it did not succeed."""
        self._ids.pop(item_id, None)
