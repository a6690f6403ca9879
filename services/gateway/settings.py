"""The gateway's settings, on top of what every service has."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from services.gateway.addresses import Network, parse_networks
from services.gateway.credentials import Key, configured_key
from services.gateway.engine import Limits
from services.gateway.handshake import Policy
from services.gateway.pages import BUILT
from services.gateway.permissions import NOTHING, Grant, parse_grant
from services.gateway.session import Rules
from shared.errors import StartupFailed
from shared.limits import Rate
from shared.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """What one gateway pod allows and how it behaves."""

    max_connections: int = Field(15_000, gt=0, description="clients of this pod; past it a handshake gets 503")
    max_channels: int = Field(100, gt=0, description="channels of one connection")
    max_message_bytes: int = Field(65_536, ge=125, description="one client message, after inflating")
    send_buffer_bytes: int = Field(1_048_576, ge=1_024, description="unsent bytes of one client before it is too slow")
    rate_limit_messages: int = Field(100, gt=0, description="messages one client may send in the window")
    rate_limit_window: float = Field(60.0, gt=0, description="seconds")
    rate_limit_refusals: int = Field(20, gt=0, description="refused messages in the window before a client is closed")
    rate_limit_user: int = Field(1_000, gt=0, description="messages one user may send in the window on this pod")
    rate_limit_channel: int = Field(30_000, gt=0, description="subscribes one channel takes in the window on this pod")
    rate_limit_address: int = Field(
        3_000, ge=0, description="handshakes from one address (IPv6: /64) in the window; loopback is free; 0: no limit"
    )
    trusted_proxies: str = Field("", description="networks whose X-Forwarded-For is believed, separated by commas")
    heartbeat_interval: float = Field(30.0, gt=0, description="seconds between pings")
    heartbeat_timeout: float = Field(90.0, gt=0, description="seconds of silence after which a client is gone")
    auth_required: bool = Field(False, description="nothing but `general` without a token")
    anonymous_channels: str = Field("*", description="what needs no token: *, story:* or names, separated by commas")
    auth_deadline: float = Field(10.0, gt=0, description="seconds a client without a token has, where one is required")
    jwt_secret: SecretStr | None = Field(None, description="key of HS256 tokens, 32 bytes or more")
    jwt_public_key: str | None = Field(
        None, description="public key in PEM: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)"
    )
    jwks_url: str | None = Field(None, pattern="^https?://", description="address of the issuer's keys (JWKS)")
    jwks_refresh: float = Field(300.0, gt=0, description="seconds between two reads of the keys")
    jwt_issuer: str | None = Field(None, description="`iss` a token must have")
    jwt_audience: str | None = Field(None, description="`aud` a token must have")
    jwt_leeway: float = Field(10.0, ge=0, description="seconds clocks may differ")
    allowed_origins: str = Field("*", description="origins whose pages may connect, separated by commas; * for all")
    subscription_linger: float = Field(2.0, ge=0, description="seconds a NATS subject is kept after its last client")
    window_bytes: int = Field(33_554_432, gt=0, description="recent events kept in memory over all channels, bytes")
    recovery_max_messages: int = Field(1_000, gt=0, description="events replayed to one request; past it history_gone")
    recovery_max_bytes: int = Field(524_288, gt=0, description="bytes replayed to one request; past it history_gone")
    heal_max_messages: int = Field(20_000, gt=0, description="missed events of a channel the gateway fills by itself")
    snapshot_depth: int = Field(2_000, gt=0, description="newest events a snapshot is made of")
    max_connection_age: float = Field(0.0, ge=0, description="seconds after which a client is sent elsewhere; 0: never")
    canary_interval: float = Field(5.0, gt=0, description="seconds between probes through NATS and back")
    dashboard: Path = Field(BUILT, description="folder with the built dashboard, served at /")
    ops_port: int | None = Field(
        None,
        ge=0,
        le=65_535,
        description="own port for /metrics, statistics and analytics; without it they share the port",
    )
    compression: bool = Field(True, description="offer permessage-deflate")
    compression_min_bytes: int = Field(512, ge=0, description="smaller messages are sent as they are")

    @property
    def limits(self) -> Limits:
        """What the engine needs to know."""
        return Limits(
            message_bytes=self.max_message_bytes,
            backlog_bytes=self.send_buffer_bytes,
            heartbeat_interval=self.heartbeat_interval,
            heartbeat_timeout=self.heartbeat_timeout,
        )

    @property
    def rules(self) -> Rules:
        """What a session needs to know."""

        def rate(count: int) -> Rate:
            return Rate(count, self.rate_limit_window)

        return Rules(
            rate(self.rate_limit_messages),
            self.max_channels,
            anonymous=self.anonymous,
            refusals=rate(self.rate_limit_refusals),
            users=rate(self.rate_limit_user),
            subscribes=rate(self.rate_limit_channel),
        )

    @property
    def anonymous(self) -> Grant:
        """What a client without a token may hear."""
        if self.auth_required:
            return NOTHING
        grant, unknown = parse_grant(part.strip() for part in self.anonymous_channels.split(",") if part.strip())
        if unknown:
            raise StartupFailed(f"VERACITY_ANONYMOUS_CHANNELS: {', '.join(unknown)} is no channel, story:* or *")
        return grant

    @property
    def key(self) -> Key | None:
        """The key tokens are checked by, None where it comes from an address or there is none."""
        given = [value for value in (self.jwt_secret, self.jwt_public_key, self.jwks_url) if value is not None]
        if len(given) > 1:
            raise StartupFailed(
                "one of VERACITY_JWT_SECRET, VERACITY_JWT_PUBLIC_KEY and VERACITY_JWKS_URL: it decides the algorithm"
            )
        if self.auth_required and not given:
            raise StartupFailed(
                "VERACITY_AUTH_REQUIRED needs a key: VERACITY_JWT_SECRET, VERACITY_JWT_PUBLIC_KEY or VERACITY_JWKS_URL"
            )
        secret = None if self.jwt_secret is None else self.jwt_secret.get_secret_value()
        return configured_key(secret, self.jwt_public_key)

    @property
    def networks(self) -> tuple[Network, ...]:
        """The proxies that are believed."""
        return parse_networks(self.trusted_proxies)

    @property
    def origins(self) -> frozenset[str]:
        """The origins whose pages may connect."""
        return frozenset(
            origin.strip().rstrip("/").lower() for origin in self.allowed_origins.split(",") if origin.strip()
        )

    @property
    def policy(self) -> Policy:
        """What a handshake needs to know."""
        return Policy(self.origins, self.max_connections, self.compression)
