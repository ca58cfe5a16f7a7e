"""What becomes of datagrams that nobody asked for, from outside and from inside (hairpins)."""

import errno
import socket

import pytest

from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    MappingBehavior,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)
from quicpipe_lab.model.nat_presets import PRESETS
from tests.backends.netns.nat_scene import Home, homes
from tests.backends.netns.remote import IP_RECVERR, Sockets, port_of, take_all

pytestmark = pytest.mark.netns

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior
PORT_UNREACHABLE, ADMIN_PROHIBITED = 3, 13
DESTINATION_UNREACHABLE = 3

REFUSING = {
    f"{reaction}-{cell}": (
        NatBehavior(*cells, PortAssignment.PRESERVING, unsolicited=reaction),
        code,
    )
    for reaction, code in (
        (UnsolicitedReaction.PORT_UNREACHABLE, PORT_UNREACHABLE),
        (UnsolicitedReaction.ADMIN_PROHIBITED, ADMIN_PROHIBITED),
    )
    for cell, cells in (("home", (EIM, APDF)), ("hard", (APDM, ADF)))
}
EXTERNAL = {
    f"ext-{mapping}-{filtering}-{scope}".lower(): NatBehavior(
        mapping, filtering, filter_scope=scope, hairpinning=Hairpinning.EXTERNAL_SOURCE
    )
    for mapping in MappingBehavior
    for filtering in FilteringBehavior
    for scope in FilterScope
}
BEHAVIORS = {
    **{name: behavior for name, (behavior, _) in REFUSING.items()},
    **EXTERNAL,
    "internal": NatBehavior(hairpinning=Hairpinning.INTERNAL_SOURCE),
    "internal-2": NatBehavior(hairpinning=Hairpinning.INTERNAL_SOURCE, external_addresses=2),
    "external-2": NatBehavior(
        filtering=EIF, hairpinning=Hairpinning.EXTERNAL_SOURCE, external_addresses=2
    ),
    "refusing": NatBehavior(
        hairpinning=Hairpinning.EXTERNAL_SOURCE, unsolicited=UnsolicitedReaction.ADMIN_PROHIBITED
    ),
    "linux": PRESETS["linux-masquerade"],
}
TOPOLOGY = homes(BEHAVIORS)


def icmp_error(raw: socket.socket) -> tuple[str, int, int]:
    """Who sent the next ICMP error that a raw socket gets, its code, and the port it is about."""
    while True:
        packet, (host, _) = raw.recvfrom(2048)
        message = packet[(packet[0] & 0x0F) * 4 :]
        if message[0] == DESTINATION_UNREACHABLE:
            inner = message[8:]
            udp = inner[(inner[0] & 0x0F) * 4 :]
            return host, message[1], int.from_bytes(udp[2:4], "big")


@pytest.mark.parametrize("name", REFUSING)
def test_icmp_errors(sockets: Sockets, name: str) -> None:
    """Without a mapping and past one; the NAT remembers neither."""
    _, code = REFUSING[name]
    home = Home(sockets, TOPOLOGY, name)
    inside, raw = home.a(), sockets.icmp("two")
    home.two.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    home.two.sendto(b"unsolicited", (home.wan, port_of(inside)))
    assert icmp_error(raw) == (home.wan, code, port_of(inside))
    refused = home.two.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    home.two.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 0)
    assert refused == (errno.ECONNREFUSED if code == PORT_UNREACHABLE else errno.EHOSTUNREACH)
    assert home.port(inside, home.one) == port_of(inside)
    assert not home.gets_in(home.two, inside, (home.wan, port_of(inside)))
    assert icmp_error(raw) == (home.wan, code, port_of(inside))
    other = home.a()
    home.two.sendto(b"unsolicited", (home.wan, port_of(other)))
    icmp_error(raw)
    assert home.port(other, home.two) == port_of(other)


def test_plain_linux_loses_the_port_to_an_unsolicited_datagram(sockets: Sockets) -> None:
    """The bug that breaks punching "at random": reproduced, with its ICMP error."""
    home = Home(sockets, TOPOLOGY, "linux")
    inside, raw = home.a(), sockets.icmp("two")
    home.two.sendto(b"too early", (home.wan, port_of(inside)))
    assert icmp_error(raw) == (home.wan, PORT_UNREACHABLE, port_of(inside))
    assert home.port(inside, home.one) == port_of(inside)
    assert home.port(inside, home.two) != port_of(inside)


def test_plain_linux_keeps_the_port_otherwise(sockets: Sockets) -> None:
    home = Home(sockets, TOPOLOGY, "linux")
    inside = home.a()
    assert home.port(inside, home.one) == home.port(inside, home.two) == port_of(inside)
    assert home.gets_in(home.two, inside, (home.wan, port_of(inside)))
    stranger = sockets.udp("two")
    assert not home.gets_in(stranger, inside, (home.wan, port_of(inside)))


