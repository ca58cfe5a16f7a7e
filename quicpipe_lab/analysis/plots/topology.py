"""Picture 1: who is where, what the NATs do, and which way the data went."""

import itertools
import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from quicpipe_lab.analysis.plots import style
from quicpipe_lab.analysis.plots.tree import LINE_HEIGHT, Box, Layout, describe_link, lay_out
from quicpipe_lab.analysis.run_files import Run
from quicpipe_lab.analysis.units import amount
from quicpipe_lab.model.topology import CORE, Firewall, Nat

_MARGIN = 0.2
_OFFSET = 0.07
_LEGEND_LINE = 0.22
_SAMPLE = 0.62


def topology(run: Run, ax: Axes | None = None, *, dark: bool = False) -> Axes:
    """Boxes for nodes, lines for links, and the paths that carried data beside the links."""
    colours = style.theme(dark)
    layout = lay_out(run)
    legend = _legend(run)
    width = max([layout.width, *(_row_width(*row) for row in legend)]) + 2 * _MARGIN
    height = layout.height + 2 * _MARGIN + _LEGEND_LINE * (len(legend) + 0.5)
    ax = style.canvas(ax, width, height, colours)
    left = _MARGIN + (width - 2 * _MARGIN - layout.width) / 2
    for box in layout.boxes.values():
        box.x += left
        box.y += _MARGIN
    _draw_zones(ax, run, layout, colours)
    _draw_links(ax, run, layout, colours)
    for box in layout.boxes.values():
        _draw_box(ax, run, box, colours)
    for is_direct in _paths(run):
        _draw_path(ax, run, layout, is_direct, colours)
    _draw_legend(ax, legend, layout.height + _MARGIN + 1.5 * _LEGEND_LINE, colours)
    return ax


def _draw_zones(ax: Axes, run: Run, layout: Layout, colours: style.Theme) -> None:
    """What is behind each NAT: a realm of addresses of its own (RFC 4787, 2)."""
    tree = run.scenario.topology

    def under(name: str) -> list[Box]:
        found = []
        for lower in tree.tree_below(name):
            found += [layout.boxes[lower], *under(lower)]
        return found

    for nat in tree.of_kind(Nat):
        boxes = under(nat.name)
        if not boxes:
            continue
        margin = 0.1
        left = min(box.x - box.width / 2 for box in boxes) - margin
        right = max(box.x + box.width / 2 for box in boxes) + margin
        top = min(box.top for box in boxes) - margin
        bottom = max(box.bottom for box in boxes) + margin
        ax.add_patch(
            FancyBboxPatch(
                (left, top),
                right - left,
                bottom - top,
                boxstyle="round,pad=0,rounding_size=0.1",
                facecolor=colours.zone,
                edgecolor=colours.rule,
                linewidth=0.8,
                linestyle=(0, (2, 2)),
                zorder=1,
            )
        )


def _draw_links(ax: Axes, run: Run, layout: Layout, colours: style.Theme) -> None:
    for uplink in run.scenario.topology.all_links:
        (x0, y0), (x1, y1) = _ends(layout, uplink.lower, uplink.upper)
        dashes: Any = "solid"
        x, side = (x0 + x1) / 2 + 0.16, "left"
        if uplink.name != uplink.lower:  # it stands by, and leads to another column
            dashes = (0, (4, 2))
            is_left = x0 <= x1
            x0 += layout.boxes[uplink.lower].width / (4 if is_left else -4)
            x, side = (x1 + 0.16, "left") if is_left else (x1 - 0.16, "right")
        line = {"color": colours.box_edge, "linestyle": dashes, "linewidth": 1.2}
        ax.plot([x0, x1], [y0, y1], **line, zorder=2)
        text = describe_link(uplink)
        if text:
            ax.text(
                x,
                (y0 + y1) / 2,
                text,
                ha=side,
                va="center",
                fontsize=style.SMALL,
                color=colours.muted,
                zorder=3,
            )


def _ends(layout: Layout, lower: str, upper: str) -> tuple[tuple[float, float], ...]:
    """Where a link leaves the lower node's box and enters the upper one's."""
    low, high = layout.boxes[lower], layout.boxes[upper]
    if upper == CORE:
        is_above = low.y < high.y
        return (low.x, low.bottom if is_above else low.top), (
            low.x,
            high.top if is_above else high.bottom,
        )
    return (low.x, low.top), (high.x, high.bottom)


def _draw_box(ax: Axes, run: Run, box: Box, colours: style.Theme) -> None:
    node = run.scenario.topology.by_name.get(box.name)
    scenario = run.scenario
    plays = box.name in (scenario.dialer, scenario.accepter, scenario.relay)
    is_router = isinstance(node, Nat | Firewall)
    ax.add_patch(
        FancyBboxPatch(
            (box.x - box.width / 2, box.top),
            box.width,
            box.height,
            boxstyle=f"round,pad=0,rounding_size={0.25 if node is None else 0.06}",
            facecolor=colours.nat if is_router else colours.box,
            edgecolor=colours.nat_edge if is_router else colours.box_edge,
            linewidth=2.0 if plays else 1.0,
            hatch="////" if isinstance(node, Firewall) else None,
            hatch_linewidth=0.3,
            zorder=2.5 if node is None else 4,
        )
    )
    # The paths run through the core: its name stands aside.
    x, y = (box.x, box.top + 0.19) if node else (box.x - box.width / 2 + 0.2, box.top + 0.16)
    for index, line in enumerate(box.lines):
        is_bad = line.startswith("NOT ")
        ax.text(
            x,
            y + index * LINE_HEIGHT,
            line,
            ha="center" if node else "left",
            va="center",
            fontsize=style.SMALL if index else style.NORMAL,
            fontweight="bold" if is_bad or (not index and node is not None) else "normal",
            color=colours.wrong if is_bad else colours.muted if index else colours.ink,
            zorder=6,
        )


