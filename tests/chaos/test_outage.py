"""NATS is away for a long while under load: producers hold what they have, slow their sources down and lose nothing."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import sys
from collections import Counter
from pathlib import Path

import nats.errors
import psutil
import pytest

from services.broker import Broker
from shared.streams import ITEMS
from tests.support.services import process, running_broadcaster

SECONDS = 30.0 if os.environ.get("CHAOS") == "full" else 2.0
ROWS = 20_000 if os.environ.get("CHAOS") == "full" else 3_000
ROUNDS = 2


def write_rows(path: Path) -> set[str]:
    """Write a file of news, each title once; return the titles."""
    titles = {f"Report {number} from district {number % 97}" for number in range(ROWS)}
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["title", "url", "source", "published_at"])
        for number, title in enumerate(sorted(titles)):
            rows.writerow([title, f"https://outlet{number % 20}.example/{number}", "", 1_700_000_000 + number])
    return titles


async def stored(broker: Broker, subject: str) -> list[dict[str, str]]:
    """Return every message a stream holds under `subject`."""
    async with running_broadcaster(broker) as (_, connection):
        subscription = await connection.jetstream.subscribe(subject, ordered_consumer=True)
        found = []
        while True:
            try:
                found.append(json.loads((await subscription.next_msg(timeout=1.0)).data))
            except nats.errors.TimeoutError:
                return found


async def count(broker: Broker) -> int:
    async with running_broadcaster(broker) as (_, connection):
        return (await connection.jetstream.stream_info(ITEMS)).state.messages


@pytest.mark.timeout(60 + 4 * SECONDS)
async def test_an_outage_of_nats_under_load_loses_no_item_and_repeats_none(broker: Broker, tmp_path: Path) -> None:
    titles = write_rows(tmp_path / "items.csv")
    async with process(
        broker, "ingest", "--replay", str(tmp_path / "items.csv"), "--speed", "0", "--once", VERACITY_LOG_LEVEL="error"
    ) as ingest:
        before, growth = 0, 0
        for number in range(1, ROUNDS + 1):
            async with asyncio.timeout(30):
                while (before := await count(broker)) < number * ROWS // (ROUNDS + 2):
                    await asyncio.sleep(0.05)
            await asyncio.to_thread(broker.kill if number % 2 else broker.stop)
            memory = psutil.Process(ingest.pid).memory_info().rss
            # The outage is the time itself: what is asked is that nothing is lost however long it takes.
            await asyncio.sleep(SECONDS)
            assert ingest.returncode is None
            growth = max(growth, psutil.Process(ingest.pid).memory_info().rss - memory)
            await asyncio.to_thread(broker.start)
        output, _ = await ingest.communicate()
        assert ingest.returncode == 0, output.decode()
    found = Counter(item["title"] for item in await stored(broker, "items.>"))
    sys.stdout.write(
        f"\n{ROUNDS} outages of {SECONDS:g} s, after {before} of {ROWS} items: lost {len(titles - found.keys())}, "
        f"repeated {sum(found.values()) - len(found)}, ingest grew by {growth / 1_048_576:.1f} MB meanwhile\n"
    )
    assert found.keys() == titles
    assert sum(found.values()) == len(titles)
    assert growth < 16 * 1_048_576
