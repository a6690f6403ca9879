"""Where items come from: each source is an async iterator of what it finds, entries and problems.

A new source is one module with one class; `services.publisher.app` is told how to make it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from services.publisher.normalise import Entry


@dataclass(frozen=True, slots=True)
class Problem:
    """Something a source could not read: where it stands, such as `file.csv:12`, and why."""

    where: str
    reason: str


class Source(Protocol):
    """One source. It is read only as fast as its entries are stored, so it needs no buffer of its own."""

    @property
    def name(self) -> str:
        """Short, for logs and as a metric's label: the kind of source, never an address."""

    def read(self) -> AsyncIterator[Entry | Problem]:
        """Yield what is found, for as long as the source goes on."""
