"""The load generator: opens WebSocket clients on raw sockets, counts what arrives and how late.

A process of its own, told what to do by lines on standard input: `measure SECONDS`, `rejoin SECONDS PORT`, `quit`.
Answers in JSON lines.
"""

from __future__ import annotations

import argparse
import base64
import heapq
import json
import os
import random
import re
import select
import socket
import sys
import time
from collections.abc import Iterator

MARK = b'"t":'
_TIME = re.compile(rb'"t":(\d{19})')
# Small: Python allocates it whole for each read, and past 128 KiB that is a system call of its own.
_RECEIVE = 16_384
_RESTART = b"\x03\xf4"  # close code 1012: a client closes when it is told to
_PER_ADDRESS = 15_000  # clients from one loopback address: its ports are limited


def request(host: str, port: int, path: str, *, deflate: bool) -> bytes:
    """Return the head of an upgrade request."""
    key = base64.b64encode(os.urandom(16)).decode()
    extension = "Sec-WebSocket-Extensions: permessage-deflate\r\n" if deflate else ""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{extension}\r\n"
    ).encode()


def masked_text(text: bytes) -> bytes:
    """Return a client's text frame; a mask of zeros leaves the bytes as they are."""
    head = bytes([0x81, 0x80 | len(text)]) if len(text) < 126 else b"\x81\xfe" + len(text).to_bytes(2, "big")
    return head + b"\0\0\0\0" + text if text else b""


