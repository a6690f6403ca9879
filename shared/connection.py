"""One connection to NATS that never gives up: named, authenticated, reconnecting for ever with jitter.

Every change of state is logged, counted and told to whoever asked. With `streams.py`, `broadcaster.py` and `intake.py`
one of the few modules that import `nats`.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any

import nats.errors
from nats.aio.client import Client, Server
from nats.aio.subscription import Subscription
from nats.js.client import JetStreamContext

from shared import logs
from shared.errors import NatsUnavailable, StartupFailed
from shared.metrics import NatsMetrics, new_registry
from shared.settings import ServiceSettings
from shared.tasks import end

log = logs.get(__name__)

Listener = Callable[[], None]
ErrorListener = Callable[[Exception], None]


def reconnect_delay(attempt: int, base: float, longest: float, rng: random.Random) -> float:
    """Return the wait in seconds before reconnect number `attempt` (from 0): exponential with full jitter.

    The first is nearly at once, so that a restarted broker is found quickly; full jitter keeps a thousand pods from
    arriving together.
    """
    ceiling = min(longest, base * 2.0 ** min(attempt, 16))
    return rng.uniform(0.0, ceiling)


Receive = Callable[[bytes, bytes, bytes | None], None]


class _Client(Client):
    """nats-py's client with a short way from the socket to a listener.

    Its own way parses every header into a dictionary, queues the message and wakes a task per subscription: four turns
    of the loop and three times the CPU, and a full queue drops. A listener is called from the read loop instead; one
    that is too slow is felt by the broker as backpressure, and nothing is dropped here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.listeners: dict[str, Receive] = {}

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes | None) -> None:
        subscription = self._subs.get(sid)
        receive = None if subscription is None else self.listeners.get(subscription._subject)
        if receive is None:
            await super()._process_msg(sid, subject, reply, data, headers)  # type: ignore[arg-type]  # None is none
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        receive(subject, data, headers)


class Listening:
    """One subscribed subject; `stop` leaves it."""

    def __init__(self, client: _Client, subject: str, subscription: Subscription) -> None:
        self._client, self._subject, self._subscription = client, subject, subscription

    async def stop(self) -> None:
        """Leave the subject; raises NatsUnavailable where the connection, and the subscription with it, is gone."""
        self._client.listeners.pop(self._subject, None)
        try:
            await self._subscription.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            raise NatsUnavailable(f"leaving {self._subject}", repr(error)) from error


