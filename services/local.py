"""Everything on one machine: the broker, then all services of deploy/local/Procfile, stopped in reverse by one Ctrl-C.

With `VERACITY_NATS_URL` set that broker is used and none is started.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
from pathlib import Path

from honcho.environ import parse_procfile
from honcho.manager import Manager

from services.broker import Broker
from shared.errors import StartupFailed

ROOT = Path(__file__).parents[1]
PROCFILE = ROOT / "deploy" / "local" / "Procfile"
FEEDS = ROOT / "deploy" / "local" / "feeds.toml"
VAR = ROOT / "var"

BROKER_PORT = 4222
# As in the Procfile; the gateway's is the one people open and may choose.
ROLE_PORTS = {"ingest": 8001, "trends": 8002, "stories": 8003, "scoring": 8004}


def run(*, replay: Path | None, speed: float, loop: bool, simulate: bool) -> int:
    """Run all of it until Ctrl-C or until a part ends; return the exit status.

    A replay is an experiment: it starts with an empty broker, so that the same file tells its stories again.
    """
    if not PROCFILE.exists():
        raise StartupFailed(f"{PROCFILE.name} is missing: run everything from a checkout of the repository")
    if replay is not None and not replay.is_file():
        raise StartupFailed(f"{replay} is not a file: give a CSV or JSONL file to replay")
    gateway_port = int(os.environ.get("VERACITY_PORT", "8000"))
    own_broker = "VERACITY_NATS_URL" not in os.environ
    _check_ports({"gateway": gateway_port, **ROLE_PORTS, **({"nats-server": BROKER_PORT} if own_broker else {})})
    environment = _environment(replay, speed, loop, simulate)
    if not own_broker:
        return _run_services(environment)
    store = VAR / "nats-replay" if replay is not None else VAR / "nats"
    if replay is not None:
        shutil.rmtree(store, ignore_errors=True)
    with Broker(store, port=BROKER_PORT, log=VAR / "nats.log") as broker:
        return _run_services({**environment, "VERACITY_NATS_URL": broker.url}, broker)


def _environment(replay: Path | None, speed: float, loop: bool, simulate: bool) -> dict[str, str]:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    environment.setdefault("VERACITY_LOG_FORMAT", "console")
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', '')}"
    if replay is not None:
        environment |= {"VERACITY_REPLAY": str(replay.resolve()), "VERACITY_REPLAY_SPEED": str(speed)}
        environment |= {"VERACITY_REPLAY_LOOP": "1"} if loop else {}
    elif simulate:
        environment["VERACITY_SIMULATE"] = "1"
    else:
        environment.setdefault("VERACITY_FEEDS", str(FEEDS))
    return environment


def _check_ports(ports: dict[str, int]) -> None:
    taken = []
    for name, port in ports.items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                taken.append(f"{port} ({name})")
    if taken:
        raise StartupFailed(
            f"taken by another process: port {', port '.join(taken)}. Stop that process (perhaps another `make run`); "
            "VERACITY_PORT moves the gateway, VERACITY_NATS_URL uses a broker that runs already"
        )


def _run_services(environment: dict[str, str], broker: Broker | None = None) -> int:
    manager = Manager()
    for name, command in parse_procfile(PROCFILE.read_text(encoding="utf-8")).processes.items():
        manager.add_process(name, command, env=environment, cwd=str(ROOT))
    if broker is not None:
        threading.Thread(target=_watch, args=(broker, manager), daemon=True, name="broker-watch").start()
    manager.loop()
    code = int(manager.returncode or 0)
    # Ctrl-C is how this is meant to end.
    return 0 if code in (130, 143) else code


def _watch(broker: Broker, manager: Manager) -> None:
    """Without its broker nothing here works: end the rest, visibly, instead of letting it wait for ever."""
    if broker.wait() != 0:
        sys.stderr.write("nats-server ended by itself; its last words are in var/nats.log\n")
    manager.terminate()
