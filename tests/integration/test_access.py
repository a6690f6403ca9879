"""Who may hear what and how much, across pods: keys that change, users sent away, limits, analytics."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from fastapi import FastAPI, HTTPException
from jwt.algorithms import OKPAlgorithm
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from services.broker import Broker
from services.publisher.sources.keys import new_key
from shared.broadcaster import Broadcaster
from shared.connection import Connection
from shared.lifecycle import HttpServer
from shared.revocation import revoke
from tests.bench.servers import free_port
from tests.support.items import trend
from tests.support.services import client, process, running_gateway, until
from tests.support.tokens import SECRET, bearer, token


def http_address(url: str) -> str:
    return url.replace("ws://", "http://").removesuffix("/api/v1/ws/connect")


# --- keys ------------------------------------------------------------------------------------------------------------


class Issuer:
    """An identity provider: keys it shows, tokens it signs, and outages."""

    def __init__(self) -> None:
        self.keys: dict[str, ed25519.Ed25519PrivateKey] = {}
        self.away = False
        self.reads = 0
        self.url = ""

    def add(self, kid: str) -> None:
        self.keys[kid] = ed25519.Ed25519PrivateKey.generate()

    def token(self, kid: str) -> str:
        claims = {"sub": "ann", "exp": time.time() + 60}
        return jwt.encode(claims, self.keys[kid], algorithm="EdDSA", headers={"kid": kid})

    def document(self) -> dict[str, Any]:
        self.reads += 1
        if self.away:
            raise HTTPException(503)
        return {
            "keys": [
                {**OKPAlgorithm.to_jwk(key.public_key(), as_dict=True), "kid": kid} for kid, key in self.keys.items()
            ]
        }


@asynccontextmanager
async def issuing() -> AsyncIterator[Issuer]:
    issuer, app = Issuer(), FastAPI()
    app.get("/keys")(issuer.document)
    async with HttpServer(app, "127.0.0.1", 0) as server:
        issuer.url = f"http://127.0.0.1:{server.port}/keys"
        yield issuer


async def accepted(url: str, text: str) -> bool:
    try:
        async with connect(url, **bearer(text)):
            return True
    except InvalidStatus as error:
        assert error.response.status_code == 401
        return False


async def test_keys_from_an_address_are_rotated_and_outlive_its_outages(broker: Broker) -> None:
    async with issuing() as issuer:
        issuer.add("one")
        async with running_gateway(broker, jwks_url=issuer.url, jwks_refresh=0.2) as (url, _):
            assert await accepted(url, issuer.token("one"))
            issuer.add("two")
            async with asyncio.timeout(5):
                while not await accepted(url, issuer.token("two")):  # an unknown key has the set read anew
                    await asyncio.sleep(0.05)
            issuer.away = True
            reads = issuer.reads
            await until(lambda: issuer.reads > reads + 2)
            assert await accepted(url, issuer.token("one"))
            issuer.away, removed = False, issuer.token("one")
            del issuer.keys["one"]
            async with asyncio.timeout(5):
                while await accepted(url, removed):
                    await asyncio.sleep(0.05)
            assert await accepted(url, issuer.token("two"))


async def test_a_gateway_without_any_key_yet_is_not_ready_and_lets_nobody_in_as_anybody(broker: Broker) -> None:
    async with issuing() as issuer:
        issuer.add("one")
        issuer.away = True
        settings = {"jwks_url": issuer.url, "jwks_refresh": 0.2}

        async def come_back() -> None:
            await until(lambda: issuer.reads > 2)
            issuer.away = False

        coming = asyncio.create_task(come_back())
        async with running_gateway(broker, **settings) as (url, gateway):  # returns once it is ready
            await coming
            assert gateway.missing() == []
            assert await accepted(url, issuer.token("one"))


# --- users sent away -------------------------------------------------------------------------------------------------


async def test_a_revoked_user_is_gone_from_every_pod_and_comes_back_with_a_new_login_only(
    broker: Broker, nats: Connection
) -> None:
    old = token(iat=time.time() - 5)
    undated = token()
    async with (
        running_gateway(broker, jwt_secret=SECRET) as (first, _),
        running_gateway(broker, jwt_secret=SECRET) as (second, _),
        client(first, **bearer(old)) as phone,
        client(second, **bearer(undated)) as laptop,
        client(second, **bearer(token("bob"))) as other,
    ):
        for joined in (phone, laptop, other):
            await joined.until("subscribed")
        await revoke(nats, "ann")
        for joined in (phone, laptop):
            with pytest.raises(ConnectionClosed) as closed:
                await joined.until("nothing of this kind")
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
        assert await other.silent()
        for text in (old, undated):
            assert not await accepted(first, text)
        assert await accepted(first, token(iat=time.time() + 2)), "a later login"
        # A pod that starts later knows it too.
        async with running_gateway(broker, jwt_secret=SECRET) as (third, gateway):
            await until(lambda: "ann" in gateway.revocations._revoked)
            assert not await accepted(third, old)


async def test_revoking_what_is_no_user_is_refused_with_a_sentence(broker: Broker) -> None:
    async with process(broker, "disconnect-user", "a.b") as running:
        output, _ = await running.communicate()
    assert running.returncode == 1
    assert b"veracity: " in output
    assert b"Traceback" not in output


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_an_address_that_connects_too_often_waits(broker: Broker) -> None:
    options = {"rate_limit_address": 3, "trusted_proxies": "127.0.0.1"}
    async with running_gateway(broker, **options) as (url, _):
        other: dict[str, Any] = {"additional_headers": {"X-Forwarded-For": "198.51.100.2"}}
        same: dict[str, Any] = {"additional_headers": {"X-Forwarded-For": "203.0.113.7, 198.51.100.1"}}
        for _ in range(3):
            async with client(url, **same):
                pass
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, **same)
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["retry-after"]) >= 1
        async with client(url, **other):
            pass


async def test_who_goes_on_after_being_told_to_wait_is_closed(broker: Broker) -> None:
    options = {"rate_limit_messages": 5, "rate_limit_refusals": 3}
    async with running_gateway(broker, **options) as (url, _), client(url) as joined:
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await joined.send(type="ping")
                await joined.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4429
        refusals = [message for message in joined.messages if message["type"] == "error"]
        assert 3 <= len(refusals) <= 4
        assert all(message["retry_after"] > 0 for message in refusals)


# --- analytics -------------------------------------------------------------------------------------------------------


async def test_analytics_are_of_one_pod_or_of_all_and_the_pods_are_a_micro_service(
    broker: Broker, nats: Connection, producer: Broadcaster
) -> None:
    async with (
        running_gateway(broker) as (first, one),
        running_gateway(broker) as (second, two),
        httpx.AsyncClient() as http,
    ):
        await until(lambda: one.service.registered and two.service.registered)
        async with client(first) as a, client(first) as b, client(second) as c:
            for joined in (a, b, c):
                await joined.subscribe("trends")
            await producer.trend_update(trend("x"))
            for joined in (a, b, c):
                await joined.until("trend_update")
            await a.send(type="unsubscribe", channel="trends")
            await a.until("unsubscribed")
            pod = (await http.get(f"{http_address(first)}/api/v1/analytics?scope=pod")).json()
            everywhere = (await http.get(f"{http_address(second)}/api/v1/analytics")).json()
        rows = {
            scope: {row["name"]: row for row in body["kinds"]} for scope, body in (("pod", pod), ("all", everywhere))
        }
        assert (pod["pods"], everywhere["pods"]) == (1, 2)
        assert (rows["pod"]["trends"]["subscribes"], rows["all"]["trends"]["subscribes"]) == (2, 3)
        assert (rows["pod"]["trends"]["messages"], rows["all"]["trends"]["messages"]) == (2, 3)
        assert rows["all"]["trends"]["unsubscribes"] == 1
        assert rows["all"]["trends"]["median_seconds"] is not None
        assert rows["all"]["trends"]["bytes"] > 300
        assert everywhere["top"][0]["name"] == "trends"

        answers = await nats.client.subscribe("_INBOX.ls")
        await nats.client.publish("$SRV.PING.veracity-gateway", b"", reply="_INBOX.ls")
        pings = [json.loads((await answers.next_msg(timeout=2)).data) for _ in range(2)]
        assert {ping["name"] for ping in pings} == {"veracity-gateway"}
        answer = await nats.client.request("veracity.gateway.analytics", b"", timeout=2)
        assert json.loads(answer.data)["kinds"]["trends"]["subscribes"] in (1, 2)


async def test_operations_may_have_a_port_of_their_own(broker: Broker) -> None:
    port = free_port()
    async with running_gateway(broker, ops_port=port) as (url, _), httpx.AsyncClient() as http:
        for path in ("/metrics", "/api/v1/ws/stats", "/api/v1/analytics"):
            assert (await http.get(f"{http_address(url)}{path}")).status_code == 404
            assert (await http.get(f"http://127.0.0.1:{port}{path}")).status_code == 200
        for path in ("/healthz", "/readyz"):
            assert (await http.get(f"{http_address(url)}{path}")).status_code == 200
            assert (await http.get(f"http://127.0.0.1:{port}{path}")).status_code == 200


# --- items -----------------------------------------------------------------------------------------------------------


async def test_items_are_taken_from_who_has_a_key_and_not_too_fast(broker: Broker) -> None:
    key, digest = new_key()
    port = free_port()
    environment = {"VERACITY_PORT": str(port), "VERACITY_INGEST_API_KEYS": f"{'0' * 64},{digest}"}
    async with (
        process(broker, "ingest", VERACITY_PUSH_RATE="3", VERACITY_LOG_LEVEL="debug", **environment) as ingest,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as http,
    ):
        async with asyncio.timeout(15):
            while True:
                try:
                    if (await http.get("/readyz")).status_code == 200:
                        break
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.05)

        async def push(count: int, **headers: str) -> httpx.Response:
            items = [{"title": f"Item {number}", "url": f"https://a.example/{number}"} for number in range(count)]
            return await http.post("/api/v1/items", json=items, headers=headers)

        assert (await push(1)).status_code == 401
        assert (await push(1, **{"x-api-key": "wrong"})).status_code == 401
        assert (await push(1, **{"x-api-key": digest})).status_code == 401, "the hash is no key"
        assert (await push(2, **{"x-api-key": key})).json()["accepted"] == 2
        assert (await push(1, authorization=f"Bearer {key}")).json()["repeated"] == 1
        late = await push(2, **{"x-api-key": key})
        assert late.status_code == 429
        assert int(late.headers["retry-after"]) > 0
        wrong = [(await push(1, **{"x-api-key": f"guess {number}"})).status_code for number in range(70)]
        assert (wrong[0], wrong[-1]) == (401, 429), "guessing is slowed down"
        ingest.terminate()
        output, _ = await ingest.communicate()
        assert key.encode() not in output


async def test_without_a_key_items_are_taken_on_this_machine_only(broker: Broker) -> None:
    async with process(broker, "ingest", VERACITY_HOST="0.0.0.0") as running:
        output, _ = await running.communicate()
    assert running.returncode == 1
    assert b"VERACITY_INGEST_API_KEYS" in output
