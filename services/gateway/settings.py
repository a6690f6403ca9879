"""The gateway's settings, on top of what every service has."""

from __future__ import annotations

from pydantic import Field, SecretStr

from services.gateway.credentials import Verifier, new_verifier
from services.gateway.engine import Limits
from services.gateway.handshake import Policy
from services.gateway.limits import Rate
from services.gateway.session import Rules
from shared.errors import StartupFailed
from shared.settings import ServiceSettings


class GatewaySettings(ServiceSettings):
    """What one gateway pod allows and how it behaves."""

    max_connections: int = Field(15_000, gt=0, description="clients of this pod; past it a handshake gets 503")
    max_channels: int = Field(100, gt=0, description="channels of one connection")
    max_message_bytes: int = Field(65_536, ge=125, description="one client message, after inflating")
    send_buffer_bytes: int = Field(1_048_576, ge=1_024, description="unsent bytes of one client before it is too slow")
    rate_limit_messages: int = Field(100, gt=0, description="messages one client may send in the window")
    rate_limit_window: float = Field(60.0, gt=0, description="seconds")
    heartbeat_interval: float = Field(30.0, gt=0, description="seconds between pings")
    heartbeat_timeout: float = Field(90.0, gt=0, description="seconds of silence after which a client is gone")
    auth_required: bool = Field(False, description="nothing but `general` without a token")
    auth_deadline: float = Field(10.0, gt=0, description="seconds a client without a token has, where one is required")
    jwt_secret: SecretStr | None = Field(None, description="key of HS256 tokens, 32 bytes or more")
    jwt_public_key: str | None = Field(
        None, description="public key in PEM: RSA (RS256), P-256 (ES256) or Ed25519 (EdDSA)"
    )
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
        rate = Rate(self.rate_limit_messages, self.rate_limit_window)
        return Rules(rate, self.max_channels, self.auth_required)

    @property
    def verifier(self) -> Verifier | None:
        """What tokens are checked by, None where there is no key."""
        secret = None if self.jwt_secret is None else self.jwt_secret.get_secret_value()
        verifier = new_verifier(
            secret, self.jwt_public_key, issuer=self.jwt_issuer, audience=self.jwt_audience, leeway=self.jwt_leeway
        )
        if verifier is None and self.auth_required:
            raise StartupFailed(
                "VERACITY_AUTH_REQUIRED needs a key: set VERACITY_JWT_SECRET or VERACITY_JWT_PUBLIC_KEY"
            )
        return verifier

    @property
    def policy(self) -> Policy:
        """What a handshake needs to know."""
        origins = frozenset(origin.strip().rstrip("/").lower() for origin in self.allowed_origins.split(","))
        return Policy(origins - {""}, self.max_connections, self.compression)
