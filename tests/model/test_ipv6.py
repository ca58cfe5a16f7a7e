"""IPv6 addresses: no clash, prefixes with one checksum, and who has none."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.nat import Hairpinning, Ipv6Behavior, NatBehavior
from quicpipe_lab.model.topology import CORE, Firewall, Host, Link, Nat, Node, Topology

NONE, ROUTED, NPTV6, NAT66, NAT64 = Ipv6Behavior


@st.composite
def dual_stacks(draw: st.DrawFn) -> Topology:
    """Trees; NPTv6 below the core only, where it is possible."""
    nodes: list[Node] = []
    links: list[Link] = []
    routers = [CORE]
    for number in range(draw(st.integers(1, 25))):
        name = f"n{number}"
        upper = draw(st.sampled_from(routers))
        behaviors = [NONE, ROUTED, NAT66] + ([NPTV6] if upper == CORE else [])
        behavior = NatBehavior(ipv6=draw(st.sampled_from(behaviors)))
        kinds: list[Node] = [Host(name), Nat(name, behavior), Firewall(name)]
        nodes.append(draw(st.sampled_from(kinds)))
        links.append(Link((upper, name)))
        if not isinstance(nodes[-1], Host):
            routers.append(name)
    return Topology("tree", tuple(nodes), tuple(links), dual_stack=True)


def checksum(prefix: bytes) -> int:
    """RFC 1071's sum."""
    total = sum(int.from_bytes(prefix[place : place + 2], "big") for place in range(0, 16, 2))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@given(dual_stacks())
def test_no_address_is_twice(topology: Topology) -> None:
    addresses = Ipv6Addresses(topology)
    networks = [uplink.network for uplink in addresses.uplinks.values()]
    assert len(set(networks)) == len(networks)
    external = [
        addresses.prefixes(name)[1]
        for name, node in topology.by_name.items()
        if isinstance(node, Nat) and node.behavior.ipv6 is NPTV6
    ]
    for prefix in external:
        assert not any(prefix.overlaps(network) for network in networks)
    for uplink in addresses.uplinks.values():
        assert uplink.lower_address in uplink.network
        assert uplink.upper_address in uplink.network
        assert uplink.lower_address != uplink.upper_address


@given(dual_stacks())
def test_who_has_ipv6(topology: Topology) -> None:
    """Everybody but those behind a NAT that does not pass it on."""
    addresses = Ipv6Addresses(topology)
    for name in topology.by_name:
        nats = topology.nats_above(name)
        assert (name in addresses.uplinks) is all(nat.behavior.ipv6 is not NONE for nat in nats)
        translators = [nat for nat in nats if nat.behavior.ipv6 in (NPTV6, NAT66)]
        if name in addresses.uplinks:
            private = addresses.uplinks[name].network.network_address.is_private
            prefix = str(addresses.uplinks[name].network)[:4]
            assert private
            assert prefix == ("fd00" if translators else "2001")


@given(dual_stacks())
def test_the_prefixes_of_nptv6_have_one_checksum(topology: Topology) -> None:
    """RFC 6296, 2.6: then nothing but the prefix changes, and every checksum stays right."""
    addresses = Ipv6Addresses(topology)
    for name in topology.by_name:
        inside, outside = addresses.prefixes(name)
        sums = [checksum(prefix.network_address.packed) for prefix in (inside, outside)]
        assert sums[0] == sums[1]


def test_without_dual_stack_there_is_none() -> None:
    topology = Topology("t", (Host("h"),), (Link((CORE, "h")),))
    assert Ipv6Addresses(topology).uplinks == {}


@pytest.mark.parametrize("outer", [NONE, NAT66, NPTV6])
def test_nptv6_needs_a_prefix(outer: Ipv6Behavior) -> None:
    nodes = (Nat("a", NatBehavior(ipv6=outer)), Nat("b", NatBehavior(ipv6=NPTV6)))
    topology = Topology("t", nodes, (Link((CORE, "a")), Link(("a", "b"))), dual_stack=True)
    with pytest.raises(ScenarioError, match=r"node 'b': ipv6 = 'nptv6' .RFC 6296"):
        Ipv6Addresses(topology)


def test_a_nat64_is_routed_and_its_hosts_have_no_ipv4() -> None:
    nodes = (Nat("home", NatBehavior(ipv6=NAT64)), Host("h"), Host("other"))
    links = (Link((CORE, "home")), Link(("home", "h")), Link((CORE, "other")))
    topology = Topology("t", nodes, links, dual_stack=True)
    addresses = Ipv6Addresses(topology)
    assert addresses.realm("h") == CORE
    assert addresses.seen_as("h") == addresses.uplinks["h"].lower_address
    assert topology.nat64_above("h") == "home"
    assert topology.nat64_above("home") is topology.nat64_above("other") is None


NAT64_HOME = Nat("a", NatBehavior(ipv6=NAT64))


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (
            lambda: Topology("t", (NAT64_HOME,), (Link((CORE, "a")),)),
            "node 'a': ipv6 = 'nat64' needs a topology with dual_stack = true",
        ),
        (
            lambda: Topology(
                "t", (NAT64_HOME, Nat("b")), (Link((CORE, "a")), Link(("a", "b"))), True
            ),
            "node 'b': routers below a NAT64 would need IPv4: only hosts",
        ),
        (
            lambda: Ipv6Addresses(
                Topology(
                    "t",
                    (Nat("b", NatBehavior(ipv6=NONE)), NAT64_HOME),
                    (Link((CORE, "b")), Link(("b", "a"))),
                    True,
                )
            ),
            "node 'a': ipv6 = 'nat64': no IPv6 comes from the router above",
        ),
        (
            lambda: NatBehavior(hairpinning=Hairpinning.INTERNAL_SOURCE, ipv6=NAT64),
            "hairpinning: RFC 6146 3.8: what a NAT64 turns back it has translated before",
        ),
    ],
)
def test_what_a_nat64_needs(make: Callable[[], object], complaint: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        make()
    assert str(caught.value) == complaint
