"""The role `trends`: items in, trends that start, change and end out."""

from __future__ import annotations

from services.publisher.bursts import BurstDetector
from services.publisher.metrics import RoleMetrics
from services.publisher.pipeline import Pipeline
from services.publisher.settings import TrendSettings
from shared.producer import Producer


async def run(settings: TrendSettings) -> None:
    """Run the role until the process is told to stop."""
    producer = Producer(settings, "trends")
    pipeline = Pipeline(
        "trends",
        producer.nats,
        settings,
        RoleMetrics(producer.registry),
        lambda: BurstDetector(settings.rules),
        producer.broadcaster.trend_update,
    )
    await producer.run(pipeline.run)
