"""IPv6 beside IPv4: routed behind a firewall, NPTv6, NAT66, and none; real sockets."""

import os
import shutil
import socket
from collections.abc import Iterator
from ipaddress import IPv6Address

import pytest

from quicpipe_lab.backends.netns.ipv6 import ipv6_tables
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    Ipv6Behavior,
    NatBehavior,
    UnsolicitedReaction,
)
from quicpipe_lab.model.topology import Firewall, Host, Link, Nat, Topology
from tests.backends.netns.remote import DEADLINE_S, Sockets, port_of, sockets_of, take_all

pytestmark = pytest.mark.netns

NONE, ROUTED, NPTV6, NAT66, NAT64 = Ipv6Behavior
TOPOLOGY = Topology(
    "six",
    (
        Host("server"),
        Host("stranger"),
        Nat("routed"),
        Host("a-routed"),
        Nat(
            "open",
            NatBehavior(
                filtering=FilteringBehavior.ENDPOINT_INDEPENDENT,
                unsolicited=UnsolicitedReaction.PORT_UNREACHABLE,
            ),
        ),
        Host("a-open"),
        Nat("prefix", NatBehavior(ipv6=NPTV6)),
        Firewall("within"),
        Host("a-prefix"),
        Host("b-prefix"),
        Nat("masks", NatBehavior(ipv6=NAT66)),
        Host("a-masks"),
        Nat("without", NatBehavior(ipv6=NONE)),
        Host("a-without"),
        Firewall("office"),
        Nat("inner"),
        Host("a-inner"),
    ),
    tuple(
        Link(ends)
        for ends in (
            ("core", "server"),
            ("core", "stranger"),
            ("core", "routed"),
            ("routed", "a-routed"),
            ("core", "open"),
            ("open", "a-open"),
            ("core", "prefix"),
            ("prefix", "within"),
            ("within", "a-prefix"),
            ("prefix", "b-prefix"),
            ("core", "masks"),
            ("masks", "a-masks"),
            ("core", "without"),
            ("without", "a-without"),
            ("core", "office"),
            ("office", "inner"),
            ("inner", "a-inner"),
        )
    ),
    dual_stack=True,
)
ADDRESSES = Ipv6Addresses(TOPOLOGY)


def address(name: str) -> str:
    return str(ADDRESSES.uplinks[name].lower_address)


SERVER = address("server")
LIST = "nft --terse list ruleset ip6"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(TOPOLOGY) as lab:
        yield lab


@pytest.fixture
def sockets(lab: Lab) -> Iterator[Sockets]:
    with sockets_of(lab) as made:
        yield made


def seen_by(server: socket.socket, inside: socket.socket) -> tuple[str, int]:
    inside.sendto(b"out", (SERVER, port_of(server)))
    data, (host, port, *_) = server.recvfrom(100)
    assert data == b"out"
    return host, port


@pytest.mark.parametrize("host", ["a-routed", "a-inner"])
def test_routed_behind_a_stateful_firewall(sockets: Sockets, host: str) -> None:
    inside, server, stranger = (sockets.udp6(name) for name in (host, "server", "stranger"))
    to_inside = (address(host), port_of(inside))
    stranger.sendto(b"unsolicited", to_inside)
    assert seen_by(server, inside) == to_inside
    stranger.sendto(b"stranger", to_inside)
    server.sendto(b"answer", to_inside)
    assert inside.recvfrom(100)[0] == b"answer"
    assert take_all(inside) == []


def test_filtering_is_the_nats(sockets: Sockets) -> None:
    """EIF here: nobody before the inside endpoint has sent, and everybody then."""
    inside, server, stranger = (sockets.udp6(name) for name in ("a-open", "server", "stranger"))
    to_inside = (address("a-open"), port_of(inside))
    stranger.connect(to_inside)
    stranger.send(b"unsolicited")
    with pytest.raises(ConnectionRefusedError):
        stranger.recv(100)
    assert seen_by(server, inside) == to_inside
    stranger.send(b"stranger")
    assert inside.recvfrom(100)[0] == b"stranger"


