"""What the supervisor is to build, spelled out: no decision is left to it.

The caller's side makes a Blueprint from a Topology (plan.py), it travels as JSON, and the
supervisor carries it out (namespaces.py). Named tuples, because the supervisor's start is what a
lab's start waits for, and dataclasses alone would cost it 5 ms of imports.
"""

from typing import Any, NamedTuple


class Set(NamedTuple):
    """A dynamic nftables set, or a map where ``data`` is not empty; types in nft's words."""

    name: str
    key: list[str]
    data: list[str]
    timeout_s: int
    size: int = 65535

    def __str__(self) -> str:
        kind, types = ("map", f" : {' . '.join(self.data)}") if self.data else ("set", "")
        return (
            f"{kind} {self.name} {{ type {' . '.join(self.key)}{types}; size {self.size}; "
            f"flags dynamic,timeout; timeout {self.timeout_s}s; }}"
        )


class Chain(NamedTuple):
    """A chain; a rule is a list of statements in the language of statements.py.

    ``kind`` is ``filter`` or ``nat``; a chain without one hangs on no hook, but is jumped to.
    """

    name: str
    kind: str
    hook: str
    priority: int
    rules: list[list[str]]

    def __str__(self) -> str:
        head = f"type {self.kind} hook {self.hook} priority {self.priority}; policy accept;"
        lines = [head] if self.kind else []
        lines += (" ".join(rule) for rule in self.rules)
        return "\n".join([f"chain {self.name} {{", *(f"    {line}" for line in lines), "}"])


class Table(NamedTuple):
    """An nftables table; ``str`` gives it in nft's language. ``family`` is ``ip`` or ``ip6``."""

    name: str
    sets: list[Set]
    chains: list[Chain]
    family: str = "ip"

    def __str__(self) -> str:
        parts = [*map(str, self.sets), *map(str, self.chains)]
        lines = [f"    {line}" for part in parts for line in part.splitlines()]
        return "\n".join([f"table {self.family} {self.name} {{", *lines, "}"])


class End(NamedTuple):
    """One end of a veth pair. ``number`` is its index in its namespace; ``address`` is empty on a
    link without IPv4."""

    interface: str
    number: int
    mac: str
    address: str


WIRES = "(wires)"
"""The namespace in which a process passes frames on (wire.py). No node can have this name."""


class Wire(NamedTuple):
    """A veth pair from a node, towards the core (``upper``), to the node below.

    Where the link behaves, ``through`` has two more ends, in the namespace of the wires: there are
    then two pairs, from ``upper`` to the first and from the second to ``lower``. Or the kernel
    itself makes the link behave: ``netem`` is what it does downwards and upwards.

    ``link`` is its name, as Uplink has it. Where the lower node has several links upwards,
    ``table`` is the number of the routing table for what it sends from this one's address, and
    otherwise 0. ``is_default``: what has no source address yet goes this way.
    """

    link: str
    lower_node: str
    table: int
    is_default: bool
    prefix_length: int
    upper: End
    lower: End
    through: list[End]
    netem: "list[Netem]"


class Netem(NamedTuple):
    """One direction: a LinkBehavior as JSON takes it, and a seed."""

    behavior: dict[str, Any]
    seed: str


class Hairpin(NamedTuple):
    """A veth pair within a NAT: what inside interfaces send to ``addresses`` goes in at one end
    and comes out of the other, as if it had been outside."""

    out: End
    back: End
    addresses: list[str]
    inside: list[str]


class Ipv6(NamedTuple):
    """A node's IPv6. ``addresses``: interface number, address, prefix length; ``neighbours``:
    interface number, address, MAC address; ``routes`` as in Space."""

    addresses: list[list[str]]
    neighbours: list[list[str]]
    gateway: str | None
    routes: list[list[str]]


class Tun(NamedTuple):
    """A TUN device that a program of the lab will translate behind, and what is routed to it."""

    interface: str
    number: int
    networks: list[str]
    networks_v6: list[str]


class Space(NamedTuple):
    """A node's network namespace.

    ``addresses`` are the node's own, on none of its links: the routes to it lead to them.
    ``sysctls`` are written before there is any interface, ``conntrack_sysctls`` once the tables
    are in (they appear with the kernel's conntrack). ``wires`` are the ones that go down from here.
    ``routes`` are what lies farther down without translation: networks and gateways.
    """

    node: str
    sysctls: list[list[str]]
    addresses: list[str]
    gateway: str | None
    wires: list[Wire]
    tables: list[Table]
    conntrack_sysctls: list[list[str]]
    routes: list[list[str]]
    hairpin: Hairpin | None
    ipv6: Ipv6 | None = None
    tun: Tun | None = None


class Blueprint(NamedTuple):
    """Every namespace of a lab, in order from the core outwards."""

    topology: str
    spaces: list[Space]


def blueprint_from_json(data: Any) -> Blueprint:
    """The inverse of ``json.dumps``, which writes named tuples as lists."""
    topology, spaces = data
    return Blueprint(topology, [_space(space) for space in spaces])


def table_from_json(data: Any) -> Table:
    """A table out of the lists that ``json.dumps`` made of it."""
    name, sets, chains, family = data
    return Table(name, [Set(*one) for one in sets], [Chain(*one) for one in chains], family)


def _space(data: Any) -> Space:
    node, sysctls, addresses, gateway, wires, tables, conntrack_sysctls = data[:7]
    routes, hairpin, ipv6, tun = data[7:]
    return Space(
        node,
        sysctls,
        addresses,
        gateway,
        [_wire(wire) for wire in wires],
        [table_from_json(table) for table in tables],
        conntrack_sysctls,
        routes,
        None if hairpin is None else Hairpin(End(*hairpin[0]), End(*hairpin[1]), *hairpin[2:]),
        None if ipv6 is None else Ipv6(*ipv6),
        None if tun is None else Tun(*tun),
    )


def _wire(data: Any) -> Wire:
    link, lower_node, table, is_default, prefix_length, upper, lower, through, netem = data
    return Wire(
        link,
        lower_node,
        table,
        is_default,
        prefix_length,
        End(*upper),
        End(*lower),
        [End(*end) for end in through],
        [Netem(*one) for one in netem],
    )
