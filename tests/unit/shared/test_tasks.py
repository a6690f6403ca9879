"""A task that is ended has ended, even one that loses its first cancellation."""

from __future__ import annotations

import asyncio

import pytest

from shared.tasks import end


async def test_a_task_that_swallows_a_cancellation_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = 0

    async def stubborn() -> None:
        nonlocal cancelled
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled += 1
                if cancelled == 2:
                    raise

    async def failing() -> None:
        raise ValueError("its own business")

    tasks = [asyncio.create_task(stubborn()), asyncio.create_task(failing())]
    await asyncio.sleep(0)
    monkeypatch.setattr("shared.tasks._PATIENCE", 0.05)
    await end(*tasks, None)
    assert cancelled == 2
    assert tasks[0].cancelled()
    assert isinstance(tasks[1].exception(), ValueError)
