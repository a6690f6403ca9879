"""A role's memory and how far it has read, stored together in a NATS object store.

Because both are one object, a restart goes on exactly where the memory stands: nothing is missed or counted twice.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from nats.js.api import ObjectStoreConfig
from nats.js.object_store import ObjectStore

from shared.connection import Connection
from shared.errors import NatsUnavailable

BUCKET = "veracity_checkpoints"
_FORMAT = b"veracity-checkpoint-1\n"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A memory as it is after the item with stream sequence `seq`; sequences of another epoch say nothing here."""

    seq: int
    epoch: str
    memory: bytes


class Checkpoints:
    """The checkpoints of one role."""

    def __init__(self, connection: Connection, role: str) -> None:
        self._connection, self._role = connection, role

    async def load(self) -> Checkpoint | None:
        """Return the last checkpoint; None if there is none or it is damaged.

        Raises NatsUnavailable if NATS cannot be asked.
        """
        try:
            store = await self.open()
            result = await store.get(self._role)
        except (nats.js.errors.NotFoundError, nats.js.errors.ObjectNotFoundError, nats.js.errors.ObjectDeletedError):
            return None
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise NatsUnavailable(f"reading the checkpoint of {self._role}", repr(error)) from error
        return decode(result.data or b"")

    async def save(self, checkpoint: Checkpoint) -> int:
        """Store a checkpoint in the place of the one before; return the bytes stored.

        Raises NatsUnavailable if it was not stored; the one before is still there.
        """
        data = encode(checkpoint)
        try:
            store = await self.open()
            await store.put(self._role, data)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise NatsUnavailable(f"storing the checkpoint of {self._role}", repr(error)) from error
        return len(data)

    async def open(self) -> ObjectStore:
        """Return the store, made if need be; raises what nats-py raises."""
        jetstream = self._connection.jetstream
        try:
            return await jetstream.object_store(BUCKET)
        except (nats.js.errors.BucketNotFoundError, nats.js.errors.NotFoundError):
            config = ObjectStoreConfig(bucket=BUCKET, replicas=self._connection.replicas)
            return await jetstream.create_object_store(BUCKET, config=config)


def encode(checkpoint: Checkpoint) -> bytes:
    """Return a checkpoint's bytes."""
    return _FORMAT + f"{checkpoint.seq} {checkpoint.epoch}\n".encode() + zlib.compress(checkpoint.memory, 1)


def decode(data: bytes) -> Checkpoint | None:
    """Return what `encode` was given, None if these are not its bytes."""
    if not data.startswith(_FORMAT):
        return None
    head, _, body = data[len(_FORMAT) :].partition(b"\n")
    seq, _, epoch = head.partition(b" ")
    try:
        return Checkpoint(int(seq), epoch.decode(), zlib.decompress(body))
    except (ValueError, zlib.error):
        return None
