"""Which parked sockets can be read or written, asked of the kernel: epoll, or the selectors module elsewhere.

The kernel's own object is used where there is one because a registered socket then costs this process no memory.
"""

from __future__ import annotations

import select
import selectors
from typing import Protocol

READ = 1
WRITE = 2


class Poller(Protocol):
    """A set of descriptors to watch; itself a descriptor that is readable while any of them is ready."""

    def fileno(self) -> int:
        """Return the descriptor that tells of all others."""

    def add(self, fd: int) -> None:
        """Watch `fd` for reading."""

    def watch_writes(self, fd: int, writes: bool) -> None:
        """Watch `fd` for writing too, or no longer."""

    def remove(self, fd: int) -> None:
        """Watch `fd` no longer."""

    def ready(self, limit: int) -> list[tuple[int, int]]:
        """Return up to `limit` descriptors with READ, WRITE or both; an error or hang-up counts as READ."""

    def close(self) -> None:
        """Give the descriptor back."""


class EpollPoller:
    """Linux: one epoll for all parked sockets."""

    def __init__(self) -> None:
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """Return the epoll's own descriptor."""
        return self._epoll.fileno()

    def add(self, fd: int) -> None:
        """Watch `fd` for reading."""
        self._epoll.register(fd, select.EPOLLIN | select.EPOLLRDHUP)

    def watch_writes(self, fd: int, writes: bool) -> None:
        """Watch `fd` for writing too, or no longer."""
        mask = select.EPOLLIN | select.EPOLLRDHUP
        self._epoll.modify(fd, mask | select.EPOLLOUT if writes else mask)

    def remove(self, fd: int) -> None:
        """Watch `fd` no longer."""
        self._epoll.unregister(fd)

    def ready(self, limit: int) -> list[tuple[int, int]]:
        """Return up to `limit` descriptors with READ, WRITE or both; an error or hang-up counts as READ."""
        return [
            (fd, (READ if mask & ~select.EPOLLOUT else 0) | (WRITE if mask & select.EPOLLOUT else 0))
            for fd, mask in self._epoll.poll(0, limit)
        ]

    def close(self) -> None:
        """Give the descriptor back."""
        self._epoll.close()


class SelectorPoller:
    """Elsewhere (kqueue on macOS and BSD): the standard library's selector, a little more memory per socket."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def fileno(self) -> int:
        """Return the kernel queue's own descriptor."""
        number: int = self._selector.fileno()
        return number

    def add(self, fd: int) -> None:
        """Watch `fd` for reading."""
        self._selector.register(fd, selectors.EVENT_READ)

    def watch_writes(self, fd: int, writes: bool) -> None:
        """Watch `fd` for writing too, or no longer."""
        self._selector.modify(fd, selectors.EVENT_READ | (selectors.EVENT_WRITE if writes else 0))

    def remove(self, fd: int) -> None:
        """Watch `fd` no longer."""
        self._selector.unregister(fd)

    def ready(self, limit: int) -> list[tuple[int, int]]:
        """Return up to `limit` descriptors with READ, WRITE or both."""
        return [
            (key.fd, (READ if mask & selectors.EVENT_READ else 0) | (WRITE if mask & selectors.EVENT_WRITE else 0))
            for key, mask in self._selector.select(0)[:limit]
        ]

    def close(self) -> None:
        """Give the descriptor back."""
        self._selector.close()


def new_poller() -> Poller:
    """Return the best poller of this platform."""
    return EpollPoller() if hasattr(select, "epoll") else SelectorPoller()
