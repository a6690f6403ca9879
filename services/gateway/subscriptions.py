"""NATS subjects on demand: subscribed when the first client wants one, left a while after the last one went.

One task does all of it in rounds, so that a storm of clients costs one round trip to the broker, not one each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum

from shared import logs
from shared.connection import Connection, Listening, Receive
from shared.errors import NatsUnavailable
from shared.tasks import end

log = logs.get(__name__)

OnMessage = Callable[[str, bytes, bytes, bytes | None], None]
OnActive = Callable[[str], None]

_RETRY_SECONDS = 0.5


class State(Enum):
    """Where one subject stands: WANTED → ACTIVE → LINGERING → gone; LINGERING → ACTIVE if wanted again in time."""

    WANTED = "wanted"  # asked for, not yet confirmed by the broker
    ACTIVE = "active"
    LINGERING = "lingering"  # nobody wants it; kept for a moment, a page reload must not cost a round trip


class _Entry:
    __slots__ = ("expires", "state", "subscription")

    def __init__(self) -> None:
        self.state = State.WANTED
        self.subscription: Listening | None = None
        self.expires = 0.0


class Subscriptions:
    """The subjects this gateway listens on; `async with` runs the task that talks to the broker.

    `on_message` gets the subject it was subscribed by, then each message as `Connection.listen` hands it over;
    `on_active` is called once a wanted subject is in force on the server: what is published from then on arrives.
    """

    def __init__(
        self, connection: Connection, on_message: OnMessage, on_active: OnActive, *, linger: float = 2.0
    ) -> None:
        self._connection, self._on_message, self._on_active, self._linger = connection, on_message, on_active, linger
        self._entries: dict[str, _Entry] = {}
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Return how many subjects are in force, lingering ones included."""
        return sum(entry.subscription is not None for entry in self._entries.values())

    async def __aenter__(self) -> Subscriptions:
        self._task = asyncio.create_task(self._run(), name="nats-subscriptions")
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)

    def state(self, subject: str) -> State | None:
        """Return where `subject` stands, None if nobody wants it."""
        entry = self._entries.get(subject)
        return None if entry is None else entry.state

    def active(self, subject: str) -> bool:
        """Tell whether `subject` is in force on the broker, or was when the connection was lost."""
        return self.state(subject) in (State.ACTIVE, State.LINGERING)

    def want(self, subject: str) -> bool:
        """Ask for `subject`; return whether it is in force already, else `on_active` will tell."""
        entry = self._entries.get(subject)
        if entry is None:
            entry = self._entries[subject] = _Entry()
            self._work.set()
        elif entry.state is State.LINGERING:
            entry.state = State.ACTIVE
        return entry.state is State.ACTIVE

    def unwant(self, subject: str) -> None:
        """Nobody here wants `subject` any more: leave it after the linger, unless it is wanted again."""
        entry = self._entries.get(subject)
        if entry is None:
            return
        if entry.state is State.WANTED and entry.subscription is None:
            del self._entries[subject]  # never asked of the broker
            return
        entry.state = State.LINGERING
        entry.expires = time.monotonic() + self._linger
        self._work.set()

    async def _run(self) -> None:
        while True:
            self._work.clear()
            pause = await self._round()
            try:
                async with asyncio.timeout(pause):
                    await self._work.wait()
            except TimeoutError:
                continue

    async def _round(self) -> float | None:
        """Do all that is due; return the seconds until something else is, None for nothing."""
        wanted = [subject for subject, entry in self._entries.items() if entry.state is State.WANTED]
        if wanted:
            await self._connection.ready()
            try:
                await self._subscribe(wanted)
            except NatsUnavailable as error:
                log.warning("subscribing failed, trying again", subjects=len(wanted), error=repr(error))
                return _RETRY_SECONDS
        now = time.monotonic()
        lingering = [(subject, entry) for subject, entry in self._entries.items() if entry.state is State.LINGERING]
        for subject, entry in lingering:
            if entry.expires <= now:
                del self._entries[subject]
                await self._unsubscribe(subject, entry)
        expiries = [entry.expires for _, entry in lingering if entry.expires > now]
        return min(expiries) - now if expiries else None

    async def _subscribe(self, subjects: list[str]) -> None:
        for subject in subjects:
            entry = self._entries.get(subject)
            if entry is not None and entry.subscription is None:
                entry.subscription = await self._connection.listen(subject, self._receiver(subject))
        # The answer to a ping proves that the server has processed what came before it.
        await self._connection.flush()
        for subject in subjects:
            entry = self._entries.get(subject)
            if entry is not None and entry.state is State.WANTED and entry.subscription is not None:
                entry.state = State.ACTIVE
                self._on_active(subject)

    async def _unsubscribe(self, subject: str, entry: _Entry) -> None:
        if entry.subscription is None:
            return
        try:
            await entry.subscription.stop()
        except NatsUnavailable as error:
            log.info("subject left with its connection", subject=subject, error=str(error))

    def _receiver(self, subject: str) -> Receive:
        on_message = self._on_message

        def receive(exact: bytes, payload: bytes, headers: bytes | None) -> None:
            try:
                on_message(subject, exact, payload, headers)
            except Exception:  # one message's trouble must not end the reading of all
                log.exception("message failed", subject=exact.decode(errors="replace"))

        return receive
