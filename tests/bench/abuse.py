"""An abuser: some connections that send as fast as they are told to, and come back as soon as they are closed.

A process of its own; prints how many messages it got rid of and how often it was closed, as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import selectors
import socket
import sys
import time

from tests.bench.load import masked_text, request

_MESSAGE = masked_text(b'{"type":"subscribe","channel":"trends"}')
_TURN = 0.005  # seconds


def connect(port: int, path: str) -> socket.socket:
    """Return an open WebSocket."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(request("127.0.0.1", port, path, deflate=False))
    sock.recv(4_096)
    sock.setblocking(False)
    return sock


def abuse(port: int, path: str, connections: int, rate: float, seconds: float) -> dict[str, int]:
    """Send `rate` messages a second over so many connections; return what became of it."""
    selector = selectors.DefaultSelector()
    sockets: list[socket.socket | None] = [None] * connections
    sent = closed = turn = 0
    began = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        due = int((now - began) * rate) - sent
        for number in range(min(due, 20 * connections)):
            at = (turn + number) % connections
            sock = sockets[at]
            if sock is None:
                try:
                    sock = sockets[at] = connect(port, path)
                except OSError:
                    continue
                selector.register(sock, selectors.EVENT_READ, at)
            try:
                sock.send(_MESSAGE)
                sent += 1
            except BlockingIOError:
                sent += 1  # it would have, had anybody read it
            except OSError:
                selector.unregister(sock)
                sock.close()
                sockets[at] = None
                closed += 1
        turn += due
        for key, _ in selector.select(_TURN):
            sock = sockets[key.data]
            if sock is None:
                continue
            try:
                gone = not sock.recv(65_536)
            except OSError:
                gone = True
            if gone:
                selector.unregister(sock)
                sock.close()
                sockets[key.data] = None
                closed += 1
    return {"sent": sent, "closed": closed}


def main() -> None:
    """Abuse as told."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--seconds", type=float, default=6)
    options = parser.parse_args()
    os.nice(19)  # it shares a core with the load generator, whose reading is what is measured
    result = abuse(options.port, options.path, options.connections, options.rate, options.seconds)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
