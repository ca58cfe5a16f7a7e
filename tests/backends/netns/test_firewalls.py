"""Firewalls, and routers upon routers: real sockets on the bundled topologies and a few more."""

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from quicpipe_lab.backends.netns.firewall_rules import firewall_table
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    MappingRefresh,
    NatBehavior,
    UnsolicitedReaction,
)
from quicpipe_lab.model.topology import Firewall, Host, Link, Nat, Topology
from quicpipe_lab.resources import find_topology
from tests.backends.netns.remote import (
    IP_RECVERR,
    Sockets,
    accepted,
    port_of,
    sockets_of,
    take_all,
)

pytestmark = pytest.mark.netns

LIFETIME_S = 1.0
EIF, ADF, APDF = FilteringBehavior
BUNDLED = find_topology("firewalls")

GOLDEN = """\
table ip firewall {
    set contacted { type ipv4_addr . inet_service . ipv4_addr . inet_service; size 65535; flags dynamic,timeout; timeout 300s; }
    chain forward {
        type filter hook forward priority 10; policy accept;
        oifname "core" meta l4proto udp udp dport != 443 drop
        oifname "core" meta l4proto udp update @contacted { ip saddr . udp sport . ip daddr . udp dport }
        iifname "core" meta l4proto udp ip daddr . udp dport . ip saddr . udp sport @contacted update @contacted { ip daddr . udp dport . ip saddr . udp sport } accept
        iifname "core" meta l4proto udp drop
        iifname "core" ct state established,related accept
        iifname "core" drop
    }
}"""  # noqa: E501

# Filters of each kind, a firewall in front of a NAT and behind one, and one that refuses.
TOPOLOGY = Topology(
    "more",
    (
        Host("one"),
        Host("two"),
        Firewall("f-eif", FirewallBehavior(EIF)),
        Host("h-eif"),
        Firewall("f-adf", FirewallBehavior(ADF)),
        Host("h-adf"),
        Firewall(
            "brief",
            FirewallBehavior(
                state_lifetime_s=LIFETIME_S,
                refresh=MappingRefresh.OUTBOUND,
                unsolicited=UnsolicitedReaction.ADMIN_PROHIBITED,
            ),
        ),
        Host("h-brief"),
        Firewall("outer"),
        Nat("middle", NatBehavior(external_addresses=2)),
        Firewall("inner"),
        Host("h-inner"),
        Host("h-middle"),
    ),
    tuple(
        Link(ends)
        for ends in (
            ("core", "one"),
            ("core", "two"),
            ("core", "f-eif"),
            ("f-eif", "h-eif"),
            ("core", "f-adf"),
            ("f-adf", "h-adf"),
            ("core", "brief"),
            ("brief", "h-brief"),
            ("core", "outer"),
            ("outer", "middle"),
            ("middle", "inner"),
            ("inner", "h-inner"),
            ("middle", "h-middle"),
        )
    ),
)


@pytest.fixture(scope="module")
def offices() -> Iterator[Lab]:
    with Lab(BUNDLED) as lab:
        yield lab


@pytest.fixture
def office(offices: Lab) -> Iterator[Sockets]:
    with sockets_of(offices) as made:
        yield made


def address(topology: Topology, name: str) -> str:
    return str(topology.uplinks[name].lower_address)


def sent_and_seen(
    inside: socket.socket, server: socket.socket, at: str, data: bytes = b"out"
) -> tuple[str, int]:
    """Whom the server sees."""
    inside.sendto(data, (at, port_of(server)))
    assert server.recv(2048, socket.MSG_PEEK) == data
    _, (host, port) = server.recvfrom(2048)
    return host, port


def test_golden() -> None:
    assert str(firewall_table(FirewallBehavior(udp=UdpPolicy.ONLY_443), "core")) == GOLDEN


def test_stateful_and_translates_nothing(office: Sockets) -> None:
    inside, server, stranger = (office.udp(name) for name in ("alice", "relay", "relay"))
    relay = address(BUNDLED, "relay")
    seen = sent_and_seen(inside, server, relay)
    assert seen == (address(BUNDLED, "alice"), port_of(inside))
    stranger.sendto(b"stranger", seen)
    server.sendto(b"answer", seen)
    assert inside.recvfrom(100) == (b"answer", (relay, port_of(server)))
    assert take_all(inside) == []


def test_udp_only_to_port_443(office: Sockets) -> None:
    relay = address(BUNDLED, "relay")
    inside, https, other = office.udp("carol"), office.udp("relay", 443), office.udp("relay")
    inside.sendto(b"lost", (relay, port_of(other)))
    seen = sent_and_seen(inside, https, relay)
    https.sendto(b"answer", seen)
    assert inside.recv(100) == b"answer"
    assert take_all(other) == []


def test_udp_blocked_and_tcp_not(office: Sockets) -> None:
    relay = address(BUNDLED, "relay")
    inside, server, https = office.udp("dave"), office.udp("relay"), office.udp("relay", 443)
    inside.sendto(b"lost", (relay, port_of(server)))
    inside.sendto(b"lost", (relay, 443))
    client = office.tcp("dave")
    with accepted(office.tcp("relay"), client, relay) as served:
        served.sendall(b"tcp passes")
        assert client.recv(100) == b"tcp passes"
    assert take_all(server) == take_all(https) == []


