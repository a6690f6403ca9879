"""Every error this project raises on purpose, as one tree; each says what happened, what it means and what to do.

VeracityError
├── InvalidChannel            a channel name outside the grammar
├── InvalidPayload            bytes from NATS, a file or a peer that are not the message they should be
├── PublishFailed             an event was not acknowledged by JetStream; the producer still owns it
├── StreamConflict            a stream exists that cannot become the one we need
├── NatsUnavailable           an operation needs NATS and it is away
├── StartupFailed             the process cannot start as configured
└── PeerError                 the client broke the protocol or a limit; carries the close code
"""

from __future__ import annotations


class VeracityError(Exception):
    """Root of every error raised on purpose."""


class InvalidChannel(VeracityError):
    """A channel name that the grammar in `shared.channels` does not know."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"{name[:80]!r} is not a channel: use general, trends, stories, trust_scores, story:<id> or user:<id>, "
            "where <id> is 1 to 128 letters, digits, '_' or '-'"
        )


class InvalidPayload(VeracityError):
    """Bytes that are not the message their place promises."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class PublishFailed(VeracityError):
    """JetStream did not acknowledge an event although it was retried; the caller still owns it."""

    def __init__(self, subject: str, message_id: str, attempts: int, reason: str) -> None:
        self.subject, self.message_id, self.attempts, self.reason = subject, message_id, attempts, reason
        super().__init__(
            f"{subject} did not accept message {message_id} in {attempts} attempts ({reason}): it may not be stored; "
            "publish it again with the same id, repeats are removed"
        )


class StreamConflict(VeracityError):
    """An existing stream stands in the way of one this project needs."""

    def __init__(self, stream: str, reason: str) -> None:
        self.stream, self.reason = stream, reason
        super().__init__(
            f"the JetStream stream {stream} cannot be set up: {reason}; "
            "remove or rename the conflicting stream, or point VERACITY_NATS_URL at another account"
        )


class NatsUnavailable(VeracityError):
    """NATS is away and the operation cannot wait for it."""

    def __init__(self, operation: str, reason: str = "not connected") -> None:
        self.operation, self.reason = operation, reason
        super().__init__(f"{operation} needs NATS, which is away ({reason}); it is retried when the connection is back")


class StartupFailed(VeracityError):
    """The process cannot start as it is configured."""


class PeerError(VeracityError):
    """The client broke the protocol or a limit; the connection closes with `close_code`."""

    def __init__(self, close_code: int, reason: str) -> None:
        self.close_code, self.reason = close_code, reason
        super().__init__(f"closed with {close_code}: {reason}")
