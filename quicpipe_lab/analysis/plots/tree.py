"""Where each node of a topology stands in its picture: the relay above the core, homes below it.

All in inches, with y going down. The dialer's branch is leftmost and the accepter's rightmost.
"""

from dataclasses import dataclass, field

from quicpipe_lab.analysis.plots import style
from quicpipe_lab.analysis.run_files import Run
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.firewall import UdpPolicy
from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat import UnsolicitedReaction
from quicpipe_lab.model.topology import CORE, Firewall, Host, Nat, Node, Topology, Uplink

LINE_HEIGHT = 0.165
_PADDING = 0.11
_GAP_X = 0.3
_GAP_Y = 0.62
_CORE_HEIGHT = 0.62


@dataclass
class Box:
    """A node's box around its centre. The first line is its name."""

    name: str
    lines: list[str]
    level: int = 0
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0

    def __post_init__(self) -> None:
        first, *others = self.lines
        widths = [style.text_width(first, style.NORMAL, bold=True)]
        widths += [style.text_width(line, style.SMALL) for line in others]
        self.width = max(widths) + 2 * _PADDING
        self.height = len(self.lines) * LINE_HEIGHT + 2 * _PADDING - 0.03

    @property
    def top(self) -> float:
        return self.y - self.height / 2

    @property
    def bottom(self) -> float:
        return self.y + self.height / 2


@dataclass
class Layout:
    """All boxes by node, the core's among them, and how large it all is."""

    boxes: dict[str, Box] = field(default_factory=dict)
    width: float = 0.0
    height: float = 0.0


def lay_out(run: Run) -> Layout:
    """The whole tree."""
    topology = run.scenario.topology
    relay = topology.uplinks.get(run.scenario.relay)
    above = [relay.lower] if relay is not None and relay.upper == CORE else []
    layout = Layout({CORE: Box(CORE, ["internet"])})
    for node in topology.nodes:
        layout.boxes[node.name] = Box(node.name, describe(run, node))
    below = _in_order(run, CORE, above)
    right = _place(run, layout, CORE, below, 0.0, 0)
    _place_rows(layout, above)
    _place_core(topology, layout, above, right)
    topology = run.scenario.topology
    layout.width = max(
        box.x + max(box.width / 2, _label_width(topology, name))
        for name, box in layout.boxes.items()
    )
    layout.height = max(box.bottom for box in layout.boxes.values())
    return layout


def describe(run: Run, node: Node) -> list[str]:
    """What a node's box says."""
    uplink = run.scenario.topology.uplinks[node.name]
    if isinstance(node, Nat):
        behavior = node.behavior
        addresses = str(uplink.lower_address)
        if behavior.external_addresses > 1:
            addresses += f" and {behavior.external_addresses - 1} more"
        ports = f"{behavior.port_assignment} ports".replace("preserving-overloading", "overloaded")
        if behavior.unsolicited is UnsolicitedReaction.CONNTRACK:
            ports = "plain Linux masquerading"
        lines = [node.name, f"NAT {behavior}", ports, addresses]
        if run.scenario.topology.dual_stack:
            lines.append(f"IPv6: {behavior.ipv6}")
        return [*lines, *_verdict(run, node)]
    if isinstance(node, Firewall):
        policy = {
            UdpPolicy.OPEN: "lets UDP out",
            UdpPolicy.ONLY_443: "UDP to port 443 only",
            UdpPolicy.BLOCKED: "lets no UDP out",
        }[node.behavior.udp]
        return [node.name, "firewall", policy, *_verdict(run, node)]
    return _describe_host(run, node)


def _describe_host(run: Run, node: Host) -> list[str]:
    scenario = run.scenario
    roles = {scenario.dialer: "dialer", scenario.accepter: "accepter", scenario.relay: "relay"}
    role = roles.get(node.name, "")
    standby = scenario.topology.standby.get(node.name, ())
    lines = [
        node.name,
        *([role] if role not in ("", node.name) else []),
        address_of(run, node.name),
        *(f"{one.lower_address} ({one.upper})" for one in standby),
    ]
    seen = [event.data.get("observed") for event in run.named("relay-registered", node.name)]
    if seen and isinstance(seen[-1], str):
        lines.append(f"seen at {seen[-1]}")
    return lines


def address_of(run: Run, name: str) -> str:
    """The one that the scenario's programs use, and behind a NAT64 the one that their host has."""
    topology = run.scenario.topology
    ipv6 = Ipv6Addresses(topology).uplinks
    uses_ipv6 = run.scenario.family_of(name) is Family.IPV6 or topology.nat64_above(name)
    if uses_ipv6 and name in ipv6:
        return str(ipv6[name].lower_address)
    return str(topology.uplinks[name].lower_address)


def _verdict(run: Run, node: Nat | Firewall) -> list[str]:
    certified = (run.result.certified if run.result else None) or {}
    found = certified.get(node.name)
    if found is None:
        return []
    return ["✓ as measured" if found.ok else "NOT as declared"]


