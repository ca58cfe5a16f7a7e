"""TOML to topologies and scenarios. Every complaint names file, line and field.

The documents are read by a small schema: each table is taken apart by ``_Table``, which knows its
path in the document, checks types and refuses fields that nobody asked for.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model import document, link_presets
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.link import BurstLoss, LinkBehavior, LinkPreset
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
from quicpipe_lab.model.scenario import (
    Attack,
    Cut,
    Hostility,
    Idle,
    Meanwhile,
    Outcome,
    Reboot,
    RestartRelay,
    Restore,
    Scenario,
    Step,
    Switch,
    Transfer,
    WaitFor,
    Xdp,
)
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.model.topology import Firewall, Host, Link, Nat, Node, Relay, Topology

TopologyFinder = Callable[[str], Topology]
"""From a topology's name, as a scenario states it, to the topology."""


def topology_from_toml(text: str, name: str, source: str) -> Topology:
    """``source`` is the file's name for messages. Raises ScenarioError."""
    with _located(text, source):
        return _topology(_Table(document.parse(text), ""), name)


def scenario_from_toml(text: str, name: str, source: str, find: TopologyFinder) -> Scenario:
    """``find`` answers the ``topology`` field. Raises ScenarioError."""
    with _located(text, source):
        return _scenario(_Table(document.parse(text), ""), name, find)


def scenario_from_table(values: dict[str, Any], name: str) -> Scenario:
    """From a document that is taken apart already, its topology inside. Raises ScenarioError."""

    def find(topology: str) -> Topology:
        raise ScenarioError("", f"the topology {topology!r} does not stand inside the scenario")

    return _scenario(_Table(values, ""), name, find)


def load_topology(path: Path) -> Topology:
    """Read a topology file. Raises ScenarioError, also where the file cannot be read."""
    return topology_from_toml(document.read(path), path.stem, str(path))


def load_scenario(path: Path, find: TopologyFinder) -> Scenario:
    """Read a scenario file. Raises ScenarioError, also where the file cannot be read."""
    return scenario_from_toml(document.read(path), path.stem, str(path), find)


def _scenario(table: "_Table", name: str, find: TopologyFinder) -> Scenario:
    inline = table.take("topology", (str, dict))
    if isinstance(inline, str):
        try:
            topology = find(inline)
        except ScenarioError as error:
            # It names another file and fields of that one.
            raise table.wrong("topology", str(error)) from None
    else:
        topology = _topology(_Table(inline, "topology"), name)
    roles = table.table("roles")
    scenario = Scenario(
        name=name,
        topology=topology,
        dialer=roles.take("dialer", str),
        accepter=roles.take("accepter", str),
        relay=roles.take("relay", str),
        expect=table.choice("expect", Outcome),
        steps=tuple(_step(step) for step in table.tables("step")),
        summary=table.take("summary", str, ""),
        oob_delay_s=table.number("oob_delay_s", 0.05),
        seed=table.take("seed", int, 1),
        deadline_s=table.number("deadline_s", 60.0),
        direct_after_bytes=table.take("direct_after_bytes", int, 0),
        search=table.take("search", bool, False),
        family=table.choice("family", Family, Family.IPV4),
        xdp=table.choice("xdp", Xdp, Xdp.OFF),
        connect_within_s=table.number("connect_within_s", 15.0),
        meanwhile=tuple(_meanwhile(one) for one in table.tables("meanwhile", ())),
    )
    roles.done()
    table.done()
    return scenario


def _meanwhile(table: "_Table") -> Meanwhile:
    at_s = table.number("at_s")
    for_s = table.number("for_s") if "for_s" in table else None
    return Meanwhile(at_s, _step(table), for_s)  # type: ignore[arg-type] # Scenario looks at it