class Connection:
    """A connection to NATS; `async with` starts it in the background and drains it at the end.

    Starting does not wait: a service serves its health endpoints while NATS is away. `await ready()` waits.
    """

    def __init__(self, settings: ServiceSettings, name: str, metrics: NatsMetrics) -> None:
        self._settings, self._name, self._metrics = settings, name, metrics
        self._rng = random.Random()
        self._attempts = 0
        self._connected = asyncio.Event()
        self._closing = False
        self._starting: asyncio.Task[None] | None = None
        self.client = _Client()
        self.on_connected: list[Listener] = []
        self.on_disconnected: list[Listener] = []
        self.on_error: list[ErrorListener] = []

    def __repr__(self) -> str:
        return f"<Connection {self._name} {'connected' if self.connected else 'away'}>"

    @property
    def connected(self) -> bool:
        """Whether NATS is there now."""
        return self._connected.is_set() and self.client.is_connected

    @property
    def replicas(self) -> int:
        """How many copies what is stored is to have."""
        return self._settings.stream_replicas

    @property
    def jetstream(self) -> JetStreamContext:
        """JetStream over this connection."""
        return self.client.jetstream(timeout=5.0)

    async def ready(self) -> None:
        """Wait until NATS is there."""
        await self._connected.wait()

    async def __aenter__(self) -> Connection:
        self._starting = asyncio.create_task(self._start(), name=f"nats-connect-{self._name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Flush what is waiting and leave; safe to call twice."""
        self._closing = True
        await end(self._starting)
        if self.client.is_connected:
            try:
                async with asyncio.timeout(5.0):
                    await self.client.drain()
            except (TimeoutError, nats.errors.Error) as error:
                log.warning("nats drain cut short", error=repr(error))
        if not self.client.is_closed:
            await self.client.close()
        self._lost()

    async def listen(self, subject: str, receive: Receive) -> Listening:
        """Subscribe to `subject`, once; it is in force after the next `flush`, and again after every reconnect.

        `receive` gets each message's subject, payload and raw headers (None without any) on the event loop. It must not
        block or raise: an error there would end the connection's reading.
        """
        self.client.listeners[subject] = receive
        try:
            subscription = await self.client.subscribe(subject)
        except (nats.errors.Error, OSError) as error:
            del self.client.listeners[subject]
            raise NatsUnavailable(f"subscribing to {subject}", repr(error)) from error
        return Listening(self.client, subject, subscription)

    async def flush(self) -> None:
        """Return once the server has processed all that was sent; raises NatsUnavailable if it is away."""
        try:
            # nats-py's flush() writes its PING past commands that wait for its flusher task: the answer would prove
            # nothing about a subscription asked for just before. So those are written first.
            await self.client._flush_pending(force_flush=True)
            await self.client.flush(timeout=5)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise NatsUnavailable("flush", repr(error)) from error

    async def _start(self) -> None:
        # client.connect() retries for ever by itself, but waits without jitter between rounds.
        await asyncio.sleep(0)
        await self.client.connect(
            servers=self._settings.nats_servers,
            name=self._name,
            max_reconnect_attempts=-1,
            reconnect_time_wait=max(1, round(self._settings.nats_reconnect_wait)),
            reconnect_to_server_handler=self._next_server,
            connect_timeout=5,
            ping_interval=10,
            max_outstanding_pings=2,
            # Answers come to a place of one's own, so that permissions can keep roles out of each other's.
            inbox_prefix=f"_INBOX.{self._name}",
            error_cb=self._error,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            closed_cb=self._closed,
            **_credentials(self._settings),
        )
        self._metrics.connected.set(1)
        log.info("nats connected", server=self._server)
        self._connected.set()
        for listener in self.on_connected:
            listener()

    @property
    def _server(self) -> str:
        url = self.client.connected_url
        return url.netloc.rpartition("@")[2] if url is not None else ""  # never a password

    def _next_server(self, servers: list[Server], _info: dict[str, Any]) -> tuple[Server | None, float]:
        settings = self._settings
        delay = reconnect_delay(
            self._attempts, settings.nats_reconnect_wait / 4, settings.nats_reconnect_wait_max, self._rng
        )
        server = servers[self._attempts % len(servers)]
        self._attempts += 1
        return server, delay

    def _lost(self) -> None:
        self._metrics.connected.set(0)
        if self._connected.is_set():
            self._connected.clear()
            for listener in self.on_disconnected:
                listener()

    async def _disconnected(self) -> None:
        if not self._closing:
            log.warning("nats disconnected", server=self._server)
        self._lost()

    async def _reconnected(self) -> None:
        self._attempts = 0
        self._metrics.connected.set(1)
        self._metrics.reconnects.inc()
        log.info("nats reconnected", server=self._server)
        self._connected.set()
        for listener in self.on_connected:
            listener()

    async def _closed(self) -> None:
        self._lost()
        log.info("nats closed")

    async def _error(self, error: Exception) -> None:
        self._metrics.errors.labels(type(error).__name__).inc()
        log.warning("nats error", error=repr(error))
        for listener in self.on_error:
            listener(error)


def _credentials(settings: ServiceSettings) -> dict[str, Any]:  # keyword arguments of nats-py's connect()
    options: dict[str, Any] = {}
    for path in (settings.nats_creds, settings.nats_nkey, settings.nats_tls_ca, settings.nats_tls_cert):
        if path is not None and not path.is_file():
            raise StartupFailed(f"{path} is not a file: check the VERACITY_NATS_* settings")
    if settings.nats_creds is not None:
        options["user_credentials"] = str(settings.nats_creds)
    if settings.nats_nkey is not None:
        options["nkeys_seed"] = str(settings.nats_nkey)
    if settings.nats_token is not None:
        options["token"] = settings.nats_token.get_secret_value()
    if settings.nats_tls_ca is not None or settings.nats_tls_cert is not None:
        context = ssl.create_default_context(cafile=settings.nats_tls_ca)
        if settings.nats_tls_cert is not None:
            context.load_cert_chain(settings.nats_tls_cert, settings.nats_tls_key)
        options["tls"] = context
    return options


async def retry_until_connected(
    connection: Connection, action: Callable[[], Awaitable[None]], what: str, pause: float = 1.0
) -> None:
    """Run `action` once NATS is there, again after each failure that NATS being away explains."""
    while True:
        await connection.ready()
        try:
            await action()
            return
        except (nats.errors.Error, TimeoutError, OSError, NatsUnavailable) as error:
            log.warning("waiting for nats", what=what, error=repr(error))
            await asyncio.sleep(pause)


async def once(
    settings: ServiceSettings, action: Callable[[Connection], Awaitable[None]], patience: float = 10.0
) -> None:
    """Connect, run `action` and leave; raises NatsUnavailable if the broker is not there within `patience` seconds."""
    async with Connection(settings, "veracity-command", NatsMetrics(new_registry())) as connection:
        try:
            async with asyncio.timeout(patience):
                await connection.ready()
        except TimeoutError as error:
            raise NatsUnavailable("this command", f"no answer from {settings.nats_url}") from error
        await action(connection)
