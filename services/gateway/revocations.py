"""Users whose tokens count no longer: every pod hears of one at once, and a pod that starts later reads it.

A revocation is an entry in a NATS bucket, written by `veracity disconnect-user`: the user and when it was said. Tokens
issued before that are refused; one issued later is a new login.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import nats.errors
import nats.js.errors

from services.gateway.credentials import Principal, Unauthorized
from shared import logs
from shared.connection import Connection
from shared.errors import NatsUnavailable
from shared.revocation import LONGEST_TOKEN, SUBJECT, open_revocations, read_revocation
from shared.tasks import end

log = logs.get(__name__)

_FAILURES = (nats.errors.Error, TimeoutError, OSError)
_RETRY_SECONDS = 1.0


class Revocations:
    """What is revoked, as far as this pod knows; `async with` keeps it current. `on_revoked` gets each user."""

    def __init__(self, connection: Connection, on_revoked: Callable[[str], None]) -> None:
        self._connection, self._on_revoked = connection, on_revoked
        self._revoked: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._doubt = asyncio.Event()

    def check(self, principal: Principal) -> None:
        """Raise Unauthorized if the token was issued before its user was revoked, or does not say when."""
        revoked = self._revoked.get(principal.user_id)
        # `iat` counts whole seconds: a login in the very second of the revocation is taken for an older one.
        if revoked is not None and principal.issued <= revoked:
            raise Unauthorized("the token has been revoked: log in again")

    async def __aenter__(self) -> Revocations:
        self._connection.on_connected.append(self._doubt.set)
        self._task = asyncio.create_task(self._run(), name="revocations")
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)

    def _receive(self, subject: bytes, payload: bytes, _headers: bytes | None) -> None:
        self._take(subject.decode("ascii", errors="replace").removeprefix(SUBJECT.removesuffix("*")), payload)

    def _take(self, user_id: str, payload: bytes) -> None:
        revoked = read_revocation(payload)
        if revoked is None:
            log.warning("revocation not understood", user=user_id)
            return
        horizon = time.time() - LONGEST_TOKEN
        if revoked > max(self._revoked.get(user_id, 0.0), horizon):
            self._revoked = {user: at for user, at in self._revoked.items() if at > horizon}
            self._revoked[user_id] = revoked
            log.info("user revoked", user=user_id)
            self._on_revoked(user_id)

    async def _run(self) -> None:
        await self._connection.ready()
        listening = False
        while True:
            self._doubt.clear()
            await self._connection.ready()
            try:
                if not listening:
                    await self._connection.listen(SUBJECT, self._receive)
                    listening = True
                await self._connection.flush()
                await self._read()
            except NatsUnavailable as error:
                log.info("revocations not read yet", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            await self._doubt.wait()  # whatever was said while NATS was away is in the bucket

    async def _read(self) -> None:
        bucket = await open_revocations(self._connection)
        try:
            for user_id in await bucket.keys():
                entry = await bucket.get(user_id)
                self._take(user_id, entry.value or b"")
        except (nats.js.errors.NoKeysError, nats.js.errors.KeyNotFoundError):
            return  # none, or gone while it was read
        except _FAILURES as error:
            raise NatsUnavailable("reading revocations", repr(error)) from error
