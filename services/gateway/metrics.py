"""The gateway's metrics. Labels are kinds and reasons, never ids: a million stories make no new series."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from shared.channels import Kind
from shared.metrics import DELIVERY_BUCKETS


class GatewayMetrics:
    """What one gateway counts; states are read when they are scraped, see `watch`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connections = Gauge("veracity_gateway_connections", "Clients connected now", registry=registry)
        self.subscriptions = Gauge(
            "veracity_gateway_subscriptions", "Channels clients are on now, by kind", ["kind"], registry=registry
        )
        self.nats_subscriptions = Gauge(
            "veracity_gateway_nats_subscriptions", "NATS subjects in force now", registry=registry
        )
        self.events_received = Counter(
            "veracity_gateway_events_received", "Events from NATS", ["kind"], registry=registry
        )
        self.events_rejected = Counter(
            "veracity_gateway_events_rejected", "Messages from NATS that are no events", ["kind"], registry=registry
        )
        self.delivered = Counter(
            "veracity_gateway_messages_delivered", "Events written to clients", ["kind"], registry=registry
        )
        self.delivery = Histogram(
            "veracity_gateway_delivery_seconds",
            "From stored by the broker to written to the last client",
            buckets=DELIVERY_BUCKETS,
            registry=registry,
        )
        self.client_messages = Counter(
            "veracity_gateway_client_messages", "Messages from clients", ["type"], registry=registry
        )
        self.recoveries = Counter(
            "veracity_gateway_recoveries",
            "Requests for missed events, and events lost for good",
            ["outcome"],
            registry=registry,
        )
        self.gaps = Counter("veracity_gateway_gaps", "Gaps noticed in live events", ["kind"], registry=registry)
        self.healed = Counter(
            "veracity_gateway_healed_events",
            "Events the stream filled in that did not come live",
            ["kind"],
            registry=registry,
        )
        self.repeats = Counter(
            "veracity_gateway_repeated_events", "Events that came live a second time", ["kind"], registry=registry
        )
        self.unsettled = Gauge(
            "veracity_gateway_unsettled_channels",
            "Channels that wait for the stream to tell their order",
            registry=registry,
        )
        self.canary = Histogram(
            "veracity_gateway_canary_seconds",
            "A probe's way through NATS and back",
            buckets=DELIVERY_BUCKETS,
            registry=registry,
        )
        self.canaries_lost = Counter(
            "veracity_gateway_canaries_lost", "Probes that did not come back", registry=registry
        )
        self.rate_limited = Counter(
            "veracity_gateway_rate_limited", "Client messages refused", ["scope"], registry=registry
        )
        self.jwks_reads = Counter(
            "veracity_gateway_jwks_reads", "Reads of the issuer's keys", ["outcome"], registry=registry
        )
        self.subscribes = Counter(
            "veracity_gateway_subscribes", "Subscriptions that began", ["kind"], registry=registry
        )
        self.unsubscribes = Counter(
            "veracity_gateway_unsubscribes", "Subscriptions that ended", ["kind"], registry=registry
        )
        self.subscription_length = Histogram(
            "veracity_gateway_subscription_seconds",
            "How long subscriptions that ended had lasted",
            ["kind"],
            buckets=(1, 10, 60, 300, 1_800, 7_200, 28_800, 86_400),
            registry=registry,
        )
        self.bytes_delivered = Counter(
            "veracity_gateway_delivered_bytes",
            "Bytes of events written, before compression",
            ["kind"],
            registry=registry,
        )
        self.disconnects = Counter("veracity_gateway_disconnects", "Connections ended", ["reason"], registry=registry)
        self.handshakes_rejected = Counter(
            "veracity_gateway_handshakes_rejected", "Upgrades refused", ["status"], registry=registry
        )
        self.backlog = Gauge("veracity_gateway_backlog_bytes", "Bytes waiting for slow clients", registry=registry)
        self.slow = Gauge("veracity_gateway_slow_clients", "Clients with a backlog now", registry=registry)
        self.conflated = Gauge(
            "veracity_gateway_conflated_frames", "Frames replaced by newer ones while they waited", registry=registry
        )
        self.bytes_sent = Gauge("veracity_gateway_sent_bytes", "Bytes handed to client sockets", registry=registry)

        self.loop_lag = Gauge(
            "veracity_gateway_loop_lag_max_seconds",
            "Longest turn of the event loop since the last scrape, as far as the engine sees it",
            registry=registry,
        )

    def watch(
        self,
        *,
        connections: Callable[[], float],
        subscriptions: Callable[[Kind], float],
        nats_subscriptions: Callable[[], float],
        backlog: Callable[[], float],
        slow: Callable[[], float],
        conflated: Callable[[], float],
        bytes_sent: Callable[[], float],
        loop_lag: Callable[[], float],
        unsettled: Callable[[], float],
    ) -> None:
        """Have the states read from these functions at each scrape, so that the hot path counts nothing twice."""
        self.connections.set_function(connections)
        self.nats_subscriptions.set_function(nats_subscriptions)
        self.backlog.set_function(backlog)
        self.slow.set_function(slow)
        self.conflated.set_function(conflated)
        self.bytes_sent.set_function(bytes_sent)
        self.loop_lag.set_function(loop_lag)
        self.unsettled.set_function(unsettled)
        for kind in Kind:
            self.subscriptions.labels(kind.value).set_function(partial(subscriptions, kind))
