"""NATs and firewalls in TOML: every field, and complaints with file, line and field."""

from dataclasses import fields

import pytest

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.load import topology_from_toml
from quicpipe_lab.model.nat import (
    AddressPooling,
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    Ipv6Behavior,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.topology import Firewall, Nat, Topology

EVERYTHING = """\
[[nat]]
name = "one"
mapping = "ADM"
filtering = "ADF"
filter_scope = "mapping"
port_assignment = "sequential"
port_step = 2
port_range = [2000, 2999]
port_parity = true
refresh = "both"
mapping_lifetime_s = 30
mappings_per_subscriber = 100
hairpinning = "external-source"
unsolicited = "admin-prohibited"
external_addresses = 4
pooling = "arbitrary"

[[nat]]
name = "two"
port_assignment = "block"
port_block_size = 512
port_contiguity = true
answered_lifetime_s = 120
ipv6 = "nptv6"

[[firewall]]
name = "three"
filtering = "ADF"
udp = "only-443"
refresh = "outbound"
state_lifetime_s = 20
unsolicited = "port-unreachable"

[[firewall]]
name = "four"

[[link]]
between = ["core", "one"]

[[link]]
between = ["core", "two"]

[[link]]
between = ["core", "three"]

[[link]]
between = ["three", "four"]
"""


def load(text: str) -> Topology:
    return topology_from_toml(text, "t", "t.toml")


def test_everything_that_a_nat_can_say() -> None:
    nodes = load(EVERYTHING).by_name
    one, two = nodes["one"], nodes["two"]
    assert isinstance(one, Nat) and isinstance(two, Nat)
    assert one.behavior == NatBehavior(
        MappingBehavior.ADDRESS_DEPENDENT,
        FilteringBehavior.ADDRESS_DEPENDENT,
        filter_scope=FilterScope.MAPPING,
        port_assignment=PortAssignment.SEQUENTIAL,
        port_step=2,
        port_range=(2000, 2999),
        port_parity=True,
        refresh=MappingRefresh.BOTH,
        mapping_lifetime_s=30.0,
        mappings_per_subscriber=100,
        hairpinning=Hairpinning.EXTERNAL_SOURCE,
        unsolicited=UnsolicitedReaction.ADMIN_PROHIBITED,
        external_addresses=4,
        pooling=AddressPooling.ARBITRARY,
    )
    assert two.behavior == NatBehavior(
        port_assignment=PortAssignment.BLOCK,
        port_block_size=512,
        port_contiguity=True,
        answered_lifetime_s=120.0,
        ipv6=Ipv6Behavior.NPTV6,
    )


def test_dual_stack() -> None:
    assert not load(EVERYTHING).dual_stack
    assert load("dual_stack = true\n" + EVERYTHING).dual_stack


def test_no_field_is_forgotten() -> None:
    for field in fields(NatBehavior):
        assert f"\n{field.name} = " in EVERYTHING
    for field in fields(FirewallBehavior):
        assert f"\n{field.name} = " in EVERYTHING[EVERYTHING.index("[[firewall]]") :]


def test_everything_that_a_firewall_can_say() -> None:
    nodes = load(EVERYTHING).by_name
    three, four = nodes["three"], nodes["four"]
    assert isinstance(three, Firewall) and isinstance(four, Firewall)
    assert three.behavior == FirewallBehavior(
        FilteringBehavior.ADDRESS_DEPENDENT,
        UdpPolicy.ONLY_443,
        20.0,
        MappingRefresh.OUTBOUND,
        UnsolicitedReaction.PORT_UNREACHABLE,
    )
    assert four.behavior == FirewallBehavior()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_and_fields_that_differ(name: str) -> None:
    text = f'nat = [{{ name = "n", preset = "{name}"%s }}]\n[[link]]\nbetween = ["core", "n"]\n'
    node = load(text % "").by_name["n"]
    assert isinstance(node, Nat)
    assert node.behavior == PRESETS[name]
    longer = load(text % ", mapping_lifetime_s = 77").by_name["n"]
    assert isinstance(longer, Nat)
    assert longer.behavior.mapping_lifetime_s == 77.0
    assert longer.behavior.mapping is PRESETS[name].mapping


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('filter_scope = "mapping"', 'filter_scope = "flow"', "5: nat[0].filter_scope: 'flow' is"),
        ("port_step = 2", "port_step = 3", "9: nat[0].port_parity: RFC 4787 REQ-4"),
        ("port_step = 2", 'port_step = "2"', "7: nat[0].port_step: must be an integer"),
        ("[2000, 2999]", "[2999, 2000]", "8: nat[0].port_range: is [first, last]"),
        ("[2000, 2999]", "[2000]", "8: nat[0].port_range: must be the first and the last port"),
        ("[2000, 2999]", "[2000, true]", "8: nat[0].port_range: must be the first and the last"),
        ("port_parity = true", "port_parity = 1", "9: nat[0].port_parity: must be true or false"),
        ("external_addresses = 4", "external_addresses = 0", "15: nat[0].external_addresses: is"),
        ("port_block_size = 512\n", "", "18: nat[1].port_block_size: belongs"),
        (
            "port_block_size = 512",
            "port_blocksize = 512",
            "21: nat[1].port_blocksize: there is no such field; did you mean 'port_block_size'?",
        ),
        (
            'ipv6 = "nptv6"',
            'ipv6 = "nat46"',
            "24: nat[1].ipv6: 'nat46' is none of none, routed, nptv6, nat66, nat64; did you mean",
        ),
        (
            'udp = "only-443"',
            'udp = "only443"',
            "29: firewall[0].udp: 'only443' is none of open, only-443, blocked; did you mean",
        ),
        ("state_lifetime_s = 20", "state_lifetime = 20", "31: firewall[0].state_lifetime: there"),
        ('udp = "only-443"', 'udp = "no"', "29: firewall[0].udp: 'no' is none of open"),
        ("state_lifetime_s = 20", "state_lifetime_s = 0", "31: firewall[0].state_lifetime_s: is"),
        (
            "state_lifetime_s = 20",
            "state_lifetime_s = 1e12",
            "31: firewall[0].state_lifetime_s: is",
        ),
        ('"port-unreachable"', '"conntrack"', "32: firewall[0].unsolicited: 'conntrack' is"),
    ],
)
def test_complaints(old: str, new: str, message: str) -> None:
    assert EVERYTHING.count(old) == 1
    with pytest.raises(ScenarioError) as caught:
        load(EVERYTHING.replace(old, new))
    assert str(caught.value).startswith(f"t.toml:{message}"), str(caught.value)


def test_a_nat_whose_sides_are_the_same_network() -> None:
    text = """\
host = [{ name = "h" }]
nat = [{ name = "n" }]
[[link]]
between = ["core", "n"]
[[link]]
between = ["n", "h"]
lower_address = "198.18.0.6/30"
"""
    with pytest.raises(ScenarioError, match=r"t.toml:7: link\[1\].lower_address: 'n' has 198"):
        load(text)
