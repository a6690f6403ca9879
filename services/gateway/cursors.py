"""How far each user has read their personal channel, kept in a NATS bucket: on whichever device and pod they come back.

A cursor only moves forward; what was acknowledged once is not delivered again to a client that asks for nothing else.
"""

from __future__ import annotations

import asyncio

import nats.errors
import nats.js.errors
from nats.js.kv import KeyValue

from shared import logs
from shared.buckets import open_bucket
from shared.connection import Connection
from shared.errors import NatsUnavailable
from shared.tasks import end

log = logs.get(__name__)

BUCKET = "veracity_cursors"
_FAILURES = (nats.errors.Error, TimeoutError, OSError)


class Cursors:
    """Reads cursors, and moves them by one task that writes what has gathered; `async with` runs it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._moves: dict[str, tuple[str, int]] = {}  # user → (epoch, seq), newest only
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Cursors:
        self._task = asyncio.create_task(self._run(), name="cursors")
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)
        try:
            async with asyncio.timeout(2.0):
                await self._write()
        except (NatsUnavailable, TimeoutError) as error:
            log.warning("acknowledgements not stored: they will come again", users=len(self._moves), error=str(error))

    async def read(self, user_id: str, epoch: str) -> int:
        """Return the sequence `user_id` has acknowledged in this epoch, 0 for none. Raises NatsUnavailable."""
        held = self._moves.get(user_id)
        if held is not None and held[0] == epoch:
            return held[1]
        _, stored = await self._get(await open_bucket(self._connection, BUCKET), user_id)
        return stored[1] if stored[0] == epoch else 0

    def move(self, user_id: str, epoch: str, seq: int) -> None:
        """Note that `user_id` has read up to `seq`; it is written soon."""
        held = self._moves.get(user_id)
        if held is None or held[0] != epoch or held[1] < seq:
            self._moves[user_id] = epoch, seq
            self._work.set()

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            try:
                await self._connection.ready()
                await self._write()
            except NatsUnavailable as error:
                log.info("cursors wait", users=len(self._moves), error=str(error))
                await asyncio.sleep(0.5)
                self._work.set()

    async def _write(self) -> None:
        if not self._moves:
            return
        bucket = await open_bucket(self._connection, BUCKET)
        for user_id, (epoch, seq) in list(self._moves.items()):
            revision, stored = await self._get(bucket, user_id)
            if stored[0] != epoch or stored[1] < seq:
                try:
                    await bucket.update(user_id, f"{epoch} {seq}".encode(), last=revision)
                except nats.js.errors.KeyWrongLastSequenceError:
                    self._work.set()  # another device moved it meanwhile: compare again
                    continue
                except _FAILURES as error:
                    raise NatsUnavailable("storing a cursor", repr(error)) from error
            if self._moves.get(user_id) == (epoch, seq):
                del self._moves[user_id]

    async def _get(self, bucket: KeyValue, user_id: str) -> tuple[int, tuple[str, int]]:
        """Return (the bucket's revision, (epoch, seq)), zeros where there is none."""
        try:
            entry = await bucket.get(user_id)
        except nats.js.errors.KeyNotFoundError:
            return 0, ("", 0)
        except _FAILURES as error:
            raise NatsUnavailable("reading a cursor", repr(error)) from error
        epoch, _, seq = (entry.value or b"").decode().partition(" ")
        return entry.revision or 0, (epoch, int(seq) if seq.isdigit() else 0)
