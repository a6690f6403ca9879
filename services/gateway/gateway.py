"""The application on the engine: takes clients in, carries out what their sessions decide, and lets them go.

What they hear is the delivery's business; every rule followed here is decided in a pure module.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, assert_never

from services.gateway import frames
from services.gateway.addresses import client_address
from services.gateway.canary import Canary
from services.gateway.credentials import OneKey, Principal, Unauthorized, Verifier
from services.gateway.delivery import Delivery
from services.gateway.drain import drain, send_away
from services.gateway.engine import ABNORMAL, Connection, Engine, Frame, Phase
from services.gateway.handshake import Accept, Reject, Request, decide, too_many, unauthorized
from services.gateway.jwks import Jwks
from services.gateway.metrics import GatewayMetrics
from services.gateway.permissions import Grant
from services.gateway.revocations import Revocations
from services.gateway.service import GatewayService
from services.gateway.session import Acknowledge, Authenticate, Close, Effect, Join, Leave, Send, Session
from services.gateway.settings import GatewaySettings
from shared import channels, logs
from shared.channels import Channel
from shared.connection import Connection as NatsConnection
from shared.limits import Buckets, Rate
from shared.wire import (
    Authenticated,
    CloseCode,
    Conflated,
    ConnectionMessage,
    ErrorCode,
    ErrorMessage,
    Heartbeat,
    ServerPing,
)

log = logs.get(__name__)

_EXPIRY_WARNING = 60.0  # seconds before its token ends a client is told

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
        self._rules, self._policy, self._networks = settings.rules, settings.policy, settings.networks
        self._handshakes: Buckets[str] | None = None
        if settings.rate_limit_address:
            self._handshakes = Buckets(Rate(settings.rate_limit_address, settings.rate_limit_window))
        self.jwks = None
        if settings.jwks_url is not None:
            self.jwks = Jwks(settings.jwks_url, metrics, refresh=settings.jwks_refresh)
        self._verifier = _verifier(settings, self.jwks)
        self._heartbeat = Heartbeat(interval=settings.heartbeat_interval, timeout=settings.heartbeat_timeout)
        self._boot = f"{random.getrandbits(40):010x}"
        self._number = 0
        self._ping_second = -1
        self._pings: dict[tuple[Channel, ...], bytes] = {}
        self.draining = False
        self.engine = Engine(self, settings.limits)
        self.delivery = Delivery(self.engine, nats, settings, metrics)
        self.canary = Canary(nats, metrics, interval=settings.canary_interval)
        self.revocations = Revocations(nats, self._revoked)
        self.service = GatewayService(nats, self.delivery.analytics)
        metrics.watch(
            connections=lambda: len(self.engine),
            subscriptions=lambda kind: self.delivery.hub.subscriptions[kind],
            nats_subscriptions=lambda: len(self.delivery.subscriptions),
            backlog=lambda: self.engine.backlog_bytes,
            slow=lambda: self.engine.slow,
            conflated=lambda: self.engine.statistics.conflated,
            bytes_sent=lambda: self.engine.statistics.bytes_sent,
            loop_lag=self.engine.take_longest_turn,
            unsettled=lambda: self.delivery.unsettled,
        )

    # --- clients come ------------------------------------------------------------------------------------------------

    def decide(self, request: Request) -> Accept | Reject:
        """Answer a handshake."""
        if self._handshakes is not None:
            address = client_address(request.peer, request.headers.get("x-forwarded-for"), self._networks)
            wait = 0.0 if address is None else self._handshakes.allow(address, time.monotonic())
            if wait:
                self._metrics.rate_limited.labels("address").inc()
                self._metrics.handshakes_rejected.labels("429").inc()
                return too_many(wait)
        answer = decide(request, self._policy, connections=len(self.engine), draining=self.draining)
        if isinstance(answer, Accept) and answer.token is not None and self._verifier is not None:
            try:
                answer = replace(answer, principal=self._verify(answer.token))
            except Unauthorized as error:
                answer = unauthorized(str(error))
        if isinstance(answer, Reject):
            self._metrics.handshakes_rejected.labels(str(answer.status)).inc()
        return answer

    def admit(self, fd: int, accept: Accept) -> None:
        """Take in a client whose handshake is accepted: park its socket, welcome it, put it on the channel it named.

        `?delivery=latest` asks for a backlog that keeps only the newest state of each thing.
        """
        self._number += 1
        query, principal = accept.request.query, accept.principal
        if principal is None:
            session = Session(self._number, None, self._rules.anonymous)
        else:
            session = Session(self._number, principal.user_id, principal.grant)
        connection = self.engine.park(fd, session, deflate=accept.deflate, conflate=query.get("delivery") == "latest")
        effect = session.join(query.get("channel") or channels.GENERAL.name, self._rules, time.monotonic())
        channel = effect.channel if isinstance(effect, Join) else channels.GENERAL
        welcome = ConnectionMessage(
            channel=channel.name,
            connection_id=f"{self._boot}-{session.number:x}",
            user_id=session.user_id,
            heartbeat=self._heartbeat,
        )
        self.engine.greet(connection, accept.response, Frame(frames.encode_text(welcome.to_json())))
        log.debug("client connected", connection=session.number, channel=channel.name)
        if connection.phase is not Phase.OPEN:
            return  # it was gone before it was welcome
        if channel != channels.GENERAL or not isinstance(effect, Join):
            self._carry_out(connection, [effect])
        else:
            self._count_join(connection, channel)
            self.delivery.admit_silently(connection, effect)  # the welcome is the acknowledgement
        if principal is not None:
            self._authenticated(connection, principal)
        elif self._settings.auth_required:
            loop = asyncio.get_running_loop()
            session.expiry = loop.call_later(self._settings.auth_deadline, self._expired, connection)
        if self._settings.max_connection_age:
            age = self._settings.max_connection_age * random.uniform(0.8, 1.2)
            asyncio.get_running_loop().call_later(age, self._send_elsewhere, connection)

    def received(self, connection: Connection, message: str | bytes) -> None:
        """Carry out what a client's message asks for."""
        session: Session = connection.context
        answer = session.receive(message, self._rules, time.monotonic())
        self._metrics.client_messages.labels(answer.to).inc()
        self._carry_out(connection, answer.effects)

    def _carry_out(self, connection: Connection, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send():
                    if isinstance(effect.message, ErrorMessage) and effect.message.code is ErrorCode.RATE_LIMITED:
                        self._metrics.rate_limited.labels("connection").inc()
                    self._send(connection, effect.message.to_json())
                case Join():
                    self._count_join(connection, effect.channel)
                    self.delivery.join(connection, effect)
                case Leave():
                    self.engine.settle(connection)
                    self._leave(connection, effect)
                case Close():
                    self.engine.hang_up(connection, effect.code, effect.reason)
                case Authenticate():
                    self._authenticate(connection, effect)
                case Acknowledge():
                    self.delivery.acknowledge(effect.user_id, effect.seq)
                case _:
                    assert_never(effect)

    def _count_join(self, connection: Connection, channel: Channel) -> None:
        topic = self.delivery.hub.topic(channel)
        if topic is None or connection not in topic:
            self._metrics.subscribes.labels(channel.kind.value).inc()
            self.delivery.analytics.joined(channel)

    def _leave(self, connection: Connection, left: Leave) -> None:
        kind, seconds = left.channel.kind.value, max(0.0, time.monotonic() - left.joined)
        self._metrics.unsubscribes.labels(kind).inc()
        self._metrics.subscription_length.labels(kind).observe(seconds)
        self.delivery.analytics.left(left.channel, seconds)
        self.delivery.leave(connection, left.channel)

    # --- who clients are ---------------------------------------------------------------------------------------------

    def _verify(self, token: str) -> Principal:
        """Return whom a token speaks for; raises Unauthorized."""
        if self._verifier is None:
            raise Unauthorized("this gateway has no key to check tokens with")
        principal = self._verifier.verify(token)
        self.revocations.check(principal)
        return principal

    def identify(self, token: str | None) -> tuple[str | None, Grant]:
        """Return who asks over HTTP and what they may hear; raises Unauthorized for a token that proves nothing."""
        if token is None:
            return None, self._rules.anonymous
        principal = self._verify(token)
        return principal.user_id, principal.grant

    def _revoked(self, user_id: str) -> None:
        """Part with a user at once; the client is told not to come back with the same token."""
        mine = [connection for connection in self.engine.connections() if connection.context.user_id == user_id]
        for connection in mine:
            self.engine.close_connection(connection, CloseCode.UNAUTHORIZED, "the token has been revoked: log in again")
        if mine:
            log.info("user disconnected", user=user_id, connections=len(mine))

    def _authenticate(self, connection: Connection, request: Authenticate) -> None:
        """Check a token on a live connection: it says who the client is, or renews what it said before."""
        session: Session = connection.context
        try:
            principal = self._verify(request.token)
            if session.user_id not in (None, principal.user_id):
                raise Unauthorized("the token is another user's: connect anew to be somebody else")
        except Unauthorized as error:
            refusal = ErrorMessage(code=ErrorCode.UNAUTHORIZED, message=str(error), id=request.request_id)
            self._send(connection, refusal.to_json())
            return
        lost = session.identify(principal.user_id, principal.grant)
        left = max(0.0, principal.expires - time.time())
        answer = Authenticated(user_id=principal.user_id, expires_in=round(left, 3), id=request.request_id)
        self._send(connection, answer.to_json())
        self._carry_out(connection, lost)
        self._authenticated(connection, principal)

    def _authenticated(self, connection: Connection, principal: Principal) -> None:
        """Have the connection end with its token, and hear the user's own channel from where they left it."""
        session: Session = connection.context
        if session.expiry is not None:
            session.expiry.cancel()
        left = max(0.0, principal.expires + self._settings.jwt_leeway - time.time())
        session.expiry = asyncio.get_running_loop().call_later(
            max(0.0, left - _EXPIRY_WARNING), self._expires_soon, connection, min(left, _EXPIRY_WARNING)
        )
        effect = session.join(channels.user(principal.user_id).name, self._rules, time.monotonic())
        topic = self.delivery.hub.topic(channels.user(principal.user_id))
        if isinstance(effect, Join) and (topic is None or connection not in topic):
            self._carry_out(connection, [replace(effect, offline=True)])

    def _expires_soon(self, connection: Connection, left: float) -> None:
        session: Session = connection.context
        if connection.phase is Phase.OPEN:
            why = f"the token ends in {left:.0f} s: send `auth` with a new one, or this connection ends with it"
            self._send(connection, ErrorMessage(code=ErrorCode.UNAUTHORIZED, message=why, retry_after=left).to_json())
            session.expiry = asyncio.get_running_loop().call_later(left, self._expired, connection)

    def _expired(self, connection: Connection) -> None:
        self.engine.close_connection(connection, CloseCode.UNAUTHORIZED, "the token has ended, or none came in time")

    def _send(self, connection: Connection, text: bytes) -> None:
        self.engine.send(connection, Frame(frames.encode_text(text)))

    # --- clients stay ------------------------------------------------------------------------------------------------

    def caught_up(self, connection: Connection, conflated: int) -> None:
        """Tell a client that asked for the latest only how many older states it was spared."""
        if conflated:
            self._send(connection, Conflated(count=conflated).to_json())

    def heartbeat(self, connection: Connection) -> bytes | None:
        """Return the ping of this second for everybody on the same channels, with the newest sequence of each.

        By it a client knows that a silent channel is current, or that it has missed the last event.
        """
        now = int(time.monotonic())
        if self._ping_second != now:
            self._ping_second = now
            self._pings.clear()
        session: Session = connection.context
        ping = self._pings.get(session.channels)
        if ping is None:
            newest = {channel.name: self.delivery.newest(channel) for channel in session.channels}
            at = {name: seq for name, seq in newest.items() if seq is not None}
            ping = self._pings[session.channels] = frames.encode_text(ServerPing(at=at or None).to_json())
        return ping

    # --- clients go --------------------------------------------------------------------------------------------------

    def closed(self, connection: Connection, code: int) -> None:
        """Forget a client."""
        session: Session = connection.context
        for left in session.leave_all():
            self._leave(connection, left)
        if session.expiry is not None:
            session.expiry.cancel()
        self._metrics.disconnects.labels(_REASONS.get(code, "client")).inc()
        log.debug("client disconnected", connection=session.number, code=code)

    def _send_elsewhere(self, connection: Connection) -> None:
        """Have an old connection made anew, on whichever pod: that is how new pods come to clients."""
        if connection.phase is Phase.OPEN:
            send_away(self.engine, connection, 0.0, "this connection has reached its age")
            self.engine.close_connection(connection, CloseCode.RESTART, "this connection has reached its age")

    async def drain(self) -> None:
        """Refuse new clients and send those here elsewhere, spread over the drain window."""
        self.draining = True
        await drain(self.engine, self._settings.drain_seconds)

    # --- state -------------------------------------------------------------------------------------------------------

    def missing(self) -> list[str]:
        """Return why this gateway should get no new clients; empty when it should."""
        reasons = {
            "draining": self.draining,
            "nats": not self._nats.connected,
            "canary": self.canary.broken,
            "jwks": self.jwks is not None and self.jwks.empty,
            "settling": self._nats.connected and self.delivery.catching_up,
        }
        return [reason for reason, holds in reasons.items() if holds]

    def stats(self) -> dict[str, Any]:
        """Return what `/api/v1/ws/stats` shows."""
        statistics, hub = self.engine.statistics, self.delivery.hub
        return {
            "connections": len(self.engine),
            "max_connections": self._settings.max_connections,
            "channels": len(hub),
            "subscriptions": {kind.value: count for kind, count in hub.subscriptions.items()},
            "nats_subscriptions": len(self.delivery.subscriptions),
            "connections_total": statistics.opened,
            "messages_received_total": statistics.messages_received,
            "bytes_sent_total": statistics.bytes_sent,
            "backlog_bytes": self.engine.backlog_bytes,
            "slow_clients": self.engine.slow,
            "unsettled_channels": self.delivery.unsettled,
            "draining": self.draining,
        }


def _verifier(settings: GatewaySettings, jwks: Jwks | None) -> Verifier | None:
    """Return what checks tokens, None where there is no key; raises StartupFailed if it is unusable."""
    key = settings.key
    keys = jwks if key is None else OneKey(key)
    if keys is None:
        return None
    return Verifier(keys, issuer=settings.jwt_issuer, audience=settings.jwt_audience, leeway=settings.jwt_leeway)
