"""A network with every kind of router between IPv6 and a home, for every backend."""

from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    Ipv6Behavior,
    NatBehavior,
    UnsolicitedReaction,
)
from quicpipe_lab.model.topology import Firewall, Host, Link, Nat, Topology

TOPOLOGY = Topology(
    "six",
    (
        Host("server"),
        Host("stranger"),
        Nat("routed"),
        Host("a-routed"),
        Nat(
            "open",
            NatBehavior(
                filtering=FilteringBehavior.ENDPOINT_INDEPENDENT,
                unsolicited=UnsolicitedReaction.PORT_UNREACHABLE,
            ),
        ),
        Host("a-open"),
        Nat("prefix", NatBehavior(ipv6=Ipv6Behavior.NPTV6)),
        Firewall("within"),
        Host("a-prefix"),
        Host("b-prefix"),
        Nat("masks", NatBehavior(ipv6=Ipv6Behavior.NAT66)),
        Host("a-masks"),
        Host("b-masks"),
        Nat("without", NatBehavior(ipv6=Ipv6Behavior.NONE)),
        Host("a-without"),
        Firewall("office"),
        Nat("inner"),
        Host("a-inner"),
    ),
    tuple(
        Link(ends)
        for ends in (
            ("core", "server"),
            ("core", "stranger"),
            ("core", "routed"),
            ("routed", "a-routed"),
            ("core", "open"),
            ("open", "a-open"),
            ("core", "prefix"),
            ("prefix", "within"),
            ("within", "a-prefix"),
            ("prefix", "b-prefix"),
            ("core", "masks"),
            ("masks", "a-masks"),
            ("masks", "b-masks"),
            ("core", "without"),
            ("without", "a-without"),
            ("core", "office"),
            ("office", "inner"),
            ("inner", "a-inner"),
        )
    ),
    dual_stack=True,
)
ADDRESSES = Ipv6Addresses(TOPOLOGY)


def address(name: str) -> str:
    """Of a node, towards the core."""
    return str(ADDRESSES.uplinks[name].lower_address)
