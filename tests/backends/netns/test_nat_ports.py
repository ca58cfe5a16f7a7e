"""Which port a mapping gets, on the real kernel: RFC 4787 4.2, RFC 7422, RFC 6888."""

import socket
import time

import pytest

from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.nat import MappingBehavior, NatBehavior, PortAssignment
from quicpipe_lab.model.nat_presets import PRESETS
from tests.backends.netns.nat_scene import Home, homes, wait_while
from tests.backends.netns.remote import Sockets, port_of, take_all

pytestmark = pytest.mark.netns

SEQUENTIAL, RANDOM = PortAssignment.SEQUENTIAL, PortAssignment.RANDOM
PRESERVING, BLOCK = PortAssignment.PRESERVING, PortAssignment.BLOCK
APDM = MappingBehavior.ADDRESS_AND_PORT_DEPENDENT
BRIEF_S = 1.0
EIGHT = (40000, 40007)

BEHAVIORS = {
    "step-1": NatBehavior(port_assignment=SEQUENTIAL),
    "step-4": NatBehavior(port_assignment=SEQUENTIAL, port_step=4, port_range=(5001, 9000)),
    "step-apdm": NatBehavior(APDM, port_assignment=SEQUENTIAL, port_step=2),
    "brief": NatBehavior(
        port_assignment=SEQUENTIAL, port_range=(40000, 40003), mapping_lifetime_s=BRIEF_S
    ),
    "eight": NatBehavior(port_range=EIGHT),
    "eight-apdm": NatBehavior(APDM, port_range=EIGHT, port_assignment=PRESERVING),
    "keeps-range": NatBehavior(port_assignment=PRESERVING, port_range=(20000, 20999)),
    "parity": NatBehavior(port_parity=True),
    "keeps-parity": NatBehavior(port_assignment=PRESERVING, port_parity=True),
    "step-parity": NatBehavior(port_assignment=SEQUENTIAL, port_step=2, port_parity=True),
    "block": NatBehavior(port_assignment=BLOCK, port_block_size=64),
    "block-parity": NatBehavior(port_assignment=BLOCK, port_block_size=63, port_parity=True),
    "limit": NatBehavior(mappings_per_subscriber=3),
    "limit-apdm": NatBehavior(APDM, mappings_per_subscriber=3),
    "overloading": NatBehavior(port_assignment=PortAssignment.PRESERVING_OVERLOADING),
    "linux": PRESETS["linux-masquerade"],
}
TOPOLOGY = homes(BEHAVIORS)


@pytest.mark.parametrize(("name", "step"), [("step-1", 1), ("step-4", 4)])
def test_sequential(sockets: Sockets, name: str, step: int) -> None:
    home = Home(sockets, TOPOLOGY, name)
    inside = [home.a() if index % 2 else home.b() for index in range(6)]
    ports = [home.port(one, home.one) for one in inside]
    assert ports == [ports[0] + index * step for index in range(6)]
    assert [home.port(one, home.two) for one in inside] == ports
    first, last = BEHAVIORS[name].port_range
    assert (ports[0] - first) % step == 0
    assert first <= ports[0] and ports[-1] <= last


def test_sequential_by_destination(sockets: Sockets) -> None:
    home = Home(sockets, TOPOLOGY, "step-apdm")
    inside = home.a()
    first = home.port(inside, home.one)
    assert home.port(inside, home.two) == first + 2
    assert home.port(inside, home.one) == first


def test_sequential_passes_over_ports_in_use_and_begins_again(sockets: Sockets) -> None:
    home = Home(sockets, TOPOLOGY, "brief")
    inside = [home.a() for _ in range(4)]
    first, *others = (home.port(one, home.one) for one in inside)
    assert [first, *others] == [40000, 40001, 40002, 40003]
    until_s = time.monotonic() + 1.5 * BRIEF_S

    def keep_second() -> bool:
        assert home.port(inside[1], home.one) == 40001
        return time.monotonic() < until_s

    wait_while(keep_second, inside[1])
    assert [home.port(home.b(), home.one) for _ in range(3)] == [40000, 40002, 40003]


def test_range_to_its_last_port(sockets: Sockets) -> None:
    home = Home(sockets, TOPOLOGY, "eight")
    inside = [home.a() for _ in range(4)] + [home.b() for _ in range(4)]
    ports = set()
    for one in inside:
        while not home.gets_out(one, home.one, inside[0]):
            take_all(home.one)
        ports.add(home.port(one, home.two))
    assert ports == set(range(EIGHT[0], EIGHT[1] + 1))
    assert not home.gets_out(home.a(), home.one, inside[0])


def test_range_with_a_port_for_each_destination(sockets: Sockets) -> None:
    """REQ-3 with a wish for one port: the first mapping has it, the others have others."""
    home = Home(sockets, TOPOLOGY, "eight-apdm")
    inside = home.a(40003)
    ports = [home.port(inside, home.one), home.port(inside, home.two)]
    assert ports[0] == 40003
    assert ports[1] in set(range(EIGHT[0], EIGHT[1] + 1)) - {40003}


