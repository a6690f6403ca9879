"""Tests in rings: unit (pure, no sockets), integration (the real nats-server), bench (figures, not verdicts)."""
