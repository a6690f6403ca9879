"""Key-value buckets in NATS, made by whoever asks first."""

from __future__ import annotations

import nats.errors
import nats.js.errors
from nats.js.api import KeyValueConfig
from nats.js.kv import KeyValue

from shared.connection import Connection
from shared.errors import NatsUnavailable


async def open_bucket(connection: Connection, name: str, *, ttl: float | None = None) -> KeyValue:
    """Return the bucket `name`; a new one forgets keys after `ttl` seconds. Raises NatsUnavailable if it cannot."""
    jetstream = connection.jetstream
    try:
        try:
            return await jetstream.key_value(name)
        except nats.js.errors.BucketNotFoundError:
            return await jetstream.create_key_value(KeyValueConfig(bucket=name, ttl=ttl, replicas=connection.replicas))
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise NatsUnavailable(f"opening the bucket {name}", repr(error)) from error
