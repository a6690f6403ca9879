"""One process at a time does a role's work: a key in a NATS bucket that expires unless its holder renews it.

Trends and stories need every item in one memory; further replicas stand by and take over within the lease's time.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats.errors
import nats.js.errors
from nats.js.kv import KeyValue

from shared import logs
from shared.buckets import open_bucket
from shared.connection import Connection
from shared.errors import NatsUnavailable
from shared.tasks import end

log = logs.get(__name__)

BUCKET = "veracity_leases"


class Lease:
    """The right to be the one process of `role`; `seconds` without renewal end it."""

    def __init__(self, connection: Connection, role: str, seconds: float) -> None:
        self._connection, self._role, self._seconds = connection, role, seconds
        self._holder = uuid.uuid4().hex
        self._revision = 0
        self.held = False

    def __repr__(self) -> str:
        return f"<Lease {self._role} {'held' if self.held else 'not held'}>"

    @asynccontextmanager
    async def holding(self) -> AsyncIterator[asyncio.Task[None]]:
        """Wait for the lease and hold it while the block runs; the task yielded ends when it is lost.

        Raises NatsUnavailable when NATS goes away while waiting.
        """
        # The bucket's age is the lease's time: all holders must ask for the same.
        bucket = await open_bucket(self._connection, BUCKET, ttl=self._seconds)
        await self._acquire(bucket)
        self.held = True
        log.info("role taken over", role=self._role)
        renewing = asyncio.create_task(self._renew(bucket), name=f"lease-{self._role}")
        try:
            yield renewing
        finally:
            self.held = False
            await end(renewing)
            # Given back at once where possible, so that a standby need not wait; else it expires by itself.
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                await bucket.delete(self._role, last=self._revision)

    async def _acquire(self, bucket: KeyValue) -> None:
        waiting = False
        while True:
            try:
                self._revision = await bucket.create(self._role, self._holder.encode())
                return
            except nats.js.errors.KeyWrongLastSequenceError:
                if not waiting:
                    log.info("standing by: another process does this role's work", role=self._role)
                waiting = True
                await asyncio.sleep(self._seconds / 5)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                raise NatsUnavailable(f"asking for the lease of {self._role}", repr(error)) from error

    async def _renew(self, bucket: KeyValue) -> None:
        """Renew three times in the lease's time; return when it is lost."""
        loop = asyncio.get_running_loop()
        good_until = loop.time() + self._seconds
        while loop.time() < good_until:
            await asyncio.sleep(self._seconds / 3)
            asked = loop.time()
            try:
                self._revision = await bucket.update(self._role, self._holder.encode(), last=self._revision)
                good_until = asked + self._seconds
            except nats.js.errors.KeyWrongLastSequenceError:
                break
            except (nats.errors.Error, TimeoutError, OSError) as error:
                log.warning("lease not renewed, trying again", role=self._role, error=repr(error))
        self.held = False
        log.warning("lease lost", role=self._role)
