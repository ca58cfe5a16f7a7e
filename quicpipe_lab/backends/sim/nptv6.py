"""NPTv6 (RFC 6296): one prefix for another, without state; all the prefixes have one checksum."""

from ipaddress import IPv6Address, IPv6Network

from quicpipe_lab.backends.sim.link import Interface
from quicpipe_lab.backends.sim.node import Hooks
from quicpipe_lab.backends.sim.packet import Echo, IcmpError, Packet, Udp
from quicpipe_lab.model.address import TransportAddress


class Nptv6(Hooks):
    """``inside`` and ``outside`` are the prefixes; ``wan`` leads to the outside."""

    def __init__(self, inside: IPv6Network, outside: IPv6Network, wan: Interface) -> None:
        self._wan = wan
        self._outward = _Swap(inside, outside)
        self._inward = _Swap(outside, inside)
        self._turned = False
        """Whether the packet in hand goes from inside to inside (RFC 6296, 4.3)."""

    def prerouting(self, packet: Packet, inward: Interface) -> Packet | None:
        """To an outside prefix, wherever from."""
        changed = _with_destination(packet, self._inward)
        self._turned = inward is not self._wan and changed is not packet
        return changed

    def postrouting(self, packet: Packet, outward: Interface) -> Packet | None:
        """From an inside prefix, to the outside or back again."""
        if outward is self._wan or self._turned:
            return _with_source(packet, self._outward)
        return packet


class _Swap:
    """Of addresses, remembered."""

    def __init__(self, old: IPv6Network, new: IPv6Network) -> None:
        self._old = old
        self._base = int(new.network_address)
        self._known: dict[str, str] = {}

    def __call__(self, host: str) -> str:
        known = self._known.get(host)
        if known is None:
            address = IPv6Address(host)
            if address in self._old:
                address = IPv6Address(self._base | int(address) & int(self._old.hostmask))
            known = self._known[host] = str(address)
        return known


def _with_destination(packet: Packet, swap: _Swap) -> Packet:
    """And what an ICMP error quotes, the other way round."""
    if isinstance(packet, Udp):
        host, port = packet.destination
        new = swap(host)
        return packet if new == host else packet._replace(destination=TransportAddress(new, port))
    assert isinstance(packet, Echo | IcmpError)
    new = swap(packet.destination)
    if new == packet.destination:
        return packet
    if isinstance(packet, IcmpError):
        packet = packet._replace(about=_quoted(packet.about, source=new))
    return packet._replace(destination=new)


def _with_source(packet: Packet, swap: _Swap) -> Packet:
    if isinstance(packet, Udp):
        host, port = packet.source
        new = swap(host)
        return packet if new == host else packet._replace(source=TransportAddress(new, port))
    assert isinstance(packet, Echo | IcmpError)
    if isinstance(packet, IcmpError):
        about = packet.about
        host = about.destination if isinstance(about, Echo) else about.destination.host
        packet = packet._replace(about=_quoted(about, destination=swap(host)))
    return packet._replace(source=swap(packet.source))


def _quoted(
    about: Udp | Echo, source: str | None = None, destination: str | None = None
) -> Udp | Echo:
    if isinstance(about, Echo):
        return about._replace(
            source=source or about.source, destination=destination or about.destination
        )
    return about._replace(
        source=TransportAddress(source or about.source.host, about.source.port),
        destination=TransportAddress(destination or about.destination.host, about.destination.port),
    )
