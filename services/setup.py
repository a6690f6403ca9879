"""`veracity setup`: makes streams and buckets what they have to be, with rights that no running service then needs."""

from __future__ import annotations

from services.gateway import cursors
from services.publisher import lease
from services.publisher.checkpoint import Checkpoints
from services.publisher.settings import RoleSettings
from services.scoring import scorer
from services.scoring.settings import ScoringSettings
from shared.buckets import open_bucket
from shared.connection import Connection, once
from shared.revocation import open_revocations
from shared.settings import load
from shared.streams import ensure_streams


async def run(settings: RoleSettings) -> None:
    """Make what is missing and change what differs; raises StreamConflict or NatsUnavailable."""
    scoring = load(ScoringSettings)

    async def make(connection: Connection) -> None:
        await ensure_streams(connection.jetstream, settings)
        await open_bucket(connection, cursors.BUCKET)
        await open_bucket(connection, lease.BUCKET, ttl=settings.lease_seconds)
        await open_bucket(connection, scorer.BUCKET, ttl=scorer.remembered(scoring))
        await open_revocations(connection)
        await Checkpoints(connection, "setup").open()

    await once(settings, make)
