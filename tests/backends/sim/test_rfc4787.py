"""RFC 4787's requirements, and those of RFC 6888, RFC 5508 and RFC 7422, in the simulator.

The packet sequences are in nat_plays.py: those that take no time are played on the kernel as well
(test_nat_plays.py there). REQ-10 (application gateways) is about what no NAT here has. None keeps
REQ-13 (an ICMP error about a packet that is too big): a narrow link is a black hole, as in RFC 2923
(model/link.py).
"""

import pytest

from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat import (
    AddressPooling,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)
from quicpipe_lab.model.topology import Nat
from quicpipe_lab.resources import find_topology, topology_names
from tests.backends.nat_plays import ADF, APDM, EIF, EIM, LINUX, PLAYS, PRESERVING
from tests.backends.nat_script import Script
from tests.backends.sim.home import Home, SimScene

NAMES = [name for name, _, _ in PLAYS]


@pytest.mark.parametrize(("behavior", "play"), [one[1:] for one in PLAYS], ids=NAMES)
def test_play(behavior: NatBehavior, play: str) -> None:
    Script(SimScene(behavior)).play(play)


@pytest.mark.parametrize("ports", [PortAssignment.RANDOM, PRESERVING, PortAssignment.SEQUENTIAL])
def test_req_2_paired(ports: PortAssignment) -> None:
    """An inside address has one external address, whatever the port and the destination."""
    home = Home(NatBehavior(APDM, port_assignment=ports, external_addresses=3))
    for place, make in enumerate((home.a, home.b)):
        seen = [home.external(make(), point).host for point in home.points * 3]
        assert set(seen) == {home.addresses[place]}


def test_req_2_arbitrary() -> None:
    """Each mapping has the next, and keeps it."""
    pooling = AddressPooling.ARBITRARY
    home = Home(NatBehavior(external_addresses=3, pooling=pooling))
    inside = [home.a() if number % 2 else home.b() for number in range(6)]
    seen = [home.external(one, home.points[0]) for one in inside]
    assert [one.host for one in seen] == home.addresses * 2
    assert [home.external(one, home.points[3]) for one in inside] == seen


@pytest.mark.parametrize("ports", [PortAssignment.RANDOM, PRESERVING])
def test_req_4_parity(ports: PortAssignment) -> None:
    """Under collisions too, as both hosts use the same ports."""
    home = Home(NatBehavior(port_assignment=ports, port_parity=True))
    seen = set()
    for port in range(33000, 33020):
        for make in (home.a, home.b):
            external = home.external(make(port), home.points[0])
            assert external.port % 2 == port % 2
            seen.add(external)
    assert len(seen) == 40


def test_req_11_a_collision_changes_no_behaviour() -> None:
    """The filter of a host that did not get its port is as strict as that of one that did."""
    Script(SimScene(NatBehavior(EIM, ADF, PRESERVING))).play(
        "a:5000>1 X; b:5000>1 Y; b>2 Y; b>3 Y; b>4 Y; 2>b@1 in; 2>a@1 in; 3>a@1 -"
    )


@pytest.mark.parametrize("name", topology_names())
def test_req_7_inside_and_outside_do_not_conflict(name: str) -> None:
    """Its first way: addresses inside a NAT are none of the network outside of it."""
    topology = find_topology(name)
    for nat in (one.name for one in topology.nodes if isinstance(one, Nat)):
        outside = topology.uplinks[nat].network
        assert not any(outside.overlaps(one.network) for one in topology.children(nat))


@pytest.mark.parametrize("behavior", [NatBehavior(), LINUX])
def test_req_13_is_not_kept(behavior: NatBehavior) -> None:
    """What a narrow link drops, nobody is told of; what fits passes."""
    home = Home(behavior, wan=LinkBehavior(mtu_bytes=1000))
    inside = home.a()
    inside.send(bytes(973), home.points[0].address)
    inside.send(bytes(972), home.points[0].address)
    home.settle()
    assert [len(data) for data, _ in home.points[0].came] == [972]
    assert not inside.errors


@pytest.mark.parametrize("behavior", [NatBehavior(), LINUX, NatBehavior(APDM, EIF)])
def test_req_14_fragments_are_refused_by_name(behavior: NatBehavior) -> None:
    home = Home(behavior)
    with pytest.raises(UnsupportedBehaviorError, match="IP fragments"):
        home.a().send(bytes(1473), home.points[0].address)
    home.a().send(bytes(1472), home.points[0].address)
    home.settle()
    assert [len(data) for data, _ in home.points[0].came] == [1472]


def test_rfc_7422_the_port_tells_the_subscriber() -> None:
    home = Home(NatBehavior(port_assignment=PortAssignment.BLOCK, port_block_size=64))
    for make, first in ((home.a, 1024), (home.b, 1088)):
        ports = {home.external(make(), home.points[0]).port for _ in range(20)}
        assert len(ports) == 20
        assert ports <= set(range(first, first + 64))


@pytest.mark.parametrize(
    ("reaction", "code"),
    [
        (UnsolicitedReaction.DROP, None),
        (UnsolicitedReaction.PORT_UNREACHABLE, (3, 3)),
        (UnsolicitedReaction.ADMIN_PROHIBITED, (3, 13)),
    ],
)
def test_what_is_refused_is_told_so_and_leaves_nothing(
    reaction: UnsolicitedReaction, code: tuple[int, int] | None
) -> None:
    home = Home(NatBehavior(port_assignment=PRESERVING, unsolicited=reaction))
    inside, stranger = home.a(5000), home.points[3]
    for _ in range(2):  # before there is a mapping, and past its filter
        stranger.errors.clear()
        assert not home.arrives(stranger, inside, home.outside(5000))
        assert [(one.type, one.code) for one in stranger.errors] == ([code] if code else [])
        assert all(one.source == home.wan for one in stranger.errors)
        assert home.external(inside, home.points[0]) == home.outside(5000)


def test_plain_linux_and_the_early_datagram() -> None:
    """DESIGN.md, trap 1: it is answered, and takes the port away, for as long as it is young."""
    home = Home(LINUX)
    inside, stranger = home.a(5000), home.points[3]
    assert not home.arrives(stranger, inside, home.outside(5000))
    assert [(one.type, one.code) for one in stranger.errors] == [(3, 3)]
    assert home.external(inside, home.points[0]) == home.outside(5000)
    moved = home.external(inside, stranger)
    assert moved.port != 5000
    assert not home.arrives(stranger, inside, home.outside(5000))
    assert home.arrives(stranger, inside, moved)
    assert home.external(inside, home.points[2]) == moved, "conntrack's last choice comes first"
    home.wait(121)
    assert home.external(inside, stranger) == home.outside(5000)
