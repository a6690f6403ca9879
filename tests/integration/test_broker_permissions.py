"""The broker as others can reach it: TLS, an nkey for each role, and each role held to what is its own."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nats
import nats.errors
import nkeys
import pytest
import trustme
from nats.aio.client import Client as NatsClient
from prometheus_client import CollectorRegistry
from websockets.exceptions import ConnectionClosed

from services.broker import CONFIG, Broker
from shared.connection import Connection
from shared.errors import NatsUnavailable
from shared.metrics import NatsMetrics
from shared.settings import ServiceSettings
from tests.bench.servers import free_port
from tests.support.services import client, process
from tests.support.tokens import SECRET, token

ROLES = ("gateway", "ingest", "trends", "stories", "scoring", "backend", "setup")


@dataclass(frozen=True, slots=True)
class Secured:
    """A broker with TLS and nkeys, and where the secrets are."""

    broker: Broker
    folder: Path

    @property
    def url(self) -> str:
        return f"tls://localhost:{self.broker.port}"

    def environment(self, role: str) -> dict[str, str]:
        return {
            "VERACITY_NATS_URL": self.url,
            "VERACITY_NATS_NKEY": str(self.folder / f"{role}.nk"),
            "VERACITY_NATS_TLS_CA": str(self.folder / "ca.pem"),
            "VERACITY_MANAGE_STREAMS": "false",
            "VERACITY_LOG_LEVEL": "warning",
        }

    def settings(self, role: str) -> ServiceSettings:
        return ServiceSettings(
            nats_url=self.url, nats_nkey=self.folder / f"{role}.nk", nats_tls_ca=self.folder / "ca.pem"
        )


@pytest.fixture
def secured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Secured]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    for role in ROLES:
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        (tmp_path / f"{role}.nk").write_bytes(seed)
        monkeypatch.setenv(f"VERACITY_NKEY_{role.upper()}", nkeys.from_seed(seed).public_key.decode())
    monkeypatch.setenv("VERACITY_BROKER_NAME", "secured")
    monkeypatch.setenv("VERACITY_TLS_CERT", str(tmp_path / "cert.pem"))
    monkeypatch.setenv("VERACITY_TLS_KEY", str(tmp_path / "key.pem"))
    with Broker(tmp_path / "nats", config=CONFIG.with_name("production.conf")) as broker:
        yield Secured(broker, tmp_path)


async def command(secured: Secured, role: str, *words: str) -> str:
    async with process(secured.broker, *words, **secured.environment(role)) as running:
        output, _ = await running.communicate()
        assert running.returncode == 0, output.decode()
        return output.decode()


@pytest.mark.timeout(120)
async def test_the_whole_system_runs_on_it_with_the_rights_of_each_role_alone(secured: Secured, tmp_path: Path) -> None:
    await command(secured, "setup", "setup")
    await command(secured, "setup", "setup")  # again: nothing to do
    rows = ["title,url,source,published_at"]
    for topic in range(4):
        rows += [
            f"Storm closes harbour {topic * 7} in the north,https://outlet{n}.example/{topic},,{1_700_000_000 + n}"
            for n in range(6)
        ]
    (tmp_path / "items.csv").write_text("\n".join(rows))
    port = free_port()
    gateway = {**secured.environment("gateway"), "VERACITY_PORT": str(port), "VERACITY_JWT_SECRET": SECRET}
    replay = ("--replay", str(tmp_path / "items.csv"), "--speed", "0", "--once")
    async with (
        process(secured.broker, "gateway", **gateway),
        process(secured.broker, "trends", **secured.environment("trends")),
        process(secured.broker, "stories", **secured.environment("stories")),
        process(secured.broker, "scoring", **secured.environment("scoring")),
    ):
        await listening(port)
        async with client(f"ws://127.0.0.1:{port}/api/v1/ws/connect") as first:
            await first.subscribe("trends", "stories", "trust_scores")
            await command(secured, "ingest", "ingest", *replay)
            seen: set[str] = set()
            async with asyncio.timeout(20):
                while not seen >= {"trend_update", "story_update", "trust_score_update"}:
                    seen.add((await first.receive(20))["type"])
        headers = {"Authorization": f"Bearer {token('ann')}"}
        async with client(f"ws://127.0.0.1:{port}/api/v1/ws/connect", additional_headers=headers) as ann:
            (tmp_path / "hello.json").write_text('{"type": "user_message", "data": {"n": 1}}')
            await command(secured, "backend", "publish", "user:ann", str(tmp_path / "hello.json"))
            seq = (await ann.until("user_message"))["seq"]
            await ann.send(type="ack", channel="user:ann", seq=seq)
            assert "is disconnected" in await command(secured, "backend", "disconnect-user", "ann")
            with pytest.raises(ConnectionClosed) as closed:
                await ann.until("nothing of this kind")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401


async def listening(port: int) -> None:
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return


async def connected(secured: Secured, role: str, refused: asyncio.Queue[str]) -> NatsClient:
    async def error(problem: Exception) -> None:
        refused.put_nowait(str(problem).lower())

    return await nats.connect(
        secured.url,
        nkeys_seed=str(secured.folder / f"{role}.nk"),
        tls=ssl.create_default_context(cafile=secured.folder / "ca.pem"),
        error_cb=error,
        inbox_prefix=f"_INBOX.veracity-{role}",
        allow_reconnect=False,
    )


async def said(refused: asyncio.Queue[str], what: str) -> None:
    async with asyncio.timeout(5):
        while what not in await refused.get():
            pass


@pytest.mark.parametrize(
    ("role", "subject"),
    [
        ("gateway", "trends"),
        ("gateway", "events.trends"),
        ("gateway", "events.user.ann"),
        ("gateway", "items.news"),
        ("gateway", "$JS.API.STREAM.DELETE.TRENDS"),
        ("gateway", "$JS.API.STREAM.PURGE.USERS"),
        ("gateway", "$KV.veracity_revocations.ann"),
        ("ingest", "events.trends"),
        ("ingest", "$JS.API.STREAM.MSG.GET.USERS"),
        ("trends", "events.story.1"),
        ("trends", "trends"),
        ("stories", "events.trust_scores"),
        ("stories", "$KV.veracity_leases.trends"),
        ("scoring", "events.user.ann"),
        ("scoring", "$JS.API.CONSUMER.MSG.NEXT.ITEMS.stories"),
        ("backend", "events.trends"),
        ("setup", "events.trends"),
    ],
)
async def test_what_is_not_a_roles_own_it_cannot_publish(secured: Secured, role: str, subject: str) -> None:
    refused: asyncio.Queue[str] = asyncio.Queue()
    connection = await connected(secured, role, refused)
    await connection.publish(subject, b"{}")
    await said(refused, "permissions violation for publish")
    await connection.close()


@pytest.mark.parametrize(
    ("role", "subject"),
    [
        ("gateway", "events.>"),
        ("gateway", "items.>"),
        ("gateway", ">"),
        ("gateway", "_INBOX.veracity-stories.>"),
        ("ingest", "user.*"),
        ("trends", "user.ann"),
        ("scoring", "_INBOX.>"),
        ("backend", "user.*"),
    ],
)
async def test_what_is_not_a_roles_own_it_cannot_hear(secured: Secured, role: str, subject: str) -> None:
    refused: asyncio.Queue[str] = asyncio.Queue()
    connection = await connected(secured, role, refused)
    await connection.subscribe(subject)
    await said(refused, "permissions violation for subscription")
    await connection.close()


async def test_strangers_do_not_get_in(secured: Secured) -> None:
    seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
    (secured.folder / "stranger.nk").write_bytes(seed)
    for role in ("stranger", "gateway"):
        settings = secured.settings(role)
        if role == "gateway":  # the right key, but an authority that did not sign the broker's certificate
            other = trustme.CA()
            other.cert_pem.write_to_path(secured.folder / "other.pem")
            settings = settings.model_copy(update={"nats_tls_ca": secured.folder / "other.pem"})
        async with Connection(settings, "test", NatsMetrics(CollectorRegistry())) as connection:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.ready(), 1.0)
            with pytest.raises(NatsUnavailable):
                await connection.flush()
