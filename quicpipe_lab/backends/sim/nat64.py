"""NAT64 in virtual time: what TAYGA does in a lab (RFC 7915, without state), at an interface.

It gives each inside host the IPv4 address that it would have had, and takes it away again on the
way back. To the NAT's rules the host is one like any other, behind another interface.
"""

from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address

from quicpipe_lab.backends.sim.link import Interface
from quicpipe_lab.backends.sim.packet import (
    Complaint,
    Echo,
    IcmpError,
    Packet,
    Udp,
    destination_of,
    source_of,
    version_of,
)
from quicpipe_lab.backends.sim.udp_socket import require_one_packet
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat64 import LAB_PREFIX, embed, extract

INTERFACE = "nat64"

Code = tuple[int, int]

# RFC 7915, 4.2 and 5.2: type and code, of the errors that there are here.
_TO_ICMPV6: dict[Code, Code] = {
    (3, 0): (1, 0),
    (3, 1): (1, 0),
    (3, 3): (1, 4),
    (3, 10): (1, 1),
    (3, 13): (1, 1),
    (11, 0): (3, 0),
}
_TO_ICMP: dict[Code, Code] = {(1, 0): (3, 1), (1, 1): (3, 10), (1, 4): (3, 3), (3, 0): (11, 0)}


Swap = Callable[[str], str | None]


class Translator:
    """What leaves by the interface comes back by it in the other version.

    ``hosts``: inside ones, IPv4 addresses and IPv6 ones.
    """

    def __init__(self, interface: Interface, hosts: dict[str, str]) -> None:
        self._interface = interface
        self._to_ipv6 = dict(hosts)
        self._to_ipv4: dict[str, str | None] = {ipv6: ipv4 for ipv4, ipv6 in hosts.items()}

    def __call__(self, packet: Packet) -> None:
        """What cannot be translated is dropped, and so is what has a wrong checksum."""
        node = self._interface.node
        if packet.flipped_bits:
            return
        if packet.ttl <= 1:
            node.complain(packet, Complaint.TIME_EXCEEDED, self._interface.addresses)
            return
        if version_of(destination_of(packet)) == 4:
            translated = _translated(packet, self._ipv6, _TO_ICMPV6)
        else:
            translated = _translated(packet, self._ipv4, _TO_ICMP)
        if translated is not None:
            node.receive(translated._replace(ttl=packet.ttl - 1), self._interface)

    def _ipv6(self, host: str) -> str | None:
        known = self._to_ipv6.get(host)
        if known is None:
            known = self._to_ipv6[host] = to_ipv6(host)
        return known

    def _ipv4(self, host: str) -> str | None:
        if host not in self._to_ipv4:
            self._to_ipv4[host] = to_ipv4(host)
        return self._to_ipv4[host]


def _translated(packet: Packet, swap: Swap, codes: dict[Code, Code]) -> Packet | None:
    source, destination = swap(source_of(packet)), swap(destination_of(packet))
    if source is None or destination is None:
        return None
    if isinstance(packet, Udp):
        translated = packet._replace(
            source=TransportAddress(source, packet.source.port),
            destination=TransportAddress(destination, packet.destination.port),
        )
        require_one_packet(translated)
        return translated
    if isinstance(packet, IcmpError):
        code = codes.get((packet.type, packet.code))
        about = _translated(packet.about, swap, codes)
        if code is None or not isinstance(about, Udp | Echo):
            return None
        packet = packet._replace(type=code[0], code=code[1], about=about)
    return packet._replace(source=source, destination=destination)


def to_ipv6(host: str) -> str:
    """An IPv4 address as hosts behind a lab's NAT64 know it."""
    return str(embed(LAB_PREFIX, IPv4Address(host)))


def to_ipv4(host: str) -> str | None:
    """And back; None where it is not one of those."""
    found = extract(LAB_PREFIX, IPv6Address(host))
    return None if found is None else str(found)
