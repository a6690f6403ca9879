"""WebSocket frames: literal bytes of RFC 6455, what breaks the protocol, and any split of any message."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway import frames
from services.gateway.frames import BINARY, CLOSE, PING, TEXT, Message, Parser
from shared.errors import PeerError
from shared.wire import CloseCode

MASK = b"\x37\xfa\x21\x3d"


def masked(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bytes = MASK) -> bytes:
    """Return a frame as a client sends it."""
    first = (0x80 if fin else 0) | rsv | opcode
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, 0x80 | size)
    elif size < 65_536:
        head = struct.pack("!BBH", first, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, size)
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + body


def parse(data: bytes, limit: int = 65_536, *, inflate: bool = False) -> list[Message]:
    return Parser(limit, inflate=inflate).feed(data)


def failure(data: bytes, limit: int = 65_536, *, inflate: bool = False) -> int:
    with pytest.raises(PeerError) as caught:
        parse(data, limit, inflate=inflate)
    return caught.value.close_code


def test_the_masked_hello_of_rfc_6455_section_5_7() -> None:
    assert parse(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == [(TEXT, "Hello")]


def test_the_unmasked_hello_of_rfc_6455_section_5_7() -> None:
    assert frames.encode_text(b"Hello") == b"\x81\x05Hello"


@pytest.mark.parametrize(("size", "head"), [(125, 2), (126, 4), (65_535, 4), (65_536, 10)])
def test_the_header_grows_with_the_payload(size: int, head: int) -> None:
    assert len(frames.encode_text(b"x" * size)) == head + size


def test_fragments_are_one_message_and_control_frames_may_come_between() -> None:
    data = masked(TEXT, b"Hel", fin=False) + masked(PING, b"?") + masked(0, b"lo")
    assert parse(data) == [(PING, b"?"), (TEXT, "Hello")]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x81\x05Hello", "not masked"),
        (masked(TEXT, b"x", rsv=0x20), "reserved bit"),
        (masked(TEXT, b"x", rsv=0x40), "compressed without agreement"),
        (masked(3, b"x"), "reserved opcode"),
        (masked(11, b"x"), "reserved control opcode"),
        (masked(PING, b"x" * 126), "long control frame"),
        (masked(PING, b"x", fin=False), "fragmented control frame"),
        (masked(0, b"x"), "continuation of nothing"),
        (masked(TEXT, b"a", fin=False) + masked(TEXT, b"b"), "message inside a message"),
    ],
)
def test_breaking_the_protocol_ends_the_connection(data: bytes, why: str) -> None:
    assert failure(data) == CloseCode.PROTOCOL_ERROR, why


def test_text_that_is_not_utf8_ends_the_connection() -> None:
    assert failure(masked(TEXT, b"\xff")) == CloseCode.INVALID_DATA


def test_text_that_is_not_utf8_is_noticed_in_its_first_fragment() -> None:
    assert failure(masked(TEXT, b"\xff", fin=False)) == CloseCode.INVALID_DATA


def test_a_character_may_be_split_between_fragments() -> None:
    euro = "€".encode()
    assert parse(masked(TEXT, euro[:1], fin=False) + masked(0, euro[1:])) == [(TEXT, "€")]


@pytest.mark.parametrize("size", [11, 200, 70_000])
def test_a_message_past_the_limit_is_refused_at_its_header(size: int) -> None:
    header_only = masked(TEXT, b"x" * size)[:14]
    assert failure(header_only, limit=10) == CloseCode.TOO_BIG


def test_fragments_count_together_towards_the_limit() -> None:
    assert failure(masked(TEXT, b"x" * 6, fin=False) + masked(0, b"x" * 6), limit=10) == CloseCode.TOO_BIG


def test_a_compressed_message_is_inflated() -> None:
    text = b"the same words, the same words, the same words"
    assert parse(masked(TEXT, frames.deflate(text), rsv=0x40), inflate=True) == [(TEXT, text.decode())]


def test_a_zip_bomb_is_refused_before_it_is_inflated() -> None:
    bomb = frames.deflate(b"\0" * 50_000_000)
    assert len(bomb) < 300_000
    assert failure(masked(BINARY, bomb, rsv=0x40), limit=1_000_000, inflate=True) == CloseCode.TOO_BIG


def test_damaged_compression_ends_the_connection() -> None:
    assert failure(masked(TEXT, b"\xff\xff\xff", rsv=0x40), inflate=True) == CloseCode.INVALID_DATA


def test_deflate_leaves_no_tail_and_can_be_read_by_zlib() -> None:
    packed = frames.deflate(b"abc" * 100)
    assert zlib.decompressobj(-15).decompress(packed + b"\x00\x00\xff\xff") == b"abc" * 100


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"", 1005), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001), (b"\x0f\xa0mine", 4000)],
)
def test_close_codes_are_read(payload: bytes, code: int) -> None:
    assert frames.parse_close(payload) == code


@pytest.mark.parametrize("payload", [b"\x03", b"\x03\xed", b"\x03\xee", b"\x00\x00", b"\x03\xe7", b"\xff\xff"])
def test_close_codes_that_must_not_be_sent_break_the_protocol(payload: bytes) -> None:
    with pytest.raises(PeerError) as caught:
        frames.parse_close(payload)
    assert caught.value.close_code == CloseCode.PROTOCOL_ERROR


def test_a_long_close_reason_is_cut_between_characters() -> None:
    frame = frames.encode_close(1000, "€" * 100)
    assert frame[1] <= 125
    frame[4:].decode()


@given(st.lists(st.text(max_size=300), max_size=5), st.data())
def test_however_the_bytes_are_cut_the_same_messages_come_out(texts: list[str], data: st.DataObject) -> None:
    stream = b"".join(masked(TEXT, text.encode()) for text in texts)
    parser, got, at = Parser(65_536), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, 64))
        got += parser.feed(stream[at : at + step])
        at += step
    assert got == [(TEXT, text) for text in texts]
    assert parser.idle


@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_at_all_crash_the_parser(data: bytes, inflate: bool) -> None:
    try:
        parse(data, 1_000, inflate=inflate)
    except PeerError as error:
        assert error.close_code in (CloseCode.PROTOCOL_ERROR, CloseCode.INVALID_DATA, CloseCode.TOO_BIG)


@given(st.binary(max_size=2_000))
def test_inflate_returns_what_deflate_was_given(payload: bytes) -> None:
    assert frames.inflate(frames.deflate(payload), 2_000) == payload


def test_close_frames_come_out_of_the_parser_as_bytes() -> None:
    assert parse(masked(CLOSE, b"\x03\xe8")) == [(CLOSE, b"\x03\xe8")]
