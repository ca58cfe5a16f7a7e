"""A NAT's rules in their readable form, and that the kernel gets what they say."""

import itertools

import pytest

from quicpipe_lab.backends.netns.cuts import cuts_table
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.backends.netns.rules import NatPlace, conntrack_sysctls, nat_table
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.topology import Host, Link, Nat, Topology
from tests.backends.netns.remote import output_of

PLACE = NatPlace("core", ["198.18.0.6"], ["192.168.0.6"])

GOLDEN = """\
table ip nat {
    set ports { type inet_service; size 65535; flags dynamic,timeout; timeout 120s; }
    map inside_address { type inet_service : ipv4_addr; size 65535; flags dynamic,timeout; timeout 120s; }
    map inside_port { type inet_service : inet_service; size 65535; flags dynamic,timeout; timeout 120s; }
    map egress { type ipv4_addr . inet_service . ipv4_addr : ipv4_addr . inet_service; size 65535; flags dynamic,timeout; timeout 120s; }
    set contacted { type ipv4_addr . inet_service . ipv4_addr . inet_service; size 65535; flags dynamic,timeout; timeout 120s; }
    chain inbound {
        type filter hook prerouting priority -300; policy accept;
        iifname "core" meta l4proto udp udp dport != @ports drop
        iifname "core" meta l4proto udp (udp dport map @inside_address) . (udp dport map @inside_port) . ip saddr . udp sport != @contacted drop
        iifname "core" meta l4proto udp notrack
        iifname "core" meta l4proto udp ip daddr set udp dport map @inside_address
        iifname "core" meta l4proto udp udp dport set udp dport map @inside_port
    }
    chain input {
        type filter hook input priority 0; policy accept;
        iifname != "lo" meta l4proto udp ct state new drop
    }
    chain forward {
        type filter hook forward priority 0; policy accept;
        oifname "core" ct state invalid drop
    }
    chain postrouting {
        type nat hook postrouting priority 100; policy accept;
        oifname "core" meta l4proto udp snat to ip saddr . udp sport . ip daddr map @egress
        oifname "core" meta l4proto udp udp sport 1024-65535 udp sport != @ports masquerade to :udp sport
        oifname "core" meta l4proto udp masquerade to :1024-65535 fully-random
        oifname "core" masquerade
    }
    chain record {
        type filter hook postrouting priority 150; policy accept;
        oifname "core" meta l4proto udp ct original ip saddr . ct original proto-src . ip daddr != @egress udp sport @ports drop
        oifname "core" meta l4proto udp update @ports { udp sport }
        oifname "core" meta l4proto udp update @inside_address { udp sport : ct original ip saddr }
        oifname "core" meta l4proto udp update @inside_port { udp sport : ct original proto-src }
        oifname "core" meta l4proto udp update @egress { ct original ip saddr . ct original proto-src . ip daddr : ip saddr . udp sport }
        oifname "core" meta l4proto udp update @contacted { ct original ip saddr . ct original proto-src . ip daddr . udp dport }
    }
}"""  # noqa: E501

ALL_BEHAVIORS = [
    NatBehavior(*cell, filter_scope=scope)
    for scope in FilterScope
    for cell in itertools.product(
        MappingBehavior,
        FilteringBehavior,
        (PortAssignment.PRESERVING, PortAssignment.RANDOM),
    )
]


PLAIN_LINUX = PRESETS["linux-masquerade"]
OVERLOADING = NatBehavior(
    port_assignment=PortAssignment.PRESERVING_OVERLOADING, refresh=MappingRefresh.BOTH
)
REFUSING = NatBehavior(
    unsolicited=UnsolicitedReaction.ADMIN_PROHIBITED, filter_scope=FilterScope.MAPPING
)


def test_golden() -> None:
    behavior = NatBehavior(
        MappingBehavior.ADDRESS_DEPENDENT,
        FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT,
        PortAssignment.PRESERVING,
        mapping_lifetime_s=120.0,
    )
    assert str(nat_table(behavior, PLACE)) == GOLDEN


def test_every_behavior_has_rules_of_its_own() -> None:
    """But for the scope, which says something only where an endpoint has several mappings."""
    texts = {str(nat_table(behavior, PLACE)) for behavior in ALL_BEHAVIORS}
    cells_with_scope = 2 * 2 * 2  # {ADM,APDM} x {ADF,APDF} x the port assignments
    assert len(texts) == len(ALL_BEHAVIORS) // 2 + cells_with_scope


@pytest.mark.parametrize("lifetime_s", [0.5, 1.5])
def test_lifetimes_that_conntrack_cannot_count(lifetime_s: float) -> None:
    behavior = NatBehavior(mapping_lifetime_s=lifetime_s)
    with pytest.raises(UnsupportedBehaviorError, match="whole seconds"):
        nat_table(behavior, PLACE)
    with pytest.raises(UnsupportedBehaviorError, match="whole seconds"):
        conntrack_sysctls(behavior)


def test_cuts() -> None:
    assert str(cuts_table([["a", "b"], ["relay"]])).splitlines()[1:] == [
        "    chain inward {",
        "        type filter hook prerouting priority -400; policy accept;",
        '        iifname "relay" drop',
        "    }",
        "    chain forward {",
        "        type filter hook forward priority 0; policy accept;",
        '        iifname "a" oifname "b" drop',
        '        iifname "b" oifname "a" drop',
        "    }",
        "    chain outward {",
        "        type filter hook postrouting priority 200; policy accept;",
        '        oifname "relay" drop',
        "    }",
        "}",
    ]


@pytest.mark.netns
@pytest.mark.nft
def test_kernel_has_what_the_text_says() -> None:
    """The encoder against the language's own compiler: both leave the same rules in the kernel."""
    behaviors = [*filter(_is_plain_nft, ALL_BEHAVIORS), PLAIN_LINUX, OVERLOADING, REFUSING]
    nodes = [Nat(f"n{number}", behavior) for number, behavior in enumerate(behaviors)]
    links = tuple(Link(("core", node.name)) for node in nodes)
    topology = Topology("all", (Host("host"), *nodes), (Link(("core", "host")), *links))
    with Lab(topology) as lab:
        for node in nodes:
            text = str(nat_table(node.behavior, PLACE))
            assert _listing(lab, node.name, "") == _listing(lab, "host", text), node


def _is_plain_nft(behavior: NatBehavior) -> bool:
    """Some rules need what nft's grammar has no room for (statements.py)."""
    return "(udp dport map" not in str(nat_table(behavior, PLACE))


def test_most_rules_are_plain_nft() -> None:
    assert sum(map(_is_plain_nft, ALL_BEHAVIORS)) == len(ALL_BEHAVIORS) - 2 * 2 * 2


def _listing(lab: Lab, node: str, load: str) -> str:
    """What ``nft list ruleset`` says on a node, there to have the text loaded first."""
    script = "nft -f - && nft list ruleset" if load else "nft list ruleset"
    return output_of(lab, node, ["sh", "-c", script], given=f"flush ruleset\n{load}\n")
