"""The application on the engine: carries out what sessions decide and hands events from NATS to whoever hears them.

The one place where clients, channels and subjects meet; every rule it follows is decided in a pure module.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, assert_never

from services.gateway import envelope, frames
from services.gateway.engine import ABNORMAL, Connection, Engine, Frame, Group
from services.gateway.handshake import Accept, Reject, Request, decide
from services.gateway.hub import Hub
from services.gateway.metrics import GatewayMetrics
from services.gateway.pacer import Pacer
from services.gateway.session import Effect, Join, Leave, Send, Session
from services.gateway.settings import GatewaySettings
from services.gateway.subscriptions import Subscriptions
from shared import channels, logs
from shared.channels import Channel, Kind, channel_of_subject
from shared.connection import Connection as NatsConnection
from shared.errors import InvalidPayload
from shared.wire import (
    CloseCode,
    Conflated,
    ConnectionMessage,
    ErrorCode,
    ErrorMessage,
    Heartbeat,
    ServerPing,
    Subscribed,
)

log = logs.get(__name__)

_REASONS = {
    ABNORMAL: "lost",
    frames.NO_STATUS: "client",
    **{code.value: code.name.lower() for code in CloseCode},
    CloseCode.NORMAL.value: "client",
    CloseCode.GOING_AWAY.value: "client",
}


class Gateway:
    """One pod's gateway. Mounted on an `Engine` as its application and on the upgrade as its gatekeeper."""

    def __init__(self, settings: GatewaySettings, nats: NatsConnection, metrics: GatewayMetrics) -> None:
        self._settings, self._nats, self._metrics = settings, nats, metrics
        self._rules, self._policy = settings.rules, settings.policy
        self._heartbeat = Heartbeat(interval=settings.heartbeat_interval, timeout=settings.heartbeat_timeout)
        self._boot = f"{random.getrandbits(40):010x}"
        self._number = 0
        self._ping: tuple[int, bytes] = (-1, b"")
        self._joining: dict[Channel, list[tuple[Connection, Join]]] = {}
        self._pacing: dict[Pacer[Frame], asyncio.TimerHandle] = {}
        self._complaints = logs.Throttle(period=60.0)
        # Looked up once: finding a label's counter costs more than counting.
        self._received = {kind: metrics.events_received.labels(kind.value) for kind in Kind}
        self._delivered_to = {kind: metrics.delivered.labels(kind.value) for kind in Kind}
        self.draining = False
        self.hub = Hub()
        self.engine = Engine(self, settings.limits)
        self.subscriptions = Subscriptions(nats, self._event, self._subject_active, linger=settings.subscription_linger)
        metrics.watch(
            connections=lambda: len(self.engine),
            subscriptions=lambda kind: self.hub.subscriptions[kind],
            nats_subscriptions=lambda: len(self.subscriptions),
            backlog=lambda: self.engine.backlog_bytes,
            slow=lambda: self.engine.slow,
            conflated=lambda: self.engine.statistics.conflated,
            bytes_sent=lambda: self.engine.statistics.bytes_sent,
            loop_lag=self.engine.take_longest_turn,
        )

    # --- clients come ------------------------------------------------------------------------------------------------

    def decide(self, request: Request) -> Accept | Reject:
        """Answer a handshake."""
        answer = decide(request, self._policy, connections=len(self.engine), draining=self.draining)
        if isinstance(answer, Reject):
            self._metrics.handshakes_rejected.labels(str(answer.status)).inc()
        return answer

    def admit(self, fd: int, accept: Accept) -> None:
        """Take in a client whose handshake is answered: park its socket, welcome it, put it on the channel it named.

        `?delivery=latest` asks for a backlog that keeps only the newest state of each thing.
        """
        self._number += 1
        session = Session(self._number)
        query = accept.request.query
        connection = self.engine.park(fd, session, deflate=accept.deflate, conflate=query.get("delivery") == "latest")
        effect = session.join(query.get("channel") or channels.GENERAL.name, self._rules)
        channel = effect.channel if isinstance(effect, Join) else channels.GENERAL
        welcome = ConnectionMessage(
            channel=channel.name,
            connection_id=f"{self._boot}-{session.number:x}",
            user_id=session.user_id,
            heartbeat=self._heartbeat,
        )
        self.engine.greet(connection, accept.response, Frame(frames.encode_text(welcome.to_json())))
        log.debug("client connected", connection=session.number, channel=channel.name)
        if channel.kind is Kind.GENERAL and isinstance(effect, Join):
            self.hub.join(connection, channel)  # the welcome is the acknowledgement
        else:
            self._carry_out(connection, [effect])

    def received(self, connection: Connection, message: str | bytes) -> None:
        """Carry out what a client's message asks for."""
        session: Session = connection.context
        answer = session.receive(message, self._rules, time.monotonic())
        self._metrics.client_messages.labels(answer.to).inc()
        self._carry_out(connection, answer.effects)

    def closed(self, connection: Connection, code: int) -> None:
        """Forget a client."""
        session: Session = connection.context
        for channel in session.channels:
            self._leave(connection, channel)
        session.channels = ()
        self._metrics.disconnects.labels(_REASONS.get(code, "client")).inc()
        log.debug("client disconnected", connection=session.number, code=code)

    def caught_up(self, connection: Connection, conflated: int) -> None:
        """Tell a client that asked for the latest only how many older states it was spared."""
        if conflated:
            self._send(connection, Conflated(count=conflated).to_json())

    def heartbeat(self, connection: Connection) -> bytes | None:
        """Return the ping frame of this second, the same for everybody."""
        now = int(time.monotonic())
        if self._ping[0] != now:
            self._ping = now, frames.encode_text(ServerPing().to_json())
        return self._ping[1]

    def _carry_out(self, connection: Connection, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    if isinstance(effect.message, ErrorMessage) and effect.message.code is ErrorCode.RATE_LIMITED:
                        self._metrics.rate_limited.labels("connection").inc()
                    self._send(connection, effect.message.to_json())
                case Join():
                    self._join(connection, effect)
                case Leave():
                    self.engine.settle(connection)
                    self._leave(connection, effect.channel)
                case _:
                    assert_never(effect)

    def _send(self, connection: Connection, text: bytes) -> None:
        self.engine.send(connection, Frame(frames.encode_text(text)))

    # --- channels ----------------------------------------------------------------------------------------------------

    def _join(self, connection: Connection, join: Join) -> None:
        channel = join.channel
        topic = self.hub.topic(channel)
        if topic is not None:
            for group in topic.groups():
                self.engine.seal(group)  # what has arrived before belongs to those who were there
        self.hub.join(connection, channel, join.max_rate)
        if channel.subject is None or self.subscriptions.want(channel.subject):
            self._acknowledge(connection, join)
        else:
            self._joining.setdefault(channel, []).append((connection, join))

    def _acknowledge(self, connection: Connection, join: Join) -> None:
        answer = Subscribed(channel=join.channel.name, max_rate=join.max_rate, id=join.request_id)
        self._send(connection, answer.to_json())

    def _leave(self, connection: Connection, channel: Channel) -> None:
        if self.hub.leave(connection, channel) and channel.subject is not None:
            self.subscriptions.unwant(channel.subject)
            self._joining.pop(channel, None)

    def _subject_active(self, subject: str) -> None:
        """Acknowledge to everyone who waited for this subject, unless they have left meanwhile."""
        channel = channel_of_subject(subject)
        topic = self.hub.topic(channel)
        for connection, join in self._joining.pop(channel, ()):
            if topic is not None and connection in topic:
                self._acknowledge(connection, join)

    # --- events ------------------------------------------------------------------------------------------------------

    def _event(self, subject: str, exact: bytes, payload: bytes, headers: bytes | None) -> None:
        """Hand one message from NATS to everyone on the channel whose subject it was subscribed by."""
        channel = channel_of_subject(subject)
        self._received[channel.kind].inc()
        topic = self.hub.topic(channel)
        if topic is None:
            return  # the subject lingers, nobody listens
        try:
            event = envelope.read_event(payload, channel.kind)
        except InvalidPayload as error:
            self._reject(channel, exact.decode(), error)
            return
        if not envelope.for_channel(event, channel):
            return
        sequence, stored = envelope.read_headers(headers)
        text = envelope.splice(event, channel.name, None if sequence is None else sequence.seq)
        frame = self._frame(text, event.entity)
        if topic.everything.members:
            self.engine.post(topic.everything, frame, self._delivered(channel.kind, stored))
        for group, pacer in topic.paced.values():
            self._pace(group, pacer, frame)

    def _pace(self, group: Group, pacer: Pacer[Frame], frame: Frame) -> None:
        """Send what the pace allows; a frame that is the state of nothing, such as a correction, never waits."""
        now = time.monotonic()
        if frame.key is None or pacer.offer(frame.key, frame, now):
            self.engine.post(group, frame)
        elif pacer not in self._pacing:
            self._schedule(group, pacer, now)

    def _schedule(self, group: Group, pacer: Pacer[Frame], now: float) -> None:
        due = pacer.next_due
        if due is not None and group.members:
            loop = asyncio.get_running_loop()
            self._pacing[pacer] = loop.call_later(max(0.0, due - now), self._release, group, pacer)

    def _release(self, group: Group, pacer: Pacer[Frame]) -> None:
        del self._pacing[pacer]
        now = time.monotonic()
        for frame in pacer.due(now):
            self.engine.post(group, frame)
        self._schedule(group, pacer, now)

    def _frame(self, text: bytes, entity: str | None) -> Frame:
        deflated = None
        # Compressed once for all, and only while there is somebody to send it to.
        if self.engine.deflating and len(text) >= self._settings.compression_min_bytes:
            deflated = frames.encode(frames.TEXT, frames.deflate(text), compressed=True)
        return Frame(frames.encode_text(text), deflated, entity)

    def _delivered(self, kind: Kind, stored: float | None) -> Callable[[int], None]:
        delivered = self._delivered_to[kind]

        def count(connections: int) -> None:
            delivered.inc(connections)
            if stored is not None:
                self._metrics.delivery.observe(max(0.0, time.time() - stored))

        return count

    def _reject(self, channel: Channel, subject: str, error: InvalidPayload) -> None:
        self._metrics.events_rejected.labels(channel.kind.value).inc()
        self._complaints.allow(
            subject,
            time.monotonic(),
            lambda held: log.warning("message dropped", subject=subject, reason=error.reason, more_since=held),
        )

    # --- state -------------------------------------------------------------------------------------------------------

    def missing(self) -> list[str]:
        """Return why this gateway should get no new clients; empty when it should."""
        return (["draining"] if self.draining else []) + ([] if self._nats.connected else ["nats"])

    def stats(self) -> dict[str, Any]:
        """Return what `/api/v1/ws/stats` shows."""
        statistics = self.engine.statistics
        return {
            "connections": len(self.engine),
            "max_connections": self._settings.max_connections,
            "channels": len(self.hub),
            "subscriptions": {kind.value: count for kind, count in self.hub.subscriptions.items()},
            "nats_subscriptions": len(self.subscriptions),
            "connections_total": statistics.opened,
            "messages_received_total": statistics.messages_received,
            "bytes_sent_total": statistics.bytes_sent,
            "backlog_bytes": self.engine.backlog_bytes,
            "slow_clients": self.engine.slow,
            "draining": self.draining,
        }
