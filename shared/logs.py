"""Structured logs: one JSON object a line for machines, or readable lines for people.

The standard library's loggers (uvicorn, nats) go through the same renderer, so a service speaks one format.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import structlog

from shared.settings import LogFormat


def configure(service: str, level: str, log_format: LogFormat) -> None:
    """Send every log line of this process to standard output, marked with `service`."""
    shared_steps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if log_format is LogFormat.JSON
        else structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())
    )
    structlog.configure(
        processors=[*shared_steps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    final_steps: list[structlog.typing.Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    if log_format is LogFormat.JSON:
        final_steps.append(structlog.processors.format_exc_info)
    else:
        final_steps.append(_shorten)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared_steps, processors=[*final_steps, renderer])
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    # They tell of each connection and request, or what our own lines say already.
    for noisy in ("uvicorn", "httpx", "nats"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)


def _shorten(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Leave out what a person in front of a terminal knows: which process this is."""
    event.pop("service", None)
    event.pop("module", None)
    return event


def get(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of one module."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(module=name)
    return logger


class Throttle:
    """Lets one log line per key and period through and counts the ones held back; time is passed in.

    Bounded: past `size` keys the oldest is forgotten, which at worst logs one line too many.
    """

    def __init__(self, period: float = 60.0, size: int = 1_000) -> None:
        self._period, self._size = period, size
        self._seen: dict[str, tuple[float, int]] = {}

    def allow(self, key: str, now: float, log: Callable[[int], None]) -> None:
        """Call `log` with the number of lines held back for `key` since the last one, unless that was just now."""
        last, held = self._seen.pop(key, (float("-inf"), 0))
        if now - last < self._period:
            self._seen[key] = (last, held + 1)
            return
        if len(self._seen) >= self._size:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = (now, 0)
        log(held)