def test_tcp_does_not_come_in(office: Sockets) -> None:
    listener, client = office.tcp("alice"), office.tcp("relay")
    listener.listen()
    client.settimeout(0.3)
    with pytest.raises(TimeoutError):
        client.connect((address(BUNDLED, "alice"), port_of(listener)))


def test_ping_goes_out(office: Sockets) -> None:
    ping = office.icmp("carol")
    body = struct.pack(">HH", 77, 1)
    checksum = 0xFFFF - (sum(struct.unpack(">2H", body)) + (8 << 8))
    ping.sendto(struct.pack(">BBH", 8, 0, checksum) + body, (address(BUNDLED, "relay"), 0))
    assert ping.recv(2048)[20] == 0


@pytest.mark.parametrize(("name", "port", "other"), [("eif", True, True), ("adf", True, False)])
def test_filtering(sockets: Sockets, name: str, port: bool, other: bool) -> None:
    inside = sockets.udp(f"h-{name}")
    server, same_host, other_host = (sockets.udp(node) for node in ("one", "one", "two"))
    seen = sent_and_seen(inside, server, address(TOPOLOGY, "one"))
    same_host.sendto(b"port", seen)
    other_host.sendto(b"host", seen)
    server.sendto(b"fence", seen)
    came = set()
    while (data := inside.recv(100)) != b"fence":
        came.add(data)
    assert came == {data for data, let_in in ((b"port", port), (b"host", other)) if let_in}


def test_state_ends_and_the_refusal_says_so(sockets: Sockets) -> None:
    inside, server = sockets.udp("h-brief"), sockets.udp("one")
    server.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    seen = sent_and_seen(inside, server, address(TOPOLOGY, "one"))
    server.sendto(b"answer", seen)
    assert inside.recv(100) == b"answer"
    idle = sockets.udp("two")
    idle.settimeout(1.1 * LIFETIME_S)
    with pytest.raises(TimeoutError):
        idle.recv(100)
    server.sendto(b"too late", seen)
    with pytest.raises(OSError) as caught:
        server.recv(100)
    assert caught.value.errno == errno.EHOSTUNREACH
    assert take_all(inside) == []


@pytest.mark.parametrize("host", ["h-inner", "h-middle"])
def test_firewalls_around_a_nat(sockets: Sockets, host: str) -> None:
    """Hosts on both sides of the inner firewall are the NAT's own, with an address each."""
    one = address(TOPOLOGY, "one")
    inside, server, stranger = sockets.udp(host), sockets.udp("one"), sockets.udp("two")
    seen = sent_and_seen(inside, server, one)
    external = list(map(str, TOPOLOGY.external_addresses["middle"]))
    order = list(map(str, TOPOLOGY.subscribers("middle")))
    assert seen[0] == external[order.index(address(TOPOLOGY, host))]
    stranger.sendto(b"stranger", seen)
    server.sendto(b"answer", seen)
    assert inside.recvfrom(100) == (b"answer", (one, port_of(server)))


def test_three_layers_and_homes_behind_one_carrier() -> None:
    """The stricter of each axis, and two homes that meet at the carrier's hairpin."""
    three = find_topology("three-layers")
    with Lab(three) as lab, sockets_of(lab) as made:
        inside, server, same_host = (made.udp(name) for name in ("alice", "relay", "relay"))
        relay = address(three, "relay")
        seen = sent_and_seen(inside, server, relay)
        assert seen[0] == address(three, "carrier")
        assert 1024 <= seen[1] < 1024 + 1024
        same_host.sendto(b"not past the home", seen)
        server.sendto(b"answer", seen)
        assert inside.recvfrom(100) == (b"answer", (relay, port_of(server)))
        assert take_all(inside) == []


def test_two_homes_behind_one_carrier() -> None:
    cgnat = find_topology("cgnat")
    with Lab(cgnat) as lab, sockets_of(lab) as made:
        alice, bob, carol, server = (made.udp(name) for name in ("alice", "bob", "carol", "relay"))
        relay = address(cgnat, "relay")
        to_alice, to_bob = (
            sent_and_seen(one, server, relay, data)
            for one, data in ((alice, b"alice"), (bob, b"bob"))
        )
        assert to_alice[0] == to_bob[0] == address(cgnat, "carrier")
        assert to_alice[1] // 1024 != to_bob[1] // 1024
        # Both punch: the homes let in whom they have sent to, the carrier hairpins.
        alice.sendto(b"from alice", to_bob)
        bob.sendto(b"from bob", to_alice)
        alice.sendto(b"from alice again", to_bob)
        assert alice.recvfrom(100) == (b"from bob", to_bob)
        assert bob.recvfrom(100) == (b"from alice again", to_alice)
        to_carol = sent_and_seen(carol, server, relay)
        carol.sendto(b"opens", to_alice)
        alice.sendto(b"to carol", to_carol)
        carol.sendto(b"to alice", to_alice)
        assert carol.recvfrom(100) == (b"to carol", to_alice)
        assert alice.recvfrom(100) == (b"to alice", to_carol)
