"""The wire protocol as one JSON Schema, from which the browser's types are made: `make types`.

What a gateway leaves out where there is nothing to say is optional here, as it is on the wire.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic.json_schema import models_json_schema

from services.gateway.asyncapi import CLIENT_MESSAGES, SERVER_MESSAGES


def schema() -> dict[str, Any]:
    """Return the schema: every message and what it is made of, by name."""
    models = CLIENT_MESSAGES + SERVER_MESSAGES
    _, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/definitions/{model}"
    )
    return {
        "title": "Message",
        "description": "Any message between a client and a gateway.",
        "anyOf": [{"$ref": f"#/definitions/{model.__name__}"} for model in models],
        "definitions": {name: _untitled(definition) for name, definition in sorted(definitions["$defs"].items())},
    }


def _untitled(definition: Any) -> Any:  # Any: a JSON document
    """Leave out the titles of fields, which would become types of their own."""
    if isinstance(definition, list):
        return [_untitled(part) for part in definition]
    if not isinstance(definition, dict):
        return definition
    kept = {name: _untitled(part) for name, part in definition.items() if name != "title" or not isinstance(part, str)}
    if kept.get("type") == "array":
        kept.pop("maxItems", None)  # else every length becomes a tuple type
        kept.pop("minItems", None)
    return kept


if __name__ == "__main__":
    sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
