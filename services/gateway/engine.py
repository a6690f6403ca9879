"""Parked sockets: one poller for all, one `write` per client and turn of the loop, a bounded backlog for the slow.

The only module that reads from and writes to client sockets. It knows frames and groups of connections; what they mean
is the application's business (`Application`), so anything can be mounted on it.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any, Protocol

from services.gateway import frames
from services.gateway.backlog import Backlog
from services.gateway.frames import Parser
from services.gateway.poller import READ, WRITE, Poller, new_poller
from services.gateway.wheel import Wheel
from shared import logs
from shared.errors import PeerError
from shared.wire import CloseCode

log = logs.get(__name__)

# A client that floods has its messages read a few at a time, in turns with all others; a large one is read at once.
_READ_SIZE = 2_048
_READ_MORE = 65_536
_POLL_BATCH = 128
# A fan-out gives the loop back after this long; a write takes about 10 us, so the clock is asked every 32 of them.
_SLICE_SECONDS = 0.004
_SLICE_CHECK = 32
_GOODBYE_SECONDS = 1.0  # for a client to read why nobody listens to it any more
_CLOSE_TIMEOUT = 5.0  # seconds a closing handshake may take before the socket is dropped
ABNORMAL = 1006  # RFC 6455 section 7.1.5: "gone without a close frame"; never sent


class Phase(IntEnum):
    """Where a connection stands: OPEN → CLOSING (our close frame is out) → CLOSED; also OPEN → CLOSED.

    DEAF is CLOSING without waiting for an answer: nothing is read any more.
    """

    OPEN = 0
    CLOSING = 1
    DEAF = 2
    CLOSED = 3


class Connection:
    """One parked socket; while it is idle it owns nothing but these slots."""

    __slots__ = ("backlog", "close_code", "conflate", "context", "deflate", "fd", "heard", "parser", "phase", "pinged")

    def __init__(self, fd: int, heard: int, *, deflate: bool, conflate: bool) -> None:
        self.fd = fd
        self.context: Any = None  # the application's own
        self.phase = Phase.OPEN
        self.heard = heard  # tick of the last frame from the client
        self.pinged = heard  # tick of the last heartbeat to it
        self.deflate = deflate
        self.conflate = conflate
        # Not None while the socket takes nothing more; the fan-out's fast path asks only for this.
        self.backlog: Backlog | None = None
        self.parser: Parser | None = None
        self.close_code = 0

    def __repr__(self) -> str:
        return f"<Connection fd={self.fd} {self.phase.name}{f' {self.backlog!r}' if self.backlog else ''}>"


class Application(Protocol):
    """What is mounted on the engine. Calls come on the event loop; none of them may block."""

    def received(self, connection: Connection, message: str | bytes) -> None:
        """The client sent a whole message: str for text, bytes for binary."""

    def closed(self, connection: Connection, code: int) -> None:
        """The connection is gone; it is in no group any more that the application removes it from now."""

    def heartbeat(self, connection: Connection) -> bytes | None:
        """Return the frame to ping `connection` with now, None for no ping."""

    def caught_up(self, connection: Connection, conflated: int) -> None:
        """The connection was slow and has read all that waited; `conflated` frames were replaced by newer ones."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One message encoded for everybody: plain, and compressed where it pays."""

    plain: bytes
    deflated: bytes | None = None
    key: Hashable | None = None  # of what it is the newest state; see Backlog

    def bytes_for(self, connection: Connection) -> bytes:
        """Return what goes out on this connection."""
        return self.deflated if self.deflated is not None and connection.deflate else self.plain


class Batch:
    """The frames of one turn for one set of connections, joined once."""

    __slots__ = ("deflated", "frames", "plain")

    def __init__(self, batch: Sequence[Frame]) -> None:
        self.frames = tuple(batch)
        self.plain = b"".join([frame.plain for frame in batch])
        self.deflated: bytes | None = None
        if any(frame.deflated is not None for frame in batch):
            self.deflated = b"".join([frame.plain if frame.deflated is None else frame.deflated for frame in batch])


class Group:
    """Connections that receive the same frames; the frames of one turn wait in `pending` until its end."""

    __slots__ = ("_snapshot", "members", "pending")

    def __init__(self) -> None:
        self.members: set[Connection] = set()
        self.pending: list[Frame] = []
        self._snapshot: list[Connection] | None = None

    def add(self, connection: Connection) -> None:
        """Let `connection` receive what is posted from now on."""
        self.members.add(connection)
        self._snapshot = None

    def discard(self, connection: Connection) -> None:
        """Let `connection` receive nothing more."""
        self.members.discard(connection)
        self._snapshot = None

    def snapshot(self) -> list[Connection]:
        """Return the members as a list that later joins and leaves do not change."""
        if self._snapshot is None:
            self._snapshot = list(self.members)
        return self._snapshot


