"""Every HTTP port against its own OpenAPI: whatever is asked, no answer is a 500 (schemathesis makes the questions)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from services.broker import Broker
from tests.bench.servers import free_port

BIN = Path(sys.executable).parent
SERVICES = ("gateway", "ingest", "stories")  # trends and scoring have the routes of stories
EXAMPLES = 4


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The services on one broker; their ports."""
    folder = tmp_path_factory.mktemp("http")
    found = {name: free_port() for name in SERVICES}
    with Broker(folder / "nats") as broker:
        processes = []
        for name, port in found.items():
            log = (folder / f"{name}.log").open("w")
            environment = {**os.environ, "VERACITY_NATS_URL": broker.url, "VERACITY_PORT": str(port)}
            processes.append(
                subprocess.Popen([BIN / "veracity", name], env=environment, stdout=log, stderr=subprocess.STDOUT)
            )
            log.close()
        try:
            for port in found.values():
                await_ready(port)
            yield found
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


def await_ready(port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise TimeoutError(f"nothing is ready on port {port}")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.timeout(120)
def test_no_question_of_its_openapi_gets_a_500(ports: dict[str, int], service: str, tmp_path: Path) -> None:
    result = subprocess.run(
        [
            BIN / "schemathesis", "run", f"http://127.0.0.1:{ports[service]}/openapi.json",
            "--checks", "not_a_server_error", "--max-examples", str(EXAMPLES), "--seed", "1",
            "--phases", "examples,coverage,fuzzing", "--generation-database", "none", "--no-color",
        ],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-4_000:]
    assert " passed" in result.stdout, result.stdout[-2_000:]
