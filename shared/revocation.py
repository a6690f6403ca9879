"""A user's tokens are taken back: what is written in the bucket every gateway listens to, and the writing of it."""

from __future__ import annotations

import time

import nats.errors
from nats.js.kv import KeyValue

from shared import channels
from shared.buckets import open_bucket
from shared.connection import Connection
from shared.errors import NatsUnavailable

BUCKET = "veracity_revocations"
LONGEST_TOKEN = 30 * 86_400.0  # seconds; a revocation is forgotten after it, when no older token is good any more
SUBJECT = f"$KV.{BUCKET}.*"  # a bucket's writes are plain messages: whoever listens hears them at once


def read_revocation(payload: bytes) -> float | None:
    """Return when a user was revoked (Unix seconds), None if `payload` does not say."""
    try:
        return float(payload)
    except ValueError:
        return None


async def open_revocations(connection: Connection) -> KeyValue:
    """Return the bucket, made if need be; raises NatsUnavailable."""
    return await open_bucket(connection, BUCKET, ttl=LONGEST_TOKEN)


async def revoke(connection: Connection, user_id: str) -> None:
    """Disconnect `user_id` everywhere and refuse the tokens issued until now.

    Raises InvalidChannel if it is no user id, NatsUnavailable if it could not be stored.
    """
    channels.user(user_id)
    bucket = await open_revocations(connection)
    try:
        await bucket.put(user_id, f"{time.time():.3f}".encode())
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise NatsUnavailable(f"revoking {user_id}", repr(error)) from error