def _paths(run: Run) -> list[bool]:
    """Which paths carried data: False through the relay, True direct."""
    used = [bool(event.data.get("direct")) for event in run.named("path-changed")]
    relayed = bool(run.scenario.dialer and run.named("connected", run.scenario.dialer))
    carried = run.result.bytes if run.result else None
    if carried is not None and carried.relayed + carried.direct:
        relayed = carried.relayed > 0
    return [False] * relayed + [True] * any(used)


def _draw_path(ax: Axes, run: Run, layout: Layout, is_direct: bool, colours: style.Theme) -> None:
    up, down = _legs(run, _turning_point(run) if is_direct else run.scenario.relay)
    points = _points(run, layout, up, is_direct, -1) + _points(run, layout, down, is_direct, 1)
    ax.plot(*zip(*points, strict=True), **_line_style(is_direct, colours), zorder=3)


def _line_style(is_direct: bool, colours: style.Theme) -> dict[str, Any]:
    if is_direct:
        return {"color": colours.direct, "linestyle": style.DIRECT_LINE, "linewidth": 3.0}
    return {"color": colours.relayed, "linestyle": style.RELAYED_LINE, "linewidth": 2.0}


def _legs(run: Run, turn: str) -> tuple[list[str], list[str]]:
    """The nodes from the dialer to the turning point, and from there to the accepter."""
    path = run.scenario.topology.path_to_core

    def way(peer: str) -> list[str]:
        up, down = path(peer), path(turn)
        common = next(name for name in up if name in down)
        return up[: up.index(common)] + down[: down.index(common) + 1][::-1]

    return way(run.scenario.dialer), way(run.scenario.accepter)[::-1]


def _turning_point(run: Run) -> str:
    """The router at which the direct path turns down again: where the peers' ways part, or the
    NAT above it that has the address which they use (hairpinning)."""
    tree, scenario = run.scenario.topology, run.scenario
    above = tree.path_to_core(scenario.accepter)
    common = [name for name in tree.path_to_core(scenario.dialer) if name in above]
    used = [str(one.data.get("address")).rpartition(":")[0] for one in run.named("path-changed")]
    for name in reversed(common):
        if any(str(one) in used for one in tree.external_addresses.get(name, ())):
            return name
    return common[0]


def _points(
    run: Run, layout: Layout, way: list[str], is_direct: bool, side: int
) -> list[tuple[float, float]]:
    """A leg's line. The two paths run on either side of the links, and never cross."""
    core = layout.boxes[CORE]
    level = core.y + (0.2 if is_direct else 0.04)
    points: list[tuple[float, float]] = []
    for one, other in itertools.pairwise(way):
        rises = run.scenario.topology.uplinks.get(one, None)
        lower, upper = (one, other) if rises and rises.upper == other else (other, one)
        shift = _OFFSET * side * (-1 if is_direct else 1)
        (x0, y0), (x1, y1) = _ends(layout, lower, upper)
        ends = [(x0 + shift, y0), (x1 + shift, level if upper == CORE else y1)]
        points += ends if lower == one else ends[::-1]
    return points


def _legend(run: Run) -> list[tuple[str, str]]:
    """What is said below: (kind of line, text)."""
    rows: list[tuple[str, str]] = []
    if not run.scenario.dialer:  # nobody plays a role yet: see plan.py
        return rows
    used = _paths(run)
    result = run.result
    for is_direct, name in ((True, "direct path"), (False, "through the relay")):
        if is_direct not in used:
            continue
        text = name
        if result is not None and result.bytes.relayed + result.bytes.direct:
            size = result.bytes.direct if is_direct else result.bytes.relayed
            rtt_s = result.rtt_s.direct if is_direct else result.rtt_s.relayed
            text += f": {amount(size)}"
            text += f", round trip {1000 * rtt_s:.1f} ms" if rtt_s is not None else ""
        rows.append(("direct" if is_direct else "relayed", text))
    if not used:
        rows.append(("none", "no path was ever up: " + (_failure(run))))
    for event in run.named("cut"):
        one, other = event.data["between"]
        rows.append(("none", f"cut between {one} and {other} at {event.t_s:.2f} s"))
    for event in run.named("switched"):
        host, to = event.data["host"], event.data["to"]
        rows.append(("none", f"{host} switched to {to} at {event.t_s:.2f} s"))
    return rows


def _failure(run: Run) -> str:
    if run.result is None:
        return "the run was broken off"
    return textwrap.shorten(run.result.failure or "it was not tried", 90, placeholder=" ...")


def _row_width(kind: str, text: str) -> float:
    return style.text_width(text, style.SMALL) + (0.0 if kind == "none" else _SAMPLE)


def _draw_legend(ax: Axes, rows: list[tuple[str, str]], top: float, colours: style.Theme) -> None:
    for index, (kind, text) in enumerate(rows):
        y = top + index * _LEGEND_LINE
        x = _MARGIN
        if kind != "none":
            line = _line_style(kind == "direct", colours)
            ax.plot([x, x + _SAMPLE - 0.12], [y, y], **line, zorder=3)
            x += _SAMPLE
        ax.text(x, y, text, va="center", fontsize=style.SMALL, color=colours.muted)
