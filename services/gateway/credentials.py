"""Who a client is: a token in, a principal out. Pure but for reading the key once.

The algorithm comes from the configured key, never from the token (RFC 8725 section 3.1); `none` is no algorithm here.
"""

from __future__ import annotations

from dataclasses import dataclass

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from shared import channels
from shared.errors import StartupFailed, VeracityError

_MIN_SECRET = 32  # bytes, as long as the hash (RFC 7518 section 3.2)


class Unauthorized(VeracityError):
    """A token that proves nothing; the reason never repeats the token."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a token speaks for, and until when (Unix seconds)."""

    user_id: str
    expires: float


class Verifier:
    """Checks tokens against one key."""

    def __init__(
        self,
        key: str | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey,
        algorithm: str,
        *,
        issuer: str | None = None,
        audience: str | None = None,
        leeway: float = 10.0,
    ) -> None:
        self._key, self._algorithm = key, algorithm
        self._issuer, self._audience, self._leeway = issuer, audience, leeway

    def verify(self, token: str) -> Principal:
        """Return whom `token` speaks for; raises Unauthorized saying what is wrong with it."""
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[self._algorithm],
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
        return Principal(subject, float(claims["exp"]))


def new_verifier(
    secret: str | None, public_key: str | None, *, issuer: str | None, audience: str | None, leeway: float
) -> Verifier | None:
    """Return a verifier for the configured key, None without one; raises StartupFailed if the key is unusable."""
    if secret is not None and public_key is not None:
        raise StartupFailed(
            "set VERACITY_JWT_SECRET or VERACITY_JWT_PUBLIC_KEY, not both: one key decides the algorithm"
        )
    if secret is not None:
        if len(secret.encode()) < _MIN_SECRET:
            raise StartupFailed(f"VERACITY_JWT_SECRET must have {_MIN_SECRET} bytes or more (RFC 7518 section 3.2)")
        return Verifier(secret, "HS256", issuer=issuer, audience=audience, leeway=leeway)
    if public_key is None:
        return None
    try:
        key = load_pem_public_key(public_key.encode())
    except ValueError as error:
        raise StartupFailed(f"VERACITY_JWT_PUBLIC_KEY is no public key in PEM: {error}") from error
    match key:
        case RSAPublicKey():
            algorithm = "RS256"
        case EllipticCurvePublicKey():
            algorithm = "ES256"
        case Ed25519PublicKey():
            algorithm = "EdDSA"
        case _:
            raise StartupFailed("VERACITY_JWT_PUBLIC_KEY must be an RSA, P-256 or Ed25519 key")
    return Verifier(key, algorithm, issuer=issuer, audience=audience, leeway=leeway)
