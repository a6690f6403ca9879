"""Makes an `Item` of what a source found: canonical address, stable id, plain text, UTC times.

Pure: the time of arrival is passed in. What cannot become an item is refused with a reason that its source can report.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache
from urllib.parse import urlsplit

import tldextract
from w3lib.url import canonicalize_url, url_query_cleaner

from services.publisher import text
from shared import channels
from shared.errors import InvalidPayload
from shared.events import Engagement, Item

_TAG = re.compile(r"<[^>]{0,2000}>")
_SPACE = re.compile(r"\s+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
# Parameters that say where a reader came from, not what they read.
_TRACKING = tuple(
    """
    utm_source utm_medium utm_campaign utm_term utm_content utm_id fbclid gclid igshid mc_cid mc_eid cmpid ocid smid
    at_medium at_campaign xtor ref
    """.split()
)
# The copy of the public suffix list inside the wheel: no request leaves the process.
_suffixes = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

_MAX_TITLE = 1_000
_MAX_TEXT = 20_000
# A clock that is a little ahead is forgiven; a date in the far future would hold back every window.
_FUTURE = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Entry:
    """What a source found, as it found it. `where` names the place for reports, such as `feed.xml` or `file.csv:12`."""

    where: str
    platform: str
    title: str
    url: str = ""
    native_id: str = ""
    source: str = ""
    text: str = ""
    author: str = ""
    published: str | float | datetime | None = None
    hashtags: tuple[str, ...] = ()
    engagement: Mapping[str, int | None] = field(default_factory=dict)
    simulated: bool = False


def normalise(entry: Entry, now: datetime) -> Item:
    """Return the item behind `entry`, which arrived at `now`; raises InvalidPayload if there is none.

    A missing or future time becomes `now`; the id is that of the canonical address, or of the platform's own id where
    there is no address, so that the same item from two sources is one.
    """
    title = plain_text(entry.title, _MAX_TITLE)
    if not title:
        raise InvalidPayload("it has no title")
    if not channels.is_id(entry.platform):
        raise InvalidPayload(f"{entry.platform[:60]!r} is not a platform's name: letters, digits, '_' and '-'")
    url = canonical_url(entry.url) if entry.url else None
    body = plain_text(entry.text, _MAX_TEXT)
    source = source_name(entry.source, url) or entry.platform
    tags = (*entry.hashtags, *text.hashtags(entry.title), *text.hashtags(entry.text))
    return Item(
        id=item_id(url, entry.platform, entry.native_id or f"{source} {title}"),
        platform=entry.platform,
        source=source,
        title=title,
        url=url,
        text=body,
        author=plain_text(entry.author, 200) or None,
        published_at=published_time(entry.published, now),
        hashtags=tuple(dict.fromkeys(tag.lower().lstrip("#")[:60] for tag in tags if tag))[:20],
        engagement=Engagement.model_validate(dict(entry.engagement)) if entry.engagement else None,
        simulated=entry.simulated,
    )


def item_id(url: str | None, platform: str, native_id: str) -> str:
    """Return the id: 20 hexadecimal digits of a hash of the platform and the address, else the platform's own id.

    The platform counts because a page shared on another platform is another item: that it spread is what matters.
    """
    return hashlib.blake2b(f"{platform}\n{native_id if url is None else url}".encode(), digest_size=10).hexdigest()


def plain_text(markup: str, limit: int) -> str:
    """Return `markup` without tags, entities, control characters and doubled white space, cut to `limit` characters."""
    unescaped = html.unescape(_TAG.sub(" ", markup))
    # Feeds escape twice: what looks like markup only now is markup, too.
    if "<" in unescaped:
        unescaped = _TAG.sub(" ", unescaped)
    clean = _SPACE.sub(" ", _CONTROL.sub(" ", unescaped)).strip()
    return clean if len(clean) <= limit else clean[: limit - 1] + "…"


def canonical_url(url: str) -> str:
    """Return the address by which two links to the same page are equal; raises InvalidPayload if it is not one.

    By w3lib's canonical form (sorted query, no fragment, percent signs in one way), without parameters for tracking,
    without `www.` and in https, since outlets serve the same page either way.
    """
    stripped = url.strip()
    try:
        parts = urlsplit(stripped)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidPayload(f"{url[:100]!r} is not a web address")
        clean = canonicalize_url(url_query_cleaner(stripped, _TRACKING, remove=True))
        parts = urlsplit(clean)
        host = (parts.hostname or "").removeprefix("www.")
        port = f":{parts.port}" if parts.port not in (None, 80, 443) else ""
    except ValueError as error:
        raise InvalidPayload(f"{url[:100]!r} is not a web address: {error}") from error
    path = parts.path.rstrip("/")
    query = f"?{parts.query}" if parts.query else ""
    canonical = f"https://{host}{port}{path}{query}"
    if len(canonical) > 4_096:
        raise InvalidPayload("its address is longer than 4,096 characters")
    return canonical


def source_name(given: str, url: str | None) -> str:
    """Return who published: the registrable domain of the address, or of a given host; else the given name as it is."""
    host = urlsplit(url).hostname or "" if url is not None else ""
    given = plain_text(given, 253)
    if not host and _HOST.fullmatch(given.lower()):
        host = given.lower()
    return registrable_domain(host) if host else given


@lru_cache(maxsize=65_536)
def registrable_domain(host: str) -> str:
    """Return the part of `host` that somebody registered: `news.bbc.co.uk` is `bbc.co.uk`; an unknown host as it is."""
    parts = _suffixes(host)
    return f"{parts.domain}.{parts.suffix}" if parts.domain and parts.suffix else host.removeprefix("www.")


def published_time(given: str | float | datetime | None, now: datetime) -> datetime:
    """Return the time in UTC; `now` if it is missing, unreadable or lies in the future."""
    try:
        time = _read_time(given)
    except (ValueError, OverflowError, OSError):
        return now
    if time is None or time > now + _FUTURE:
        return now
    return time


def _read_time(given: str | float | datetime | None) -> datetime | None:
    if isinstance(given, str):
        given = given.strip()
        if not given:
            return None
        given = float(given) if _NUMBER.fullmatch(given) else _read_date(given)
    if isinstance(given, int | float):
        # Milliseconds since 1970 are past 10^11 for every date after 1973.
        return datetime.fromtimestamp(given / 1_000 if abs(given) > 1e11 else given, UTC)
    if given is None:
        return None
    return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)


def _read_date(given: str) -> datetime:
    try:
        return datetime.fromisoformat(given)
    except ValueError:
        return parsedate_to_datetime(given)  # RFC 5322, as RSS has it
