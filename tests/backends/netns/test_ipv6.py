"""IPv6 beside IPv4: routed behind a firewall, NPTv6, NAT66, and none; real sockets."""

import socket
from ipaddress import IPv6Address

import pytest

from quicpipe_lab.backends.netns.ipv6 import ipv6_tables
from quicpipe_lab.backends.netns.lab import Lab
from tests.backends.dual_stack import ADDRESSES, TOPOLOGY, address
from tests.backends.netns.remote import Sockets, accepted, output_of, port_of, take_all

pytestmark = pytest.mark.netns

SERVER = address("server")
LIST = "nft --terse list ruleset ip6"


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
    client = sockets.tcp6(host)
    with accepted(sockets.tcp6("server"), client, SERVER) as served:
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


@pytest.mark.nft
def test_kernel_has_what_the_text_says(lab: Lab) -> None:
    for name in ("routed", "open", "prefix", "masks", "office"):
        node = TOPOLOGY.by_name[name]
        text = "\n".join(map(str, ipv6_tables(ADDRESSES, node, "core")))
        loaded = _nft(lab, "server", f"nft -f - && {LIST}", text)
        ours = _nft(lab, name, LIST, "")
        assert ours == loaded
        _nft(lab, "server", "nft flush ruleset", "")


def _nft(lab: Lab, node: str, script: str, text: str) -> str:
    return output_of(lab, node, ["sh", "-c", script], given=text)