@pytest.mark.parametrize("name", ["internal", "internal-2"])
def test_hairpin_with_internal_source(sockets: Sockets, name: str) -> None:
    home = Home(sockets, TOPOLOGY, name)
    a, b = home.a(), home.b()
    b.sendto(b"hairpin", home.external(a, home.one))
    assert a.recvfrom(100) == (b"hairpin", (home.b_address, port_of(b)))
    a.sendto(b"answer", home.external(b, home.one))
    assert b.recvfrom(100) == (b"answer", (home.a_address, port_of(a)))


@pytest.mark.parametrize("name", EXTERNAL)
def test_hairpin_with_external_source(sockets: Sockets, name: str) -> None:
    """REQ-9: as if both were outside. Mapping and filter hold for such datagrams too."""
    behavior = BEHAVIORS[name]
    home = Home(sockets, TOPOLOGY, name)
    a, b = home.a(), home.b()
    to_a, to_b = home.external(a, home.one), home.external(b, home.one)
    b.sendto(b"to a", to_a)
    a.sendto(b"to b", to_b)
    b.sendto(b"to a again", to_a)
    home.one.sendto(b"fence", to_a)
    home.one.sendto(b"fence", to_b)
    at_a, at_b = arrivals(a), arrivals(b)
    # b's first comes before a has sent to it, and a's and b's second after.
    by_known_mapping = behavior.filter_scope is FilterScope.ENDPOINT or behavior.mapping is EIM
    let_in = {EIF: True, ADF: by_known_mapping, APDF: behavior.mapping is EIM}
    opened = let_in[behavior.filtering]
    assert [data for data, _ in at_a] == [b"to a"] * (behavior.filtering is EIF) + [
        b"to a again"
    ] * opened
    assert [data for data, _ in at_b] == [b"to b"] * opened
    for source, mapped in [(s, to_b) for _, s in at_a] + [(s, to_a) for _, s in at_b]:
        assert source[0] == home.wan
        assert (source == mapped) is (behavior.mapping is EIM)


def arrivals(sock: socket.socket) -> list[tuple[bytes, tuple[str, int]]]:
    """What comes before the fence."""
    came = [sock.recvfrom(2048)]
    while came[-1][0] != b"fence":
        came.append(sock.recvfrom(2048))
    assert take_all(sock) == []
    return came[:-1]


def test_hairpin_with_several_addresses(sockets: Sockets) -> None:
    home = Home(sockets, TOPOLOGY, "external-2")
    a, b = home.a(), home.b()
    to_a, to_b = home.external(a, home.one), home.external(b, home.one)
    assert to_a[0] != to_b[0]
    b.sendto(b"hairpin", to_a)
    assert a.recvfrom(100) == (b"hairpin", to_b)
    a.sendto(b"answer", to_b)
    assert b.recvfrom(100) == (b"answer", to_a)


def test_a_host_reaches_itself_by_its_external_endpoint(sockets: Sockets) -> None:
    home = Home(sockets, TOPOLOGY, "ext-eim-eif-endpoint")
    a = home.a()
    external = home.external(a, home.one)
    a.sendto(b"to myself", external)
    assert a.recvfrom(100) == (b"to myself", external)


def test_refused_hairpins_are_told_the_sender(sockets: Sockets) -> None:
    """The error is about a translated datagram, and finds its inside host all the same."""
    home = Home(sockets, TOPOLOGY, "refusing")
    a, b, raw = home.a(), home.b(), sockets.icmp(f"a-{home.name}")
    to_b = home.external(b, home.one)
    a.sendto(b"nobody has the port", (home.wan, 999))
    assert icmp_error(raw) == (home.wan, ADMIN_PROHIBITED, 999)
    a.sendto(b"past the filter", to_b)
    assert icmp_error(raw) == (home.wan, ADMIN_PROHIBITED, to_b[1])
    assert take_all(b) == []


def test_hairpins_that_lead_nowhere(sockets: Sockets) -> None:
    """A port that nobody has; and the NAT itself still answers what is not UDP."""
    home = Home(sockets, TOPOLOGY, "ext-eim-eif-endpoint")
    a, b = home.a(), home.b()
    external = home.external(a, home.one)
    b.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    b.sendto(b"nobody", (home.wan, 1023))
    b.sendto(b"fence", external)
    assert a.recv(100) == b"fence"
    assert b.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    refused = sockets.tcp(f"a-{home.name}")
    with pytest.raises(ConnectionRefusedError):
        refused.connect((home.wan, 1023))
