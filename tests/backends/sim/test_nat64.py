"""Homes with IPv6 only, behind NAT64, in virtual time."""

import itertools
from dataclasses import replace

import pytest

from quicpipe_lab.backends.sim.nat64 import INTERFACE
from quicpipe_lab.backends.sim.packet import FIRST_TTL, Echo
from quicpipe_lab.backends.sim.prober import certify
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.check_topology import topology_of
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    Ipv6Behavior,
    MappingBehavior,
    NatBehavior,
)
from quicpipe_lab.model.nat64 import LAB_PREFIX, embed
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.resources import find_topology
from tests.backends.sim.wiring import Wiring

NAT64 = Ipv6Behavior.NAT64
TOPOLOGY = find_topology("nat64")
RELAY = TOPOLOGY.uplinks["relay"].lower_address
BEHAVIORS = {
    **{
        f"{mapping}-{filtering}-{scope}".lower(): NatBehavior(
            mapping, filtering, filter_scope=scope, ipv6=NAT64
        )
        for mapping, filtering, scope in itertools.product(
            MappingBehavior, FilteringBehavior, FilterScope
        )
    },
    **{f"preset-{name}": replace(one, ipv6=NAT64) for name, one in PRESETS.items()},
    "hairpins": NatBehavior(hairpinning=Hairpinning.EXTERNAL_SOURCE, ipv6=NAT64),
    "addresses": NatBehavior(external_addresses=3, ipv6=NAT64),
}


def through_nat64(port: int) -> TransportAddress:
    """The relay's, as an IPv6 host knows it."""
    return TransportAddress(str(embed(LAB_PREFIX, RELAY)), port)


def test_datagrams_go_out_and_the_answers_come_back() -> None:
    wiring = Wiring(TOPOLOGY)
    inside, server = wiring.udp("alice"), wiring.udp("relay")
    to = through_nat64(server.address.port)
    seen = wiring.passes(inside, server, to)
    assert seen is not None
    assert seen.host == str(TOPOLOGY.uplinks["nat-a"].lower_address)
    assert wiring.passes(server, inside, seen) == to
    stranger = wiring.udp("relay")
    assert not wiring.passes(stranger, inside, seen)


def test_where_a_packet_is_seen() -> None:
    """The translator is a hop of its own, as TAYGA is."""
    wiring = Wiring(TOPOLOGY)
    wiring.passes(wiring.udp("alice"), wiring.udp("relay", 9), through_nat64(9))
    seen = [(f.interface, f.direction, f.packet.ttl) for f in wiring.frames if f.node == "nat-a"]
    assert seen == [
        ("alice", "in", FIRST_TTL),
        (INTERFACE, "out", FIRST_TTL - 1),
        (INTERFACE, "in", FIRST_TTL - 2),
        ("core", "out", FIRST_TTL - 3),
    ]


def test_a_socket_that_lives_in_ipv4() -> None:
    wiring = Wiring(TOPOLOGY)
    assert not wiring.network.host("alice").has_ipv4
    inside, server = wiring.udp("alice", through_nat64=True), wiring.udp("relay")
    seen = wiring.passes(inside, server)
    assert seen is not None
    assert wiring.passes(server, inside, seen) == server.address
    with pytest.raises(OSError, match="no route"):
        wiring.udp("alice").send(b"four", server.address)


def test_native_ipv6_passes_beside_it() -> None:
    wiring = Wiring(TOPOLOGY)
    six = next(one for one in wiring.network.host("relay").addresses if ":" in one)
    server, inside = wiring.udp("relay", host=six), wiring.udp("alice")
    assert wiring.passes(inside, server) == inside.address
    assert wiring.passes(server, inside) == server.address
    assert not wiring.passes(wiring.udp("relay", host=six), inside)


def test_pings_and_errors_are_translated() -> None:
    wiring, replies = Wiring(TOPOLOGY), list[Echo]()
    wiring.network.host("alice").ping(through_nat64(0).host, replies.append)
    inside = wiring.udp("alice")
    for to, code in (
        (through_nat64(9), (1, 4)),
        (TransportAddress(str(LAB_PREFIX[1]), 9), (1, 0)),  # 0.0.0.1, to which there is no way
    ):
        inside.errors.clear()
        inside.send(b"?", to)
        wiring.clock.run(wiring.clock.now)
        assert [(one.type, one.code) for one in inside.errors] == [code]
    assert [one.source for one in replies] == [through_nat64(0).host]

    server = wiring.udp("relay")
    seen = wiring.passes(inside, server, through_nat64(server.address.port))
    inside.close()
    assert seen is not None
    server.send(b"?", seen)
    wiring.clock.run(wiring.clock.now)
    assert [(one.type, one.code, one.source) for one in server.errors] == [(3, 3, seen.host)]


def test_what_is_too_long_in_ipv6_is_refused() -> None:
    """Its header is longer by 20 bytes, and there are no fragments."""
    wiring = Wiring(TOPOLOGY)
    inside, server = wiring.udp("alice"), wiring.udp("relay")
    seen = wiring.passes(inside, server, through_nat64(server.address.port))
    assert seen is not None
    server.send(bytes(1452), seen)
    with pytest.raises(UnsupportedBehaviorError, match="IP fragments"):
        server.send(bytes(1453), seen)


def test_every_behavior_holds_behind_the_translator_too() -> None:
    found = certify(topology_of(BEHAVIORS, dual_stack=True), lifetime=True)
    assert len(found) == 2 * len(BEHAVIORS)
    assert [one.difference() for one in found if not one.ok] == []
