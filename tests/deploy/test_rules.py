"""Rules and dashboards: what they ask for exists, on a real Prometheus that scrapes the real services."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from services.broker import Broker
from shared.broadcaster import Broadcaster
from tests.bench.servers import free_port
from tests.support.items import item, story
from tests.support.services import client, process, running_gateway

FILES = Path(__file__).parents[2] / "deploy" / "helm" / "veracity" / "files"
RULES = FILES / "rules.yaml"
RUNBOOK = Path(__file__).parents[2] / "deploy" / "RUNBOOK.md"
NAME = re.compile(r"\b((?:veracity|process)_[a-z0-9_]+)\b")

needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not here: apt-get install prometheus"
)


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


def queries() -> set[str]:
    """Return every query of the rules and dashboards, with a dashboard's variables filled in."""
    found = {str(rule["expr"]) for rule in rules()}
    for path in (FILES / "dashboards").glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            found |= {target["expr"] for target in panel["targets"]}
    return {query.replace("$__rate_interval", "1m").replace('"$pod"', '".*"') for query in found}


def test_every_alert_says_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len(alerts) >= 9
    sections = set(re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    for alert in alerts:
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert alert["annotations"]["summary"]
        assert alert["annotations"]["description"]
        assert alert["annotations"]["runbook_url"].endswith(f"#{alert['alert'].lower()}")
        assert alert["alert"] in sections


async def test_what_rules_and_dashboards_ask_for_is_what_the_services_tell(
    broker: Broker, producer: Broadcaster
) -> None:
    port = free_port()
    async with (
        running_gateway(broker) as (url, _),
        process(broker, "stories", VERACITY_PORT=str(port)),
        httpx.AsyncClient() as http,
        client(url) as joined,
    ):
        await joined.subscribe("stories")
        await producer.story_update(story("s", [item(1, "A story")]))
        await joined.until("story_update")
        told = (await http.get(url.replace("ws://", "http://").removesuffix("/api/v1/ws/connect") + "/metrics")).text
        async with asyncio.timeout(15):
            while True:
                try:
                    told += (await http.get(f"http://127.0.0.1:{port}/metrics")).text
                    break
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)
    families = set(re.findall(r"^# TYPE (\S+) ", told, re.MULTILINE))
    # A counter without a value yet shows its type alone.
    exposed = families | {f"{family}{end}" for family in families for end in ("_bucket", "_count", "_sum", "_total")}
    asked = {name for query in queries() for name in NAME.findall(query)}
    assert len(asked) > 20
    assert asked - exposed == set()


@needs_prometheus
def test_prometheus_takes_the_rules_and_every_query(tmp_path: Path) -> None:
    result = subprocess.run(["promtool", "check", "rules", RULES], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    wrapped = {"groups": [{"name": "all", "rules": [{"record": f"q{n}", "expr": q} for n, q in enumerate(queries())]}]}
    (tmp_path / "queries.yaml").write_text(yaml.safe_dump(wrapped))
    result = subprocess.run(
        ["promtool", "check", "rules", tmp_path / "queries.yaml"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@needs_prometheus
def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES.read_text())
    (tmp_path / "tests.yaml").write_text((Path(__file__).with_name("rules_test.yaml")).read_text())
    result = subprocess.run(
        ["promtool", "test", "rules", "tests.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
