"""Sources: replay files by any column names, feeds of any dialect, the newsroom; and a role's checkpoint."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.publisher.checkpoint import Checkpoint, decode, encode
from services.publisher.normalise import Entry, normalise
from services.publisher.sources import Problem, Source
from services.publisher.sources.feeds import Feed, load_feeds, parse_feed, pause
from services.publisher.sources.newsroom import OUTLETS, Newsroom
from services.publisher.sources.replay import Columns, Replay, Row, read_rows
from shared.errors import StartupFailed
from tests.support.services import DATA

FEED = Feed(url="https://feeds.example/rss")


async def collect(source: Source, count: int = 1_000) -> tuple[list[Entry], list[Problem]]:
    entries: list[Entry] = []
    problems: list[Problem] = []
    async for found in source.read():
        if isinstance(found, Entry):
            entries.append(found)
        else:
            problems.append(found)
        if len(entries) == count:
            break
    return entries, problems


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_columns_are_found_by_common_names_and_by_the_ones_given() -> None:
    found = Columns.find(dict.fromkeys(("Headline", "Link", "first_seen_at", "outlet")), {})
    assert found.names == {"title": "Headline", "url": "Link", "published": "first_seen_at", "source": "outlet"}
    given_names = Columns.find(dict.fromkeys(("a", "b")), {"title": "a", "published": "b"})
    assert given_names.names == {"title": "a", "published": "b"}


@pytest.mark.parametrize(
    ("columns", "given_names"), [(("a", "b"), {}), (("title",), {"titel": "a"}), (("a",), {"title": "b"})]
)
def test_a_file_without_a_title_and_a_mapping_that_means_nothing_are_refused(
    columns: tuple[str, ...], given_names: dict[str, str]
) -> None:
    with pytest.raises(StartupFailed, match="--map"):
        Columns.find(dict.fromkeys(columns), given_names)


def test_a_retimed_column_wins_over_the_time_it_was_made_from() -> None:
    assert Columns.find(dict.fromkeys(("title", "published_at", "retimed_at")), {}).names["published"] == "retimed_at"


async def test_rows_come_in_order_of_their_times_and_broken_ones_are_reported_with_their_line(tmp_path: Path) -> None:
    path = write(
        tmp_path / "news.csv",
        'title,date,url\nLate,2026-01-01T02:00:00Z,https://a.example/2\n"broken"\n'
        "Early,2026-01-01T01:00:00Z,https://a.example/1\nfour,fields,are,toomany\n",
    )
    entries, problems = await collect(Replay(path, speed=0))
    assert [entry.title for entry in entries] == ["Early", "Late"]
    assert [problem.where for problem in problems] == ["news.csv:3", "news.csv:5"]


async def test_json_lines_are_read_and_broken_ones_are_reported(tmp_path: Path) -> None:
    lines = [json.dumps({"title": "A", "created_at": 1_767_225_600, "tags": ["x"], "score": "7"}), "{", "", "[1]"]
    path = write(tmp_path / "posts.jsonl", "\n".join(lines))
    entries, problems = await collect(Replay(path, speed=0, platform="social"))
    assert entries[0].platform == "social"
    assert entries[0].hashtags == ("x",)
    assert entries[0].engagement == {"score": 7}
    assert entries[0].published == datetime(2026, 1, 1, tzinfo=UTC)
    assert [problem.where for problem in problems] == ["posts.jsonl:2", "posts.jsonl:4"]


async def test_the_spacing_of_the_file_is_kept_at_the_speed_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "n.csv", "title,date\na,2026-01-01T00:00:00Z\nb,2026-01-01T00:01:00Z\n")
    started = asyncio.get_running_loop().time()
    await collect(Replay(path, speed=300))
    assert 0.19 <= asyncio.get_running_loop().time() - started < 2.0


async def test_a_second_pass_tells_the_same_news_as_new_and_later(tmp_path: Path) -> None:
    path = write(
        tmp_path / "n.csv",
        "title,date,url\na,2026-01-01T00:00:00Z,https://a.example/1\nb,2026-01-01T01:00:00Z,https://a.example/2?x=1\n",
    )
    entries, _ = await collect(Replay(path, speed=0, loop=True), count=4)
    now = datetime(2026, 6, 1, tzinfo=UTC)
    items = [normalise(entry, now) for entry in entries]
    assert len({item.id for item in items}) == 4
    assert items[2].published_at - items[0].published_at == timedelta(hours=2)
    assert sorted(items, key=lambda item: item.published_at) == items


@pytest.mark.parametrize("content", ["", "title\n", "\n\n"])
def test_a_file_without_rows_is_refused_at_once(tmp_path: Path, content: str) -> None:
    with pytest.raises(StartupFailed, match="no row"):
        Replay(write(tmp_path / "empty.csv", content)).check()


def test_a_file_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(StartupFailed, match="cannot be read"):
        Replay(tmp_path / "missing.csv").check()


@given(st.binary(max_size=300))
def test_no_file_crashes_the_reader(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any"
        path.write_bytes(data)
        for row in read_rows(path):
            assert isinstance(row, Row | Problem)


RSS = b"""<?xml version="1.0"?><rss version="2.0"><channel><title>T</title>
<item><title>Dam &amp; bridge</title><link>https://a.example/1</link><pubDate>Sun, 01 Mar 2026 11:00:00 GMT</pubDate>
<description>&lt;p&gt;Water&lt;/p&gt;</description><guid>g1</guid></item>
<item><description>no title, but words</description></item></channel></rss>"""
ATOM = b"""<feed xmlns="http://www.w3.org/2005/Atom"><title>T</title><entry><title>Dam</title><id>urn:1</id>
<link href="/2"/><updated>2026-03-01T11:00:00Z</updated></entry></feed>"""


def test_rss_and_atom_become_entries() -> None:
    first, second = parse_feed(RSS, FEED)
    assert isinstance(first, Entry)
    assert (first.title, first.url, first.native_id) == (
        "Dam & bridge",
        "https://a.example/1",
        "https://feeds.example/g1",
    )
    assert first.published == datetime(2026, 3, 1, 11, tzinfo=UTC)
    assert isinstance(second, Entry)
    assert second.title == "no title, but words"
    (atom,) = parse_feed(ATOM, FEED)
    assert isinstance(atom, Entry)
    assert atom.url == "https://feeds.example/2"


@pytest.mark.parametrize("content", [b"", b"<html><body>Not found</body></html>", b"\x00\xff", b"{}", b"<rss>"])
def test_what_is_no_feed_is_a_problem_or_nothing_but_never_a_crash(content: bytes) -> None:
    assert all(isinstance(found, Problem) for found in parse_feed(content, FEED))


@pytest.mark.skipif(not (DATA / "feed_files").is_dir(), reason="../shared/data/feed_files is not here")
def test_every_odd_feed_of_the_collection_is_read_or_reported() -> None:
    files = sorted((DATA / "feed_files").glob("*/*.xml")) + sorted((DATA / "feed_files").glob("*/*.rss"))
    assert len(files) > 400
    now = datetime(2026, 3, 1, tzinfo=UTC)
    with_items = 0
    for path in files:
        found = list(parse_feed(path.read_bytes(), FEED))
        with_items += any(isinstance(one, Entry) for one in found)
        for one in found:
            if isinstance(one, Entry):
                try:
                    normalise(one, now)
                except ValueError as error:
                    pytest.fail(f"{path.name}: {error}")
                except Exception as error:
                    assert "title" in str(error) or "web address" in str(error), path.name
    assert with_items > 280


def test_a_failing_feed_is_asked_less_and_less_often() -> None:
    assert [pause(300.0, failures) for failures in range(4)] == [300.0, 600.0, 1_200.0, 2_400.0]
    assert pause(300.0, 1_000) == 6 * 3_600.0


@pytest.mark.parametrize(
    "content", ["feed = 3", "[[feed]]\nurl = 'ftp://x'", "[[feed]]\nuri = 'https://x'", "", "[[feed"]
)
def test_a_feed_list_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(StartupFailed, match="feed list"):
        load_feeds(write(tmp_path / "feeds.toml", content))


def test_the_list_make_run_uses_can_be_read() -> None:
    feeds = load_feeds(Path(__file__).parents[3] / "deploy" / "local" / "feeds.toml")
    assert len(feeds) >= 10


def test_the_newsroom_marks_every_item_as_simulated_and_uses_domains_nobody_owns() -> None:
    newsroom = Newsroom(seed=1)
    now = datetime(2026, 3, 1, tzinfo=UTC)
    entries = [newsroom.compose(now) for _ in range(300)]
    assert all(entry.simulated for entry in entries)
    assert all(outlet.domain.endswith(".example") for outlet in OUTLETS)
    assert len({normalise(entry, now).id for entry in entries}) == 300
    again = Newsroom(seed=1)
    assert entries == [again.compose(now) for _ in range(300)]


def test_a_checkpoint_is_read_back_and_anything_else_is_not() -> None:
    checkpoint = Checkpoint(42, "2026-01-01T00:00:00+00:00", b"memory" * 100)
    assert decode(encode(checkpoint)) == checkpoint
    for damaged in (b"", b"x", encode(checkpoint)[:-3], encode(checkpoint).replace(b"42 ", b"4x ")):
        assert decode(damaged) is None
