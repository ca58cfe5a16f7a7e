"""What passes a NAT besides the nine cells: other protocols, other NATs, and time."""

import socket
import struct
import time

import pytest

from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.model.nat import FilteringBehavior, NatBehavior, PortAssignment
from quicpipe_lab.model.topology import Host, Link, Nat, Relay, Topology
from tests.backends.netns.remote import (
    DEADLINE_S,
    IP_RECVERR,
    Sockets,
    accepted,
    output_of,
    port_of,
    take_all,
)

pytestmark = pytest.mark.netns

LIFETIME_S = 1.0
UDP_SEGMENT = 103  # udp(7); the socket module has no name for it
_POLL_S = 0.05
_PORTS_AT_ONCE = 4096 - 64  # what fits into a netlink message without root

# carrier: a NAT in front of a NAT. brief: mappings that live for a second.
TOPOLOGY = Topology(
    "traffic",
    (
        Relay("relay"),
        Nat("carrier", NatBehavior(filtering=FilteringBehavior.ENDPOINT_INDEPENDENT)),
        Nat("home", NatBehavior(filtering=FilteringBehavior.ADDRESS_DEPENDENT)),
        Host("alice"),
        Nat("brief", NatBehavior(mapping_lifetime_s=LIFETIME_S)),
        Host("bob"),
        Nat("plain", NatBehavior(port_assignment=PortAssignment.PRESERVING)),
        Host("carol"),
    ),
    (
        Link(("core", "relay")),
        Link(("core", "carrier")),
        Link(("carrier", "home")),
        Link(("home", "alice")),
        Link(("core", "brief")),
        Link(("brief", "bob")),
        Link(("core", "plain")),
        Link(("plain", "carol")),
    ),
)


def lower_address(name: str) -> str:
    return str(TOPOLOGY.uplinks[name].lower_address)


RELAY = lower_address("relay")


def test_nat_behind_nat(sockets: Sockets) -> None:
    inside, server, other = (sockets.udp(name) for name in ("alice", "relay", "relay"))
    inside.sendto(b"out", (RELAY, port_of(server)))
    _, seen = server.recvfrom(2048)
    assert seen[0] == lower_address("carrier")
    server.sendto(b"back", seen)
    assert inside.recvfrom(2048) == (b"back", (RELAY, port_of(server)))
    # The stricter of each axis: the carrier lets everybody in, the home every port of the relay.
    other.sendto(b"another port", seen)
    assert inside.recvfrom(2048) == (b"another port", (RELAY, port_of(other)))


