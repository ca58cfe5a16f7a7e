"""Which family a scenario's programs speak, and what it takes."""

import pytest

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.load import scenario_from_toml
from quicpipe_lab.model.nat import Ipv6Behavior, NatBehavior
from quicpipe_lab.model.scenario import Outcome, Scenario
from quicpipe_lab.model.topology import CORE, Host, Link, Nat, Node, Relay, Topology
from quicpipe_lab.resources import find_scenario, find_topology

NODES: tuple[Node, ...] = (Host("alice"), Host("bob"), Relay("relay"))
TEXT = """\
topology = "dual-stack"
family = "ipv6"
roles = { dialer = "alice", accepter = "bob", relay = "relay" }
expect = "direct"
step = []
"""


def scenario(ipv6: Ipv6Behavior, family: str, dual_stack: bool = True) -> Scenario:
    links = (Link((CORE, "home")), Link(("home", "alice")), Link((CORE, "bob")))
    nodes = (*NODES, Nat("home", NatBehavior(ipv6=ipv6)))
    topology = Topology("t", nodes, (*links, Link((CORE, "relay"))), dual_stack)
    return Scenario("s", topology, "alice", "bob", "relay", Outcome.DIRECT, (), family=family)  # type: ignore[arg-type]


def test_ipv4_unless_said_otherwise() -> None:
    found = find_scenario("nat-to-nat")
    assert found.family is Family.IPV4
    assert found.relay_host("alice") == str(found.topology.uplinks["relay"].lower_address)


def test_the_relay_is_reached_over_ipv6() -> None:
    found = scenario_from_toml(TEXT, "s", "s.toml", find_topology)
    assert found.family is Family.IPV6
    relay = Ipv6Addresses(found.topology).uplinks["relay"]
    assert found.relay_host("alice") == str(relay.lower_address)


@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (lambda: scenario(Ipv6Behavior.NONE, "ipv6"), "family: 'alice' has no IPv6"),
        (
            lambda: scenario(Ipv6Behavior.ROUTED, "ipv6", dual_stack=False),
            "family: ipv6 needs a topology with dual_stack = true",
        ),
        (lambda: scenario(Ipv6Behavior.ROUTED, "ipx"), "family: 'ipx' is none of ipv4, ipv6, any"),
        (
            lambda: scenario_from_toml(
                TEXT.replace('"ipv6"', '"six"'), "s", "s.toml", find_topology
            ),
            "s.toml:2: family: 'six' is none of ipv4, ipv6, any",
        ),
    ],
)
def test_what_cannot_be(make: object, complaint: str) -> None:
    assert callable(make)
    with pytest.raises(ScenarioError) as caught:
        make()
    assert str(caught.value) == complaint


def test_the_bundled_ones() -> None:
    for name in ("ipv6-to-ipv6", "nptv6-to-nptv6", "nat66-to-nptv6"):
        assert find_scenario(name).family is Family.IPV6


def test_each_what_it_has() -> None:
    """Who has no IPv6, or a relay that has none, speaks IPv4."""
    mixed = scenario(Ipv6Behavior.NONE, "any")
    assert mixed.family_of("alice") is Family.IPV4
    assert mixed.family_of("bob") is Family.IPV6
    over_ipv4 = str(mixed.topology.uplinks["relay"].lower_address)
    over_ipv6 = str(Ipv6Addresses(mixed.topology).uplinks["relay"].lower_address)
    assert (mixed.relay_host("alice"), mixed.relay_host("bob")) == (over_ipv4, over_ipv6)
    assert mixed.relay_hosts == (over_ipv6, over_ipv4)
    old = scenario(Ipv6Behavior.ROUTED, "any", dual_stack=False)
    assert {old.family_of(node) for node in ("alice", "bob", "relay")} == {Family.IPV4}
    assert old.relay_hosts == (str(old.topology.uplinks["relay"].lower_address),)