class _FanOut:
    """A batch on its way to its connections; `at` is how far it is."""

    __slots__ = ("at", "batch", "connections", "done")

    def __init__(self, batch: Batch, connections: list[Connection], done: list[Callable[[], None]]) -> None:
        self.batch, self.connections, self.done = batch, connections, done
        self.at = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may cost and how long it may be silent."""

    message_bytes: int = 65_536
    backlog_bytes: int = 1_048_576
    heartbeat_interval: float = 30.0  # seconds
    heartbeat_timeout: float = 90.0  # seconds


class Statistics:
    """Plain counters: adding to an int is all the hot path can afford. Metrics read them when they are scraped."""

    __slots__ = ("bytes_sent", "conflated", "messages_received", "opened", "writes")

    def __init__(self) -> None:
        self.opened = 0
        self.messages_received = 0
        self.bytes_sent = 0
        self.writes = 0
        self.conflated = 0


class Engine:
    """Owns the parked sockets. `start` and `close` on the event loop it serves."""

    def __init__(self, application: Application, limits: Limits, *, poller: Poller | None = None) -> None:
        self._application, self._limits = application, limits
        self._poller = poller or new_poller()
        self._connections: dict[int, Connection] = {}
        self._slow: set[Connection] = set()  # those with a backlog
        self._closing: dict[Connection, float] = {}  # deadline of the closing handshake
        self._dirty: list[Group] = []
        self._done: dict[Group, list[Callable[[int], None]]] = {}
        self._queue: deque[_FanOut] = deque()
        self._flushing = self._running = False
        self._tick_seconds = max(0.05, min(1.0, limits.heartbeat_interval / 30))
        self._interval_ticks = max(1, round(limits.heartbeat_interval / self._tick_seconds))
        self._timeout_ticks = max(1, round(limits.heartbeat_timeout / self._tick_seconds))
        self._wheel: Wheel[Connection] = Wheel(self._interval_ticks)
        self._tick = 0
        self._tick_due = 0.0
        self._longest_turn = 0.0
        self._ticker: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.statistics = Statistics()
        self.deflating = 0  # connections that take compressed frames

    def __repr__(self) -> str:
        return f"<Engine {len(self._connections)} connections, {len(self._slow)} slow, {len(self._closing)} closing>"

    def __len__(self) -> int:
        return len(self._connections)

    @property
    def message_limit(self) -> int:
        """Bytes a client's message may have."""
        return self._limits.message_bytes

    @property
    def backlog_bytes(self) -> int:
        """Bytes that wait for clients which do not read."""
        return sum(connection.backlog.size for connection in self._slow if connection.backlog is not None)

    @property
    def slow(self) -> int:
        """How many clients have a backlog now."""
        return len(self._slow)

    def take_longest_turn(self) -> float:
        """Return the seconds of the longest turn of the loop since this was last asked: a fan-out, or a late tick."""
        longest, self._longest_turn = self._longest_turn, 0.0
        return longest

    def connections(self) -> list[Connection]:
        """Return everyone who is connected now."""
        return list(self._connections.values())

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to serve on the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._poller.fileno(), self._poll)
        self._tick_due = self._loop.time() + self._tick_seconds
        self._ticker = self._loop.call_at(self._tick_due, self._on_tick)

    def close(self) -> None:
        """Drop every connection at once and give the descriptors back; for a polite end see `close_connection`."""
        for connection in list(self._connections.values()):
            self._drop(connection, int(CloseCode.GOING_AWAY))
        if self._loop is not None:
            self._loop.remove_reader(self._poller.fileno())
        if self._ticker is not None:
            self._ticker.cancel()
        self._poller.close()

    def park(self, fd: int, context: Any, *, deflate: bool = False, conflate: bool = False) -> Connection:
        """Take over a connected, non-blocking socket; the descriptor is ours now. `greet` answers its handshake."""
        connection = Connection(fd, self._tick, deflate=deflate, conflate=conflate)
        connection.context = context
        self._connections[fd] = connection
        self.statistics.opened += 1
        self._poller.add(fd)
        # Spread over the second half of the interval, so that a storm of connects is no storm of pings later.
        self._wheel.schedule(connection, random.randint((self._interval_ticks + 1) // 2, self._interval_ticks))
        self.deflating += deflate
        return connection

    def greet(self, connection: Connection, response: bytes, *first: Frame) -> None:
        """Answer the handshake, with the first frames in the same write."""
        self._write(connection, b"".join([response, *(frame.bytes_for(connection) for frame in first)]), None)

    def close_connection(self, connection: Connection, code: int, reason: str = "") -> None:
        """Say goodbye: a close frame after what is in flight, then the socket once the client has answered."""
        if connection.phase is not Phase.OPEN:
            return
        connection.phase = Phase.CLOSING
        connection.close_code = code
        self._closing[connection] = time.monotonic() + _CLOSE_TIMEOUT
        frame = frames.encode_close(code, reason)
        if connection.backlog is not None:
            connection.backlog.give_up([frame])
        else:
            self._write(connection, frame, None)
            if connection.backlog is None and connection.phase is Phase.CLOSING:
                # Stands in the way of the fast path: nothing may follow a close frame.
                connection.backlog = Backlog()

    def hang_up(self, connection: Connection, code: int, reason: str = "") -> None:
        """Say goodbye to a client that floods: nothing it sends is read any more, and it is gone a moment later."""
        self.close_connection(connection, code, reason)
        if connection.phase is Phase.CLOSING:
            connection.phase = Phase.DEAF
            self._poller.remove(connection.fd)
            self._closing[connection] = time.monotonic() + _GOODBYE_SECONDS

    # --- out ---------------------------------------------------------------------------------------------------------

    def send(self, connection: Connection, *batch: Frame) -> None:
        """Send frames to one client, now and in one write; dropped if the connection is closing."""
        if connection.phase is Phase.OPEN:
            self._write_batch(connection, Batch(batch))

    def post(self, group: Group, frame: Frame, done: Callable[[int], None] | None = None) -> None:
        """Send one frame to every member of `group` at the end of this turn of the loop, joined with its others.

        `done` is called with the number of connections once it has been written to all of them.
        """
        if not group.pending:
            self._dirty.append(group)
        group.pending.append(frame)
        if done is not None:
            self._done.setdefault(group, []).append(done)
        if not self._flushing:
            self._flushing = True
            self._running_loop.call_soon(self._flush)

    def seal(self, group: Group) -> None:
        """Make what was posted to `group` until now go to its present members only, before somebody joins."""
        if group.pending:
            self._dirty.remove(group)
            self._queue.append(self._fan_out_of(group))
            self._kick()

    def settle(self, connection: Connection) -> None:
        """Write what is still on its way to `connection` now, before it leaves a group."""
        for fan_out in self._queue:
            rest = fan_out.connections[fan_out.at :]
            if connection in rest:
                rest.remove(connection)
                fan_out.connections, fan_out.at = rest, 0
                self._write_batch(connection, fan_out.batch)

    @property
    def _running_loop(self) -> asyncio.AbstractEventLoop:
        assert self._loop is not None  # post() needs connections, and those come after start()
        return self._loop

    def _fan_out_of(self, group: Group) -> _FanOut:
        connections = group.snapshot()
        done: list[Callable[[], None]] = [partial(one, len(connections)) for one in self._done.pop(group, ())]
        return _FanOut(self._take(group), connections, done)

    def _take(self, group: Group) -> Batch:
        batch = Batch(group.pending)
        group.pending = []
        return batch

    def _kick(self) -> None:
        """Have the queue served soon, unless it already is."""
        if not self._running:
            self._running = True
            self._running_loop.call_soon(self._fan_out)

    def _flush(self) -> None:
        self._flushing = False
        dirty, self._dirty = self._dirty, []
        if len(dirty) == 1:
            group = dirty[0]
            self._queue.append(self._fan_out_of(group))
        elif dirty:
            self._flush_many(dirty)
        if not self._running:
            self._fan_out()  # nothing is in the way: no need to wait for another turn

    def _flush_many(self, dirty: list[Group]) -> None:
        # Whoever is in several of these groups still gets one write: connections are sorted by what they get.
        gets: dict[Connection, Batch] = {}
        joined: dict[tuple[Batch, Batch], Batch] = {}
        done: list[Callable[[], None]] = []
        for group in dirty:
            batch = self._take(group)
            done += [partial(one, len(group.members)) for one in self._done.pop(group, ())]
            for connection in group.members:
                before = gets.get(connection)
                if before is None:
                    gets[connection] = batch
                    continue
                both = joined.get((before, batch))
                if both is None:
                    both = joined[before, batch] = Batch(before.frames + batch.frames)
                gets[connection] = both
        targets: dict[Batch, list[Connection]] = {}
        for connection, batch in gets.items():
            targets.setdefault(batch, []).append(connection)
        for batch, connections in targets.items():
            self._queue.append(_FanOut(batch, connections, []))
        if done:
            self._queue.append(_FanOut(Batch(()), [], done))

    def _fan_out(self) -> None:
        """Write until the slice of time is used up; order per connection holds because fan-outs are a queue."""
        self._running = False
        started = time.perf_counter()
        deadline = started + _SLICE_SECONDS
        while self._queue:
            fan_out = self._queue[0]
            if not self._advance(fan_out, deadline):
                self._kick()
                break
            self._queue.popleft()
            for done in fan_out.done:
                done()
        self._longest_turn = max(self._longest_turn, time.perf_counter() - started)

    def _advance(self, fan_out: _FanOut, deadline: float) -> bool:
        """Go on with one fan-out; return whether it is complete, else time is up."""
        batch, connections, at = fan_out.batch, fan_out.connections, fan_out.at
        plain, deflated, write = batch.plain, batch.deflated, os.write
        size, total, slow, first = len(plain), len(connections), 0, at
        while at < total:
            stop = min(at + _SLICE_CHECK, total)
            for connection in connections[at:stop]:
                if connection.backlog is not None or (deflated is not None and connection.deflate):
                    self._write_batch(connection, batch)
                    slow += 1
                    continue
                try:
                    sent = write(connection.fd, plain)
                except OSError as error:
                    self._refused(connection, batch, error)
                    slow += 1
                    continue
                if sent != size:
                    self._hold(connection, plain[sent:])
            at = stop
            if at < total and time.perf_counter() >= deadline:
                break
        fan_out.at = at
        self.statistics.writes += at - first - slow
        self.statistics.bytes_sent += (at - first - slow) * size
        return at == total

    def _write_batch(self, connection: Connection, batch: Batch) -> None:
        """Take the slow way: compressed, or behind a backlog, frame by frame where frames can be replaced."""
        if connection.phase is not Phase.OPEN:
            return
        if connection.backlog is not None and connection.conflate:
            for frame in batch.frames:
                self._write(connection, frame.bytes_for(connection), frame.key)
            return
        deflated = batch.deflated if connection.deflate else None
        self._write(connection, batch.plain if deflated is None else deflated, None)

    def _refused(self, connection: Connection, batch: Batch, error: OSError) -> None:
        if connection.phase is not Phase.OPEN:
            return
        if not isinstance(error, BlockingIOError):
            self._drop(connection, ABNORMAL)
            return
        self._hold(connection, b"")
        self._write_batch(connection, batch)

    def _write(self, connection: Connection, data: bytes, key: Hashable | None) -> None:
        """Write, or queue behind what waits; closes a client that is too slow."""
        backlog = connection.backlog
        if backlog is None:
            try:
                sent = os.write(connection.fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._drop(connection, ABNORMAL)
                return
            self.statistics.writes += 1
            self.statistics.bytes_sent += len(data)
            if sent != len(data):
                self._hold(connection, data[sent:])
            return
        before = backlog.conflated
        backlog.add(data, key)
        self.statistics.bytes_sent += len(data)
        self.statistics.conflated += backlog.conflated - before
        if backlog.size > self._limits.backlog_bytes:
            waiting, limit = backlog.size, self._limits.backlog_bytes
            self.close_connection(
                connection, CloseCode.TOO_SLOW, f"{waiting} bytes wait, {limit} may: read faster or subscribe to less"
            )

    def _hold(self, connection: Connection, rest: bytes) -> None:
        if connection.phase is Phase.CLOSED:
            return
        backlog = Backlog(conflate=connection.conflate)
        if rest:
            backlog.start(rest)
        connection.backlog = backlog
        self._slow.add(connection)
        self._poller.watch_writes(connection.fd, True)

    def _writable(self, connection: Connection) -> None:
        backlog = connection.backlog
        if backlog is None:
            return
        while backlog.size:
            chunk = backlog.chunk()
            try:
                sent = os.write(connection.fd, chunk)
            except BlockingIOError:
                return
            except OSError:
                self._drop(connection, ABNORMAL)
                return
            backlog.sent(sent)
            if sent < len(chunk):
                return
        self._slow.discard(connection)
        self._poller.watch_writes(connection.fd, False)
        if connection.phase is Phase.OPEN:
            connection.backlog = None
            self._application.caught_up(connection, backlog.conflated)

    # --- in ----------------------------------------------------------------------------------------------------------

    def _poll(self) -> None:
        started = now = time.perf_counter()
        deadline = started + _SLICE_SECONDS / 2
        for fd, ready in self._poller.ready(_POLL_BATCH):
            if now >= deadline:
                break  # the rest is still ready in the next turn
            connection = self._connections.get(fd)
            if connection is None:
                continue  # dropped while an earlier one of this batch was served
            try:
                if ready & WRITE:
                    self._writable(connection)
                if ready & READ and connection.phase is not Phase.CLOSED:
                    self._readable(connection)
            except Exception:
                # One client's trouble must not stop the poller for all; the stack trace says what it was.
                log.exception("connection failed", connection=repr(connection))
                self._drop(connection, int(CloseCode.INTERNAL_ERROR))
            now = time.perf_counter()
        self._longest_turn = max(self._longest_turn, now - started)

    def _readable(self, connection: Connection) -> None:
        try:
            large = connection.parser is not None and connection.parser.pending >= _READ_SIZE
            data = os.read(connection.fd, _READ_MORE if large else _READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop(connection, ABNORMAL)
            return
        connection.heard = self._tick
        parser = connection.parser or Parser(self._limits.message_bytes, inflate=connection.deflate)
        try:
            messages = parser.feed(data)
            connection.parser = None if parser.idle else parser
            for opcode, message in messages:
                self._message(connection, opcode, message)
        except PeerError as error:
            connection.parser = None
            if connection.phase is Phase.OPEN:
                self.close_connection(connection, error.close_code, error.reason)
            else:
                self._drop(connection, error.close_code)

    def _message(self, connection: Connection, opcode: int, message: str | bytes) -> None:
        if connection.phase is Phase.CLOSED:
            return
        if opcode == frames.CLOSE:
            assert isinstance(message, bytes)  # the parser decodes text messages only
            self._close_received(connection, frames.parse_close(message))
        elif connection.phase is Phase.CLOSING:
            return  # RFC 6455 section 1.4: after our close frame we only wait for theirs
        elif opcode == frames.PING:
            assert isinstance(message, bytes)
            self._write(connection, frames.encode(frames.PONG, message), None)
        elif opcode != frames.PONG:
            self.statistics.messages_received += 1
            self._application.received(connection, message)

    def _close_received(self, connection: Connection, code: int) -> None:
        if connection.phase is Phase.OPEN and connection.backlog is None:
            self._write(connection, frames.encode_close(code), None)
        self._drop(connection, code)

    def _drop(self, connection: Connection, code: int) -> None:
        """Let go of the socket, whatever state it is in; the reason is that of our close frame, if one went out."""
        if connection.phase is Phase.CLOSED:
            return
        code = connection.close_code or code
        deaf = connection.phase is Phase.DEAF
        connection.phase = Phase.CLOSED
        fd, connection.fd = connection.fd, -1
        del self._connections[fd]
        self._slow.discard(connection)
        self._closing.pop(connection, None)
        connection.backlog = connection.parser = None
        self.deflating -= connection.deflate
        if not deaf:
            self._poller.remove(fd)
        os.close(fd)
        self._application.closed(connection, code)

    # --- time --------------------------------------------------------------------------------------------------------

    def _on_tick(self) -> None:
        loop = self._running_loop
        self._longest_turn = max(self._longest_turn, loop.time() - self._tick_due)
        self._tick_due = loop.time() + self._tick_seconds
        self._ticker = loop.call_at(self._tick_due, self._on_tick)
        self._tick += 1
        self._beat(self._wheel.tick())
        if self._closing:
            now = time.monotonic()
            for connection in [late for late, deadline in self._closing.items() if deadline <= now]:
                self._drop(connection, connection.close_code)

    def _beat(self, due: Iterable[Connection]) -> None:
        """Ping whose time has come in one fan-out per distinct frame; close who has been silent for too long."""
        pings: dict[bytes, list[Connection]] = {}
        for connection in due:
            if connection.phase is not Phase.OPEN:
                continue
            left = self._timeout_ticks - (self._tick - connection.heard)
            if left <= 0:
                self.close_connection(connection, CloseCode.HEARTBEAT_TIMEOUT, "no frame from the client in time")
                continue
            since_ping = self._tick - connection.pinged
            if since_ping >= self._interval_ticks or connection.pinged == connection.heard:
                connection.pinged = self._tick
                since_ping = 0
                frame = self._application.heartbeat(connection)
                if frame is not None:
                    pings.setdefault(frame, []).append(connection)
            self._wheel.schedule(connection, min(self._interval_ticks - since_ping, left))
        for frame, connections in pings.items():
            self._queue.append(_FanOut(Batch([Frame(frame)]), connections, []))
        if pings:
            self._kick()
