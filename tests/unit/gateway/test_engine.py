"""The engine on real socket pairs: delivery, order, backlog, heartbeats, closing. The application is a recorder."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import ClassVar

import pytest

from services.gateway import frames
from services.gateway.engine import ABNORMAL, Connection, Engine, Frame, Group, Limits, Phase
from tests.unit.gateway.test_frames import masked


class Recorder:
    """Keeps what the engine tells an application."""

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.closings: list[int] = []
        self.spared: list[int] = []
        self.ping: bytes | None = None
        self.event = asyncio.Event()

    def received(self, connection: Connection, message: str | bytes) -> None:
        self.messages.append(message)
        self.event.set()

    def closed(self, connection: Connection, code: int) -> None:
        self.closings.append(code)
        self.event.set()

    def caught_up(self, connection: Connection, conflated: int) -> None:
        self.spared.append(conflated)

    def heartbeat(self, connection: Connection) -> bytes | None:
        return self.ping

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.event.clear()
                await self.event.wait()


class Peer:
    """The other end of a parked socket; the engine's fixture closes all of them."""

    opened: ClassVar[list[socket.socket]] = []

    def __init__(self, engine: Engine, *, deflate: bool = False, conflate: bool = False, small: bool = False) -> None:
        ours, self.socket = socket.socketpair()
        self.opened.append(self.socket)
        if small:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        ours.setblocking(False)
        self.socket.setblocking(False)
        self.connection = engine.park(ours.detach(), None, deflate=deflate, conflate=conflate)

    def send(self, data: bytes) -> None:
        self.socket.send(data)

    async def read(self, size: int) -> bytes:
        """Return exactly `size` bytes."""
        loop, data = asyncio.get_running_loop(), b""
        async with asyncio.timeout(5):
            while len(data) < size:
                part = await loop.sock_recv(self.socket, size - len(data))
                assert part, f"the connection ended after {data!r}"
                data += part
        return data

    async def ended(self) -> bool:
        """Wait for the end of the stream, whatever comes before it."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            while await loop.sock_recv(self.socket, 65_536):
                pass
        return True


LIMITS = Limits(message_bytes=1_000, backlog_bytes=100_000, heartbeat_interval=0.5, heartbeat_timeout=1.5)


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def engine(recorder: Recorder) -> AsyncIterator[Engine]:
    running = Engine(recorder, LIMITS)
    running.start()
    yield running
    running.close()
    while Peer.opened:
        Peer.opened.pop().close()


def frame(text: str, key: str | None = None) -> Frame:
    return Frame(frames.encode_text(text.encode()), None, key)


async def test_a_message_reaches_the_application_whole_though_it_comes_in_pieces(
    engine: Engine, recorder: Recorder
) -> None:
    peer = Peer(engine)
    data = masked(frames.TEXT, b"hello")
    peer.send(data[:4])
    await asyncio.sleep(0)
    peer.send(data[4:])
    await recorder.until(lambda: recorder.messages)
    assert recorder.messages == ["hello"]
    assert peer.connection.parser is None, "nothing half read: the parser is gone"


async def test_what_is_posted_in_one_turn_leaves_in_one_write_in_order(engine: Engine) -> None:
    peer, group = Peer(engine), Group()
    group.add(peer.connection)
    done: list[int] = []
    for text in ("one", "two", "three"):
        engine.post(group, frame(text), done.append)
    expected = b"".join(frames.encode_text(text) for text in (b"one", b"two", b"three"))
    assert await peer.read(len(expected)) == expected
    assert engine.statistics.writes == 1
    assert done == [1, 1, 1]


async def test_a_connection_in_two_groups_gets_one_write_with_both(engine: Engine) -> None:
    peer, first, second = Peer(engine), Group(), Group()
    first.add(peer.connection)
    second.add(peer.connection)
    engine.post(first, frame("a"))
    engine.post(second, frame("b"))
    assert await peer.read(6) == frames.encode_text(b"a") + frames.encode_text(b"b")
    assert engine.statistics.writes == 1


async def test_what_is_posted_tells_to_how_many_it_went_whether_or_not_other_groups_had_something_too(
    engine: Engine,
) -> None:
    one, two, told = Group(), Group(), dict[str, int]()
    peers = [Peer(engine) for _ in range(3)]
    for peer in peers:
        one.add(peer.connection)
    two.add(peers[0].connection)
    engine.post(one, Frame(b"a"), lambda count: told.update(a=count))
    engine.post(two, Frame(b"b"), lambda count: told.update(b=count))
    assert await peers[2].read(1) == b"a"
    assert await peers[0].read(2) == b"ab"
    await asyncio.sleep(0)
    assert told == {"a": 3, "b": 1}


async def test_who_joins_after_a_seal_does_not_get_what_was_posted_before(engine: Engine) -> None:
    early, late, group = Peer(engine), Peer(engine), Group()
    group.add(early.connection)
    engine.post(group, frame("before"))
    engine.seal(group)
    group.add(late.connection)
    engine.post(group, frame("after"))
    assert await early.read(15) == frames.encode_text(b"before") + frames.encode_text(b"after")
    assert await late.read(7) == frames.encode_text(b"after")


async def test_a_slow_client_gets_everything_in_order_once_it_reads(engine: Engine) -> None:
    peer, group = Peer(engine, small=True), Group()
    group.add(peer.connection)
    texts = [f"{number:05d}" + "x" * 500 for number in range(150)]
    for text in texts:
        engine.post(group, frame(text))
        await asyncio.sleep(0)
    assert engine.slow == 1
    assert 0 < engine.backlog_bytes <= LIMITS.backlog_bytes
    expected = b"".join(frames.encode_text(text.encode()) for text in texts)
    assert await peer.read(len(expected)) == expected
    await asyncio.sleep(0)
    assert engine.slow == 0


async def test_a_client_past_its_bound_is_closed_with_4413(engine: Engine, recorder: Recorder) -> None:
    peer, group = Peer(engine, small=True), Group()
    group.add(peer.connection)
    for _ in range(400):
        engine.post(group, frame("x" * 900))
        await asyncio.sleep(0)
    assert peer.connection.phase is Phase.CLOSING
    assert engine.backlog_bytes < 4_096, "what waited is dropped"
    await peer.read(1)
    peer.socket.close()
    await recorder.until(lambda: recorder.closings)
    assert recorder.closings == [4413]


async def test_a_conflating_client_sees_the_newest_state_and_stays(engine: Engine, recorder: Recorder) -> None:
    peer, group = Peer(engine, small=True, conflate=True), Group()
    group.add(peer.connection)
    for number in range(1_000):
        engine.post(group, frame(f"{number:05d}" + "x" * 500, key="thing"))
        await asyncio.sleep(0)
    assert peer.connection.phase is Phase.OPEN
    data = b""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5):
        while b"00999" not in data:
            data += await loop.sock_recv(peer.socket, 65_536)
    assert engine.statistics.conflated > 500
    assert recorder.spared == [engine.statistics.conflated], "and is told how many older states it was spared"


async def test_pings_of_the_protocol_are_answered(engine: Engine) -> None:
    peer = Peer(engine)
    peer.send(masked(frames.PING, b"are you there"))
    assert await peer.read(15) == frames.encode(frames.PONG, b"are you there")


async def test_a_close_is_answered_with_its_code_and_the_socket_ends(engine: Engine, recorder: Recorder) -> None:
    peer = Peer(engine)
    peer.send(masked(frames.CLOSE, struct.pack("!H", 1001) + b"bye"))
    assert await peer.read(4) == frames.encode_close(1001)
    assert await peer.ended()
    assert recorder.closings == [1001]
    assert len(engine) == 0


async def test_closing_waits_for_the_clients_answer_and_sends_nothing_after_the_close(
    engine: Engine, recorder: Recorder
) -> None:
    peer, group = Peer(engine), Group()
    group.add(peer.connection)
    engine.close_connection(peer.connection, 1012, "restart")
    engine.post(group, frame("too late"))
    await asyncio.sleep(0.05)
    closing = frames.encode_close(1012, "restart")
    assert await peer.read(len(closing)) == closing
    assert not recorder.closings
    peer.send(masked(frames.CLOSE, struct.pack("!H", 1012)))
    assert await peer.ended()
    assert recorder.closings == [1012]


async def test_a_client_that_floods_is_read_no_more_and_gone_a_moment_later(engine: Engine, recorder: Recorder) -> None:
    peer = Peer(engine)
    engine.hang_up(peer.connection, 4429, "enough")
    peer.send(masked(frames.TEXT, b"x") * 50)
    frame = frames.encode_close(4429, "enough")
    assert await peer.read(len(frame)) == frame
    await recorder.until(lambda: recorder.closings)
    assert recorder.closings == [4429]
    assert not recorder.messages
    assert not engine.connections()


async def test_a_client_that_vanishes_is_noticed_and_its_descriptor_given_back(
    engine: Engine, recorder: Recorder
) -> None:
    peer = Peer(engine)
    fd = peer.connection.fd
    peer.socket.close()
    await recorder.until(lambda: recorder.closings)
    assert recorder.closings == [ABNORMAL]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_a_protocol_error_closes_with_its_code(engine: Engine) -> None:
    peer = Peer(engine)
    peer.send(b"\x81\x05Hello")
    head = await peer.read(4)
    assert head[0] == 0x88
    assert struct.unpack("!H", head[2:4]) == (1002,)


async def test_a_message_past_the_limit_closes_with_1009(engine: Engine) -> None:
    peer = Peer(engine)
    peer.send(masked(frames.TEXT, b"x" * 1_001))
    assert struct.unpack("!H", (await peer.read(4))[2:4]) == (1009,)


async def test_an_application_that_fails_costs_its_client_only(engine: Engine, recorder: Recorder) -> None:
    def fail(connection: Connection, message: str | bytes) -> None:
        raise RuntimeError("application")

    bad, good = Peer(engine), Peer(engine)
    recorder.received, kept = fail, recorder.received  # type: ignore[method-assign]
    bad.send(masked(frames.TEXT, b"x"))
    await recorder.until(lambda: recorder.closings)
    recorder.received = kept  # type: ignore[method-assign]
    good.send(masked(frames.TEXT, b"y"))
    await recorder.until(lambda: recorder.messages)
    assert recorder.messages == ["y"]


async def test_heartbeats_go_to_silent_clients_and_their_end_comes_after_the_timeout(
    engine: Engine, recorder: Recorder
) -> None:
    recorder.ping = frames.encode_text(b"ping")
    silent, alive = Peer(engine), Peer(engine)

    async def answer() -> None:
        while True:
            await alive.read(6)
            alive.send(masked(frames.TEXT, b"pong"))

    answering = asyncio.create_task(answer())
    assert await silent.read(6) == recorder.ping
    head = b""
    while not head.startswith(b"\x88"):
        head = await silent.read(6)
    assert struct.unpack("!H", head[2:4]) == (4408,)
    assert alive.connection.phase is Phase.OPEN
    answering.cancel()
    await asyncio.gather(answering, return_exceptions=True)


async def test_closing_the_engine_gives_every_descriptor_back(recorder: Recorder) -> None:
    before = len(os.listdir("/proc/self/fd"))
    engine = Engine(recorder, LIMITS)
    engine.start()
    peers = [Peer(engine) for _ in range(20)]
    engine.close()
    for peer in peers:
        peer.socket.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(recorder.closings) == 20
