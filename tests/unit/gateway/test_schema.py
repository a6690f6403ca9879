"""The browser's schema is that of the models; `services/dashboard/tests/types.test.ts` holds the types against it."""

from __future__ import annotations

import json
from pathlib import Path

from services.gateway.schema import schema

WRITTEN = Path(__file__).parents[3] / "services" / "dashboard" / "src" / "realtime" / "wire.schema.json"


def test_the_written_schema_is_that_of_the_models() -> None:
    assert json.loads(WRITTEN.read_text()) == json.loads(json.dumps(schema())), "make types"
