"""Replays a JSONL or CSV file of items at the spacing its own times have, faster or slower, once or for ever.

Columns are found by common names; `--map title=slug_title` names them where they are not.
"""

from __future__ import annotations

import asyncio
import csv
import heapq
import json
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.publisher.normalise import Entry, published_time
from services.publisher.sources import Problem
from shared import logs
from shared.errors import StartupFailed

log = logs.get(__name__)

# The first name a file has wins: a time that was set right for replay before the one it was set from.
COMMON_NAMES: Mapping[str, tuple[str, ...]] = {
    "title": ("title", "headline", "slug_title", "name"),
    "published": tuple(
        "retimed_at published_at published first_seen_at created_at pubdate pub_date date timestamp time".split()
    ),
    "url": ("url", "link", "href", "expanded_url"),
    "source": ("domain", "hostname", "host", "source", "publisher", "outlet", "site"),
    "platform": ("platform", "network"),
    "id": ("id", "guid", "uuid"),
    "text": ("text", "summary", "description", "content", "body", "selftext"),
    "author": ("author", "user", "username", "byline"),
    "hashtags": ("hashtags", "tags"),
    "score": ("score", "likes", "ups", "favorite_count"),
    "comments": ("num_comments", "comments", "reply_count"),
    "shares": ("shares", "retweets", "retweet_count", "reposts"),
}
# Rows a little out of order are sorted within this many; a file sorted the other way round is not one to replay.
_LOOKAHEAD = 50_000
_MAX_FIELD = 1_000_000


@dataclass(frozen=True, slots=True)
class Row:
    """One row: where it stands and what it says."""

    where: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Columns:
    """Which of a file's columns holds what."""

    names: Mapping[str, str]

    @classmethod
    def find(cls, available: Mapping[str, object], given: Mapping[str, str]) -> Columns:
        """Match a file's columns by common names, `given` first; raises StartupFailed where a title cannot be found."""
        by_lower = {name.lower(): name for name in available}
        names = {}
        for meaning, common in COMMON_NAMES.items():
            candidates = (given[meaning],) if meaning in given else common
            found = next((by_lower[name.lower()] for name in candidates if name.lower() in by_lower), None)
            if found is not None:
                names[meaning] = found
        unknown = set(given) - set(COMMON_NAMES)
        if unknown or "title" not in names:
            why = f"{sorted(unknown)} mean nothing here" if unknown else "no column looks like a title"
            raise StartupFailed(
                f"{why}: the file has {sorted(available)}; say which is which with --map title=COLUMN "
                f"(also {', '.join(name for name in COMMON_NAMES if name != 'title')})"
            )
        return cls(names)

    def entry(self, row: Row, platform: str) -> Entry:
        """Read one row."""

        def text(meaning: str) -> str:
            value = row.values.get(self.names.get(meaning, ""))
            return "" if value is None else str(value)

        tags = row.values.get(self.names.get("hashtags", ""))
        tags = tags.replace(",", " ").split() if isinstance(tags, str) else tags
        return Entry(
            where=row.where,
            platform=text("platform") or platform,
            title=text("title"),
            url=text("url"),
            native_id=text("id"),
            source=text("source"),
            text=text("text"),
            author=text("author"),
            published=text("published"),
            hashtags=tuple(str(tag) for tag in tags) if isinstance(tags, list) else (),
            engagement={name: _whole(text(name)) for name in ("score", "comments", "shares") if text(name)},
        )


def _whole(text: str) -> int | None:
    try:
        return int(float(text))
    except (ValueError, OverflowError):
        return None


def read_rows(path: Path) -> Iterator[Row | Problem]:
    """Yield the rows of a JSONL or CSV file with their line; one that cannot be read is a problem, the rest goes on."""
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        first = file.read(1)
        file.seek(0)
        yield from _json_rows(path, file) if first == "{" else _csv_rows(path, file)


