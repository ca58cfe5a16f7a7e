"""Frames for the XDP filter, and what is to become of them where ``BINDINGS`` hold."""

from typing import Any, NamedTuple

from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.shell.xdp_layout import FilterReason

PORT = 4433
RELAY4, RELAY6 = "192.0.2.1", "2001:db8::1"
OWN = [TransportAddress(RELAY4, PORT), TransportAddress(RELAY6, PORT)]
ALICE4, BOB4 = TransportAddress("198.51.100.7", 50000), TransportAddress("203.0.113.9", 60000)
ALICE6, BOB6 = TransportAddress("2001:db8:a::7", 50000), TransportAddress("2001:db8:b::9", 60000)
STRANGER4 = TransportAddress(ALICE4.host, ALICE4.port + 1)
STRANGER6 = TransportAddress("2001:db8:a::8", ALICE6.port)
PEER_MAC, RELAY_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"


def identity(number: int) -> bytes:
    """A peer connection's ID."""
    return number.to_bytes(12, "big")


TO_ALICE4, TO_BOB4, TO_ALICE6, TO_BOB6, TO_OWN4, TO_OWN6, UNBOUND = map(identity, range(1, 8))
HALF4, HALF6 = identity(8), identity(9)
"""Bound to Bob; nothing but half a checksum ever comes to these, so nothing is remembered."""
BINDINGS = [
    (TO_ALICE4, ALICE4),
    (TO_BOB4, BOB4),
    (TO_ALICE6, ALICE6),
    (TO_BOB6, BOB6),
    (HALF4, BOB4),
    (HALF6, BOB6),
    (TO_OWN4, OWN[0]),
    (TO_OWN6, OWN[1]),
]


class Case(NamedTuple):
    """A frame, and the reason that the filter has to give."""

    data: bytes
    expected: FilterReason


def quic(connection_id: bytes, size_bytes: int = 40) -> bytes:
    """A short-header packet (RFC 9000, 17.3.1) with so much behind its ID."""
    return b"\x41" + connection_id + bytes(range(size_bytes))


def udp4(payload: bytes, source: TransportAddress = ALICE4, **ip: Any) -> Packet:
    return IP(**{"src": source.host, "dst": RELAY4, **ip}) / _udp(payload, source)


def udp6(payload: bytes, source: TransportAddress = ALICE6, **ip: Any) -> Packet:
    return IPv6(**{"src": source.host, "dst": RELAY6, **ip}) / _udp(payload, source)


def frame(packet: Packet) -> bytes:
    return bytes(Ether(src=PEER_MAC, dst=RELAY_MAC) / packet)


def _udp(payload: bytes, source: TransportAddress) -> Packet:
    return UDP(sport=source.port, dport=PORT) / Raw(payload)


def with_udp(packet: Packet, **fields: Any) -> Packet:
    """With other fields in the UDP header."""
    for name, value in fields.items():
        setattr(packet[UDP], name, value)
    return packet


def _padded(packet: Packet) -> bytes:
    """As Ethernet does with short frames."""
    return frame(packet).ljust(90, b"\0")


def _behind(header: Packet, **ip: Any) -> Packet:
    return IPv6(src=ALICE6.host, dst=RELAY6, **ip) / header / _udp(quic(TO_BOB6), ALICE6)


