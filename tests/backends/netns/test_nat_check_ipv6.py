"""What routers do to IPv6, certified on the real kernel; and what is not as declared is found."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace

import pytest

from quicpipe_lab.backends.netns.certification import Certification
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.backends.netns.nat_check import check_nats
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.check_topology import topology_of, with_shorter_lives
from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.ipv6 import SERVICE_ADDRESSES_V6
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    Ipv6Behavior,
    NatBehavior,
)
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.nat_measurement import Property
from quicpipe_lab.model.topology import CORE, Firewall, Host, Link, Nat, Node, Topology
from quicpipe_lab.resources import find_topology
from tests.backends.nat_behaviors import ROUTERS, differing
from tests.backends.netns.remote import output_of

pytestmark = pytest.mark.netns

EIF, ADF, APDF = FilteringBehavior
NONE, ROUTED, NPTV6, NAT66, NAT64 = Ipv6Behavior
LIFETIME_S = 2.0


def over_ipv6(certificates: list[Certificate]) -> dict[str, Certificate]:
    return {one.nat: one for one in certificates if one.family is Family.IPV6}


def dual_stack(behaviors: Mapping[str, NatBehavior]) -> Topology:
    return replace(topology_of(behaviors), dual_stack=True)


def test_every_kind_is_certified_as_declared_lifetimes_too() -> None:
    topology = with_shorter_lives(dual_stack(ROUTERS), 300.0 / LIFETIME_S)
    certificates = check_nats(topology, lifetime=True)
    assert {one.name: differing(one) for one in certificates if not one.ok} == {}
    ipv6 = over_ipv6(certificates)
    assert set(ipv6) == set(ROUTERS) - {"without"}
    said = {
        name: {one.property: one.measured for one in certificate.findings if one.ok}
        for name, certificate in ipv6.items()
    }
    assert {name: one[Property.TRANSLATION] for name, one in said.items()} == {
        **dict.fromkeys(("routed", "open", "careful", "both-ways"), "no"),
        "prefix": "prefix",
        "masks": "address and port",
    }
    # NPTv6 keeps no state that could end.
    assert {name for name, one in said.items() if Property.LIFETIME not in one} == {"prefix"}
    always = {Property.MAPPING, Property.FILTERING, Property.SAME_PORT, Property.REJECTION}
    assert all(always <= set(one) for one in said.values())


def test_stacked_routers_and_firewalls() -> None:
    """Whoever translates last gives the address, and the stricter filter holds."""
    nodes: tuple[Node, ...] = (
        Firewall("office", FirewallBehavior(filtering=ADF)),
        Nat("prefix", NatBehavior(ipv6=NPTV6)),
        Nat("within", NatBehavior(filtering=EIF)),
        Nat("masks", NatBehavior(ipv6=NAT66)),
        Firewall("shut", FirewallBehavior(udp=UdpPolicy.ONLY_443)),
        *map(Host, ("a", "b", "c", "d")),
    )
    ends = [
        *((CORE, "office"), ("office", "prefix"), ("prefix", "within"), ("within", "a")),
        *(("office", "masks"), ("masks", "b"), ("office", "c"), (CORE, "shut"), ("shut", "d")),
    ]
    topology = Topology("stacked", nodes, tuple(map(Link, ends)), dual_stack=True)
    certificates = check_nats(topology)
    assert {one.name: differing(one) for one in certificates if not one.ok} == {}
    ipv6 = over_ipv6(certificates)
    assert set(ipv6) == {"office", "prefix", "within", "masks", "shut"}
    said = {one.property: one.measured for one in ipv6["within"].findings}
    assert (said[Property.TRANSLATION], said[Property.FILTERING]) == ("prefix", "ADF")
    assert [(one.property, one.measured) for one in ipv6["shut"].findings] == [
        (Property.UDP, "only-443")
    ]


LIES: dict[str, tuple[NatBehavior, NatBehavior, set[Property]]] = {
    "filters": (NatBehavior(), NatBehavior(filtering=ADF), {Property.FILTERING}),
    "masks": (
        NatBehavior(ipv6=NAT66),
        NatBehavior(),
        {
            Property.EXTERNAL_ADDRESS,
            Property.TRANSLATION,
            Property.SAME_PORT,
            Property.UNSOLICITED,
            Property.REJECTION,
        },
    ),
    "routes": (
        NatBehavior(ipv6=ROUTED),
        NatBehavior(ipv6=NPTV6),
        # An exchange of prefixes is seen all the same: the host has another one than is believed.
        {Property.EXTERNAL_ADDRESS, Property.FILTERING},
    ),
}


def test_each_lie_is_found_and_no_other() -> None:
    built = dual_stack({name: was for name, (was, _, _) in LIES.items()})
    declared = dual_stack({name: said for name, (_, said, _) in LIES.items()})
    with Lab(built) as lab:
        lab.topology = declared
        found = over_ipv6(Certification(lab).finish())
    assert {name: differing(one) for name, one in found.items()} == {
        name: differences for name, (_, _, differences) in LIES.items()
    }


def test_outside_the_lab_against_a_server_with_ipv6() -> None:
    """As a person's machine behind such routers sees them; the server is our own."""
    hosts = [str(one) for one in SERVICE_ADDRESSES_V6]
    with Lab(find_topology("dual-stack-translated")) as lab:
        serve = ["quicpipe-lab", "_stun", "--host", hosts[0], "--host", hosts[1]]
        ready, serving = os.pipe()
        server = lab.spawn("core", serve, stdout=serving)
        os.close(serving)
        with os.fdopen(ready) as announced:
            assert announced.readline() == "ready\n"
            said = {node: seen_from(lab, node, hosts[0]) for node in ("alice", "carol")}
        server.close()
    translated = {node: words[Property.TRANSLATION] for node, words in said.items()}
    assert translated == {"alice": "prefix", "carol": "address and port"}
    assert (said["alice"][Property.FILTERING], said["carol"][Property.FILTERING]) == ("EIF", "APDF")


def seen_from(lab: Lab, node: str, server: str) -> dict[str, str]:
    check = ["quicpipe-lab", "nat-check", "--server", f"[{server}]:3478", "--json"]
    report = json.loads(output_of(lab, node, check))
    return {one["property"]: one["measured"] for one in report["properties"]}