def _json_rows(path: Path, lines: Iterator[str]) -> Iterator[Row | Problem]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path.name}:{number}"
        try:
            values = json.loads(line)
        except ValueError as error:
            yield Problem(where, f"not JSON: {error}")
            continue
        yield Row(where, values) if isinstance(values, dict) else Problem(where, "a JSON object a line is expected")


def _csv_rows(path: Path, lines: Iterator[str]) -> Iterator[Row | Problem]:
    csv.field_size_limit(_MAX_FIELD)
    reader = csv.DictReader(lines)
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(f"{path.name}:{reader.line_num}", f"not CSV: {error}")
            continue
        where = f"{path.name}:{reader.line_num}"
        if None in values or None in values.values():
            yield Problem(where, "it has more or fewer fields than the header")
            continue
        yield Row(where, values)


@dataclass(slots=True)
class Replay:
    """One file. `speed` is how many seconds of the file pass in one of ours; 0 is as fast as it is taken."""

    path: Path
    speed: float = 1.0
    loop: bool = False
    given: Mapping[str, str] = field(default_factory=dict)
    platform: str = ""
    name: str = "replay"

    def check(self) -> None:
        """Raise StartupFailed if the file cannot be replayed at all."""
        try:
            first = next((row for row in read_rows(self.path) if isinstance(row, Row)), None)
        except OSError as error:
            raise StartupFailed(f"{self.path} cannot be read: {error.strerror}") from error
        if first is None:
            raise StartupFailed(
                f"{self.path} holds no row: a CSV file with a header or a JSON object a line is expected"
            )
        Columns.find(first.values, self.given)

    async def read(self) -> AsyncIterator[Entry | Problem]:
        """Yield the rows when their time has come. A further pass is the same news again, later: new ids, new times."""
        number, shift = 0, timedelta()
        while True:
            clock = _Clock(self.speed)
            first = last = None
            for found in self._sorted():
                if isinstance(found, Problem):
                    yield found
                    continue
                time, entry = found
                first, last = first or time, time
                await clock.wait_for(time)
                yield _repeated(entry, number, time + shift) if number else replace(entry, published=time)
            log.info("replay complete", file=self.path.name, number=number + 1)
            if not self.loop or first is None or last is None:
                return
            number += 1
            shift += last - first + timedelta(hours=1)

    def _sorted(self) -> Iterator[tuple[datetime, Entry] | Problem]:
        """Yield rows in order of their times, sorting within a bounded look-ahead."""
        waiting: list[tuple[datetime, int, Entry]] = []
        columns: Columns | None = None
        now = datetime.now(UTC)
        for number, row in enumerate(read_rows(self.path)):
            if isinstance(row, Problem):
                yield row
                continue
            columns = columns or Columns.find(row.values, self.given)
            entry = columns.entry(row, self.platform or ("reddit" if "subreddit" in row.values else "news"))
            time = published_time(entry.published, now)
            heapq.heappush(waiting, (time, number, entry))
            if len(waiting) > _LOOKAHEAD:
                time, _, entry = heapq.heappop(waiting)
                yield time, entry
        while waiting:
            time, _, entry = heapq.heappop(waiting)
            yield time, entry


def _repeated(entry: Entry, number: int, time: datetime) -> Entry:
    """Return the entry as a further pass tells it."""
    url = f"{entry.url}{'&' if '?' in entry.url else '?'}pass={number}" if entry.url else ""
    return replace(entry, url=url, native_id=f"{entry.native_id or entry.title} pass {number}", published=time)


class _Clock:
    """Waits so that times pass at `speed`, counted from the first one."""

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._start: tuple[datetime, float] | None = None

    async def wait_for(self, time: datetime) -> None:
        """Return when `time` has come."""
        if not self._speed:
            return
        loop = asyncio.get_running_loop()
        if self._start is None:
            self._start = time, loop.time()
        first, started = self._start
        delay = started + (time - first).total_seconds() / self._speed - loop.time()
        if delay > 0:
            await asyncio.sleep(min(delay, sys.maxsize))
