"""From what a source found to an item: words, names, addresses, times, repeats."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.publisher import text
from services.publisher.dedupe import Seen
from services.publisher.normalise import Entry, canonical_url, normalise, plain_text, published_time, registrable_domain
from shared.errors import InvalidPayload

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ENTRY = Entry(where="test:1", platform="news", title="Dam leaks", url="https://news.example/dam")


@pytest.mark.parametrize(
    ("forms", "key"),
    [
        (("stop", "stops", "stopped", "stopping"), "stop"),
        (("story", "stories"), "story"),
        (("crash", "crashed", "crashing"), "crash"),
        (("status",), "status"),
        (("bus",), "bus"),
    ],
)
def test_forms_of_a_word_have_one_stem(forms: tuple[str, ...], key: str) -> None:
    assert {text.stem(form) for form in forms} == {key}


def test_names_are_runs_of_capitals_inside_a_headline() -> None:
    assert text.names("The gunman fled Highland Park before police came, Maria Lopez said on air today") == [
        "Highland Park",
        "Maria Lopez",
    ]


def test_a_headline_in_title_case_tells_no_names() -> None:
    assert text.names("Gunman Kills Six During Parade") == []


def test_terms_are_hashtags_names_words_and_pairs() -> None:
    keys = {term.key for term in text.terms("Flood hits Port Alder harbour", ["flood"])}
    assert {"#flood", "port alder", "flood", "harbour", "alder harbour"} <= keys
    assert not {"the", "2026"} & {term.key for term in text.terms("The year 2026 in the news")}


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTP://www.Example.com:80/a/?utm_source=x&b=2&a=1#part", "https://example.com/a?a=1&b=2"),
        ("https://example.com", "https://example.com"),
        ("https://example.com:8443/x", "https://example.com:8443/x"),
        (" https://example.com/a%7eb ", "https://example.com/a~b"),
        ("https://example.com/?fbclid=1", "https://example.com"),
    ],
)
def test_links_to_the_same_page_are_equal(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical
    assert canonical_url(canonical) == canonical


@pytest.mark.parametrize(
    "url", ["ftp://x.example/a", "javascript:alert(1)", "https://", "nonsense", "https://[::1", ""]
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidPayload):
        canonical_url(url)


@given(st.text(max_size=60))
def test_no_address_crashes(url: str) -> None:
    try:
        assert canonical_url(url).startswith("https://")
    except InvalidPayload:
        pass


@pytest.mark.parametrize(
    ("host", "domain"),
    [
        ("news.bbc.co.uk", "bbc.co.uk"),
        ("www.example.com", "example.com"),
        ("localhost", "localhost"),
        ("1.2.3.4", "1.2.3.4"),
    ],
)
def test_the_registrable_domain_follows_the_public_suffix_list(host: str, domain: str) -> None:
    assert registrable_domain(host) == domain


@pytest.mark.parametrize(
    ("given_time", "time"),
    [
        ("2026-03-01T11:00:00Z", NOW - timedelta(hours=1)),
        ("2026-03-01 11:00:00", NOW - timedelta(hours=1)),
        ("Sun, 01 Mar 2026 12:00:00 +0100", NOW - timedelta(hours=1)),
        (NOW.timestamp(), NOW),
        (NOW.timestamp() * 1_000, NOW),
        (str(int(NOW.timestamp())), NOW),
        ("soon", NOW),
        ("", NOW),
        (None, NOW),
        ("nan", NOW),
        (1e300, NOW),
        ("9999-01-01T00:00:00Z", NOW),
    ],
)
def test_times_are_read_as_sources_write_them(given_time: str | float | None, time: datetime) -> None:
    assert published_time(given_time, NOW) == time


@given(st.one_of(st.none(), st.text(max_size=30), st.floats()))
def test_no_time_crashes_or_lies_in_the_future(given_time: str | float | None) -> None:
    assert published_time(given_time, NOW) <= NOW + timedelta(minutes=10)


def test_markup_entities_and_control_characters_become_plain_text() -> None:
    assert plain_text("<b>A &amp; B</b>\x00\n  &lt;i&gt;C&lt;/i&gt;", 100) == "A & B C"
    assert plain_text("x" * 50, 10) == "x" * 9 + "…"


def test_the_same_page_is_one_item_on_a_platform_and_another_on_the_next() -> None:
    one = normalise(ENTRY, NOW)
    again = normalise(replace(ENTRY, url="http://www.news.example/dam?utm_source=feed", title="Dam leaks!"), NOW)
    shared = normalise(replace(ENTRY, platform="reddit"), NOW)
    assert one.id == again.id
    assert shared.id != one.id
    assert shared.source == one.source == "news.example"


def test_without_an_address_the_platforms_own_id_counts() -> None:
    first = normalise(replace(ENTRY, url="", native_id="77", source="@ann"), NOW)
    assert first.id == normalise(replace(ENTRY, url="", native_id="77", title="edited", source="@ann"), NOW).id
    assert first.url is None
    assert first.source == "@ann"


def test_hashtags_come_from_title_and_text() -> None:
    item = normalise(replace(ENTRY, title="Dam leaks #Flood", text="stay safe #flood #PortAlder"), NOW)
    assert item.hashtags == ("flood", "portalder")


@pytest.mark.parametrize("wrong", [{"title": " <br> "}, {"url": "mailto:a@b"}, {"platform": "a b"}, {"platform": ""}])
def test_what_cannot_be_an_item_is_refused_with_a_reason(wrong: dict[str, str]) -> None:
    with pytest.raises(InvalidPayload):
        normalise(replace(ENTRY, **wrong), NOW)  # type: ignore[arg-type]  # a table of fields


def test_only_the_newest_ids_are_remembered() -> None:
    seen = Seen(2)
    assert seen.add("a")
    assert seen.add("b")
    assert not seen.add("a"), "seeing one again keeps it"
    assert seen.add("c")
    assert "b" not in seen
    assert seen.newest(1) == ["c"]
    seen.forget("c")
    assert seen.add("c")
