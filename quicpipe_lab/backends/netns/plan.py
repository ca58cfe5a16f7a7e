"""From a Topology to the Blueprint that the supervisor carries out: pure, on the caller's side."""

from ipaddress import IPv4Address

from quicpipe_lab.backends.netns.blueprint import (
    WIRES,
    Blueprint,
    End,
    Hairpin,
    Space,
    Table,
    Tun,
    Wire,
)
from quicpipe_lab.backends.netns.firewall_rules import firewall_table
from quicpipe_lab.backends.netns.impairment import Means, means_by_link
from quicpipe_lab.backends.netns.ipv6 import ipv6_of, ipv6_sysctls, ipv6_tables
from quicpipe_lab.backends.netns.nat64 import tun_of
from quicpipe_lab.backends.netns.rules import NatPlace, conntrack_sysctls, nat_table
from quicpipe_lab.model.interface import HAIRPIN_IN, HAIRPIN_OUT, interface_names, neighbours
from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.nat import Hairpinning, Ipv6Behavior
from quicpipe_lab.model.topology import (
    CORE,
    SERVICE_ADDRESSES,
    Firewall,
    Host,
    Nat,
    Topology,
    Uplink,
)

_FIRST_INDEX = 101
"""Above the numbers of what some kernels put into every new namespace (tunl0, sit0, ...)."""
_FIRST_TABLE = 101
"""Of a host's routing tables, one for each of its links where it has several."""


def plan(topology: Topology, seed: int = 1, *, netem: bool = False) -> Blueprint:
    """Raises UnsupportedBehaviorError for what the kernel's means cannot do exactly.

    ``seed`` is for links that draw. With ``netem`` the kernel makes those links behave that it can.
    """
    children: dict[str, list[Uplink]] = {CORE: [], **{node.name: [] for node in topology.nodes}}
    for uplink in topology.all_links:
        children[uplink.upper].append(uplink)
    names = {node: interface_names(neighbours(topology, node)) for node in children}
    means = means_by_link(topology, seed, netem)
    # A node makes its links downwards: hosts that have several upwards come after all routers.
    nodes = sorted((CORE, *topology.uplinks), key=lambda node: node in topology.standby)
    spaces = [_space(topology, node, children[node], names, means) for node in nodes]
    if topology.dual_stack:
        spaces = _with_ipv6(topology, spaces, names)
    if any(wire.through for space in spaces for wire in space.wires):
        spaces.append(Space(WIRES, _sysctls(forwards=False), [], None, [], [], [], [], None))
    return Blueprint(topology.name, spaces)


def _with_ipv6(
    topology: Topology, spaces: list[Space], names: dict[str, dict[str, str]]
) -> list[Space]:
    """Nodes without IPv6 addresses stay as they are."""
    addresses = Ipv6Addresses(topology)
    own: dict[str, Wire] = {wire.link: wire for space in spaces for wire in space.wires}
    changed = []
    for space in spaces:
        ipv6 = ipv6_of(addresses, space.node, own.get(space.node), space.wires)
        if ipv6 is None:
            changed.append(space)
            continue
        known, uplink = topology.by_name.get(space.node), topology.uplinks.get(space.node)
        tables = list(space.tables)
        if known is not None and uplink is not None:
            tables += ipv6_tables(addresses, known, names[space.node][uplink.upper])
        sysctls = [*space.sysctls, *ipv6_sysctls(forwards=not isinstance(known, Host))]
        changed.append(space._replace(sysctls=sysctls, tables=tables, ipv6=ipv6))
    return changed


