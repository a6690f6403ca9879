"""Metrics of the publisher's roles."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge


class IngestMetrics:
    """What came from the sources."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.accepted = Counter("veracity_ingest_items", "Items stored", ["source"], registry=registry)
        self.repeated = Counter("veracity_ingest_repeats", "Items seen before", ["source"], registry=registry)
        self.refused = Counter("veracity_ingest_refused", "Entries that are no items", ["source"], registry=registry)
        self.polls = Counter("veracity_ingest_feed_polls", "Feeds read", ["outcome"], registry=registry)


class RoleMetrics:
    """What a role made of the items."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.items = Counter("veracity_role_items", "Items taken in", registry=registry)
        self.refused = Counter("veracity_role_refused", "Stored items that could not be read", registry=registry)
        self.active = Gauge("veracity_role_active", "1 while this process does the role's work", registry=registry)
        self.open = Gauge("veracity_role_open", "Trends or stories in memory now", registry=registry)
        self.checkpoints = Counter("veracity_role_checkpoints", "Checkpoints stored", registry=registry)
        self.checkpoint_bytes = Gauge(
            "veracity_role_checkpoint_bytes", "Size of the last checkpoint, compressed", registry=registry
        )
        self.position = Gauge("veracity_role_position", "Stream sequence of the last item taken in", registry=registry)
