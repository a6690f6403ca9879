"""Fixtures every ring may use; servers start only for tests that name them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.broker import Broker
from shared.broadcaster import Broadcaster
from shared.connection import Connection
from tests.support.services import running_broadcaster, running_gateway


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> None:
    """Tests say what is set; what the developer's shell has set must not change them."""
    for name in [name for name in os.environ if name.startswith("VERACITY_")]:
        del os.environ[name]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A real nats-server with JetStream and an empty store."""
    with Broker(tmp_path / "nats") as running:
        yield running


@pytest.fixture
async def producer(broker: Broker) -> AsyncIterator[Broadcaster]:
    """The producer SDK, connected, streams in place."""
    async with running_broadcaster(broker) as (broadcaster, _):
        yield broadcaster


@pytest.fixture
async def nats(broker: Broker) -> AsyncIterator[Connection]:
    """A connection to the broker, streams in place."""
    async with running_broadcaster(broker) as (_, connection):
        yield connection


@pytest.fixture
async def gateway(broker: Broker) -> AsyncIterator[str]:
    """A gateway in this process; its WebSocket address."""
    async with running_gateway(broker) as (url, _):
        yield url
