"""Which addresses of a peer may be punched at.

The peer names them, so they are a stranger's wish: RFC 9000, 21.5.6 (request forgery) and RFC 8445,
section 19. Pure functions.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

from quicpipe_lab.model.address import TransportAddress

MAX_CANDIDATES = 8
"""Addresses punched at in one round."""
MAX_SIGNALLED = 6
"""Of these, how many the peer may name; the rest is for what it turns out to send from."""

_PRIVATE = tuple(
    ipaddress.ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
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
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return None
    if address.is_loopback:
        return Scope.LOOPBACK
    if (
        address.is_multicast
        or address.is_unspecified
        or address.is_link_local
        or address == IPv4Address("255.255.255.255")
    ):
        return None
    if any(address in network for network in _PRIVATE if network.version == address.version):
        return Scope.PRIVATE
    return Scope.GLOBAL


def own_candidates(
    hosts: Iterable[TransportAddress], observed: TransportAddress | None
) -> tuple[TransportAddress, ...]:
    """What to tell the peer: host addresses first, then where the relay saw us."""
    ordered = [*hosts, *([observed] if observed else [])]
    return tuple(dict.fromkeys(one for one in ordered if scope(one.host) is not None))[
        :MAX_SIGNALLED
    ]


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
    may use their private addresses.
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
            and candidate != relay
            and ipaddress.ip_address(candidate.host).version == version
            and (reach == wanted or (neighbours and reach == Scope.PRIVATE))
        )

    return tuple(dict.fromkeys(filter(fits, theirs)))[:MAX_SIGNALLED]
