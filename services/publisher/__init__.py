"""Roles that put events in: `ingest` reads sources, `trends` and `stories` make events of what it read.

The way of an item: `sources` → `normalise` → `dedupe` → `ingest` → NATS → `intake` → `bursts` or `clustering` → NATS.
"""