def _space(
    topology: Topology,
    node: str,
    below: list[Uplink],
    names: dict[str, dict[str, str]],
    means: dict[str, Means],
) -> Space:
    uplink = topology.uplinks.get(node)
    known = topology.by_name.get(node)
    first = _FIRST_INDEX + (uplink is not None)
    tables: list[Table] = []
    late: list[list[str]] = []
    addresses = list(map(str, SERVICE_ADDRESSES)) if node == CORE else []
    hairpin = tun = None
    if isinstance(known, Nat) and uplink is not None:
        external = list(map(str, topology.external_addresses[node]))
        addresses = external[1:]
        subscribers = list(map(str, topology.subscribers(node)))
        tables = [
            nat_table(known.behavior, NatPlace(names[node][uplink.upper], external, subscribers))
        ]
        late = conntrack_sysctls(known.behavior)
        inside = [names[node][one.lower] for one in below]
        if known.behavior.ipv6 is Ipv6Behavior.NAT64:
            tun = tun_of(topology, node, first + len(below))
            inside = [tun.interface]
        if known.behavior.hairpinning is Hairpinning.EXTERNAL_SOURCE:
            hairpin = _hairpin(external, inside, first + len(below) + 1)
    elif isinstance(known, Firewall) and uplink is not None:
        tables = [firewall_table(known.behavior, names[node][uplink.upper])]
    return Space(
        node,
        [*_sysctls(forwards=not isinstance(known, Host)), *_hairpin_sysctls(hairpin)],
        addresses,
        str(uplink.upper_address) if uplink else None,
        [
            _wire(topology, one, first + position, names, means, tun)
            for position, one in enumerate(below)
        ],
        tables,
        late,
        _routes(topology, below),
        hairpin,
        tun=tun,
    )


def _routes(topology: Topology, below: list[Uplink]) -> list[list[str]]:
    """Networks and their gateways: what lies behind the routers below without translation."""
    return [
        [str(network), str(uplink.lower_address)]
        for uplink in below
        if not isinstance(topology.by_name[uplink.lower], Host)
        for network in topology.behind(uplink.lower)
    ]


def _hairpin(addresses: list[str], inside: list[str], index: int) -> Hairpin:
    out, back = (
        End(name, index + place, f"02:01:00:00:00:{place:02x}", "")
        for place, name in enumerate((HAIRPIN_OUT, HAIRPIN_IN))
    )
    return Hairpin(out, back, addresses, inside)


def _hairpin_sysctls(hairpin: Hairpin | None) -> list[list[str]]:
    """What comes back by the hairpin has a source address of this router."""
    return [["net/ipv4/conf/all/accept_local", "1"]] if hairpin else []


def _wire(
    topology: Topology,
    uplink: Uplink,
    upper_index: int,
    names: dict[str, dict[str, str]],
    means: dict[str, Means],
    tun: Tun | None,
) -> Wire:
    """Lower ends are the first interfaces of their namespace, a host's link in use before others.
    Below a NAT64 is no IPv4."""
    lower, upper = uplink.lower, uplink.upper
    has_ipv4 = tun is None
    place = topology.links_of(lower).index(uplink)
    return Wire(
        uplink.name,
        lower,
        _FIRST_TABLE + place if lower in topology.standby else 0,
        place == 0,
        uplink.network.prefixlen,
        _end(names[upper][lower], upper_index, uplink.upper_address, has_ipv4),
        _end(names[lower][upper], _FIRST_INDEX + place, uplink.lower_address, has_ipv4),
        *means[uplink.name],
    )


def _end(interface: str, index: int, address: IPv4Address, has_ipv4: bool) -> End:
    mac = ":".join(f"{byte:02x}" for byte in b"\x02\x00" + address.packed)
    return End(interface, index, mac, str(address) if has_ipv4 else "")


def _sysctls(forwards: bool) -> list[list[str]]:
    """A new namespace copies the host's IPv4 settings, so every one that matters is set."""
    return [
        ["net/ipv4/ip_forward", "1" if forwards else "0"],
        ["net/ipv4/conf/all/rp_filter", "0"],
        ["net/ipv4/conf/default/rp_filter", "0"],
        # No IPv6 on the links, for none is addressed: no router solicitations in captures, and no
        # wait for duplicate address detection. The loopback interface keeps ::1.
        ["net/ipv6/conf/default/disable_ipv6", "1"],
    ]
