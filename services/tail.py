"""`veracity tail`: shows what happens on channels and comes back by itself when the connection is lost."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI

from shared.errors import StartupFailed, VeracityError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 20.0
_CONTROL = frozenset(
    {"connection", "authenticated", "subscribed", "unsubscribed", "ping", "pong", "reconnect", "conflated"}
)


class Refused(VeracityError):
    """The gateway refused a channel."""


async def tail(url: str, channels: Sequence[str], *, as_json: bool, count: int) -> None:
    """Print every event on `channels`; return after `count` of them if it is not 0."""
    shown, attempt = 0, 0
    seen: dict[str, dict[str, Any]] = {channel: {} for channel in channels}  # what to resume from, by channel
    while True:
        try:
            async with connect(url, max_size=4 * 1_048_576) as socket:
                attempt = 0
                for channel, position in seen.items():
                    await socket.send(json.dumps({"type": "subscribe", "channel": channel, **position}))
                async for text in socket:
                    message = json.loads(text)
                    note_position(seen, message)
                    if message["type"] == "ping":
                        await socket.send('{"type":"pong"}')
                    elif message["type"] == "error" and message["code"] == "history_gone":
                        sys.stderr.write(f"veracity tail: {message.get('channel')}: {message['message']}\n")
                    elif message["type"] == "error":
                        raise Refused(f"{message['code']}: {message['message']}")
                    elif message["type"] not in _CONTROL:
                        _print(text if as_json and isinstance(text, str) else readable(message))
                        shown += 1
                        if shown == count:
                            return
        except InvalidURI as error:
            raise StartupFailed(f"{url} is not a gateway's address: {error}") from error
        except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError) as error:
            reason = str(error)
        else:
            reason = "the gateway closed the connection"
        # Full jitter: a thousand of these must not come back together.
        pause = random.uniform(0.0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0**attempt))
        attempt = min(attempt + 1, 16)
        sys.stderr.write(f"veracity tail: {reason}; again in {pause:.1f} s\n")
        await asyncio.sleep(pause)


def note_position(seen: dict[str, dict[str, Any]], message: dict[str, Any]) -> None:
    """Remember from which sequence of which epoch a channel goes on."""
    position = seen.get(message.get("channel", ""))
    if position is None or "seq" not in message:
        return
    if message["type"] != "subscribed":
        position["since"] = message["seq"]
        return
    position["epoch"] = message.get("epoch")
    if not message.get("recovered"):  # what was missed comes after this answer, each event with its own place
        position["since"] = message["seq"]


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def readable(message: dict[str, Any]) -> str:
    """Return one line about an event for people."""
    data = message.get("data", {})
    time = str(message.get("timestamp", ""))[11:19]
    simulated = " (simulated)" if data.get("simulated") or message.get("simulated") else ""
    match message["type"]:
        case "trend_update":
            text = (
                f"{data.get('name', '?')} {data.get('phase', '')}: {data.get('mention_count', '?')} mentions, "
                f"{data.get('velocity', 0):.1f}/h, {data.get('sources', '?')} sources"
            )
            kind = "trend"
        case "story_update":
            sources = data.get("sources", ())
            text = f"{data.get('title', '?')} [{data.get('item_count', '?')} items, {len(sources)} sources]"
            kind = "story"
        case "trust_score_update":
            strongest: dict[str, Any] = max(
                message.get("signals", ()), key=lambda s: abs(s.get("contribution", 0.0)), default={}
            )
            text = (
                f"{message.get('trust_score', 0):.1f} for {message.get('story_id')}: {strongest.get('explanation', '')}"
            )
            kind = "score"
        case other:
            text, kind = json.dumps(data or message, ensure_ascii=False), other
    return f"{time} {kind:<6} {text}{simulated}"
