"""The role `stories`: items in, stories that appear, grow and merge out."""

from __future__ import annotations

from services.publisher.clustering import StoryClusterer
from services.publisher.metrics import RoleMetrics
from services.publisher.pipeline import Pipeline
from services.publisher.settings import StorySettings
from shared.producer import Producer


async def run(settings: StorySettings) -> None:
    """Run the role until the process is told to stop."""
    producer = Producer(settings, "stories")
    pipeline = Pipeline(
        "stories",
        producer.nats,
        settings,
        RoleMetrics(producer.registry),
        lambda: StoryClusterer(settings.rules),
        producer.broadcaster.story_update,
    )
    await producer.run(pipeline.run)
