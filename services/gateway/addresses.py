"""Where a client connects from, through proxies that are trusted to say so. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from shared.errors import StartupFailed

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

_PREFIX = 64  # bits: a subscriber has at least so large a network of IPv6 addresses (RFC 6177)


def parse_networks(text: str) -> tuple[Network, ...]:
    """Return the networks named in `text`, separated by commas; raises StartupFailed for one that is none."""
    try:
        return tuple(ip_network(part.strip(), strict=False) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise StartupFailed(f"VERACITY_TRUSTED_PROXIES: {error}; give addresses or networks, 10.0.0.0/8") from error


def client_address(peer: str, forwarded_for: str | None, trusted: Iterable[Network]) -> str | None:
    """Return what counts as one client's address, None for the machine itself, which is not limited.

    Whoever connects may write anything into X-Forwarded-For: it is read from its end, and believed only as far as it
    was written by trusted proxies.
    """
    address = _parse(peer)
    if address is None:
        return peer
    networks = tuple(trusted)
    for name in reversed([] if forwarded_for is None else forwarded_for.split(",")):
        if not _within(address, networks):
            break
        said = _parse(name.strip())
        if said is None:
            break  # nonsense from a trusted proxy: the proxy is the last we know
        address = said
    if address.is_loopback:
        return None
    if isinstance(address, IPv6Address):
        return str(ip_network((address, _PREFIX), strict=False))
    return str(address)


def _within(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks)


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
