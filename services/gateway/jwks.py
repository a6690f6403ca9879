"""The keys of an identity provider, read from its JWKS address (RFC 7517): kept current, and kept while it is away.

A token that names an unknown key has the set read again, so that a rotation is noticed within seconds.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import jwt

from services.gateway.credentials import Key, usable
from services.gateway.metrics import GatewayMetrics
from shared import logs
from shared.tasks import end

log = logs.get(__name__)

_LEAST_PAUSE = 5.0  # seconds between two reads, however many unknown keys are named
_MAX_BYTES = 262_144


def read_keys(document: Any) -> dict[str | None, Key]:  # Any: whatever the address answers
    """Return the usable signature keys of a JWKS document by their ids; raises ValueError if it is none."""
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("no JWKS document: an object with `keys` is expected")
    found: dict[str | None, Key] = {}
    for raw in document["keys"]:
        if not isinstance(raw, dict) or raw.get("use", "sig") != "sig" or raw.get("kty") == "oct":
            continue  # a shared secret has no place in a public document
        try:
            key = usable(jwt.PyJWK(raw).key)
        except (jwt.PyJWTError, ValueError, KeyError, TypeError):
            continue  # one odd key, of an algorithm we do not know perhaps, must not hide the others
        if key is not None and raw.get("alg", key.algorithm) == key.algorithm:
            found[raw.get("kid")] = key
    return found


class Jwks:
    """Key set of one address; `async with` keeps it current. Times in seconds."""

    def __init__(self, url: str, metrics: GatewayMetrics, *, refresh: float, timeout: float = 5.0) -> None:
        self._url, self._metrics, self._refresh, self._timeout = url, metrics, refresh, timeout
        self._keys: dict[str | None, Key] = {}
        self._unknown = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def empty(self) -> bool:
        """Whether no key has been read yet: nobody can be told from anybody."""
        return not self._keys

    def find(self, key_id: str | None) -> Key | None:
        """Return the key of this id, or the only one if the token names none; an unknown one has the set read anew."""
        if key_id is None and len(self._keys) == 1:
            return next(iter(self._keys.values()))
        key = self._keys.get(key_id)
        if key is None:
            self._unknown.set()
        return key

    async def __aenter__(self) -> Jwks:
        self._task = asyncio.create_task(self._run(), name="jwks")
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)

    async def _run(self) -> None:
        async with httpx.AsyncClient(timeout=self._timeout, follow_redirects=False) as client:
            while True:
                read = await self._read(client)
                started = time.monotonic()
                try:
                    async with asyncio.timeout(self._refresh if read else min(_LEAST_PAUSE, self._refresh)):
                        await self._unknown.wait()
                    await asyncio.sleep(max(0.0, started + min(_LEAST_PAUSE, self._refresh) - time.monotonic()))
                except TimeoutError:
                    pass  # it is time
                self._unknown.clear()

    async def _read(self, client: httpx.AsyncClient) -> bool:
        try:
            answer = await client.get(self._url, headers={"accept": "application/json"})
            answer.raise_for_status()
            if len(answer.content) > _MAX_BYTES:
                raise ValueError(f"{len(answer.content)} bytes are no key set")
            keys = read_keys(answer.json())
            if not keys:
                raise ValueError("the document holds no RS256, ES256 or EdDSA key")
        except (httpx.HTTPError, ValueError) as error:
            self._metrics.jwks_reads.labels("failed").inc()
            log.warning("keys not read, those known stay in use", url=self._url, keys=len(self._keys), error=str(error))
            return False
        self._metrics.jwks_reads.labels("read").inc()
        if keys.keys() != self._keys.keys():
            log.info("keys changed", url=self._url, keys=len(keys))
        self._keys = keys
        return True