def describe_link(uplink: Uplink) -> str:
    """What a link does, in both directions; empty for a plain cable."""
    down, up = (
        _describe_side(one) for one in (uplink.link.towards_lower, uplink.link.towards_upper)
    )
    if down == up:
        return down
    return "\n".join(f"{arrow} {text or 'cable'}" for arrow, text in (("↓", down), ("↑", up)))


def _describe_side(behavior: LinkBehavior | None) -> str:
    if behavior is None:
        return ""
    parts = []
    if behavior.delay_s:
        jitter = f" ±{1000 * behavior.jitter_s:g}" if behavior.jitter_s else ""
        parts.append(f"{1000 * behavior.delay_s:g}{jitter} ms")
    if behavior.rate_bps:
        parts.append(f"{behavior.rate_bps / 1e6:g} Mbit/s")
    if behavior.mean_loss:
        parts.append(f"{100 * behavior.mean_loss:.2g} % lost")
    if behavior.mtu_bytes != LinkBehavior().mtu_bytes:
        parts.append(f"MTU {behavior.mtu_bytes}")
    return ", ".join(parts)


def _in_order(run: Run, upper: str, leave_out: list[str]) -> list[str]:
    """What hangs below a node: the dialer's way first, the accepter's last."""
    path = run.scenario.topology.path_to_core
    peers = run.scenario.dialer, run.scenario.accepter
    first, last = (set(path(peer)) if peer else set() for peer in peers)
    below = run.scenario.topology.tree_below(upper)
    names = [name for name in below if name not in leave_out]
    return sorted(names, key=lambda name: (name in last) - (name in first))


def _place(run: Run, layout: Layout, name: str, below: list[str], left: float, level: int) -> float:
    """Columns: each node in the middle above what hangs below it. The right edge."""
    box = layout.boxes[name]
    box.level = level
    right = left
    for lower in below:
        right = _place(run, layout, lower, _in_order(run, lower, []), right, level + 1)
        if lower != below[-1]:
            right += _GAP_X
    label = 2 * _label_width(run.scenario.topology, name)
    own = max(box.width, label if name != CORE else 0.0)
    if right - left < own:  # it is wider than what is below: shift that into the middle
        for lower in below:
            _shift(run, layout, lower, (own - (right - left)) / 2)
        right = left + own
    middle = [layout.boxes[lower].x for lower in below]
    box.x = (middle[0] + middle[-1]) / 2 if middle else (left + right) / 2
    return right


def _label_width(topology: Topology, name: str) -> float:
    """How far what is said of its own link reaches, or of one that stands by below it."""
    if name == CORE:
        return 0.0
    standby = [one for one in topology.children(name) if one.name != one.lower]
    texts = [describe_link(one) for one in (topology.uplinks[name], *standby)]
    lines = [line for text in texts if text for line in text.split("\n")]
    return max((0.2 + style.text_width(line, style.SMALL) for line in lines), default=0.0)


def _shift(run: Run, layout: Layout, name: str, by: float) -> None:
    layout.boxes[name].x += by
    for lower in run.scenario.topology.tree_below(name):
        _shift(run, layout, lower, by)


def _place_rows(layout: Layout, above: list[str]) -> None:
    """Rows: as high as the highest box of each."""
    y = 0.0
    for name in above:
        layout.boxes[name].y = layout.boxes[name].height / 2
        y = layout.boxes[name].height + _GAP_Y
    core = layout.boxes[CORE]
    core.height, core.y = _CORE_HEIGHT, y + _CORE_HEIGHT / 2
    y += _CORE_HEIGHT + _GAP_Y
    rows: dict[int, list[Box]] = {}
    for box in layout.boxes.values():
        if box.level:
            rows.setdefault(box.level, []).append(box)
    for _, boxes in sorted(rows.items()):
        height = max(box.height for box in boxes)
        for box in boxes:
            box.y = y + box.height / 2  # tops are level: links of one row are equally long
        y += height + _GAP_Y


def _place_core(topology: Topology, layout: Layout, above: list[str], right: float) -> None:
    """The core is as wide as all that hangs from it; the relay is above its middle."""
    core = layout.boxes[CORE]
    ends = [layout.boxes[one] for one in topology.tree_below(CORE) if one not in above]
    widest = max(
        [2 * core.width + 0.4]
        + [2 * _label_width(topology, name) + layout.boxes[name].width for name in above]
    )
    missing = max(0.0, (widest - right) / 2)
    for name, box in layout.boxes.items():
        if name not in (CORE, *above):
            box.x += missing
    left = min([box.x - box.width / 2 for box in ends] or [0.0])
    farthest = max([box.x + box.width / 2 for box in ends] or [widest])
    core.x, core.width = (left + farthest) / 2, max(farthest - left, widest)
    for name in above:
        layout.boxes[name].x = core.x
