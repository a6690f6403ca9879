"""Ending a task one owns: cancelled, awaited, and not believed until it has ended."""

from __future__ import annotations

import asyncio
from typing import Any

_PATIENCE = 10.0  # seconds; a task may have something to write down first


async def end(*tasks: asyncio.Task[Any] | None) -> None:
    """Cancel `tasks` and return when all have ended; what they raised is theirs to have reported, None is nothing.

    A task may lose a cancellation: in Python 3.11 `asyncio.wait_for` swallows one that comes as its wait ends, and
    libraries use it. So it is asked again until it is over.
    """
    running = {task for task in tasks if task is not None and not task.done()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_PATIENCE)
