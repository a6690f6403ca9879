"""The role `scoring`: stories in, trust scores that moved out. Any number of processes share the stories.

A process holds nothing that another could not read: what was last told of a story lies in a NATS bucket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import nats.errors
import nats.js.errors
from nats.js.kv import KeyValue
from pydantic import TypeAdapter, ValidationError

from services.scoring.evidence import Evidence
from services.scoring.metrics import ScoringMetrics
from services.scoring.score import Rules, Told, assess, compared, material, told
from services.scoring.settings import ScoringSettings
from services.scoring.sources import SourceTable, load_sources
from shared import logs
from shared.broadcaster import Broadcaster
from shared.buckets import open_bucket
from shared.connection import Connection
from shared.errors import NatsUnavailable
from shared.events import Story
from shared.intake import Intake, Received
from shared.producer import Producer
from shared.settings import ServiceSettings
from shared.wire import EVENT_MESSAGE, StoryUpdate

log = logs.get(__name__)

BUCKET = "veracity_scores"
_BATCH = 64
_WAIT = 1.0
_REPORT_SECONDS = 10.0
_TOLD = TypeAdapter(Told)


def remembered(settings: ServiceSettings) -> float:
    """Return how long a story's last score is remembered, in seconds: longer than the story's own events."""
    return settings.events_max_age * 7


class Scorer:
    """Takes stories from the broker and tells their scores."""

    def __init__(
        self,
        connection: Connection,
        broadcaster: Broadcaster,
        table: SourceTable,
        rules: Rules,
        metrics: ScoringMetrics,
        *,
        remember: float,
    ) -> None:
        self._connection, self._broadcaster, self._table = connection, broadcaster, table
        self._rules, self._metrics, self._remember = rules, metrics, remember
        self._intake = Intake(connection, "STORIES", "events.story.*", "scoring")
        self._stories = self._scores = 0
        self._reported = (0, 0)

    async def run(self) -> None:
        """Score for ever."""
        while True:
            await self._connection.ready()
            try:
                await self._intake.open_shared()
                bucket = await open_bucket(self._connection, BUCKET, ttl=self._remember)
                log.info("role started", role="scoring", sources_known=len(self._table))
                await self._serve(bucket)
            except NatsUnavailable as error:
                log.warning("role paused", role="scoring", error=str(error))
                await asyncio.sleep(_WAIT)

    async def _serve(self, bucket: KeyValue) -> None:
        reported = time.monotonic()
        try:
            while True:
                received = await self._intake.fetch(_BATCH, _WAIT)
                newest, others = self._newest(received)
                # Different stories do not wait for one another; one story's updates are one by now.
                async with asyncio.TaskGroup() as tasks:
                    for story, message in newest:
                        tasks.create_task(self._score(bucket, story, message))
                for message in others:
                    await message.confirm()
                if time.monotonic() - reported >= _REPORT_SECONDS:
                    reported = time.monotonic()
                    self._report()
        except* NatsUnavailable as group:
            raise NatsUnavailable("scoring", str(group.exceptions[0])) from group
        finally:
            self._report()
            await self._intake.close()

    def _newest(self, received: Sequence[Received]) -> tuple[list[tuple[Story, Received]], list[Received]]:
        """Return each story's newest update with its message, and the messages nothing is to be done with."""
        newest: dict[str, tuple[Story, Received]] = {}
        others: list[Received] = []
        for message in received:
            story = self._read(message)
            if story is None:
                others.append(message)
                continue
            self._metrics.stories.inc()
            self._stories += 1
            before = newest.get(story.id)
            if before is not None and before[0].revision > story.revision:
                others.append(message)
                continue
            if before is not None:
                others.append(before[1])
            newest[story.id] = story, message
        return list(newest.values()), others

    def _read(self, message: Received) -> Story | None:
        """Return the story in a message; None for anything else on a story's subject, such as our own scores."""
        try:
            event = EVENT_MESSAGE.validate_json(message.payload)
        except ValidationError as error:
            self._metrics.refused.inc()
            log.warning("stored story not readable", seq=message.seq, error=str(error)[:300])
            return None
        if not isinstance(event, StoryUpdate) or event.data.merged_into is not None:
            return None
        return event.data

    async def _score(self, bucket: KeyValue, story: Story, message: Received) -> None:
        before, revision = await self._last_told(bucket, story.id)
        if before is None or before.revision < story.revision:
            score = assess(Evidence.of(story), self._table, datetime.now(UTC))
            if material(score, before, self._rules):
                if before is not None:
                    score = compared(score, before)
                # Told first and remembered after: a crash in between tells it again, under the same id, once.
                await self._broadcaster.trust_score_update(
                    story.id,
                    score.score,
                    score.signals,
                    previous_score=score.previous_score,
                    confidence=score.confidence,
                    model=score.model,
                    story_revision=story.revision,
                    simulated=story.simulated or None,
                    message_id=f"score:{story.id}:{story.revision}",
                )
                self._metrics.scores.observe(score.score)
                self._scores += 1
                await self._remember_told(bucket, story.id, told(score, story.revision), revision)
            else:
                self._metrics.unchanged.inc()
        await message.confirm()

    # --- what was last told ------------------------------------------------------------------------------------------

    async def _last_told(self, bucket: KeyValue, story_id: str) -> tuple[Told | None, int]:
        """Return what was last told of a story, and the bucket's revision of it (0 for none)."""
        try:
            entry = await bucket.get(story_id)
        except nats.js.errors.KeyNotFoundError:
            return None, 0
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise NatsUnavailable("reading the last score", repr(error)) from error
        try:
            return _TOLD.validate_json(entry.value or b""), entry.revision or 0
        except ValidationError:
            return None, entry.revision or 0  # written by another version: told anew

    async def _remember_told(self, bucket: KeyValue, story_id: str, last: Told, revision: int) -> None:
        try:
            await bucket.update(story_id, _TOLD.dump_json(last), last=revision)
        except nats.js.errors.KeyWrongLastSequenceError:
            log.info("another process scored this story meanwhile", story=story_id, revision=last.revision)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise NatsUnavailable("remembering a score", repr(error)) from error

    def _report(self) -> None:
        if (self._stories, self._scores) != self._reported:
            self._reported = (self._stories, self._scores)
            log.info("role so far", role="scoring", stories_in=self._stories, scores_out=self._scores)


async def run(settings: ScoringSettings) -> None:
    """Run the role until the process is told to stop."""
    table = load_sources(settings.sources_file)
    producer = Producer(settings, "scoring")
    scorer = Scorer(
        producer.nats,
        producer.broadcaster,
        table,
        settings.rules,
        ScoringMetrics(producer.registry),
        remember=remembered(settings),
    )
    await producer.run(scorer.run)
