"""The Autobahn cases, run by an independent client against an echo application on the engine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.echo import echoing

# 9.* sends messages of up to 16 MiB: the limit is raised for the test, as a setting would.
LARGE = 17 * 1024 * 1024
# `make conformance` runs every case of the compression groups, which takes minutes.
COMPRESSION = (
    ("12.*", "13.*") if os.environ.get("CONFORMANCE") == "full" else ("12.1.1", "12.1.3", "12.2.1", "13.1.1", "13.7.1")
)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("cases", "least"),
    [
        (("1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"), 240),
        (("9.*",), 54),
        (COMPRESSION, len(COMPRESSION)),
    ],
    ids=["protocol", "large messages", "compression"],
)
async def test_every_autobahn_case_passes(cases: tuple[str, ...], least: int, tmp_path: Path) -> None:
    async with echoing(message_bytes=LARGE, backlog_bytes=2 * LARGE) as (port, echo):
        kosoku = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("kosoku")),
            *("-p", "4", "-o", str(tmp_path)),
            *(part for case in cases for part in ("-i", case)),
            f"127.0.0.1:{port}",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await kosoku.communicate()
        assert len(echo.engine) == 0, "every connection was let go of"
    (results,) = json.loads((tmp_path / "index.json").read_text()).values()
    assert len(results) >= least, output.decode()
    verdicts = Counter(result["behavior"] for result in results.values())
    wrong = {
        case: result
        for case, result in results.items()
        if result["behavior"] in ("FAILED", "WRONG CODE") or result["behaviorClose"] in ("FAILED", "WRONG CODE")
    }
    assert not wrong, (wrong, verdicts)
    assert verdicts["OK"] > 0.9 * least
