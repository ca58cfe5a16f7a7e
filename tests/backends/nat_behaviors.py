"""NATs that every backend must have as they are declared, and pairs that must be told apart."""

import itertools
from collections.abc import Iterable

from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.link import LinkBehavior
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
from quicpipe_lab.model.nat_certificate import MAPPINGS_NEEDED, Certificate
from quicpipe_lab.model.nat_measurement import Property
from quicpipe_lab.model.topology import CORE, Firewall, Host, Link, Nat, Topology

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior

CELLS = {
    f"{mapping}-{filtering}-{scope}".lower(): NatBehavior(mapping, filtering, filter_scope=scope)
    for mapping, filtering, scope in itertools.product(
        MappingBehavior, FilteringBehavior, FilterScope
    )
}
PLAIN_LINUX = NatBehavior(
    port_assignment=PortAssignment.PRESERVING_OVERLOADING,
    filter_scope=FilterScope.MAPPING,
    refresh=MappingRefresh.BOTH,
    unsolicited=UnsolicitedReaction.CONNTRACK,
)
OTHERS = {
    "preserving": NatBehavior(port_assignment=PortAssignment.PRESERVING),
    "preserving-apdm": NatBehavior(APDM, port_assignment=PortAssignment.PRESERVING),
    "overloading": NatBehavior(port_assignment=PortAssignment.PRESERVING_OVERLOADING),
    "plain-linux": PLAIN_LINUX,
    "sequential": NatBehavior(port_assignment=PortAssignment.SEQUENTIAL),
    "block": NatBehavior(port_assignment=PortAssignment.BLOCK, port_block_size=512),
    "parity": NatBehavior(port_parity=True),
    "range": NatBehavior(port_range=(30000, 30999)),
    "hairpin-internal": NatBehavior(hairpinning=Hairpinning.INTERNAL_SOURCE),
    "hairpin-external": NatBehavior(hairpinning=Hairpinning.EXTERNAL_SOURCE),
    "hairpin-apdm": NatBehavior(APDM, ADF, hairpinning=Hairpinning.EXTERNAL_SOURCE),
    "unreachable": NatBehavior(unsolicited=UnsolicitedReaction.PORT_UNREACHABLE),
    "prohibited": NatBehavior(ADM, ADF, unsolicited=UnsolicitedReaction.ADMIN_PROHIBITED),
    "paired": NatBehavior(external_addresses=3),
    "arbitrary": NatBehavior(external_addresses=3, pooling=AddressPooling.ARBITRARY),
}

FEW_MAPPINGS = {
    "few": NatBehavior(mappings_per_subscriber=8),
    "one-port": NatBehavior(port_range=(5000, 5000)),
    "block": NatBehavior(port_assignment=PortAssignment.BLOCK, port_block_size=16),
    "many": NatBehavior(APDM, mappings_per_subscriber=MAPPINGS_NEEDED),
}

ROUTERS = {
    "routed": NatBehavior(),
    "open": NatBehavior(filtering=EIF, unsolicited=UnsolicitedReaction.PORT_UNREACHABLE),
    "careful": NatBehavior(filtering=ADF, unsolicited=UnsolicitedReaction.ADMIN_PROHIBITED),
    "both-ways": NatBehavior(refresh=MappingRefresh.BOTH),
    "prefix": NatBehavior(ipv6=Ipv6Behavior.NPTV6),
    "masks": NatBehavior(ipv6=Ipv6Behavior.NAT66),
    "without": NatBehavior(ipv6=Ipv6Behavior.NONE),
}
"""What they are over IPv6."""

