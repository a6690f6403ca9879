"""Keys for handing over items: only hashes are configured, so that a leaked configuration opens nothing. Pure.

Keys are random, 256 bits, so that a plain hash is as good as a slow one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from shared.errors import StartupFailed

_HASH = re.compile(r"[0-9a-f]{64}")


def new_key() -> tuple[str, str]:
    """Return a new key and its hash."""
    key = f"vk_{secrets.token_urlsafe(32)}"
    return key, hash_of(key)


def hash_of(key: str) -> str:
    """Return the hash of a key as it is configured: SHA-256, hexadecimal."""
    return hashlib.sha256(key.encode()).hexdigest()


def parse_hashes(text: str) -> tuple[str, ...]:
    """Return the hashes in `text`, separated by commas; raises StartupFailed for what is none, such as a key itself."""
    hashes = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if not all(_HASH.fullmatch(one) for one in hashes):
        raise StartupFailed("VERACITY_INGEST_API_KEYS takes SHA-256 hashes, not keys: `veracity api-key` makes both")
    return hashes


def known(key: str, hashes: tuple[str, ...]) -> str | None:
    """Return the hash of `key` if it is configured; takes as long for a wrong key as for a right one."""
    digest = hash_of(key)
    found = [one for one in hashes if hmac.compare_digest(one, digest)]
    return found[0] if found else None
