"""RSS and Atom feeds: conditional GET, a pause per feed that grows with its failures, a bound on feeds read at a time.

A feed that cannot be read or parsed is a problem of that feed alone; the others go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import struct_time
from typing import Any

import feedparser
import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.publisher.normalise import Entry
from services.publisher.sources import Problem
from shared import logs
from shared.errors import StartupFailed
from shared.events import Id
from shared.tasks import end

log = logs.get(__name__)

_MAX_BACKOFF = 6 * 3_600.0
_USER_AGENT = "veracity-realtime/1 (+feed reader; conditional GET)"


class Feed(BaseModel):
    """One feed of the list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str = Field(pattern="^https?://")
    platform: Id = "news"
    source: str = ""


class _FeedList(BaseModel):
    model_config = ConfigDict(extra="forbid")

    feed: list[Feed] = Field(min_length=1)


def load_feeds(path: Path) -> Sequence[Feed]:
    """Return the feeds in a TOML file of `[[feed]]` tables; raises StartupFailed saying what is wrong with it."""
    try:
        with path.open("rb") as file:
            return _FeedList.model_validate(tomllib.load(file)).feed
    except OSError as error:
        raise StartupFailed(f"the feed list {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise StartupFailed(f"the feed list {path} is not usable: {error}") from error


@dataclass(slots=True)
class _State:
    """What is known of a feed between two reads."""

    feed: Feed
    etag: str | None = None
    modified: str | None = None
    failures: int = 0


def pause(interval: float, failures: int) -> float:
    """Return the seconds until a feed is read again: doubled with each failure in a row, six hours at most."""
    return min(_MAX_BACKOFF, interval * 2.0 ** min(failures, 20)) if failures else interval


class Feeds:
    """All feeds of a list, read for ever."""

    name = "feeds"

    def __init__(
        self,
        feeds: Sequence[Feed],
        *,
        interval: float,
        concurrency: int,
        timeout: float,
        max_bytes: int,
    ) -> None:
        self._states = [_State(feed) for feed in feeds]
        self._interval, self._timeout, self._max_bytes = interval, timeout, max_bytes
        self._slots = asyncio.Semaphore(concurrency)
        self._found: asyncio.Queue[Entry | Problem] = asyncio.Queue(maxsize=256)
        self._tried: set[str] = set()
        self.reached = asyncio.Event()  # some feed has answered
        self.all_tried = asyncio.Event()

    async def read(self) -> AsyncIterator[Entry | Problem]:
        """Yield entries and problems of all feeds as they come."""
        async with httpx.AsyncClient(
            timeout=self._timeout, follow_redirects=True, headers={"user-agent": _USER_AGENT}
        ) as client:
            readers = [asyncio.create_task(self._follow(client, state)) for state in self._states]
            try:
                while True:
                    yield await self._found.get()
            finally:
                await end(*readers)

    async def _follow(self, client: httpx.AsyncClient, state: _State) -> None:
        while True:
            async with self._slots:
                found = await self._poll(client, state)
            for one in found:
                await self._found.put(one)
            self._tried.add(state.feed.url)
            if len(self._tried) == len(self._states):
                self.all_tried.set()
            await asyncio.sleep(pause(self._interval, state.failures))

    async def _poll(self, client: httpx.AsyncClient, state: _State) -> Sequence[Entry | Problem]:
        url = state.feed.url
        headers = {"if-none-match": state.etag, "if-modified-since": state.modified}
        try:
            async with client.stream("GET", url, headers={k: v for k, v in headers.items() if v}) as response:
                self.reached.set()
                if response.status_code == httpx.codes.NOT_MODIFIED:
                    state.failures = 0
                    return ()
                response.raise_for_status()
                content = await self._content(response)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            state.failures += 1
            return (Problem(url, f"{type(error).__name__}: {error}"[:300]),)
        state.failures = 0
        state.etag, state.modified = response.headers.get("etag"), response.headers.get("last-modified")
        # Broken feeds can keep the parser busy for a while: not on the loop that serves /healthz.
        return await asyncio.to_thread(lambda: list(parse_feed(content, state.feed, dict(response.headers))))

    async def _content(self, response: httpx.Response) -> bytes:
        parts, size = [], 0
        async for part in response.aiter_bytes():
            size += len(part)
            if size > self._max_bytes:
                raise ValueError(f"the feed is larger than {self._max_bytes} bytes")
            parts.append(part)
        return b"".join(parts)


def parse_feed(content: bytes, feed: Feed, headers: dict[str, str] | None = None) -> Iterator[Entry | Problem]:
    """Yield the entries of a feed document, whatever its dialect; a problem where it holds none or one is unusable."""
    try:
        # Addresses relative to the feed's own are resolved against it; nothing is fetched.
        parsed: Any = feedparser.parse(content, response_headers={"content-location": feed.url, **(headers or {})})
    except Exception as error:  # feedparser's dependencies raise whatever a broken document makes them raise
        yield Problem(feed.url, f"not a feed: {error!r}"[:300])
        return
    if not parsed.entries and parsed.get("bozo"):
        yield Problem(feed.url, f"not a feed: {parsed.get('bozo_exception')!r}"[:300])
        return
    for number, raw in enumerate(parsed.entries, 1):
        where = f"{feed.url}#{number}"
        try:
            yield _entry(raw, feed, where)
        except (TypeError, ValueError, AttributeError) as error:
            yield Problem(where, f"entry not usable: {error}"[:300])


def _entry(raw: Any, feed: Feed, where: str) -> Entry:  # Any: feedparser's dictionaries have no types
    link = str(raw.get("link") or "")
    return Entry(
        where=where,
        platform=feed.platform,
        title=str(raw.get("title") or raw.get("summary") or "")[:4_000],
        url=link if link.startswith(("http://", "https://")) else "",
        native_id=str(raw.get("id") or ""),
        source=feed.source,
        text=str(raw.get("summary") or ""),
        author=str(raw.get("author") or ""),
        # The dictionary's own `get` maps names onto one another, with warnings: here each is meant as it is.
        published=_time(dict.get(raw, "published_parsed") or dict.get(raw, "updated_parsed")),
        hashtags=tuple(str(tag.get("term")) for tag in raw.get("tags", ()) if _is_hashtag(tag.get("term"))),
    )


def _is_hashtag(term: object) -> bool:
    return isinstance(term, str) and term.startswith("#") and " " not in term


def _time(parsed: struct_time | None) -> datetime | None:
    if parsed is None:
        return None
    with contextlib.suppress(ValueError):  # such as the 31st of June
        time = datetime(*parsed[:6], tzinfo=UTC)
        return time if math.isfinite(time.timestamp()) else None
    return None
