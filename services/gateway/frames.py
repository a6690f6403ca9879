"""WebSocket frames (RFC 6455 section 5): encode once for everybody, parse what one client sent.

Pure: bytes in, messages or bytes out. A parser exists only while something is half read.
"""

from __future__ import annotations

import codecs
import struct
import zlib
from typing import Final

from websockets.exceptions import ProtocolError
from websockets.frames import Close, Opcode
from websockets.utils import apply_mask

from shared.errors import PeerError
from shared.wire import CloseCode

TEXT: Final = int(Opcode.TEXT)
BINARY: Final = int(Opcode.BINARY)
CLOSE: Final = int(Opcode.CLOSE)
PING: Final = int(Opcode.PING)
PONG: Final = int(Opcode.PONG)
_CONTINUATION: Final = int(Opcode.CONT)

_FIN: Final = 0x80
_RSV1: Final = 0x40  # "per-message compressed", RFC 7692 section 6
_RSV2_RSV3: Final = 0x30
_MASKED: Final = 0x80
_CONTROL: Final = 0x08
_MAX_CONTROL: Final = 125

# RFC 7692 section 7.2.1: a compressed message is a deflate block without this tail.
_DEFLATE_TAIL: Final = b"\x00\x00\xff\xff"
_INFLATE_STEP: Final = 16_384

NO_STATUS: Final = 1005  # RFC 6455 section 7.1.5: "no code was in the frame"; never sent

Message = tuple[int, str | bytes]


def encode(opcode: int, payload: bytes, *, compressed: bool = False) -> bytes:
    """Return one final, unmasked frame, as servers send them (RFC 6455 section 5.1)."""
    first = _FIN | opcode | (_RSV1 if compressed else 0)
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", first, size) + payload
    if size < 65_536:
        return struct.pack("!BBH", first, 126, size) + payload
    return struct.pack("!BBQ", first, 127, size) + payload


def encode_text(payload: bytes) -> bytes:
    """Return a text frame; `payload` is UTF-8."""
    return encode(TEXT, payload)


def encode_close(code: int, reason: str = "") -> bytes:
    """Return a close frame; a reason too long for a control frame is cut."""
    if code == NO_STATUS:
        return encode(CLOSE, b"")
    text = reason.encode()[: _MAX_CONTROL - 2].decode(errors="ignore").encode()
    return encode(CLOSE, struct.pack("!H", code) + text)


def deflate(payload: bytes, level: int = 1) -> bytes:
    """Compress one message without context (RFC 7692 section 7.2.1), so that every receiver gets the same bytes."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)).removesuffix(_DEFLATE_TAIL)


def parse_close(payload: bytes) -> int:
    """Return a close frame's code, NO_STATUS if it has none; raises PeerError where RFC 6455 section 7.4 is broken."""
    try:
        close = Close.parse(payload)
        if payload:
            close.check()
    except ProtocolError as error:
        raise PeerError(CloseCode.PROTOCOL_ERROR, str(error)) from error
    except UnicodeDecodeError as error:
        raise PeerError(CloseCode.INVALID_DATA, "the close reason is not UTF-8") from error
    return int(close.code)