def _step(table: "_Table") -> Step:
    step: Step
    match table.take("do", str):
        case "transfer":
            step = Transfer(table.take("size_bytes", int), table.take("wait", bool, True))
        case "wait":
            step = WaitFor(
                path=table.choice("path", Outcome, None),
                echoed_bytes=table.take("echoed_bytes", int, None),
                transfer=table.take("transfer", bool, False),
                event=table.take("event", str, None),
                settled=table.take("settled", bool, False),
                within_s=table.number("within_s", 15.0),
            )
        case "cut":
            step = Cut(table.pair("between"))
        case "restore":
            step = Restore(table.pair("between"))
        case "idle":
            step = Idle(table.number("seconds"))
        case "reboot":
            step = Reboot(table.take("node", str))
        case "switch":
            step = Switch(table.take("node", str), table.take("to", str))
        case "restart-relay":
            step = RestartRelay()
        case "attack":
            step = Attack(table.choice("kind", Hostility))
        case other:
            known = "transfer, wait, cut, restore, idle, reboot, switch, restart-relay, attack"
            raise table.wrong("do", f"{other!r} is none of {known}")
    table.done()
    return step


def _topology(table: "_Table", name: str) -> Topology:
    nodes: list[Node] = []
    for entry in table.tables("host", ()):
        nodes.append(Host(entry.take("name", str)))
        entry.done()
    for entry in table.tables("relay", ()):
        nodes.append(Relay(entry.take("name", str)))
        entry.done()
    nodes += [Nat(one.take("name", str), _behavior(one)) for one in table.tables("nat", ())]
    nodes += [
        Firewall(one.take("name", str), _firewall(one)) for one in table.tables("firewall", ())
    ]
    links = tuple(_link(entry) for entry in table.tables("link"))
    table.take("summary", str, "")
    dual_stack = table.take("dual_stack", bool, False)
    table.done()
    return Topology(name, tuple(nodes), links, dual_stack)


def _link(table: "_Table") -> Link:
    """A link's own fields hold for both directions, those of ``up`` and ``down`` for one."""
    between = table.pair("between")
    lower_address = table.take("lower_address", str, None)
    preset = table.preset(link_presets.PRESETS)
    both = _link_fields(table)
    down = _direction(table, "down", preset, both)
    up = _direction(table, "up", preset, both)
    table.done()
    return Link(between, down, up, lower_address)


def _direction(
    table: "_Table", name: str, preset: LinkPreset | None, both: dict[str, Any]
) -> LinkBehavior | None:
    """``name`` is ``down`` or ``up``; ``both`` are the fields for both."""
    side = table.table(name) if name in table else None
    if side is None and preset is None and not both:
        return None
    own = _link_fields(side) if side else {}
    base: LinkBehavior = getattr(preset, name) if preset else LinkBehavior()
    try:
        behavior = replace(base, **(both | own))
    except ScenarioError as error:
        culprit = side if side and error.path in own else table
        raise culprit.wrong(error.path, error.problem) from None
    if side:
        side.done()
    return behavior


def _link_fields(table: "_Table") -> dict[str, Any]:
    """Those that are given, of LinkBehavior's."""
    fields: dict[str, Any] = {}
    for name in ("delay_s", "jitter_s", "loss", "reorder", "duplicate", "corrupt", "rate_bps"):
        if name in table:
            fields[name] = table.number(name, 0.0)
    for name in ("queue_bytes", "mtu_bytes"):
        if name in table:
            fields[name] = table.take(name, int)
    if "burst_loss" in table:
        entry = table.table("burst_loss")
        chances = {
            name: entry.number(name)
            for name in ("enter", "leave", "loss_within", "loss_outside")
            if name in entry or name in ("enter", "leave")
        }
        entry.done()
        try:
            fields["burst_loss"] = BurstLoss(**chances)
        except ScenarioError as error:
            raise table.wrong(error.path, error.problem) from None
    return fields


_NAT_CHOICES: dict[str, type[StrEnum]] = {
    "mapping": MappingBehavior,
    "filtering": FilteringBehavior,
    "filter_scope": FilterScope,
    "port_assignment": PortAssignment,
    "refresh": MappingRefresh,
    "hairpinning": Hairpinning,
    "unsolicited": UnsolicitedReaction,
    "pooling": AddressPooling,
    "ipv6": Ipv6Behavior,
}
_NAT_COUNTS = ("port_step", "port_block_size", "mappings_per_subscriber", "external_addresses")