def test_preserving_within_a_range(sockets: Sockets) -> None:
    home = Home(sockets, TOPOLOGY, "keeps-range")
    assert home.port(home.a(20123), home.one) == 20123
    assert home.port(home.a(20999), home.one) == 20999
    other = home.port(home.b(20123), home.one)
    assert other != 20123
    assert 20000 <= other <= 20999
    assert 20000 <= home.port(home.a(21000), home.one) <= 20999


def test_low_inside_ports_get_ports_of_the_range(sockets: Sockets) -> None:
    for name in ("limit", "keeps-parity"):
        home = Home(sockets, TOPOLOGY, name)
        assert home.port(home.b(500), home.one) >= 1024


@pytest.mark.parametrize("name", ["parity", "keeps-parity", "step-parity", "block-parity"])
def test_parity(sockets: Sockets, name: str) -> None:
    """REQ-4; collisions too, as both hosts use the same inside ports."""
    home = Home(sockets, TOPOLOGY, name)
    seen = {}
    for port in range(33000, 33008):
        for host in (home.a, home.b):
            external = home.port(host(port), home.one)
            assert external % 2 == port % 2
            seen[external] = port
    assert len(seen) == 16
    if name == "keeps-parity":
        assert all(port in seen for port in range(33000, 33008))


def test_blocks(sockets: Sockets) -> None:
    """RFC 7422: the port tells the subscriber."""
    home = Home(sockets, TOPOLOGY, "block")
    a = {home.port(home.a(), home.one) for _ in range(8)}
    b = {home.port(home.b(), home.one) for _ in range(8)}
    assert len(a) == len(b) == 8
    assert a <= set(range(1024, 1024 + 64))
    assert b <= set(range(1024 + 64, 1024 + 128))


def test_limit_of_mappings(sockets: Sockets) -> None:
    home = Home(sockets, TOPOLOGY, "limit")
    inside = [home.a() for _ in range(3)]
    ports = [home.port(one, home.one) for one in inside]
    assert not home.gets_out(home.a(), home.one, inside[0])
    assert [home.port(one, home.two) for one in inside] == ports
    home.port(home.b(), home.one)


def test_limit_of_mappings_counts_destinations_where_they_have_mappings(sockets: Sockets) -> None:
    home = Home(sockets, TOPOLOGY, "limit-apdm")
    inside, third = home.a(), sockets.udp("one")
    home.port(inside, home.one)
    home.port(inside, home.two)
    home.port(home.a(), home.one)
    inside.sendto(b"one too many", (home.at(home.one)[0], port_of(third)))
    home.port(inside, home.one)
    assert take_all(third) == []


@pytest.mark.parametrize("name", ["overloading", "linux"])
def test_overloading(sockets: Sockets, name: str) -> None:
    """RFC 4787, 4.2.1: one external port for two hosts, as long as their remote ends differ."""
    home = Home(sockets, TOPOLOGY, name)
    a = home.a()
    b = home.b(port_of(a))
    assert home.port(a, home.one) == home.port(b, home.two) == port_of(a)
    home.one.sendto(b"to a", (home.wan, port_of(a)))
    home.two.sendto(b"to b", (home.wan, port_of(a)))
    assert (a.recv(100), b.recv(100)) == (b"to a", b"to b")
    assert home.port(b, home.one) != port_of(a)
    assert home.port(a, home.one) == port_of(a)


@pytest.mark.parametrize(
    ("behavior", "said"),
    [
        (NatBehavior(port_contiguity=True), "RFC 4787, 4.2.3"),
        (NatBehavior(port_assignment=SEQUENTIAL, port_step=3), "port_step of 3"),
        (NatBehavior(port_assignment=BLOCK, port_block_size=40000), "RFC 7422"),
        (NatBehavior(answered_lifetime_s=120.0), "answered_lifetime_s"),
        (
            NatBehavior(
                port_assignment=PortAssignment.PRESERVING_OVERLOADING, mappings_per_subscriber=5
            ),
            "RFC 4787, 4.2.1",
        ),
    ],
)
def test_what_nftables_cannot_do_is_refused(behavior: NatBehavior, said: str) -> None:
    with pytest.raises(UnsupportedBehaviorError, match=said):
        Lab(homes({"x": behavior})).up()


def test_sockets_of_one_host_have_ports_of_their_own(sockets: Sockets) -> None:
    """Every assignment that REQ-3 allows: no two endpoints share a port."""
    for name in ("step-1", "parity", "keeps-range", "block"):
        home = Home(sockets, TOPOLOGY, name)
        inside: list[socket.socket] = [home.a() for _ in range(5)]
        assert len({home.port(one, home.one) for one in inside}) == 5, name
