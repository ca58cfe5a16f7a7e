"""Firewalls, and routers upon routers, in virtual time."""

import pytest

from quicpipe_lab.backends.sim.packet import Echo
from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    MappingRefresh,
    NatBehavior,
    UnsolicitedReaction,
)
from quicpipe_lab.model.topology import Firewall, Host, Link, Nat, Topology
from quicpipe_lab.resources import find_topology
from tests.backends.sim.home import Socket
from tests.backends.sim.wiring import Wiring

EIF, ADF, APDF = FilteringBehavior
BOTH, OUTBOUND = MappingRefresh.BOTH, MappingRefresh.OUTBOUND


class Office:
    """A firewall with two hosts behind it, and servers as in a home."""

    def __init__(self, behavior: FirewallBehavior, *, dual_stack: bool = False) -> None:
        ends = (
            ("core", "one"),
            ("core", "two"),
            ("core", "wall"),
            ("wall", "a"),
            ("wall", "b"),
        )
        nodes = (Host("one"), Host("two"), Firewall("wall", behavior), Host("a"), Host("b"))
        topology = Topology("office", nodes, tuple(map(Link, ends)), dual_stack)
        self.wiring = Wiring(topology)
        self.version = 6 if dual_stack else 4
        self.a, self.b, *self.points = (
            self.wiring.udp(name, host=self.wiring.address(name, self.version))
            for name in ("a", "b", "one", "one", "two", "two")
        )

    def out(self, server: int, inside: Socket | None = None) -> bool:
        """Whether it gets there; as it is, for nothing is translated."""
        sender = inside or self.a
        source = self.wiring.passes(sender, self.points[server])
        assert source in (None, sender.address)
        return source is not None

    def into(self, server: int) -> bool:
        """Whether it gets in."""
        return self.wiring.passes(self.points[server], self.a) is not None

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.wiring.clock.run(self.wiring.clock.now + seconds)


