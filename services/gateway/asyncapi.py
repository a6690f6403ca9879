"""The wire protocol as an AsyncAPI 3 document, made from the very models the code uses."""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from services.gateway.handshake import PATH
from shared import wire

CLIENT_MESSAGES: tuple[type[BaseModel], ...] = (
    wire.Subscribe,
    wire.Unsubscribe,
    wire.Ping,
    wire.Pong,
    wire.Auth,
    wire.Ack,
)
SERVER_MESSAGES: tuple[type[BaseModel], ...] = (
    wire.ConnectionMessage,
    wire.Subscribed,
    wire.Unsubscribed,
    wire.TrendUpdate,
    wire.StoryUpdate,
    wire.TrustScoreUpdate,
    wire.UserMessage,
    wire.ServerPing,
    wire.ServerPong,
    wire.Authenticated,
    wire.Conflated,
    wire.Reconnect,
    wire.ErrorMessage,
)


@cache
def document() -> dict[str, Any]:
    """Return the document; its schemas are those of `shared.wire`."""
    models = CLIENT_MESSAGES + SERVER_MESSAGES
    _, definitions = models_json_schema(
        [(model, "serialization" if model in SERVER_MESSAGES else "validation") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    messages = {
        model.__name__: {
            "name": get_args(model.model_fields["type"].annotation)[0],
            "summary": (model.__doc__ or "").split("\n")[0],
            "payload": {"$ref": f"#/components/schemas/{model.__name__}"},
        }
        for model in models
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Veracity Realtime",
            "version": "1",
            "description": "One WebSocket, many channels: general, trends, stories, story:<id>, trust_scores, user",
        },
        "channels": {
            "connection": {
                "address": PATH,
                "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
            }
        },
        "operations": {
            "fromClient": _operation("receive", CLIENT_MESSAGES),
            "toClient": _operation("send", SERVER_MESSAGES),
        },
        "components": {"messages": messages, "schemas": definitions["$defs"]},
    }


def _operation(action: str, models: tuple[type[BaseModel], ...]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": "#/channels/connection"},
        "messages": [{"$ref": f"#/channels/connection/messages/{model.__name__}"} for model in models],
    }
