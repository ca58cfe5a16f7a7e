"""Which addresses of a peer may be punched at.

The peer names them, so they are a stranger's wish: RFC 9000, 21.5.6 (request forgery) and RFC 8445,
section 19. Pure functions.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from quicpipe_lab.model.address import TransportAddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_CANDIDATES = 8
"""Addresses punched at in one round."""
MAX_SEARCHED = 32
"""What a peer turns out to send from in a port search: from several ports, to several sockets, not
all of which can be answered."""
MAX_SIGNALLED = 6
"""Of these, how many the peer may name; the rest is for what it turns out to send from."""

_UNUSABLE = tuple(ipaddress.ip_network(text) for text in ("0.0.0.0/8", "240.0.0.0/4"))
"""The present network, and the reserved block with the broadcast address (RFC 6890, 2.2.2)."""
_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("fc00::/7", "fec0::/10"),
    )
)
# Not Python's is_private: that also holds for 198.18.0.0/15, the internet of our labs.


class Scope(IntEnum):
    """How far an address reaches."""

    LOOPBACK = 0
    PRIVATE = 1
    GLOBAL = 2


def scope(host: str) -> Scope | None:
    """The scope of a unicast address in text form; None for everything else."""
    try:
        address: IPv4Address | IPv6Address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and (address.ipv4_mapped or address.scope_id):
        return None
    if address.is_loopback:
        return Scope.LOOPBACK
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        return None
    if _is_in(address, _UNUSABLE):
        return None
    return Scope.PRIVATE if _is_in(address, _PRIVATE) else Scope.GLOBAL


def _is_in(address: IPv4Address | IPv6Address, networks: Iterable[Network]) -> bool:
    return any(address in one for one in networks if one.version == address.version)


def _canonical(address: TransportAddress) -> TransportAddress:
    """As a socket writes it: IPv6 has many spellings, and addresses are compared as text."""
    return TransportAddress(str(ipaddress.ip_address(address.host)), address.port)


def own_candidates(
    hosts: Iterable[TransportAddress], observed: TransportAddress | None
) -> tuple[TransportAddress, ...]:
    """What to tell the peer: host addresses first, then where the relay saw us."""
    seen = [] if observed is None or scope(observed.host) is None else [observed]
    fitting = [one for one in dict.fromkeys(hosts) if scope(one.host) is not None]
    # Of many host addresses some are left out, and never the one that peers elsewhere reach us at.
    return tuple(dict.fromkeys([*fitting[: MAX_SIGNALLED - len(seen)], *seen]))


def search_target(
    their_observed: TransportAddress | None, *, relay: TransportAddress
) -> TransportAddress | None:
    """Where the peer's ports may be searched for: at its external address, on the internet, and
    nowhere else. None where there is no such address."""
    if their_observed is None or scope(their_observed.host) is not Scope.GLOBAL:
        return None
    fitting = acceptable(
        (their_observed,), relay=relay, our_observed=None, their_observed=their_observed
    )
    return fitting[0] if fitting else None


def acceptable(
    theirs: Sequence[TransportAddress],
    *,
    relay: TransportAddress,
    our_observed: TransportAddress | None,
    their_observed: TransportAddress | None,
) -> tuple[TransportAddress, ...]:
    """Those of the peer's candidates that we punch at, at most MAX_SIGNALLED.

    An address must reach as far as the relay's does (nobody on the internet makes us send into
    our own network), except that peers which the relay sees at one address share a network and
    may use their private addresses. For where the relay sees the peer we have the peer's word
    alone: it is somebody whom the user chose to trust, and all that it gains by a lie are a few
    datagrams of 26 bytes, as with the connectivity checks of ICE (RFC 8445, 19.5.1).
    """
    neighbours = (
        our_observed is not None
        and their_observed is not None
        and our_observed.host == their_observed.host
    )
    wanted = scope(relay.host)
    version = ipaddress.ip_address(relay.host).version

    def fits(candidate: TransportAddress) -> bool:
        reach = scope(candidate.host)
        return (
            reach is not None
            and 0 < candidate.port < 65536
            and ipaddress.ip_address(candidate.host).version == version
            and (reach == wanted or (neighbours and reach == Scope.PRIVATE))
        )

    fitting = (_canonical(one) for one in theirs if fits(one))
    return tuple(dict.fromkeys(one for one in fitting if one != relay))[:MAX_SIGNALLED]
