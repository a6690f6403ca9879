"""The real nats-server as a child of this process: found, started, awaited and stopped.

For one machine and for tests; in production NATS runs by itself and `VERACITY_NATS_URL` says where.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from shared.errors import StartupFailed

CONFIG = Path(__file__).parents[1] / "deploy" / "nats" / "local.conf"

_LISTENING = re.compile(r"Listening for client connections on .*:(\d+)")


def executable() -> str:
    """Return where nats-server is: beside this Python, as the wheel puts it, else on the PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if found is None:
        raise StartupFailed("nats-server was not found: run `make setup`, or set VERACITY_NATS_URL to a running one")
    return found


class Broker:
    """One nats-server with JetStream. Port 0 picks a free one, which a restart keeps."""

    def __init__(
        self, store: Path, *, port: int = 0, log: Path | None = None, config: Path = CONFIG, options: Sequence[str] = ()
    ) -> None:
        self._store, self._config, self._options = store, config, tuple(options)
        self._log = log or store.with_suffix(".log")
        self._process: subprocess.Popen[str] | None = None
        self.port = port

    def __repr__(self) -> str:
        return f"<Broker port={self.port} {'running' if self.running else 'stopped'}>"

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The address clients connect to."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process's id while it runs."""
        assert self._process is not None  # asked for only between start and stop
        return self._process.pid

    def start(self) -> None:
        """Start and return once it accepts connections; raises StartupFailed with its last words if it does not."""
        self._store.mkdir(parents=True, exist_ok=True)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        listen = f"127.0.0.1:{self.port or -1}"  # -1 is nats-server's word for "any free port"
        environment = {**os.environ, "VERACITY_BROKER_LISTEN": listen, "VERACITY_BROKER_STORE": str(self._store)}
        command = [executable(), "-c", str(self._config), *self._options]
        self._process = subprocess.Popen(
            command,
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            # A Ctrl-C in the terminal is for the parent, which stops the broker after its clients.
            start_new_session=True,
        )
        self._await_ready(self._process)

    def stop(self) -> None:
        """End in order; safe to call twice."""
        self._signal(signal.SIGTERM)
        self._wait()

    def kill(self) -> None:
        """End at once, as a crash does."""
        self._signal(signal.SIGKILL)
        self._wait()

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def wait(self) -> int:
        """Return its exit status once it has ended."""
        assert self._process is not None
        return self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def _wait(self) -> None:
        if self._process is not None:
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def _await_ready(self, process: subprocess.Popen[str]) -> None:
        assert process.stderr is not None
        last = ""
        log = self._log.open("a", encoding="utf-8")
        for line in process.stderr:
            log.write(line)
            last = line.strip() or last
            listening = _LISTENING.search(line)
            if listening:
                self.port = int(listening.group(1))
            if "Server is ready" in line:
                log.flush()
                # nats-server stops when nobody reads what it writes.
                threading.Thread(target=_copy, args=(process, log), daemon=True, name="nats-server-log").start()
                return
        process.wait()
        process.stderr.close()
        log.close()
        raise StartupFailed(f"nats-server did not start: {last}")


def _copy(process: subprocess.Popen[str], log: TextIO) -> None:
    assert process.stderr is not None
    with process.stderr, log:
        for line in process.stderr:
            log.write(line)
            log.flush()
