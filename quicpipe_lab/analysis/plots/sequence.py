"""Picture 2: how the hole was punched, as a sequence diagram with every packet that matters.

Time goes down, and not to scale: a millionth of a second on a veth and 50 ms out of band are both
to be seen. The margins tell the time of each packet.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle

from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.analysis.plots import style
from quicpipe_lab.analysis.run_files import Run
from quicpipe_lab.analysis.sequence import Flight, Phase, lifelines, story
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.topology import Firewall, Nat

_COLUMN = 1.32
_LEAST_MARGIN = 1.2
_HEADER = 0.72
_TITLE = 0.3
_NOTE = 0.24
_LABEL = 0.145
"""Between two labels of the same column."""
_LEAST_STEP, _MOST_STEP = 0.024, 0.3


@dataclass(frozen=True)
class _Track:
    """How far down a packet is at each of its points."""

    flight: Flight
    y: list[float]


@dataclass
class _Placed:
    """Where everything is."""

    tracks: list[_Track] = field(default_factory=list)
    titles: list[float] = field(default_factory=list)
    notes: list[list[float]] = field(default_factory=list)
    height: float = 0.0


def sequence(
    run: Run, packets: Sequence[Packet], ax: Axes | None = None, *, dark: bool = False
) -> Axes:
    """Lifelines for peers, NATs, firewalls and the relay; a sloped line for each packet."""
    colours = style.theme(dark)
    phases = story(run, packets)
    columns = lifelines(run)
    placed = _place(phases)
    start_s = min((one.anchor_s for phase in phases for one in phase.flights), default=0.0)
    margin = _margin(phases, columns, start_s)
    notes = [note for phase in phases for note in phase.notes]
    widest = max((style.text_width(note, style.SMALL) for note in notes), default=0.0)
    legend = _legend(phases)
    least = max(widest + 0.6, sum(_legend_width(kind) for kind in legend) + 0.3)
    width = max(2 * margin + _COLUMN * (len(columns) - 1), least)
    left = (width - _COLUMN * (len(columns) - 1)) / 2
    x = {name: left + _COLUMN * index for index, name in enumerate(columns)}
    ax = style.canvas(ax, width, placed.height + 0.5, colours)
    _draw_phases(ax, phases, placed, width, colours)
    _draw_lifelines(ax, run, x, placed.height, colours)
    for track in placed.tracks:
        _draw_flight(ax, track, x, colours)
        _draw_label(ax, track, x, start_s, colours)
    _draw_legend(ax, legend, placed.height, colours)
    return ax


# Where everything is


def _margin(phases: list[Phase], columns: list[str], start_s: float) -> float:
    """Beside the outermost lifelines: time and name of each packet."""
    labels = [_label(one, start_s, columns) for phase in phases for one in phase.flights]
    widest = max((style.text_width(label, style.SMALL) for label in labels), default=0.0)
    return max(_LEAST_MARGIN, widest + 0.2)


def _label(flight: Flight, start_s: float, columns: list[str]) -> str:
    time = f"{1000 * (flight.anchor_s - start_s):.1f} ms"
    on_left = flight.owner == columns[0]
    return f"{time}   {flight.label}" if on_left else f"{flight.label}   {time}"


def _place(phases: list[Phase]) -> _Placed:
    """Phase below phase."""
    placed = _Placed()
    at = _HEADER
    last_label: dict[str, float] = {}
    for phase in phases:
        placed.titles.append(at)
        at = 0.12 + _place_flights(phase.flights, at + _TITLE, placed, last_label)
        placed.notes.append([at + _NOTE * (index + 0.5) for index in range(len(phase.notes))])
        at += _NOTE * len(phase.notes)
    placed.height = at + 0.15
    return placed


def _place_flights(
    flights: list[Flight], at: float, placed: _Placed, last_label: dict[str, float]
) -> float:
    """Steps in time become steps down, the longer the larger, but never as much as they differ;
    labels of one column and drops at one node keep apart. Where the last point is."""
    tracks = [_Track(flight, [0.0] * len(flight.points)) for flight in flights]
    placed.tracks += tracks
    order = sorted(
        (point.t_s, number, index)
        for number, flight in enumerate(flights)
        for index, point in enumerate(flight.points)
    )
    before: float | None = None
    for t_s, number, index in order:
        at += 0.06 if before is None else _step(t_s - before)
        before = t_s
        flight = flights[number]
        columns = [flight.owner] if index == flight.anchor else []
        if flight.dropped is not None and index == len(flight.points) - 1:
            columns.append(f"drop {flight.points[-1].node}")
        for column in columns:
            at = max(at, last_label.get(column, -1.0) + _LABEL)
            last_label[column] = at
        tracks[number].y[index] = at
    return at


def _step(seconds: float) -> float:
    """Inches: a fortieth for each tenfold above ten microseconds."""
    return min(_MOST_STEP, _LEAST_STEP + 0.045 * max(0.0, math.log10(max(seconds, 1e-9) / 1e-5)))


# Drawing


def _draw_phases(
    ax: Axes, phases: list[Phase], placed: _Placed, width: float, colours: style.Theme
) -> None:
    bottoms = [*placed.titles, placed.height][1:]
    for index, (phase, top, bottom) in enumerate(zip(phases, placed.titles, bottoms, strict=True)):
        ax.add_patch(
            Rectangle(
                (0, top),
                width,
                bottom - top,
                facecolor=colours.zone if index % 2 == 0 else colours.paper,
                edgecolor="none",
                zorder=0,
            )
        )
        ax.text(
            0.12,
            top + 0.16,
            f"{index + 1}  {phase.title}",
            va="center",
            fontsize=style.NORMAL,
            fontweight="bold",
            color=colours.ink,
            bbox=_ground(colours, index),
            zorder=8,
        )
        for y, note in zip(placed.notes[index], phase.notes, strict=True):
            ax.text(
                width / 2,
                y,
                note,
                ha="center",
                va="center",
                fontsize=style.SMALL,
                fontstyle="italic",
                color=colours.muted,
                bbox=_ground(colours, index),
                zorder=8,
            )


def _ground(colours: style.Theme, index: int) -> dict[str, object]:
    """What a text stands on, so that no lifeline runs through it."""
    return {
        "facecolor": colours.zone if index % 2 == 0 else colours.paper,
        "edgecolor": "none",
        "pad": 1.2,
    }


def _draw_lifelines(
    ax: Axes, run: Run, x: dict[str, float], height: float, colours: style.Theme
) -> None:
    scenario = run.scenario
    roles = {scenario.dialer: "dialer", scenario.accepter: "accepter", scenario.relay: ""}
    peers = scenario.dialer, scenario.accepter
    speaks_ipv6 = all(scenario.family_of(one) is Family.IPV6 for one in peers)
    for name, at in x.items():
        node = scenario.topology.by_name[name]
        is_router = isinstance(node, Nat | Firewall)
        below = roles.get(name, "")
        if isinstance(node, Nat):
            below = str(node.behavior.ipv6 if speaks_ipv6 else node.behavior)
        elif isinstance(node, Firewall):
            below = "firewall"
        lines = [name, *([below] if below else [])]
        box_width = 0.22 + max(
            style.text_width(line, style.NORMAL, bold=not index) for index, line in enumerate(lines)
        )
        ax.add_patch(
            FancyBboxPatch(
                (at - box_width / 2, 0.1),
                box_width,
                0.44,
                boxstyle="round,pad=0,rounding_size=0.05",
                facecolor=colours.nat if is_router else colours.box,
                edgecolor=colours.nat_edge if is_router else colours.box_edge,
                linewidth=1.2,
                zorder=4,
            )
        )
        for index, line in enumerate(lines):
            ax.text(
                at,
                0.32 if len(lines) == 1 else 0.235 + 0.17 * index,
                line,
                ha="center",
                va="center",
                fontsize=style.SMALL if index else style.NORMAL,
                fontweight="normal" if index else "bold",
                color=colours.muted if index else colours.ink,
                zorder=5,
            )
        colour = colours.nat_edge if is_router else colours.box_edge
        ax.plot([at, at], [0.54, height], color=colour, linewidth=1.0, zorder=2)


_STYLES: dict[str, tuple[str, style.Dash, float]] = {
    "control": ("muted", (0, (1, 1.2)), 0.9),
    "relayed": ("relayed", style.RELAYED_LINE, 1.1),
    "direct": ("direct", style.DIRECT_LINE, 1.6),
    "punch": ("nat_edge", style.DIRECT_LINE, 0.9),
    "oob": ("outband", (0, (5, 1.5, 1, 1.5)), 1.4),
}
"""Colour, dash and width by kind of packet."""


def _draw_flight(ax: Axes, track: _Track, x: dict[str, float], colours: style.Theme) -> None:
    flight = track.flight
    name, dash, width = _STYLES[flight.kind]
    colour = str(getattr(colours, name))
    points = [(x[point.node], y) for point, y in zip(flight.points, track.y, strict=True)]
    if flight.beyond:  # it is lost between this node and the next
        towards = _direction(flight, x)
        points.append((points[-1][0] + towards * _COLUMN / 2, points[-1][1] + 0.03))
    ax.plot(*zip(*points, strict=True), color=colour, linestyle=dash, linewidth=width, zorder=5)
    if flight.dropped is None:
        tail = next((one for one in reversed(points) if one[0] != points[-1][0]), points[0])
        ax.annotate(
            "",
            points[-1],
            xytext=tail,
            arrowprops={
                "arrowstyle": "-|>,head_width=0.16,head_length=0.32",
                "color": colour,
                "linewidth": 0,
                "shrinkA": 0,
                "shrinkB": 0,
            },
            zorder=6,
        )
        return
    end_x, end_y = points[-1]
    ax.plot(
        [end_x],
        [end_y],
        marker="x",
        markersize=6,
        markeredgewidth=1.8,
        color=colours.wrong,
        zorder=7,
    )
    side = _direction(flight, x)
    ax.text(
        end_x + side * 0.08,
        end_y,
        flight.dropped,
        ha="left" if side > 0 else "right",
        va="center",
        fontsize=style.SMALL - 0.5,
        color=colours.wrong,
        bbox={"facecolor": colours.paper, "edgecolor": "none", "pad": 0.4, "alpha": 0.75},
        zorder=7,
    )


def _direction(flight: Flight, x: dict[str, float]) -> int:
    """To the right or to the left, as the packet was going; a first hop goes inward."""
    xs = [x[point.node] for point in flight.points]
    if xs[-1] != xs[0]:
        return 1 if xs[-1] > xs[0] else -1
    return 1 if xs[0] < (min(x.values()) + max(x.values())) / 2 else -1


def _draw_label(
    ax: Axes, track: _Track, x: dict[str, float], start_s: float, colours: style.Theme
) -> None:
    """In the margin of the peer that sent or got it: the time, and what it is."""
    flight = track.flight
    on_left = flight.owner == next(iter(x))
    ax.text(
        x[flight.owner] + (-0.1 if on_left else 0.1),
        track.y[flight.anchor],
        _label(flight, start_s, list(x)),
        ha="right" if on_left else "left",
        va="center",
        fontsize=style.SMALL - 0.5,
        color=colours.muted,
        zorder=8,
    )


_KINDS = {
    "control": "with the relay",
    "relayed": "relayed",
    "direct": "direct",
    "punch": "punch datagram",
    "oob": "out of band",
}
_SAMPLE = 0.4


def _legend(phases: list[Phase]) -> list[str]:
    """The kinds of packets that there are."""
    there = {flight.kind for phase in phases for flight in phase.flights}
    return [kind for kind in _KINDS if kind in there]


def _legend_width(kind: str) -> float:
    return style.text_width(_KINDS[kind], style.SMALL) + _SAMPLE + 0.3


def _draw_legend(ax: Axes, kinds: list[str], top: float, colours: style.Theme) -> None:
    at = 0.12
    for kind in kinds:
        name, dash, width = _STYLES[kind]
        colour = str(getattr(colours, name))
        y = top + 0.14
        ax.plot([at, at + _SAMPLE], [y, y], color=colour, linestyle=dash, linewidth=width)
        _say(ax, at + _SAMPLE + 0.08, y, _KINDS[kind], colours)
        at += _legend_width(kind)
    _say(ax, 0.12, top + 0.36, "Times count from the first packet; down is later.", colours)


def _say(ax: Axes, x: float, y: float, text: str, colours: style.Theme) -> None:
    ax.text(x, y, text, va="center", fontsize=style.SMALL, color=colours.muted)