def _half_checksum(packet: Packet) -> Packet:
    """As a sender leaves it that has its network card compute the rest."""
    summed = type(packet)(bytes(packet))
    without = summed.copy()
    without[UDP].chksum = 0
    size = len(without[UDP])
    words = _pseudo_header(without, size)
    total = sum(words[at] << 8 | words[at + 1] for at in range(0, len(words), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return with_udp(summed, chksum=total)


def _pseudo_header(packet: Packet, size: int) -> bytes:
    raw = bytes(packet)
    addresses = raw[12:20] if IP in packet else raw[8:40]
    return addresses + bytes([0, 17]) + size.to_bytes(2, "big")


_R = FilterReason

FORWARDED = {
    "IPv4": udp4(quic(TO_BOB4)),
    "IPv6": udp6(quic(TO_BOB6)),
    "IPv4 of the least size": udp4(quic(TO_BOB4, 0)),
    "IPv6 of the least size": udp6(quic(TO_BOB6, 0)),
    "IPv4 of an odd size": udp4(quic(TO_BOB4, 77)),
    "IPv6 of an odd size": udp6(quic(TO_BOB6, 77)),
    "the other way": udp4(quic(TO_ALICE4), BOB4),
    "the other way in IPv6": udp6(quic(TO_ALICE6), BOB6),
    "ECN, DSCP and DF": udp4(quic(TO_BOB4), tos=0xB9, flags="DF", id=0),
    "traffic class and flow label": udp6(quic(TO_BOB6), tc=0xB9, fl=0xABCDE),
    "options": udp4(quic(TO_BOB4), options=[IPOption_RR(length=39)]),
    "a few options": udp4(quic(TO_BOB4), options=[IPOption_RR(length=7)]),
    "TTL 2": udp4(quic(TO_BOB4), ttl=2),
    "hop limit 2": udp6(quic(TO_BOB6), hlim=2),
    "no checksum": with_udp(udp4(quic(TO_BOB4)), chksum=0),
    "VLAN": Dot1Q(vlan=5, prio=3) / udp4(quic(TO_BOB4)),
    "VLAN in VLAN": Dot1AD(vlan=7) / Dot1Q(vlan=5) / udp6(quic(TO_BOB6)),
    "all first bits but the two": udp4(b"\x7f" + TO_BOB4 + b"12"),
}
"""Packets without their Ethernet header."""

CORPUS: dict[str, Case] = {
    **{name: Case(frame(packet), _R.FORWARDED) for name, packet in FORWARDED.items()},
    "padded": Case(_padded(udp4(quic(TO_BOB4, 0))), _R.FORWARDED),
    "padded IPv6": Case(_padded(udp6(quic(TO_BOB6, 0))), _R.FORWARDED),
    "ARP": Case(frame(ARP()), _R.NOT_IP),
    "empty": Case(b"", _R.NOT_IP),
    "three VLAN tags": Case(frame(Dot1AD() / Dot1Q() / Dot1Q() / udp4(quic(TO_BOB4))), _R.NOT_IP),
    "IPv6 in an IPv4 frame": Case(
        bytes(Ether(src=PEER_MAC, dst=RELAY_MAC, type=0x0800) / Raw(bytes(udp6(quic(TO_BOB6))))),
        _R.NOT_IP,
    ),
    "TCP": Case(frame(IP(dst=RELAY4) / TCP(dport=PORT)), _R.NOT_UDP),
    "ping": Case(frame(IP(dst=RELAY4) / ICMP()), _R.NOT_UDP),
    "TCP over IPv6": Case(frame(IPv6(dst=RELAY6) / TCP(dport=PORT)), _R.NOT_UDP),
    "no next header": Case(frame(IPv6(dst=RELAY6, nh=59)), _R.NOT_UDP),
    "hop-by-hop options": Case(frame(_behind(IPv6ExtHdrHopByHop())), _R.EXTENSION_HEADER),
    "destination options": Case(frame(_behind(IPv6ExtHdrDestOpt())), _R.EXTENSION_HEADER),
    "routing header": Case(frame(_behind(IPv6ExtHdrRouting())), _R.EXTENSION_HEADER),
    "authentication header": Case(frame(_behind(Raw(bytes(24)), nh=51)), _R.EXTENSION_HEADER),
    "mobility header": Case(frame(_behind(Raw(bytes(8)), nh=135)), _R.EXTENSION_HEADER),
    "IPv6 fragment": Case(frame(_behind(IPv6ExtHdrFragment(m=1, id=1))), _R.FRAGMENT),
    "first fragment": Case(frame(udp4(quic(TO_BOB4), flags="MF")), _R.FRAGMENT),
    "later fragment": Case(frame(udp4(quic(TO_BOB4), frag=8)), _R.FRAGMENT),
    "header length below 20": Case(frame(udp4(quic(TO_BOB4), ihl=4)), _R.MALFORMED),
    "header longer than the packet": Case(frame(udp4(quic(TO_BOB4), ihl=15, len=40)), _R.MALFORMED),
    "IP packet longer than the frame": Case(frame(udp4(quic(TO_BOB4), len=500)), _R.MALFORMED),
    "IPv6 packet longer than the frame": Case(frame(udp6(quic(TO_BOB6), plen=500)), _R.MALFORMED),
    "jumbogram": Case(frame(udp6(quic(TO_BOB6), plen=0)), _R.MALFORMED),
    "IP packet shorter than UDP says": Case(frame(udp4(quic(TO_BOB4), len=70)), _R.MALFORMED),
    "UDP too long": Case(frame(with_udp(udp4(quic(TO_BOB4)), len=90)), _R.MALFORMED),
    "UDP too short": Case(frame(with_udp(udp4(quic(TO_BOB4)), len=30)), _R.MALFORMED),
    "UDP shorter than its header": Case(frame(with_udp(udp4(quic(TO_BOB4)), len=7)), _R.MALFORMED),
    "UDP of length 0 over IPv6": Case(frame(with_udp(udp6(quic(TO_BOB6)), len=0)), _R.MALFORMED),
    "another port": Case(frame(with_udp(udp4(quic(TO_BOB4)), dport=PORT + 1)), _R.OTHER_PORT),
    "another port over IPv6": Case(frame(with_udp(udp6(quic(TO_BOB6)), dport=53)), _R.OTHER_PORT),
    "another host": Case(frame(udp4(quic(TO_BOB4), dst="192.0.2.2")), _R.OTHER_HOST),
    "another host in IPv6": Case(frame(udp6(quic(TO_BOB6), dst="2001:db8::2")), _R.OTHER_HOST),
    "nobody": Case(frame(udp4(quic(TO_BOB4), dst="0.0.0.0")), _R.OTHER_HOST),
    "nobody in IPv6": Case(frame(udp6(quic(TO_BOB6), dst="::")), _R.OTHER_HOST),
    "everybody": Case(frame(udp4(quic(TO_BOB4), dst="255.255.255.255")), _R.OTHER_HOST),
    "in a frame to everybody": Case(
        bytes(Ether(src=PEER_MAC, dst="ff:ff:ff:ff:ff:ff") / udp4(quic(TO_BOB4))), _R.OTHER_HOST
    ),
    "no payload": Case(frame(udp4(b"")), _R.NOT_QUIC),
    "no fixed bit": Case(frame(udp4(b"\x01" + TO_BOB4 + bytes(30))), _R.NOT_QUIC),
    "a STUN request": Case(frame(udp4(b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12))), _R.NOT_QUIC),
    "a DNS query": Case(frame(udp6(b"\x12\x34\1\0\0\1" + bytes(20))), _R.NOT_QUIC),
    "version negotiation": Case(frame(udp4(b"\x80\0\0\0\0" + bytes(30))), _R.NOT_QUIC),
    "an ID too short": Case(frame(udp4(quic(TO_BOB4)[:12])), _R.NOT_QUIC),
    "an ID in the padding": Case(_padded(udp4(b"\x41")), _R.NOT_QUIC),
    "a long header": Case(frame(udp4(b"\xc0\0\0\0\1\x0c" + TO_BOB4 + bytes(99))), _R.LONG_HEADER),
    "a long header's first byte": Case(frame(udp6(b"\xc0")), _R.LONG_HEADER),
    "to a connection with the relay": Case(frame(udp4(quic(b"\x80" + TO_BOB4[1:]))), _R.TO_RELAY),
    "TTL 1": Case(frame(udp4(quic(TO_BOB4), ttl=1)), _R.TTL_EXPIRED),
    "TTL 0": Case(frame(udp4(quic(TO_BOB4), ttl=0)), _R.TTL_EXPIRED),
    "hop limit 1": Case(frame(udp6(quic(TO_BOB6), hlim=1)), _R.TTL_EXPIRED),
    "no checksum over IPv6": Case(frame(with_udp(udp6(quic(TO_BOB6)), chksum=0)), _R.ZERO_CHECKSUM),
    "half a checksum": Case(frame(_half_checksum(udp4(quic(HALF4)))), _R.HALF_CHECKSUM),
    "half a checksum over IPv6": Case(frame(_half_checksum(udp6(quic(HALF6)))), _R.HALF_CHECKSUM),
    "an ID that is not bound": Case(frame(udp4(quic(UNBOUND))), _R.UNBOUND),
    "a source that is not bound": Case(frame(udp4(quic(TO_BOB4), STRANGER4)), _R.SOURCE_NOT_BOUND),
    "a source that is not bound in IPv6": Case(
        frame(udp6(quic(TO_BOB6), STRANGER6)), _R.SOURCE_NOT_BOUND
    ),
    "IPv4 from within IPv6": Case(
        frame(udp6(quic(TO_BOB6), TransportAddress(f"::ffff:{ALICE4.host}", ALICE4.port))),
        _R.SOURCE_NOT_BOUND,
    ),
    "to its sender": Case(frame(udp4(quic(TO_ALICE4))), _R.LOOP),
    "to its sender in IPv6": Case(frame(udp6(quic(TO_ALICE6))), _R.LOOP),
    "to the relay's own address": Case(frame(udp4(quic(TO_OWN4))), _R.LOOP),
    "to the relay's own address in IPv6": Case(frame(udp6(quic(TO_OWN6))), _R.LOOP),
    "from IPv4 to IPv6": Case(frame(udp4(quic(TO_BOB6))), _R.OTHER_FAMILY),
    "from IPv6 to IPv4": Case(frame(udp6(quic(TO_BOB4))), _R.OTHER_FAMILY),
    "longer than the interface takes": Case(
        frame(udp4(b"\x41" + TO_BOB4 + bytes(1500))), _R.TOO_BIG
    ),
}
"""Frames by what is special about them. The MTU is 1500."""