def _behavior(table: "_Table") -> NatBehavior:
    """The preset's, or the default's, with the fields that are given in their place."""
    base = table.preset(PRESETS) or NatBehavior()
    fields = table.choices(_NAT_CHOICES)
    for name in ("mapping_lifetime_s", "answered_lifetime_s"):
        if name in table:
            fields[name] = table.number(name)
    for name in _NAT_COUNTS:
        if name in table:
            fields[name] = table.take(name, int)
    for name in ("port_parity", "port_contiguity"):
        if name in table:
            fields[name] = table.take(name, bool)
    if "port_range" in table:
        fields["port_range"] = table.ports("port_range")
    table.done()  # first, as what is misspelt is missing elsewhere
    try:
        return replace(base, **fields)
    except ScenarioError as error:
        raise table.wrong(error.path, error.problem) from None


_FIREWALL_CHOICES: dict[str, type[StrEnum]] = {
    "filtering": FilteringBehavior,
    "udp": UdpPolicy,
    "refresh": MappingRefresh,
    "unsolicited": UnsolicitedReaction,
}


def _firewall(table: "_Table") -> FirewallBehavior:
    fields = table.choices(_FIREWALL_CHOICES)
    if "state_lifetime_s" in table:
        fields["state_lifetime_s"] = table.number("state_lifetime_s")
    table.done()
    try:
        return FirewallBehavior(**fields)
    except ScenarioError as error:
        raise table.wrong(error.path, error.problem) from None


_REQUIRED: Any = object()
Preset = TypeVar("Preset")


class _Table:
    """One table of the document, taken apart field by field."""

    def __init__(self, values: dict[str, Any], path: str) -> None:
        self._values = dict(values)
        self._path = path
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._values

    def wrong(self, key: str, problem: str) -> ScenarioError:
        return ScenarioError(self._join(key), problem)

    def take(self, key: str, kind: type | tuple[type, ...], default: Any = _REQUIRED) -> Any:
        """The field's value, of the kind asked for."""
        self._asked.add(key)
        if key not in self._values:
            if default is _REQUIRED:
                raise self.wrong(key, "is missing")
            return default
        value = self._values.pop(key)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        # bool is an int in Python and not in TOML.
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            wanted = " or ".join(_TOML_NAMES[one] for one in kinds)
            raise self.wrong(key, f"must be {wanted}, not {value!r}")
        if isinstance(value, int) and not -(2**63) <= value < 2**63:  # tomllib takes more
            raise self.wrong(key, "TOML's integers have 64 bits")
        return value

    def number(self, key: str, default: Any = _REQUIRED) -> float:
        value: int | float = self.take(key, (int, float), default)
        if not 0 <= value < inf:
            raise self.wrong(key, f"must be a finite number of 0 or more, not {value}")
        return float(value)

    def choice(self, key: str, kind: Any, default: Any = _REQUIRED) -> Any:
        value = self.take(key, str, default)
        try:
            return value if value is default else kind(value)
        except ValueError:
            names = ", ".join(kind)
            hint = did_you_mean(value, [str(one) for one in kind])
            raise self.wrong(key, f"{value!r} is none of {names}{hint}") from None

    def choices(self, kinds: Mapping[str, type[StrEnum]]) -> dict[str, Any]:
        """Of these fields those that are there."""
        return {name: self.choice(name, kind) for name, kind in kinds.items() if name in self}

    def preset(self, presets: Mapping[str, Preset]) -> Preset | None:
        """What the field ``preset`` names, if it is there."""
        name: str | None = self.take("preset", str, None)
        if name is None or name in presets:
            return presets[name] if name else None
        hint = did_you_mean(name, presets)
        raise self.wrong("preset", f"{name!r} is none of {', '.join(presets)}{hint}")

    def pair(self, key: str) -> tuple[str, str]:
        value = self.take(key, list)
        if len(value) != 2 or not all(isinstance(one, str) for one in value):
            raise self.wrong(key, 'must be two names, as ["core", "alice"]')
        return value[0], value[1]

    def ports(self, key: str) -> tuple[int, int]:
        value = self.take(key, list)
        if len(value) != 2 or not all(type(one) is int for one in value):
            raise self.wrong(key, "must be the first and the last port, as [1024, 65535]")
        return value[0], value[1]

    def table(self, key: str) -> "_Table":
        return _Table(self.take(key, dict), self._join(key))

    def tables(self, key: str, default: Any = _REQUIRED) -> "Iterator[_Table]":
        for index, value in enumerate(self.take(key, list, default)):
            path = f"{self._join(key)}[{index}]"
            if not isinstance(value, dict):
                raise ScenarioError(path, f"must be a table, not {value!r}")
            yield _Table(value, path)

    def done(self) -> None:
        """Refuse what nobody took: a misspelt field must not be ignored in silence."""
        for key in self._values:
            raise self.wrong(key, f"there is no such field{did_you_mean(key, self._asked)}")

    def _join(self, key: str) -> str:
        return f"{self._path}.{key}" if self._path else key


