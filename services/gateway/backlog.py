"""What one client has not read yet: bounded, in order, and on request only the newest of each kind of thing.

Pure: it holds references to frames that are shared by all clients, so a backlog costs pointers, not copies.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable

# The kernel takes no more than a socket's free buffer at once; joining more than this is wasted work.
_CHUNK = 262_144


class Backlog:
    """Unsent bytes of one connection, as whole frames and at most one frame half sent.

    With `conflate`, a waiting frame is replaced by a newer one with the same key; frames without a key always stay.
    """

    __slots__ = ("_conflate", "_frames", "_head", "_next", "conflated", "size")

    def __init__(self, *, conflate: bool = False) -> None:
        self._conflate = conflate
        self._head = b""  # the rest of what was half sent: must go first and can't be replaced
        self._frames: dict[Hashable, bytes] = {}  # insertion order is sending order
        self._next = 0
        self.size = 0
        self.conflated = 0

    def __repr__(self) -> str:
        return f"<Backlog {self.size} bytes, {len(self._frames)} frames, {self.conflated} conflated>"

    def start(self, rest: bytes) -> None:
        """Begin with what the kernel did not take of a write."""
        assert not self.size  # a backlog is made for exactly one unfinished write
        self._head, self.size = rest, len(rest)

    def add(self, frame: bytes, key: Hashable | None = None) -> None:
        """Append a frame; when conflating, it takes the place of the waiting frame with the same key."""
        if key is None or not self._conflate:
            self._next += 1
            key = self._next
        else:
            # The newest version goes to the end: it happened after everything that waits.
            old = self._frames.pop(key, None)
            if old is not None:
                self.size -= len(old)
                self.conflated += 1
        self._frames[key] = frame
        self.size += len(frame)

    def chunk(self) -> bytes:
        """Return the next bytes to write, without removing them; call `sent` with how many were taken."""
        parts, size = [self._head], len(self._head)
        for frame in self._frames.values():
            if size >= _CHUNK:
                break
            parts.append(frame)
            size += len(frame)
        return b"".join(parts)

    def sent(self, count: int) -> None:
        """Note that the first `count` bytes of the last chunk are gone."""
        self.size -= count
        if count < len(self._head):
            self._head = self._head[count:]
            return
        count -= len(self._head)
        self._head = b""
        while count:
            key = next(iter(self._frames))
            frame = self._frames.pop(key)
            if count < len(frame):
                self._head = frame[count:]
                return
            count -= len(frame)

    def give_up(self, last: Iterable[bytes]) -> None:
        """Drop all that waits but the frame in flight, whose end the client still needs, and put `last` after it."""
        self._frames = {}
        self.size = len(self._head)
        for frame in last:
            self.add(frame)
