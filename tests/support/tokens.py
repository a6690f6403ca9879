"""Tokens as an identity provider issues them."""

from __future__ import annotations

import time
from typing import Any

import jwt

SECRET = "a secret of thirty-two bytes or more"
UNSIGNED = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJhbm4iLCJleHAiOjQxMDI0NDQ4MDB9."
OTHER = "another secret of thirty-two bytes!!"


def token(sub: str = "ann", *, secret: str = SECRET, seconds: float = 60, **claims: Any) -> str:
    return jwt.encode({"sub": sub, "exp": time.time() + seconds, **claims}, secret, algorithm="HS256")


def bearer(text: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {text}"}}