LIES: dict[str, tuple[NatBehavior, NatBehavior, set[Property]]] = {
    "mapping": (NatBehavior(ADM), NatBehavior(APDM), {Property.MAPPING, Property.SAME_PORT}),
    "filtering": (NatBehavior(filtering=ADF), NatBehavior(), {Property.FILTERING}),
    "stricter": (NatBehavior(), NatBehavior(filtering=EIF), {Property.FILTERING}),
    "scope": (
        NatBehavior(APDM, ADF),
        NatBehavior(APDM, ADF, filter_scope=FilterScope.MAPPING),
        {Property.FILTER_SCOPE},
    ),
    "ports": (
        NatBehavior(),
        NatBehavior(port_assignment=PortAssignment.SEQUENTIAL),
        {Property.PORT_ASSIGNMENT},
    ),
    "overloading": (
        NatBehavior(port_assignment=PortAssignment.PRESERVING_OVERLOADING),
        NatBehavior(port_assignment=PortAssignment.PRESERVING),
        {Property.SAME_PORT},
    ),
    "hairpinning": (
        NatBehavior(),
        NatBehavior(hairpinning=Hairpinning.EXTERNAL_SOURCE),
        {Property.HAIRPINNING},
    ),
    "rejection": (
        NatBehavior(unsolicited=UnsolicitedReaction.PORT_UNREACHABLE),
        NatBehavior(),
        {Property.REJECTION},
    ),
    "plain-linux": (
        PLAIN_LINUX,
        NatBehavior(port_assignment=PortAssignment.PRESERVING),
        # All that is wrong with it, while its mapping and filtering are what many call them.
        {Property.SAME_PORT, Property.UNSOLICITED, Property.REJECTION},
    ),
}
"""What was built, what it is said to be, and the properties in which the two differ."""

STACKED = Topology(
    "stacked",
    (
        Nat("carrier", NatBehavior(EIM, ADF, PortAssignment.SEQUENTIAL)),
        Nat("strict", NatBehavior(APDM, EIF)),
        Nat("twin-1", NatBehavior(port_assignment=PortAssignment.PRESERVING)),
        Nat("twin-2", NatBehavior(port_assignment=PortAssignment.PRESERVING)),
        Firewall("firewall"),
        Firewall("blocked", FirewallBehavior(udp=UdpPolicy.BLOCKED)),
        Firewall("office", FirewallBehavior(udp=UdpPolicy.ONLY_443)),
        Nat("lonely"),
        *map(Host, ("a", "b", "c", "d", "e", "f")),
    ),
    (
        *(Link(("core", name)) for name in ("carrier", "firewall", "blocked", "office")),
        *(Link(("carrier", name)) for name in ("strict", "twin-1", "twin-2")),
        Link(("core", "lonely")),
        Link(("strict", "a")),
        Link(("twin-1", "b")),
        Link(("twin-2", "c")),
        Link(("firewall", "d")),
        Link(("blocked", "e")),
        Link(("office", "f")),
    ),
)
"""More than one NAT or firewall on the way."""


def far(topology: Topology, link: LinkBehavior) -> Topology:
    """The same behind links to the core that take time or lose."""
    links = [
        Link.both_ways(one.between, link) if CORE in one.between else one for one in topology.links
    ]
    return Topology("far", topology.nodes, tuple(links))


def differing(certificate: Certificate) -> set[str]:
    """Properties in which a NAT is not what it is declared to be."""
    return {one.property for one in certificate.findings if one.ok is False}


def measured(certificate: Certificate) -> dict[str, str | None]:
    """What was found, by property."""
    return {one.property: one.measured for one in certificate.findings}


def assert_few_are_kept(certificates: Iterable[Certificate]) -> None:
    """Of the NATs ``FEW_MAPPINGS``: which are not measured, and why."""
    few, one_port, block, many = certificates
    needed = "too few for the tests, which need 64 mappings"
    assert few.doubt() == f"mappings per host 8: {needed}"
    assert one_port.doubt() == f"port range 5000 to 5000: {needed}"
    assert block.doubt() == f"port assignment random in a block of 16: {needed}"
    assert few.ok
    assert not few.is_measured
    assert many.doubt() is None
    assert many.ok, many.difference()
    assert measured(many)[Property.MAPPING] == "APDM"
