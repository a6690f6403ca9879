"""Settings every service has, read from `VERACITY_*` environment variables.

Services extend `ServiceSettings` with their own; nothing reads the environment anywhere else.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.errors import StartupFailed


class LogFormat(StrEnum):
    """How log lines look: JSON for machines, console for people."""

    JSON = "json"
    CONSOLE = "console"


class Storage(StrEnum):
    """Where JetStream keeps a stream."""

    FILE = "file"
    MEMORY = "memory"


class ServiceSettings(BaseSettings):
    """What every service needs: NATS, streams, its HTTP port, logs."""

    model_config = SettingsConfigDict(env_prefix="VERACITY_", extra="ignore", frozen=True)

    nats_url: str = Field("nats://127.0.0.1:4222", description="one address, or several separated by commas")
    nats_creds: Path | None = Field(None, description="credentials file (JWT and nkey seed)")
    nats_nkey: Path | None = Field(None, description="file with an nkey seed")
    nats_token: SecretStr | None = Field(None, description="token for servers that ask for one")
    nats_tls_ca: Path | None = Field(None, description="certificate authority the server's certificate must come from")
    nats_tls_cert: Path | None = Field(None, description="client certificate, where the server asks for one")
    nats_tls_key: Path | None = Field(None, description="key of the client certificate")
    nats_reconnect_wait: float = Field(1.0, gt=0, description="seconds between reconnects, before jitter")
    nats_reconnect_wait_max: float = Field(8.0, gt=0, description="longest wait between reconnects, seconds")

    host: str = Field("127.0.0.1", description="address the HTTP port listens on")
    port: int = Field(8000, ge=0, le=65_535, description="HTTP port; 0 picks a free one")
    request_deadline: float = Field(15.0, gt=0, description="seconds an HTTP request may take to arrive")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$")
    log_format: LogFormat = LogFormat.JSON
    drain_seconds: float = Field(20.0, ge=0, description="time a stopping service takes to hand over, seconds")

    stream_replicas: int = Field(1, ge=1, le=5, description="copies of each stream; 3 in a cluster")
    manage_streams: bool = Field(True, description="make and change streams; false where `veracity setup` does it")
    stream_storage: Storage = Storage.FILE
    stream_duplicate_window: float = Field(120.0, gt=0, description="seconds a repeated message id is removed")
    stream_max_bytes: int = Field(1_073_741_824, gt=0, description="bound of each stream, bytes; the oldest goes first")
    items_max_age: float = Field(86_400.0, gt=0, description="seconds an item waits for the roles")
    events_max_age: float = Field(86_400.0, gt=0, description="history of trends, stories and scores, seconds")
    user_max_messages: int = Field(1_000, gt=0, description="personal messages that wait for one user")
    user_max_age: float = Field(604_800.0, gt=0, description="personal messages wait this long, seconds (7 days)")

    @property
    def nats_servers(self) -> list[str]:
        """The broker's addresses."""
        return [url.strip() for url in self.nats_url.split(",") if url.strip()]


S = TypeVar("S", bound=ServiceSettings)


def load(settings: type[S]) -> S:
    """Read `settings` from the environment; raises StartupFailed with one readable line per wrong variable."""
    try:
        return settings()
    except ValidationError as error:
        lines = [
            f"  VERACITY_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise StartupFailed("settings are not usable:\n" + "\n".join(lines)) from error
