"""IPv4 from a network that has IPv6 only: addresses within addresses. Pure.

A NAT64 translates what is sent to a prefix of its own; behind it stands the IPv4 address (RFC
6052). Hosts find out about the prefix by asking for the IPv6 address of a name that has none (RFC
7050): what they are told in spite of that was made by somebody who knows the prefix.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network

WELL_KNOWN_NAME = "ipv4only.arpa"
WELL_KNOWN_ADDRESSES = (IPv4Address("192.0.0.170"), IPv4Address("192.0.0.171"))
"""What that name has, of IPv4: RFC 7050, 8."""

LAB_PREFIX = IPv6Network("2001:db8:ff64::/96")
"""The labs' own. 64:ff9b::/96 must not be used for addresses that are not global, as 198.18.0.0/15
is not (RFC 6052, 3.1), and TAYGA does not; no link and no NPTv6 router has this one (ipv6.py)."""

_LENGTHS = (96, 64, 56, 48, 40, 32)
_RESERVED_BITS = range(64, 72)  # octet "u", which is zero and skipped: RFC 6052, 2.2


def embed(prefix: IPv6Network, address: IPv4Address) -> IPv6Address:
    """RFC 6052, 2.2. The prefix is one of the six lengths that it allows."""
    value = int(prefix.network_address)
    for place, octet in zip(_places(prefix.prefixlen), address.packed, strict=True):
        value |= octet << (120 - place)
    return IPv6Address(value)


def extract(prefix: IPv6Network, address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address in an IPv6 one; None where that is not of the prefix."""
    if address not in prefix:
        return None
    places = _places(prefix.prefixlen)
    return IPv4Address(bytes(int(address) >> (120 - place) & 0xFF for place in places))


def prefix_of(synthesised: IPv6Address) -> IPv6Network | None:
    """RFC 7050, 3: the prefix of an address made for WELL_KNOWN_NAME."""
    for length in _LENGTHS:
        prefix = IPv6Network((int(synthesised) >> (128 - length) << (128 - length), length))
        for known in WELL_KNOWN_ADDRESSES:
            if embed(prefix, known) == synthesised:
                return prefix
    return None


def _places(length: int) -> list[int]:
    """The first bit of each of the IPv4 address's octets."""
    free = (place for place in range(length, 128, 8) if place not in _RESERVED_BITS)
    return [next(free) for _ in range(4)]
