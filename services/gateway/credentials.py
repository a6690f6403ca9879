"""Who a client is: a token in, a principal out. Pure; where keys come from is their own business.

The algorithm comes from the key, never from the token (RFC 8725 section 3.1); `none` is no algorithm here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from services.gateway.permissions import EVERYTHING, Grant, parse_grant
from shared import channels
from shared.errors import StartupFailed, VeracityError

_MIN_SECRET = 32  # bytes, as long as the hash (RFC 7518 section 3.2)
_MIN_RSA = 2_048  # bits (RFC 7518 section 3.3)

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


class Unauthorized(VeracityError):
    """A token that proves nothing; the reason never repeats the token."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token speaks for, what it grants, when it was issued and ends (Unix seconds; 0 where it does not say)."""

    user_id: str
    expires: float
    issued: float = 0.0
    grant: Grant = EVERYTHING


@dataclass(frozen=True, slots=True)
class Key:
    """A key and the one algorithm it is for."""

    key: str | PublicKey
    algorithm: str


class Keys(Protocol):
    """Where the keys are."""

    def find(self, key_id: str | None) -> Key | None:
        """Return the key a token names by its `kid`; None if there is no such key."""


class OneKey:
    """The key of the configuration: there is no other, whatever a token names."""

    def __init__(self, key: Key) -> None:
        self._key = key

    def find(self, key_id: str | None) -> Key | None:
        """Return the key."""
        return self._key


class Verifier:
    """Checks tokens."""

    def __init__(
        self, keys: Keys, *, issuer: str | None = None, audience: str | None = None, leeway: float = 10.0
    ) -> None:
        self._keys = keys
        self._issuer, self._audience, self._leeway = issuer, audience, leeway

    def verify(self, token: str) -> Principal:
        """Return whom `token` speaks for; raises Unauthorized saying what is wrong with it."""
        try:
            key = self._keys.find(_key_id(token))
            if key is None:
                raise Unauthorized("the token names no key known here: get a new one, or try again in a moment")
            claims = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=self._leeway,
                options={"require": ["exp", "sub"], "verify_aud": self._audience is not None},
            )
        except jwt.PyJWTError as error:
            raise Unauthorized(f"the token is not valid: {error}") from error
        subject = claims["sub"]
        if not isinstance(subject, str) or not channels.is_id(subject):
            raise Unauthorized("the token's `sub` is no user id: 1 to 128 letters, digits, '_' or '-'")
        issued = claims.get("iat", 0.0)
        return Principal(subject, float(claims["exp"]), float(issued), _grant(claims))


def _key_id(token: str) -> str | None:
    key_id = jwt.get_unverified_header(token).get("kid")
    return key_id if isinstance(key_id, str) else None


def _grant(claims: Mapping[str, Any]) -> Grant:
    patterns = claims.get("channels")
    if patterns is None:
        return EVERYTHING
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        raise Unauthorized("the token's `channels` is no list of patterns, such as trends or story:*")
    # What a newer issuer may grant beyond this gateway's knowledge grants nothing here.
    return parse_grant(patterns)[0]


def usable(key: object) -> Key | None:
    """Return a public key with its one algorithm: RS256, ES256 or EdDSA. None for any other or too short a key."""
    match key:
        case RSAPublicKey() if key.key_size >= _MIN_RSA:
            return Key(key, "RS256")
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return Key(key, "ES256")
        case Ed25519PublicKey():
            return Key(key, "EdDSA")
        case _:
            return None


def configured_key(secret: str | None, public_key: str | None) -> Key | None:
    """Return the key the settings hold, None without one; raises StartupFailed if it is unusable."""
    if secret is not None:
        if len(secret.encode()) < _MIN_SECRET:
            raise StartupFailed(f"VERACITY_JWT_SECRET must have {_MIN_SECRET} bytes or more (RFC 7518 section 3.2)")
        return Key(secret, "HS256")
    if public_key is None:
        return None
    try:
        key = usable(load_pem_public_key(public_key.encode()))
    except ValueError as error:
        raise StartupFailed(f"VERACITY_JWT_PUBLIC_KEY is no public key in PEM: {error}") from error
    if key is None:
        raise StartupFailed("VERACITY_JWT_PUBLIC_KEY must be an RSA key of 2048 bits or more, P-256 or Ed25519")
    return key
