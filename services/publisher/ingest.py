"""The role `ingest`: reads the sources, makes items, leaves out repeats and stores them for the other roles.

Every source is read only as fast as its items are acknowledged, so NATS being away slows the sources and loses nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from services.publisher.dedupe import Seen
from services.publisher.metrics import IngestMetrics
from services.publisher.normalise import Entry, normalise
from services.publisher.settings import IngestSettings
from services.publisher.sources import Problem, Source, push
from services.publisher.sources.feeds import Feeds, load_feeds
from services.publisher.sources.newsroom import Newsroom
from services.publisher.sources.replay import Replay
from shared import logs
from shared.broadcaster import Broadcaster
from shared.errors import InvalidPayload
from shared.limits import Rate
from shared.producer import Producer
from shared.tasks import end

log = logs.get(__name__)

_REPORT_SECONDS = 10.0


class Ingest:
    """The way of an entry from any source into NATS; any number of sources at a time."""

    def __init__(self, broadcaster: Broadcaster, metrics: IngestMetrics, *, seen: int) -> None:
        self._broadcaster, self._metrics = broadcaster, metrics
        self._seen = Seen(seen)
        self._complaints = logs.Throttle(period=1.0)
        self._counts: Counter[str] = Counter()

    async def accept(self, entry: Entry, source: str) -> str:
        """Store one entry; return accepted, repeated or `refused: why` once that is certain."""
        try:
            item = normalise(entry, datetime.now(UTC))
        except InvalidPayload as error:
            self.refuse(Problem(entry.where, error.reason), source)
            return f"refused: {error.reason}"
        except ValueError as error:  # a field the item's model does not take
            reason = str(error).replace("\n", " ")[:300]
            self.refuse(Problem(entry.where, reason), source)
            return f"refused: {reason}"
        if not self._seen.add(item.id):
            self._metrics.repeated.labels(source).inc()
            self._counts["repeated"] += 1
            return "repeated"
        try:
            published = await self._broadcaster.item(item)
        except BaseException:
            self._seen.forget(item.id)  # it was not stored: the next time it comes it is new
            raise
        if published.duplicate:
            self._metrics.repeated.labels(source).inc()
            self._counts["repeated"] += 1
            return "repeated"
        self._metrics.accepted.labels(source).inc()
        self._counts["accepted"] += 1
        return "accepted"

    def refuse(self, problem: Problem, source: str) -> None:
        """Count and report what cannot become an item; the log tells the first of each second, with its place."""
        self._metrics.refused.labels(source).inc()
        self._counts["refused"] += 1
        self._complaints.allow(
            source,
            time.monotonic(),
            lambda held: log.warning(
                "entry refused", source=source, where=problem.where, reason=problem.reason, more_since=held
            ),
        )

    async def drain(self, source: Source) -> None:
        """Take in everything `source` finds, for as long as it goes on."""
        async for found in source.read():
            if isinstance(found, Problem):
                self.refuse(found, source.name)
            else:
                await self.accept(found, source.name)
        log.info("source at its end", source=source.name, **self._counts)

    async def report(self) -> None:
        """Log how many items went in, every ten seconds in which any did."""
        before: Counter[str] = Counter()
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            if self._counts != before:
                log.info("ingest so far", **self._counts)
                before = self._counts.copy()


async def run(
    settings: IngestSettings,
    *,
    replay: Replay | None = None,
    simulate: bool = False,
    feeds: Path | None = None,
    once: bool = False,
) -> None:
    """Run the role until the process is told to stop.

    With `replay` only that file is read; with `simulate` only the newsroom; else the feeds, and the newsroom for as
    long as none of them can be reached. With `once` it ends with the replay.
    """
    if replay is not None:
        replay.check()
    feed_list = feeds or settings.feeds
    listed = load_feeds(feed_list) if feed_list is not None else ()
    producer = Producer(settings, "ingest")
    metrics = IngestMetrics(producer.registry)
    ingest = Ingest(producer.broadcaster, metrics, seen=settings.seen_items)

    async def pushed(entry: Entry) -> str:
        return await ingest.accept(entry, "push")

    doorkeeper = push.Doorkeeper(settings.api_keys, Rate(settings.push_rate, 60.0))
    producer.app.include_router(push.router(pushed, doorkeeper, settings.push_max_items, settings.push_max_bytes))
    newsroom = Newsroom(settings.newsroom_rate)

    async def work() -> None:
        async with asyncio.TaskGroup() as tasks:
            reporting = tasks.create_task(ingest.report())
            if replay is not None:
                await ingest.drain(replay)
                if once:
                    reporting.cancel()
            elif simulate:
                tasks.create_task(_simulated(ingest, newsroom))
            elif listed:
                reader = Feeds(
                    listed,
                    interval=settings.feed_interval,
                    concurrency=settings.feed_concurrency,
                    timeout=settings.feed_timeout,
                    max_bytes=settings.feed_max_bytes,
                )
                tasks.create_task(ingest.drain(reader))
                tasks.create_task(_stand_in(ingest, reader, newsroom))

    await producer.run(work)


async def _simulated(ingest: Ingest, newsroom: Newsroom) -> None:
    log.warning("SIMULATED NEWS: invented outlets, invented happenings; every item is marked simulated")
    await ingest.drain(newsroom)


async def _stand_in(ingest: Ingest, feeds: Feeds, newsroom: Newsroom) -> None:
    """Let the newsroom stand in for as long as no feed has answered."""
    reached = asyncio.create_task(feeds.reached.wait())
    tried = asyncio.create_task(feeds.all_tried.wait())
    simulated: asyncio.Task[None] | None = None
    tasks: Sequence[asyncio.Task[bool]] = (reached, tried)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not reached.done():
            log.warning("no feed can be reached: the simulated newsroom stands in until one can")
            simulated = asyncio.create_task(_simulated(ingest, newsroom))
            await asyncio.wait({simulated, reached}, return_when=asyncio.FIRST_COMPLETED)
            if simulated.done():
                simulated.result()
        log.info("reading feeds")
    finally:
        await end(*tasks, simulated)
