"""How many gateways and brokers so many clients need: arithmetic on what `make bench` measures here.

Run it: python deploy/capacity.py [--events 50] [--share 0.05]. The table in README.md is its output.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one core here (make bench; README.md says when): a faster core does more, ratios stay."""

    delivery_us: float = 10.0  # CPU per event and client, small events one at a time (paced)
    burst_us: float = 0.9  # the same where 20 come at once (burst)
    connect_ms: float = 0.5  # CPU per client that connects and subscribes (storm)
    client_kb: float = 0.9  # resident memory per client (memory)
    base_mb: float = 90.0
    event_bytes: int = 370


@dataclass(frozen=True, slots=True)
class Plan:
    """What a number of clients needs."""

    clients: int
    pods: int
    clients_a_pod: int
    memory_mb: float
    nats_messages: float
    egress_gbit: float
    reconnect_seconds: float


def plan(
    clients: int, events: float, share: float, measured: Measured, *, most: int = 15_000, use: float = 0.7
) -> Plan:
    """Return what `clients` need who each hear `share` of `events` a second, on pods of one core used to `use`."""
    heard = events * share
    by_cpu = use * 1e6 / (heard * measured.delivery_us) if heard else math.inf
    a_pod = max(1, min(most, math.floor(by_cpu)))
    pods = max(2, math.ceil(clients / a_pod))
    return Plan(
        clients=clients,
        pods=pods,
        clients_a_pod=a_pod,
        memory_mb=measured.base_mb + a_pod * measured.client_kb / 1024,
        nats_messages=events * pods,
        egress_gbit=clients * heard * measured.event_bytes * 8 / 1e9,
        # One pod's clients come back to the others, which connect them beside their work.
        reconnect_seconds=a_pod * measured.connect_ms / 1e3 / max(1, pods - 1) / (1 - use),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=float, default=50.0, help="events a second over all channels")
    parser.add_argument("--share", type=float, default=0.2, help="of them one client hears")
    options = parser.parse_args()
    lines = [
        "| clients | pods of one core | clients a pod | memory a pod | NATS to pods | egress | moved in |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for clients in (10_000, 1_000_000, 10_000_000):
        one = plan(clients, options.events, options.share, Measured())
        lines.append(
            f"| {one.clients:,} | {one.pods:,} | {one.clients_a_pod:,} | {one.memory_mb:.0f} MB | "
            f"{one.nats_messages:,.0f} msg/s | {one.egress_gbit:.1f} Gbit/s | {one.reconnect_seconds:.1f} s |"
        )
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