def test_nptv6(sockets: Sockets) -> None:
    """RFC 6296: one prefix for the other, in both directions, whoever begins."""
    inside, outside = ADDRESSES.prefixes("prefix")
    mine = IPv6Address(address("b-prefix"))
    assert mine in inside
    theirs = IPv6Address(
        int(outside.network_address) | (int(mine) & ((1 << (128 - outside.prefixlen)) - 1))
    )
    host, server, stranger = (sockets.udp6(name) for name in ("b-prefix", "server", "stranger"))
    stranger.sendto(b"first", (str(theirs), port_of(host)))
    data, (source, *_) = host.recvfrom(100)
    assert (data, source) == (b"first", address("stranger"))
    assert seen_by(server, host) == (str(theirs), port_of(host))
    server.sendto(b"answer", (str(theirs), port_of(host)))
    assert host.recvfrom(100)[1][0] == SERVER


def test_nptv6_hairpin_and_what_lies_behind_a_firewall(sockets: Sockets) -> None:
    """RFC 6296, 4.3."""
    a, b, server = (sockets.udp6(name) for name in ("a-prefix", "b-prefix", "server"))
    to_a, to_b = seen_by(server, a), seen_by(server, b)
    for seen in (to_a, to_b):
        assert IPv6Address(seen[0]) in ADDRESSES.prefixes("prefix")[1]
    a.sendto(b"hairpin", to_b)
    data, source = b.recvfrom(100)
    assert (data, source[:2]) == (b"hairpin", to_a)
    b.sendto(b"answer", to_a)
    data, source = a.recvfrom(100)
    assert (data, source[:2]) == (b"answer", to_b)


def test_nat66(sockets: Sockets) -> None:
    inside, server, stranger = (sockets.udp6(name) for name in ("a-masks", "server", "stranger"))
    seen = seen_by(server, inside)
    assert seen == (address("masks"), port_of(inside))
    stranger.sendto(b"stranger", seen)
    server.sendto(b"answer", seen)
    assert inside.recvfrom(100)[0] == b"answer"
    assert take_all(inside) == []


def test_no_ipv6_behind_a_router_without(sockets: Sockets) -> None:
    with pytest.raises(OSError, match="unreachable"):
        sockets.udp6("a-without").sendto(b"out", (SERVER, 9))
    inside, server = sockets.udp("a-without"), sockets.udp("server")
    inside.sendto(b"ipv4", (str(TOPOLOGY.uplinks["server"].lower_address), port_of(server)))
    assert server.recv(100) == b"ipv4"


@pytest.mark.parametrize("host", ["a-routed", "b-prefix", "a-masks", "a-inner"])
def test_tcp_goes_out_and_both_stacks_work(sockets: Sockets, host: str) -> None:
    listener, client = sockets.tcp6("server"), sockets.tcp6(host)
    listener.listen()
    client.connect((SERVER, port_of(listener)))
    served, _ = listener.accept()
    with served:
        served.settimeout(DEADLINE_S)
        served.sendall(b"six")
        assert client.recv(100) == b"six"
    inside, server = sockets.udp(host), sockets.udp("server")
    inside.sendto(b"four", (str(TOPOLOGY.uplinks["server"].lower_address), port_of(server)))
    assert server.recv(100) == b"four"


def test_a_cut_cuts_both(lab: Lab, sockets: Sockets) -> None:
    inside, server = sockets.udp6("a-routed"), sockets.udp6("server")
    other = sockets.udp6("a-open")
    lab.cut("a-routed", "server")
    inside.sendto(b"lost", (SERVER, port_of(server)))
    assert seen_by(server, other)[0] == address("a-open")
    assert take_all(server) == []
    lab.restore("a-routed", "server")
    assert seen_by(server, inside)[0] == address("a-routed")


@pytest.mark.skipif(shutil.which("nft") is None, reason="nft is not installed (package nftables)")
def test_kernel_has_what_the_text_says(lab: Lab) -> None:
    for name in ("routed", "open", "prefix", "masks", "office"):
        node = TOPOLOGY.by_name[name]
        text = "\n".join(map(str, ipv6_tables(ADDRESSES, node, "core")))
        loaded = _nft(lab, "server", f"nft -f - && {LIST}", text)
        ours = _nft(lab, name, LIST, "")
        assert ours == loaded
        _nft(lab, "server", "nft flush ruleset", "")


def _nft(lab: Lab, node: str, script: str, text: str) -> str:
    ours, theirs = os.pipe()
    given = os.memfd_create("text")
    os.write(given, text.encode())
    os.lseek(given, 0, os.SEEK_SET)
    process = lab.spawn(node, ["sh", "-c", script], stdin=given, stdout=theirs)
    os.close(given)
    os.close(theirs)
    with os.fdopen(ours) as file:
        listing = file.read()
    assert process.wait(DEADLINE_S) == 0
    process.close()
    return listing