class Load:
    """Clients with one epoll; `stalled` of them never read."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._epoll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._stalled: list[socket.socket] = []
        self._tails: dict[int, bytes] = {}
        self.received = self.bytes = self.closed = 0
        self.late: list[tuple[float, int]] = []

    def connect(self) -> None:
        """Open every client and send what subscribes it; return once each has been answered."""
        options = self._options
        sockets = list(self._storm() if options.storm else self._one_by_one())
        answered = 0
        waiting: dict[int, bytes] = {}
        for number, sock in enumerate(sockets):
            sock.setblocking(False)
            if number >= len(sockets) - options.stalled:
                self._stalled.append(sock)
                continue
            self._sockets[sock.fileno()] = sock
            waiting[sock.fileno()] = b""
            self._epoll.register(sock.fileno(), select.EPOLLIN)
        wanted = options.answer.encode()
        while wanted and answered < len(self._sockets):
            for fd, _ in self._epoll.poll(30):
                data = self._sockets[fd].recv(_RECEIVE)
                if not data:
                    raise SystemExit(f"a client was refused: {waiting.get(fd)!r}")
                if fd in waiting:
                    waiting[fd] += data
                    if wanted in waiting[fd]:
                        del waiting[fd]
                        answered += 1

    def _address(self, number: int) -> tuple[str, int]:
        return f"127.0.0.{2 + number // _PER_ADDRESS}", 0

    def _frames(self, number: int) -> bytes:
        text = self._options.subscribe.replace("{channel}", str(number % self._options.channels))
        return masked_text(text.encode())

    def _one_by_one(self) -> Iterator[socket.socket]:
        options = self._options
        for number in range(options.clients):
            sock = socket.create_connection(
                (options.host, options.port), source_address=self._address(number), timeout=30
            )
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if number >= options.clients - options.stalled:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sock.sendall(request(options.host, options.port, options.path, deflate=options.deflate))
            head = b""
            while b"\r\n\r\n" not in head:
                part = sock.recv(65_536)
                if not part:
                    raise SystemExit(f"client {number} was refused: {head!r}")
                head += part
            if not head.startswith(b"HTTP/1.1 101"):
                raise SystemExit(f"client {number} was refused: {head[:200]!r}")
            if options.subscribe:
                sock.sendall(self._frames(number))
            yield sock

    def _storm(self) -> Iterator[socket.socket]:
        """Open all at once: every connection is asked for before any is answered."""
        options = self._options
        sockets = []
        for number in range(options.clients):
            sock = socket.socket()
            sock.bind(self._address(number))
            sock.setblocking(False)
            sock.connect_ex((options.host, options.port))
            sockets.append(sock)
        poll = select.epoll()
        by_fd = {sock.fileno(): (number, sock) for number, sock in enumerate(sockets)}
        for fd in by_fd:
            poll.register(fd, select.EPOLLOUT)
        left, asked = len(by_fd), set[int]()
        while left:
            for fd, _ in poll.poll(30):
                number, sock = by_fd[fd]
                if number in asked:
                    # RFC 6455 section 4.1: nothing is sent before the answer is here.
                    head = sock.recv(_RECEIVE)
                    if not head.startswith(b"HTTP/1.1 101"):
                        raise SystemExit(f"client {number} was refused: {head[:200]!r}")
                    sock.send(self._frames(number))
                    poll.unregister(fd)
                    left -= 1
                    continue
                asked.add(number)
                sock.send(request(options.host, options.port, options.path, deflate=options.deflate))
                poll.modify(fd, select.EPOLLIN)
        yield from sockets

    def measure(self, seconds: float) -> None:
        """Read for `seconds`, counting."""
        self.received = self.bytes = 0
        self.late = []
        poll, sockets, tails = self._epoll.poll, self._sockets, self._tails
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for fd, _ in poll(0.1):
                try:
                    data = sockets[fd].recv(_RECEIVE)
                except BlockingIOError:
                    continue
                except ConnectionResetError:
                    data = b""
                if not data or _RESTART in data:
                    self._epoll.unregister(fd)
                    sockets.pop(fd).close()
                    self.closed += 1
                    continue
                self.bytes += len(data)
                if self._options.count_frames:
                    self._count_frames(fd, data)
                    continue
                count = (tails.get(fd, b"") + data).count(MARK)
                tails[fd] = data[-3:]
                if count:
                    self.received += count
                    first = _TIME.search(data)
                    if first:
                        self.late.append(((time.time_ns() - int(first.group(1))) / 1e6, count))

    def rejoin(self, seconds: float, port: int) -> dict[str, float]:
        """Have every client that is sent away connect to `port`, after a pause of up to a second of its own.

        Return how long clients were without service beyond their pause, and how many came back in each second.
        """
        options, began = self._options, time.monotonic()
        rng = random.Random(5)
        joining = select.epoll()
        due: list[tuple[float, float]] = []  # when to connect, when it was sent away
        coming: dict[int, tuple[socket.socket, float, float, bytes]] = {}
        beyond: list[float] = []
        back: list[float] = []
        count, total = 0, len(self._sockets)
        wanted = options.answer.encode()
        while time.monotonic() < began + seconds and len(beyond) < total:
            for fd, _ in self._epoll.poll(0.002):
                try:
                    data = self._sockets[fd].recv(_RECEIVE)
                except ConnectionResetError:
                    data = b""
                if not data or _RESTART in data:
                    self._epoll.unregister(fd)
                    self._sockets.pop(fd).close()
                    self.closed += 1
                    now = time.monotonic()
                    heapq.heappush(due, (now + rng.uniform(0.0, 1.0), now))
            while due and due[0][0] <= time.monotonic():
                at, _away = heapq.heappop(due)
                sock = socket.socket()
                sock.bind(self._address(count))
                count += 1
                sock.setblocking(False)
                sock.connect_ex((options.host, port))
                coming[sock.fileno()] = sock, at, 0.0, b""
                joining.register(sock.fileno(), select.EPOLLOUT)
            for fd, _ in joining.poll(0.0):
                sock, at, asked, data = coming[fd]
                if not asked:
                    sock.send(request(options.host, port, options.path, deflate=False))
                    coming[fd] = sock, at, 1.0, b""
                    joining.modify(fd, select.EPOLLIN)
                    continue
                part = sock.recv(_RECEIVE)
                if not part:
                    raise SystemExit(f"a client was refused: {data!r}")
                if asked == 1.0:
                    sock.send(self._frames(count))
                coming[fd] = sock, at, 2.0, data + part
                if wanted in data + part:
                    now = time.monotonic()
                    beyond.append(now - at)
                    back.append(now - began)
                    joining.unregister(fd)
                    self._stalled.append(coming.pop(fd)[0])
        beyond.sort()
        by_second: dict[str, float] = {}
        for at in back:
            by_second[f"back_in_{int(at)}"] = by_second.get(f"back_in_{int(at)}", 0.0) + 1
        return {
            "closed": self.closed,
            "back": len(beyond),
            "p99": 1e3 * beyond[int(len(beyond) * 0.99)] if beyond else float("nan"),
            "longest": 1e3 * beyond[-1] if beyond else float("nan"),
            **by_second,
        }

    def _count_frames(self, fd: int, data: bytes) -> None:
        data = self._tails.pop(fd, b"") + data
        at, end = 0, len(data)
        while end - at >= 2:
            size, head = data[at + 1] & 0x7F, 2
            if size == 126:
                if end - at < 4:
                    break
                size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
            if end - at < head + size:
                break
            at += head + size
            self.received += 1
        self._tails[fd] = data[at:]

    def result(self) -> dict[str, float]:
        """Return what was counted, with the percentiles of lateness in milliseconds."""
        total = sum(count for _, count in self.late)
        percentiles = {}
        for name, share in (("p50", 0.5), ("p99", 0.99)):
            seen = 0
            for lateness, count in sorted(self.late):
                seen += count
                if seen >= share * total:
                    percentiles[name] = lateness
                    break
        return {"received": self.received, "bytes": self.bytes, "closed": self.closed, **percentiles}


def main() -> None:
    """Open the clients, then do as told."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("clients", type=int)
    parser.add_argument("--subscribe", default="")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--answer", default="")
    parser.add_argument("--stalled", type=int, default=0)
    parser.add_argument("--deflate", action="store_true")
    parser.add_argument("--count-frames", action="store_true")
    parser.add_argument("--storm", action="store_true")
    load = Load(parser.parse_args())
    started = time.monotonic()
    load.connect()
    _say({"connected_seconds": time.monotonic() - started})
    for line in sys.stdin:
        command, _, value = line.strip().partition(" ")
        if command == "quit":
            break
        if command == "rejoin":
            seconds, _, port = value.partition(" ")
            _say(load.rejoin(float(seconds), int(port)))
            continue
        load.measure(float(value))
        _say(load.result())


def _say(message: dict[str, float]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
