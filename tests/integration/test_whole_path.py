"""News in, live trends, stories and trust scores out: every role a process of its own, on the real broker."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from nats.js.errors import Error as JetStreamError

from services.broker import Broker
from services.publisher.normalise import normalise
from services.publisher.sources.newsroom import Newsroom
from shared.connection import Connection
from tests.support.items import START
from tests.support.services import DATA, Client, client, process, running_broadcaster, running_gateway

ROLES = ("trends", "stories", "scoring")


def newsroom_file(path: Path, count: int, seed: int = 3) -> Path:
    """Write `count` invented items, ten seconds apart, as a file to replay."""
    from datetime import timedelta

    newsroom = Newsroom(seed=seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            entry = newsroom.compose(START + timedelta(seconds=10 * number))
            row = {
                "title": entry.title,
                "url": entry.url,
                "platform": entry.platform,
                "published": str(entry.published),
            }
            file.write(json.dumps(row) + "\n")
    return path


async def replay(broker: Broker, path: Path) -> str:
    """Replay a file as fast as it is taken; returns what ingest logged."""
    command = ("ingest", "--replay", str(path), "--speed", "0", "--once")
    async with process(broker, *command) as ingest:
        assert ingest.stdout is not None
        log = (await asyncio.wait_for(ingest.stdout.read(), 60)).decode()
        assert await ingest.wait() == 0, log
    return log


async def counted(nats: Connection) -> dict[str, int]:
    """Return how many events each stream holds; stories and scores share one, so they are counted by type."""
    trends = (await nats.jetstream.stream_info("TRENDS")).state.messages
    scores = (await nats.jetstream.stream_info("TRUST_SCORES")).state.messages
    stories = (await nats.jetstream.stream_info("STORIES")).state.messages
    return {"trends": trends, "stories": stories - scores, "scores": scores}


async def settled(nats: Connection, items: int) -> dict[str, int]:
    """Return the counts once every role has taken in `items` and nothing is left to do."""
    async with asyncio.timeout(60):
        while True:
            try:
                pending = [
                    (await nats.jetstream.consumer_info("ITEMS", role)).num_pending for role in ("trends", "stories")
                ]
                scoring = await nats.jetstream.consumer_info("STORIES", "scoring")
                if not any(pending) and not scoring.num_pending and not scoring.num_ack_pending:
                    before = await counted(nats)
                    await asyncio.sleep(0.5)
                    if before == await counted(nats):
                        return before
            except JetStreamError:
                pass  # a role has not made its consumer yet
            await asyncio.sleep(0.1)


async def gather(joined: Client, seconds: float, *, enough: int = 10**9) -> Counter[str]:
    """Count what arrives by type until each kind has come and there is enough of it, or nothing comes for a while."""
    counts: Counter[str] = Counter()
    try:
        while len(counts) < 3 or sum(counts.values()) < enough:
            counts[(await joined.receive(seconds))["type"]] += 1
    except TimeoutError:
        pass
    return counts


@pytest.mark.timeout(120)
async def test_every_kind_of_event_comes_out_and_a_restart_tells_nothing_anew(broker: Broker, tmp_path: Path) -> None:
    path = newsroom_file(tmp_path / "news.jsonl", 400)
    async with running_broadcaster(broker) as (_, nats), running_gateway(broker) as (url, _), client(url) as joined:
        await joined.subscribe("trends", "stories", "trust_scores")
        async with AsyncExitStack() as stack:
            for role in ROLES:
                await stack.enter_async_context(process(broker, role))
            await replay(broker, path)
            counts = await settled(nats, 400)
            assert min(counts.values()) > 5
            received = await gather(joined, 2.0)
        assert received == {
            "trend_update": counts["trends"],
            "story_update": counts["stories"],
            "trust_score_update": counts["scores"],
        }
        # The roles have stopped in order; new ones go on where they stood.
        async with AsyncExitStack() as stack:
            for role in ROLES:
                await stack.enter_async_context(process(broker, role))
            assert await settled(nats, 400) == counts
            await replay(broker, newsroom_file(tmp_path / "more.jsonl", 40, seed=4))
            more = await settled(nats, 440)
            assert more["stories"] > counts["stories"]


@pytest.mark.timeout(120)
async def test_a_role_that_is_killed_loses_nothing_and_its_standby_repeats_nothing(
    broker: Broker, tmp_path: Path
) -> None:
    """The same news through a role that dies and its standby, and through one that lives: equal events."""
    path = newsroom_file(tmp_path / "news.jsonl", 600)
    environment = {"VERACITY_LEASE_SECONDS": "1", "VERACITY_CHECKPOINT_INTERVAL": "0.3"}
    async with running_broadcaster(broker) as (_, nats):
        await replay(broker, path)
        async with process(broker, "stories", **environment) as first:
            await moved(nats)
            async with process(broker, "stories", **environment):
                first.kill()
                await first.wait()
                await drained(nats)
                interrupted = await payloads(nats)
    with Broker(tmp_path / "other") as other:
        async with running_broadcaster(other) as (_, nats):
            await replay(other, path)
            async with process(other, "stories", **environment):
                await drained(nats)
                assert interrupted == await payloads(nats)


async def moved(nats: Connection) -> None:
    """Return once some story has been told."""
    async with asyncio.timeout(20):
        while not (await nats.jetstream.stream_info("STORIES")).state.messages:
            await asyncio.sleep(0.005)


async def drained(nats: Connection) -> None:
    """Return once the role has taken in and confirmed everything."""
    async with asyncio.timeout(40):
        while True:
            try:
                info = await nats.jetstream.consumer_info("ITEMS", "stories")
                if not info.num_pending and not info.num_ack_pending:
                    return
            except JetStreamError:
                pass
            await asyncio.sleep(0.05)


async def payloads(nats: Connection) -> list[object]:
    """Return what the stream of stories holds, without the times of publishing."""
    found = []
    for seq in range(1, (await nats.jetstream.stream_info("STORIES")).state.last_seq + 1):
        message = await nats.jetstream.get_msg("STORIES", seq)
        found.append(json.loads(message.data or b"{}")["data"])
    return found


async def test_two_replicas_of_scoring_share_the_stories_and_tell_each_score_once(
    broker: Broker, tmp_path: Path
) -> None:
    async with running_broadcaster(broker) as (_, nats), AsyncExitStack() as stack:
        for role in ("stories", "scoring", "scoring"):
            await stack.enter_async_context(process(broker, role))
        await replay(broker, newsroom_file(tmp_path / "news.jsonl", 300))
        await stack.enter_async_context(process(broker, "trends"))
        counts = await settled(nats, 300)
        told = []
        for seq in range(1, counts["scores"] + 1):
            message = await nats.jetstream.get_msg("TRUST_SCORES", seq)
            assert message.headers is not None
            told.append(message.headers["Nats-Msg-Id"])
    assert len(told) == len(set(told)) > 20


@pytest.mark.timeout(150)
@pytest.mark.parametrize(
    ("name", "rows"), [("uci_news_stream/news_items.csv", 4_465), ("top_news_stream/news_items.csv", 18_154)]
)
async def test_real_news_goes_all_the_way(broker: Broker, tmp_path: Path, name: str, rows: int) -> None:
    if not (DATA / name).exists():
        pytest.skip(f"../shared/data/{name} is not here")
    lines = (DATA / name).read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path / "news.csv"
    path.write_text("".join(lines[:2_501]), encoding="utf-8")
    assert len(lines) >= rows, "the data has changed: look again at what is expected here"
    async with running_broadcaster(broker) as (_, nats), running_gateway(broker) as (url, _), client(url) as joined:
        await joined.subscribe("trends", "stories", "trust_scores")
        async with AsyncExitStack() as stack:
            for role in ROLES:
                await stack.enter_async_context(process(broker, role))
            log = await replay(broker, path)
            received = await gather(joined, 5.0, enough=200)
            counts = await settled(nats, 2_500)
    accepted = int(re.findall(r'"accepted": (\d+)', log)[-1])
    assert accepted > 2_400
    assert min(counts.values()) > 0
    assert len(received) == 3, f"a client saw {received}"
    sys.stdout.write(f"\n{name}: {accepted} items in; {counts} out\n")


async def test_items_come_in_by_http_one_or_many_and_each_is_told_what_became_of_it(broker: Broker) -> None:
    import httpx

    async with running_broadcaster(broker) as (_, nats), process(broker, "ingest") as ingest:
        assert ingest.stdout is not None
        port = 0
        while not port:
            line = json.loads(await asyncio.wait_for(ingest.stdout.readline(), 10))
            port = line.get("port", 0) if line["event"] == "service started" else 0
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http:
            while (await http.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.02)
            one = {"title": "Dam leaks", "url": "https://a.example/1"}
            assert (await http.post("/api/v1/items", json=one)).json()["accepted"] == 1
            batch = [
                one,
                {"title": "New", "url": "https://a.example/2"},
                {"headline": "no title"},
                7,
                {"title": "x", "url": "z"},
            ]
            answer = await http.post("/api/v1/items", json=batch)
            result = answer.json()
            assert (result["accepted"], result["repeated"], result["refused"]) == (1, 1, 3)
            assert [one["status"] for one in result["results"]] == [
                "repeated",
                "accepted",
                "refused",
                "refused",
                "refused",
            ]
            assert (await http.post("/api/v1/items", content=b"{")).status_code == 400
            assert (await http.post("/api/v1/items", json=[{"no": 1}])).status_code == 422
            assert (await http.post("/api/v1/items", json=[one] * 1_001)).status_code == 413
            assert (await http.post("/api/v1/items", content=b"[" + b" " * 9_000_000 + b"]")).status_code == 413
            metrics = (await http.get("/metrics")).text
        assert 'veracity_ingest_items_total{source="push"} 2.0' in metrics
        assert 'veracity_published_total{kind="item"} 2.0' in metrics
        stored = await nats.jetstream.get_msg("ITEMS", 1)
    assert json.loads(stored.data or b"")["id"] == normalise_id(one)


def normalise_id(pushed: dict[str, str]) -> str:
    from services.publisher.normalise import Entry

    return normalise(Entry("", "api", pushed["title"], pushed["url"]), START).id


async def test_a_stored_item_that_is_none_is_counted_and_the_rest_goes_on(broker: Broker, tmp_path: Path) -> None:
    async with running_broadcaster(broker) as (_, nats), process(broker, "stories") as stories:
        await nats.jetstream.publish("items.news", b"garbage")
        await replay(broker, newsroom_file(tmp_path / "news.jsonl", 60))
        await moved(nats)
        await drained_or_taken(nats)
        stories.terminate()
        assert stories.stdout is not None
        log = (await stories.stdout.read()).decode()
    assert "stored item not readable" in log


async def drained_or_taken(nats: Connection) -> None:
    async with asyncio.timeout(20):
        while (await nats.jetstream.consumer_info("ITEMS", "stories")).num_pending:
            await asyncio.sleep(0.02)


def taken(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.timeout(120)
async def test_one_command_runs_everything_and_ctrl_c_ends_it() -> None:
    """`make run` is `veracity local`; its ports are fixed, so it is tested where they are free."""
    if any(taken(port) for port in (4222, 8000, 8001, 8002, 8003, 8004)):
        pytest.skip("another `make run` uses the ports")
    veracity = str(Path(sys.executable).with_name("veracity"))
    running = await asyncio.create_subprocess_exec(
        veracity, "local", "--simulate", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        tail = await asyncio.create_subprocess_exec(
            veracity, "tail", "trends", "stories", "trust_scores", "--json", stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        kinds: set[str] = set()
        assert tail.stdout is not None
        async with asyncio.timeout(60):
            while len(kinds) < 3:
                kinds.add(json.loads(await tail.stdout.readline())["type"])
        tail.terminate()
        await tail.communicate()
        second = await asyncio.create_subprocess_exec(
            veracity, "local", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await second.communicate()
        assert second.returncode == 1
        assert b"taken by another process: port 8000 (gateway)" in output
        assert b"Traceback" not in output
    finally:
        running.send_signal(signal.SIGINT)
        output, _ = await asyncio.wait_for(running.communicate(), 30)
    assert running.returncode == 0
    assert b"Traceback" not in output, output.decode()
    assert b"without a checkpoint" not in output, output.decode()
    assert not any(taken(port) for port in (4222, 8000, 8001, 8002, 8003, 8004))


async def test_publish_checks_before_it_sends(broker: Broker, gateway: str, tmp_path: Path) -> None:
    from tests.support.items import trend

    veracity = str(Path(sys.executable).with_name("veracity"))
    good = tmp_path / "trend.json"
    good.write_text(json.dumps({"type": "trend_update", "data": trend("flood").model_dump(mode="json")}))

    async def publish(*arguments: str, text: bytes = b"") -> tuple[int, str]:
        running = await asyncio.create_subprocess_exec(
            veracity, "publish", *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, env={**os.environ, "VERACITY_NATS_URL": broker.url},
        )  # fmt: skip
        output, _ = await running.communicate(text)
        assert running.returncode is not None
        return running.returncode, output.decode()

    async with client(gateway) as joined:
        await joined.subscribe("trends")
        assert await publish("trends", str(good)) == (0, "published trend_update to trends, seq 1\n")
        assert (await joined.receive())["data"]["name"] == "flood"
    for arguments, text, reason in [
        (("trends", "-"), b'{"type":"trend_update","data":{}}', "does not fit its model"),
        (("trends", "-"), b"{", "is not JSON"),
        (("stories", str(good)), b"", "nothing can be published to stories"),
        (("story:1", str(good)), b"", "does not belong on a story channel"),
        (("story:*", str(good)), b"", "is not a channel"),
        (("trends", str(tmp_path / "missing")), b"", "cannot be read"),
    ]:
        code, output = await publish(*arguments, text=text)
        assert code == 1
        assert reason in output
        assert "Traceback" not in output
