"""Sends messages with the time in them at a steady pace: to JetStream, to a core subject, or down a peer's feed.

`python -m tests.bench.publish HOW TARGET SUBJECT RATE BURST SECONDS CHANNELS SIZE`;
`{channel}` in the subject becomes a number.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable

import nats

from shared.wire import now_text

SMALL = 180  # characters of text: about 300 bytes in all, as in a trend with its numbers
_WORDS = (
    "harbour council votes budget after storm warning minister denies leak engineers inspect bridge rescue crews reach "
    "valley court hears appeal markets fall as talks stall union calls strike scientists publish trial results police "
    "search river residents return home power restored late night coach resigns before final match airline cancels"
).split()
_rng = random.Random(7)


def words(characters: int) -> str:
    """Return about so many characters of headline-like text: compression must not find more in it than in news."""
    text = ""
    while len(text) < characters:
        text += _rng.choice(_WORDS) + " "
    return text[:characters]


def message(entity: str, size: int = SMALL) -> bytes:
    """Return one event with `size` characters of text, stamped with this moment (nanoseconds, Unix time)."""
    event = {
        "type": "story_update" if entity[0] == "s" else "trend_update",
        "data": {"id": entity, "text": words(size)},
        "timestamp": now_text(),
        "t": time.time_ns(),
    }
    return json.dumps(event, separators=(",", ":")).encode()


Send = Callable[[str, bytes], Awaitable[None]]


async def publish(
    how: str, target: str, subject: str, rate: float, burst: int, seconds: float, channels: int, size: int
) -> int:
    """Publish `burst` messages `rate / burst` times a second; return how many."""
    send, close = await _sender(how, target)
    loop = asyncio.get_running_loop()
    started, sent = loop.time(), 0
    while (at := started + sent / rate) < started + seconds:
        await asyncio.sleep(max(0.0, at - loop.time()))
        for number in range(sent, sent + burst):
            channel = number % channels
            await send(
                subject.replace("{channel}", str(channel)), message(f"s{channel}" if channels > 1 else "t1", size)
            )
        sent += burst
    await close()
    return sent


async def _sender(how: str, target: str) -> tuple[Send, Callable[[], Awaitable[None]]]:
    if how == "feed":
        _, writer = await asyncio.open_connection("127.0.0.1", int(target))

        async def feed(_: str, payload: bytes) -> None:
            writer.write(payload + b"\n")

        async def end() -> None:
            writer.close()
            await writer.wait_closed()

        return feed, end
    client = await nats.connect(target)
    if how == "core":
        return client.publish, client.drain
    jetstream = client.jetstream()

    async def stored(subject: str, payload: bytes) -> None:
        await jetstream.publish_async(subject, payload, wait_stall=5.0)

    async def finish() -> None:
        await jetstream.publish_async_completed()
        await client.close()

    return stored, finish


if __name__ == "__main__":
    given = sys.argv[1:]
    total = asyncio.run(
        publish(
            given[0], given[1], given[2], float(given[3]), int(given[4]), float(given[5]), int(given[6]), int(given[7])
        )
    )
    sys.stdout.write(f"{total}\n")
