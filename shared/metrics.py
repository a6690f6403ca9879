"""Metrics every service exposes, and the bucket choices they share.

Metrics are made from a registry that is passed in, never on import, so that two services can live in one process.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, PlatformCollector, ProcessCollector

# Delivery is judged at 10 ms (a good turn), 100 ms (the goal) and seconds (trouble): dense around the first two.
DELIVERY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


def new_registry() -> CollectorRegistry:
    """Return a registry with the process's own figures (CPU, memory, descriptors, collector)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class NatsMetrics:
    """The state of one NATS connection."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connected = Gauge("veracity_nats_connected", "1 while connected to NATS", registry=registry)
        self.reconnects = Counter("veracity_nats_reconnects", "Reconnects to NATS", registry=registry)
        self.errors = Counter("veracity_nats_errors", "Errors the NATS client reported", ["error"], registry=registry)


class PublishMetrics:
    """What a producer published."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.published = Counter(
            "veracity_published", "Messages acknowledged by JetStream", ["kind"], registry=registry
        )
        self.duplicates = Counter(
            "veracity_published_duplicates", "Repeats that JetStream removed", ["kind"], registry=registry
        )
        self.retries = Counter("veracity_publish_retries", "Publishes tried again", ["kind"], registry=registry)
        self.failures = Counter("veracity_publish_failures", "Publishes given up", ["kind"], registry=registry)