@pytest.mark.parametrize("size_bytes", [1280, 5120], ids=["one packet", "fragments"])
def test_datagrams_are_whole(sockets: Sockets, size_bytes: int) -> None:
    """Checksums are right on every way in, whether conntrack translates or ``inbound`` does; and
    fragments pass in both directions, to strangers' datagrams too (RFC 4787, REQ-14)."""
    inside, server, other = (sockets.udp(name) for name in ("alice", "relay", "relay"))
    data = bytes(range(256)) * (size_bytes // 256)
    inside.sendto(data, (RELAY, port_of(server)))
    received, seen = server.recvfrom(8192)
    assert received == data
    for sender in (server, other):
        sender.sendto(data, seen)
        assert inside.recv(8192) == data


@pytest.mark.parametrize("host", ["alice", "carol"])
def test_tcp_goes_out(sockets: Sockets, host: str) -> None:
    client = sockets.tcp(host)
    with accepted(sockets.tcp("relay"), client, RELAY) as served:
        client.sendall(b"question")
        assert served.recv(100) == b"question"
        served.sendall(b"answer")
        assert client.recv(100) == b"answer"


def test_ping_goes_out(sockets: Sockets) -> None:
    """RFC 792: an echo request gets its reply."""
    ping = sockets.icmp("alice")
    body = struct.pack(">HH", 77, 1) + b"quicpipe"
    checksum = 0xFFFF - (sum(struct.unpack(">6H", body)) + (8 << 8)) % 0xFFFF
    ping.sendto(struct.pack(">BBH", 8, 0, checksum) + body, (RELAY, 0))
    reply = ping.recv(2048)
    header_size_bytes = (reply[0] & 0x0F) * 4
    assert reply[header_size_bytes] == 0
    assert reply[header_size_bytes + 4 :] == body


def test_no_hairpin(sockets: Sockets) -> None:
    """A datagram to the home's own outside address is dropped, without an ICMP error."""
    inside, server, neighbour = (sockets.udp(name) for name in ("carol", "relay", "carol"))
    inside.sendto(b"out", (RELAY, port_of(server)))
    _, seen = server.recvfrom(2048)
    neighbour.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    neighbour.sendto(b"hairpin", seen)
    server.sendto(b"fence", seen)
    assert inside.recv(2048) == b"fence"
    assert take_all(inside) == []
    assert neighbour.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@pytest.mark.nft
def test_a_port_that_another_mapping_has_is_not_shared(lab: Lab, sockets: Sockets) -> None:
    """Where the kernel's random choice hits one, the datagram is lost and the next draws again."""

    def nft(commands: str) -> None:
        output_of(lab, "brief", ["nft", "-f", "-"], given=commands)

    inside, server, other = sockets.udp("bob"), sockets.udp("relay"), sockets.udp("alice")
    for first in range(1024, 65536, _PORTS_AT_ONCE):
        ports = range(first, first + _PORTS_AT_ONCE)
        nft(f"add element ip nat ports {{ {', '.join(f'{port} timeout 1h' for port in ports)} }}")
    inside.sendto(b"lost", (RELAY, port_of(server)))
    other.sendto(b"fence", (RELAY, port_of(server)))
    assert server.recv(2048) == b"fence"
    assert take_all(server) == []
    nft("flush set ip nat ports")
    inside.sendto(b"passes", (RELAY, port_of(server)))
    assert server.recv(2048) == b"passes"


def test_mapping_ends_without_outbound_packets(sockets: Sockets) -> None:
    """Inbound ones do not prolong it: they keep coming here until they no longer get in."""
    inside, server = sockets.udp("bob"), sockets.udp("relay")
    began_s = time.monotonic()
    inside.sendto(b"out", (RELAY, port_of(server)))
    _, seen = server.recvfrom(2048)
    inside.settimeout(_POLL_S)
    while True:
        now_s = time.monotonic()
        assert now_s - began_s < LIFETIME_S + DEADLINE_S
        server.sendto(b"in", seen)
        try:
            inside.recv(2048)
        except TimeoutError:
            break
        # Let a moment pass, as a NAT does nothing by itself that one could wait for.
        with pytest.raises(TimeoutError):
            inside.recv(2048)
    assert now_s - began_s >= LIFETIME_S * 0.9
    inside.sendto(b"out again", (RELAY, port_of(server)))
    _, seen = server.recvfrom(2048)
    server.sendto(b"in again", seen)
    inside.settimeout(DEADLINE_S)
    assert inside.recv(2048) == b"in again"


def test_outbound_packets_keep_a_mapping(sockets: Sockets) -> None:
    inside, server = sockets.udp("bob"), sockets.udp("relay")
    server.settimeout(DEADLINE_S)
    until_s = time.monotonic() + 2 * LIFETIME_S
    ports = set()
    while time.monotonic() < until_s:
        inside.sendto(b"out", (RELAY, port_of(server)))
        _, (_, port) = server.recvfrom(2048)
        ports.add(port)
        inside.settimeout(_POLL_S)
        with pytest.raises(TimeoutError):
            inside.recv(2048)
    assert len(ports) == 1


@pytest.mark.parametrize("host", ["alice", "carol"])
def test_icmp_errors_find_their_way(sockets: Sockets, host: str) -> None:
    """RFC 5508, REQ-4 and REQ-5: from outside to the inside socket, and from inside to the server.

    Though the NAT has let datagrams in without conntrack.
    """
    # In this order: who made a socket still has it until it is asked for the next one.
    other, inside, server = (sockets.udp(name) for name in (host, host, "relay"))
    inside.connect((RELAY, 9))
    inside.send(b"nobody listens")
    with pytest.raises(ConnectionRefusedError):
        inside.recv(100)
    other.sendto(b"out", (RELAY, port_of(server)))
    _, seen = server.recvfrom(2048)
    server.connect(seen)
    other.close()
    server.send(b"nobody is there any more")
    with pytest.raises(ConnectionRefusedError):
        server.recv(100)


@pytest.mark.parametrize("name", ["plain", "brief"])
def test_a_nats_own_programs_have_udp(sockets: Sockets, name: str) -> None:
    """A lab's user may run anything on a NAT, which is a client behind itself."""
    own, server, stranger = (sockets.udp(node) for node in (name, "relay", "alice"))
    own.sendto(b"out", (RELAY, port_of(server)))
    _, seen = server.recvfrom(2048)
    assert seen[0] == lower_address(name)
    stranger.sendto(b"stranger", seen)
    server.sendto(b"answer", seen)
    assert own.recvfrom(2048) == (b"answer", (RELAY, port_of(server)))
    assert take_all(own) == []


def test_segments_that_the_kernel_parts(sockets: Sockets) -> None:
    """One call, many datagrams (UDP_SEGMENT of udp(7)): they pass a NAT while they are one."""
    inside, server = sockets.udp("alice"), sockets.udp("relay")
    inside.sendto(b"out", (RELAY, port_of(server)))
    _, seen = server.recvfrom(2048)
    datagrams = [bytes([number]) * 1200 for number in range(20)]
    for sender, to, receiver in (
        (server, seen, inside),
        (inside, (RELAY, port_of(server)), server),
    ):
        sender.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1200)
        sender.sendto(b"".join(datagrams), to)
        assert [receiver.recv(2048) for _ in datagrams] == datagrams
