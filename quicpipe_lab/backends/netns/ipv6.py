"""IPv6 beside IPv4: addresses, routes, settings and rules of a dual-stack node. Pure."""

from ipaddress import IPv6Network

from quicpipe_lab.backends.netns.blueprint import Chain, Ipv6, Table, Wire
from quicpipe_lab.backends.netns.firewall_rules import firewall_table
from quicpipe_lab.model.ipv6 import SERVICE_ADDRESSES_V6, Ipv6Addresses, firewall_of
from quicpipe_lab.model.nat import Ipv6Behavior
from quicpipe_lab.model.topology import CORE, Firewall, Nat, Node

_LOOPBACK_NUMBER = "1"
_DESTINATION_NAT, _SOURCE_NAT = -100, 100


def ipv6_of(ipv6: Ipv6Addresses, node: str, own: Wire | None, wires: list[Wire]) -> Ipv6 | None:
    """None where a node has no IPv6. ``own`` leads up from it, ``wires`` go down."""
    uplinks = ipv6.uplinks
    addresses: list[list[str]] = []
    neighbours: list[list[str]] = []
    routes: list[list[str]] = []
    gateway = None
    if node == CORE:
        addresses += [[_LOOPBACK_NUMBER, str(one), "128"] for one in SERVICE_ADDRESSES_V6]
    if own is not None and node in uplinks:
        mine = uplinks[node]
        gateway = str(mine.upper_address)
        addresses.append([str(own.lower.number), str(mine.lower_address), "64"])
        neighbours.append([str(own.lower.number), gateway, own.upper.mac])
    for wire in wires:
        link = uplinks.get(wire.lower_node)
        if link is None:
            continue
        lower, number = str(link.lower_address), str(wire.upper.number)
        addresses.append([number, str(link.upper_address), "64"])
        neighbours.append([number, lower, wire.lower.mac])
        routes += [[str(network), lower] for network in ipv6.behind(wire.lower_node)]
    return Ipv6(addresses, neighbours, gateway, routes) if addresses else None


def ipv6_sysctls(forwards: bool) -> list[list[str]]:
    """Nothing is sent that nobody asked for: no link-local address, no solicitations.

    Every setting that matters, as in plan.py; the default for interfaces that are still to come.
    """
    settings = {
        "default/disable_ipv6": "0",
        "all/forwarding": "1" if forwards else "0",
        "default/accept_ra": "0",
        "default/accept_dad": "0",
        "default/addr_gen_mode": "1",
        "default/router_solicitations": "0",
    }
    return [[f"net/ipv6/conf/{name}", value] for name, value in settings.items()]


def ipv6_tables(ipv6: Ipv6Addresses, known: Node, wan: str) -> list[Table]:
    """The rules of a router. Raises UnsupportedBehaviorError."""
    if known.name not in ipv6.uplinks:
        return []
    if isinstance(known, Firewall):
        return [firewall_table(known.behavior, wan, "ip6")]
    if not isinstance(known, Nat):
        return []
    match known.behavior.ipv6:
        case Ipv6Behavior.ROUTED | Ipv6Behavior.NAT64:
            return [firewall_table(firewall_of(known.behavior), wan, "ip6")]
        case Ipv6Behavior.NPTV6:
            return [_nptv6_table(*ipv6.prefixes(known.name), wan)]
        case Ipv6Behavior.NAT66:
            rules = [[f'oifname "{wan}"', "masquerade"]]
            chain = Chain("postrouting", "nat", "postrouting", _SOURCE_NAT, rules)
            return [Table("nat", [], [chain], "ip6")]
        case _:
            return []


def _nptv6_table(inside: IPv6Network, outside: IPv6Network, wan: str) -> Table:
    """RFC 6296. The last rule is for hairpins (its 4.3): both ends show their outside prefix."""
    outward = [
        [f'oifname "{wan}"', f"ip6 saddr {inside}", f"snat ip6 prefix to {outside}"],
        [f"ip6 saddr {inside}", "ct status dnat", f"snat ip6 prefix to {outside}"],
    ]
    inward = [[f"ip6 daddr {outside}", f"dnat ip6 prefix to {inside}"]]
    return Table(
        "nat",
        [],
        [
            Chain("prerouting", "nat", "prerouting", _DESTINATION_NAT, inward),
            Chain("postrouting", "nat", "postrouting", _SOURCE_NAT, outward),
        ],
        "ip6",
    )
