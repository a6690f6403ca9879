"""Sends clients elsewhere: when a pod stops, spread over its drain window; when a connection has grown old, one by one.

Starts from our own signal, before uvicorn stops: uvicorn would close everything at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from services.gateway import frames
from services.gateway.engine import Connection, Engine, Frame
from shared import logs
from shared.wire import CloseCode, Reconnect

log = logs.get(__name__)

_LAST_SHARE = 0.9  # of the window clients are spread over; the rest is for their closing handshakes


def spread(count: int, window: float, rng: random.Random) -> Sequence[float]:
    """Return `count` random times within `window` seconds, earliest first: no two pods' clients come in step."""
    return sorted(rng.uniform(0.0, window) for _ in range(count))


def send_away(engine: Engine, connection: Connection, after: float, reason: str) -> None:
    """Tell a client to reconnect in `after` seconds."""
    message = Reconnect(after_ms=round(after * 1_000), reason=reason)
    engine.send(connection, Frame(frames.encode_text(message.to_json())))


async def drain(engine: Engine, window: float, rng: random.Random | None = None) -> None:
    """Empty `engine` within `window` seconds: all are told when to come back, and closed with 1012 at that time.

    Returns when the last one is gone or time is up.
    """
    loop = asyncio.get_running_loop()
    started, rng = loop.time(), rng or random.Random()
    connections = engine.connections()
    rng.shuffle(connections)
    times = spread(len(connections), window * _LAST_SHARE, rng)
    log.info("draining", clients=len(connections), seconds=window)
    for number, (connection, time) in enumerate(zip(connections, times, strict=True)):
        send_away(engine, connection, time, "this gateway restarts")
        if not number % 64:
            await asyncio.sleep(0)
    for connection, time in zip(connections, times, strict=True):
        pause = started + time - loop.time()
        if pause > 0.005:
            await asyncio.sleep(pause)
        engine.close_connection(connection, CloseCode.RESTART, "this gateway restarts: reconnect")
    while len(engine) and loop.time() < started + window:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    log.info("drained", left=len(engine), seconds=round(loop.time() - started, 2))