_TOML_NAMES: dict[type, str] = {
    str: "a string",
    int: "an integer",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


@contextmanager
def _located(text: str, source: str) -> Iterator[None]:
    """Put file and line in front of what a ScenarioError says."""
    try:
        yield
    except ScenarioError as error:
        line = _line_of(text, error.path)
        where = f"{source}:{line}" if line else source
        problem = f"{error.path}: {error.problem}" if error.path else error.problem
        located = ScenarioError("", f"{where}: {problem}")
        located.path = error.path
        raise located from None


def _line_of(text: str, path: str) -> int | None:
    """The line that a field path points at, as well as can be told without a parser of our own."""
    if node := re.fullmatch(r"node '(.*)'", path):
        return _last_line(text, rf"\bname\s*=\s*[\"']{re.escape(node[1])}[\"']")
    match = re.match(r"([\w-]+)(?:\[(\d+)\])?(?:\.([\w-]+))?", path)
    if match is None:
        return None
    table, index, key = match[1], int(match[2] or 0), match[3]
    return _line_below_header(text, table, index, key) or _line_of_value(text, table, index)


def _line_below_header(text: str, table: str, index: int, key: str | None) -> int | None:
    """The key below the index-th ``[table]`` or ``[[table]]``, or this header."""
    start, seen = 0, -1
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[\[?\s*([\w.-]+)\s*\]", line)
        if header and start:
            break
        if header and header[1] == table:
            seen += 1
            start = number if seen == index else 0
        elif start and key and re.match(rf"\s*{re.escape(key)}\s*=", line):
            return number
    return start or None


def _line_of_value(text: str, name: str, index: int) -> int | None:
    """``name =``, or the index-th element of its list."""
    key = re.search(rf"^[ \t]*{re.escape(name)}[ \t]*=[ \t]*", text, re.MULTILINE)
    if key is None:
        return None
    offsets = list(_elements(text, key.end())) if text[key.end() :].startswith("[") else []
    found = offsets[index] if index < len(offsets) else key.end()
    return text.count("\n", 0, found) + 1


_TOKEN = re.compile(
    r"#.*"
    r"|\"{3}(?:\\[\s\S]|[^\\])*?\"{3}|'{3}[\s\S]*?'{3}"
    r"|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'"
    r"|\S"
)
"""A comment, one of TOML's four kinds of strings, or a character. No text matches in two ways: of
those there would be ever more to try."""


def _elements(text: str, start: int) -> Iterator[int]:
    """The offset of each element of the list that opens at ``start``."""
    depth, at_element = 0, False
    for token in _TOKEN.finditer(text, start):
        first = token[0][0]
        if first == "#":
            continue
        if first in "]}":
            depth -= 1
            if depth == 0:
                return
        elif at_element and depth == 1:
            yield token.start()
            at_element = False
        if first in "[{":
            depth += 1
            at_element = depth == 1
        elif first == "," and depth == 1:
            at_element = True


def _last_line(text: str, pattern: str) -> int | None:
    lines = [number for number, line in enumerate(text.splitlines(), 1) if re.search(pattern, line)]
    return lines[-1] if lines else None