class Parser:
    """Turns what one client sends into whole messages.

    Feed it bytes as they come; it returns the messages completed by them: text as str, everything else as bytes, with
    their opcode. After PeerError the connection must be closed and the parser dropped. `limit` bounds a message in
    bytes, after inflating; `inflate` allows compressed messages.
    """

    __slots__ = ("_buffer", "_compressed", "_decoder", "_inflate", "_limit", "_opcode", "_parts", "_size")

    def __init__(self, limit: int, *, inflate: bool = False) -> None:
        self._limit, self._inflate = limit, inflate
        self._buffer = b""
        self._opcode = 0  # of the message whose fragments are being collected; 0 outside of one
        self._compressed = False
        self._parts: list[bytes] = []
        self._size = 0
        self._decoder: codecs.IncrementalDecoder | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is half read, so that the parser can be dropped."""
        return not self._buffer and not self._opcode

    @property
    def pending(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[Message]:
        """Return the messages that `data` completes; raises PeerError where the client breaks the protocol."""
        if self._buffer:
            data = self._buffer + data
        messages: list[Message] = []
        at, end = 0, len(data)
        while end - at >= 2:
            first, second = data[at], data[at + 1]
            header, size = 2, second & 0x7F
            self._check_head(first, second, size)
            if size == 126:
                header = 4
                if end - at < header:
                    break
                (size,) = struct.unpack_from("!H", data, at + 2)
            elif size == 127:
                header = 10
                if end - at < header:
                    break
                (size,) = struct.unpack_from("!Q", data, at + 2)
            if size + self._size > self._limit:
                raise PeerError(CloseCode.TOO_BIG, f"a message may have {self._limit} bytes")
            start = at + header + 4
            if end < start + size:
                break
            payload = apply_mask(data[start : start + size], data[start - 4 : start]) if size else b""
            at = start + size
            message = self._frame(first, payload)
            if message is not None:
                messages.append(message)
                if message[0] == CLOSE:
                    at = end  # RFC 6455 section 5.5.1: nothing after a close frame counts
        self._buffer = data[at:]
        return messages

    def _check_head(self, first: int, second: int, size: int) -> None:
        opcode = first & 0x0F
        if not second & _MASKED:
            raise PeerError(CloseCode.PROTOCOL_ERROR, "clients must mask their frames")
        if first & _RSV2_RSV3:
            raise PeerError(CloseCode.PROTOCOL_ERROR, "a reserved bit is set")
        if first & _RSV1 and (not self._inflate or opcode not in (TEXT, BINARY)):
            raise PeerError(CloseCode.PROTOCOL_ERROR, "a compressed frame where none is allowed")
        if opcode & _CONTROL:
            if opcode > PONG:
                raise PeerError(CloseCode.PROTOCOL_ERROR, f"opcode {opcode} is reserved")
            if not first & _FIN or size > _MAX_CONTROL:
                raise PeerError(CloseCode.PROTOCOL_ERROR, "a control frame must be whole and short")
        elif opcode > BINARY:
            raise PeerError(CloseCode.PROTOCOL_ERROR, f"opcode {opcode} is reserved")
        elif (opcode == _CONTINUATION) != bool(self._opcode):
            raise PeerError(CloseCode.PROTOCOL_ERROR, "fragments out of order")

    def _frame(self, first: int, payload: bytes) -> Message | None:
        opcode = first & 0x0F
        if opcode & _CONTROL:
            return opcode, payload
        final = bool(first & _FIN)
        if opcode != _CONTINUATION:
            self._compressed = bool(first & _RSV1)
            if final:
                return opcode, self._whole(opcode, payload)
            self._opcode = opcode
            if opcode == TEXT and not self._compressed:
                # Fragments are checked as they come, so that bad text fails at once (Autobahn 6.3, 6.4).
                self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._parts.append(payload)
        self._size += len(payload)
        if self._decoder is not None:
            _decode(self._decoder, payload, final)
        if not final:
            return None
        opcode, whole = self._opcode, b"".join(self._parts)
        self._opcode, self._parts, self._size, self._decoder = 0, [], 0, None
        return opcode, self._whole(opcode, whole)

    def _whole(self, opcode: int, payload: bytes) -> str | bytes:
        if self._compressed:
            payload = inflate(payload, self._limit)
        if opcode == BINARY:
            return payload
        try:
            return payload.decode()
        except UnicodeDecodeError as error:
            raise PeerError(CloseCode.INVALID_DATA, "text must be UTF-8") from error


def inflate(payload: bytes, limit: int) -> bytes:
    """Return the message behind a compressed payload (RFC 7692 section 7.2.2).

    Raises PeerError if it grows past `limit` bytes, having inflated no more than that, or is not deflate data.
    """
    decompressor = zlib.decompressobj(-15)
    parts: list[bytes] = []
    size, rest = 0, payload + _DEFLATE_TAIL
    try:
        while rest:
            part = decompressor.decompress(rest, min(_INFLATE_STEP, limit + 1 - size))
            size += len(part)
            if size > limit:
                raise PeerError(CloseCode.TOO_BIG, f"a message may have {limit} bytes")
            parts.append(part)
            if not part and decompressor.unconsumed_tail == rest:
                break
            rest = decompressor.unconsumed_tail
    except zlib.error as error:
        raise PeerError(CloseCode.INVALID_DATA, "the compressed message is damaged") from error
    return b"".join(parts)


def _decode(decoder: codecs.IncrementalDecoder, payload: bytes, final: bool) -> None:
    try:
        decoder.decode(payload, final)
    except UnicodeDecodeError as error:
        raise PeerError(CloseCode.INVALID_DATA, "text must be UTF-8") from error