@pytest.mark.parametrize("dual_stack", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(
    ("filtering", "let_in"),
    [
        (EIF, [True, True, True, True]),
        (ADF, [True, True, False, False]),
        (APDF, [True, False, False, False]),
    ],
)
def test_filtering(filtering: FilteringBehavior, let_in: list[bool], dual_stack: bool) -> None:
    office = Office(FirewallBehavior(filtering), dual_stack=dual_stack)
    assert not office.into(0)
    assert office.out(0)
    assert [office.into(server) for server in range(4)] == let_in
    assert office.wiring.passes(office.points[0], office.b) is None
    assert office.wiring.passes(office.b, office.a) == office.b.address, "within it all passes"


@pytest.mark.parametrize("refresh", [BOTH, OUTBOUND])
def test_state_ends(refresh: MappingRefresh) -> None:
    office = Office(FirewallBehavior(refresh=refresh, state_lifetime_s=100.0))
    office.out(0)
    office.wait(99.9)
    assert office.into(0)
    office.wait(99.9)
    assert office.into(0) is (refresh is BOTH)
    office.wait(100.0)
    assert not office.into(0)
    assert office.out(0) and office.into(0)


@pytest.mark.parametrize(
    ("policy", "passes"),
    [
        (UdpPolicy.OPEN, [True, True]),
        (UdpPolicy.ONLY_443, [False, True]),
        (UdpPolicy.BLOCKED, [False, False]),
    ],
)
def test_udp_policies(policy: UdpPolicy, passes: list[bool]) -> None:
    office = Office(FirewallBehavior(udp=policy))
    https = office.wiring.udp("one", 443)
    assert [office.out(0), bool(office.wiring.passes(office.a, https))] == passes
    assert bool(office.wiring.passes(https, office.a)) is passes[1]


@pytest.mark.parametrize("dual_stack", [False, True], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize(
    ("reaction", "codes"),
    [
        (UnsolicitedReaction.DROP, [None, None]),
        (UnsolicitedReaction.PORT_UNREACHABLE, [(3, 3), (1, 4)]),
        (UnsolicitedReaction.ADMIN_PROHIBITED, [(3, 13), (1, 1)]),
    ],
)
def test_refusals_come_from_the_firewall(
    reaction: UnsolicitedReaction, codes: list[tuple[int, int] | None], dual_stack: bool
) -> None:
    office = Office(FirewallBehavior(unsolicited=reaction), dual_stack=dual_stack)
    assert not office.into(0)
    code = codes[dual_stack]
    errors = office.points[0].errors
    assert [(one.type, one.code) for one in errors] == ([code] if code else [])
    assert all(one.source in office.wiring.network.host("wall").addresses for one in errors)


def test_icmp_passes_where_it_belongs_to_something() -> None:
    """Errors about what went out, and replies to pings that did; no others."""
    office = Office(FirewallBehavior())
    network, replies = office.wiring.network, list[Echo]()
    network.host("a").ping(office.points[0].address.host, replies.append)
    network.host("one").ping(office.a.address.host, replies.append)
    office.wait(0)
    assert [one.destination for one in replies] == [office.a.address.host]
    closed = office.wiring.udp("one")
    closed.close()
    office.a.send(b"anybody there?", closed.address)
    office.wait(0)
    assert len(office.a.errors) == 1


def test_a_reboot_forgets() -> None:
    office = Office(FirewallBehavior())
    office.out(0)
    wall = office.wiring.network.router("wall")
    (state,) = wall.table(office.wiring.clock.now).filters
    assert (state.local, state.remote) == (office.a.address, office.points[0].address)
    assert state.expires_s == 300.0
    wall.reboot()
    assert not wall.table(office.wiring.clock.now).filters
    assert not office.into(0)


def test_firewalls_around_a_nat() -> None:
    """Hosts on both sides of the inner one are the NAT's own, with an external address each."""
    ends = (
        ("core", "one"),
        ("core", "outer"),
        ("outer", "middle"),
        ("middle", "inner"),
        ("inner", "a"),
        ("middle", "b"),
    )
    nodes = (
        Host("one"),
        Firewall("outer"),
        Nat("middle", NatBehavior(external_addresses=2)),
        Firewall("inner"),
        Host("a"),
        Host("b"),
    )
    topology = Topology("around", nodes, tuple(map(Link, ends)))
    wiring = Wiring(topology)
    server, stranger = wiring.udp("one"), wiring.udp("one")
    external = list(map(str, topology.external_addresses["middle"]))
    order = list(map(str, topology.subscribers("middle")))
    for name in ("a", "b"):
        inside = wiring.udp(name)
        seen = wiring.passes(inside, server)
        assert seen is not None
        assert seen.host == external[order.index(inside.address.host)]
        assert not wiring.passes(stranger, inside, seen)
        assert wiring.passes(server, inside, seen) == server.address


def test_two_homes_behind_one_carrier() -> None:
    """Both punch: the homes let in whom they have sent to, the carrier hairpins."""
    wiring = Wiring(find_topology("cgnat"))
    relay, alice, bob = (wiring.udp(name) for name in ("relay", "alice", "bob"))
    to_alice, to_bob = wiring.passes(alice, relay), wiring.passes(bob, relay)
    assert to_alice is not None and to_bob is not None
    assert to_alice.host == to_bob.host == wiring.address("carrier")
    assert to_alice.port // 1024 != to_bob.port // 1024
    assert not wiring.passes(alice, bob, to_bob)
    assert wiring.passes(bob, alice, to_alice) == to_bob
    assert wiring.passes(alice, bob, to_bob) == to_alice


def test_three_layers() -> None:
    """The stricter of each axis, and the carrier's ports."""
    wiring = Wiring(find_topology("three-layers"))
    alice, relay, same_host = (wiring.udp(name) for name in ("alice", "relay", "relay"))
    seen = wiring.passes(alice, relay)
    assert seen is not None
    assert seen.host == wiring.address("carrier")
    assert 1024 <= seen.port < 2048
    assert not wiring.passes(same_host, alice, seen)
    assert wiring.passes(relay, alice, seen) == relay.address
