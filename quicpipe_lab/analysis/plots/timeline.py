"""Picture 3: which path carried the bytes, how fast, with which round trip, and what happened."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from quicpipe_lab.analysis.moments import Moment, moments
from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.analysis.paths import Stretch, is_direct_at, span_s, steps_done_s, stretches
from quicpipe_lab.analysis.plots import style
from quicpipe_lab.analysis.qlog import RttSample, peer_rtts
from quicpipe_lab.analysis.run_files import LAB, Run
from quicpipe_lab.analysis.throughput import Rates, rates
from quicpipe_lab.analysis.units import amount

_WIDTH = 9.0
_LEFT = 0.95
"""Inches of the width that the axis' own labels take; the rest is time."""
_ROW = 0.19
_LANE = 0.3
_PANEL = 1.25
_TOGETHER = 0.015
"""What both peers do within this share of the time has one label."""
_RELAYED_HATCH = "////"


def timeline(
    run: Run, packets: Sequence[Packet] | None = None, ax: Axes | None = None, *, dark: bool = False
) -> Axes:
    """From top to bottom: what happened, transfers and paths, throughput, round trips.

    A panel whose data is missing is left out: throughput without a capture, round trips without
    the dialer's qlog.
    """
    colours = style.theme(dark)
    start_s, end_s = span_s(run)
    found = moments(run, together_s=_TOGETHER * (end_s - start_s))
    rows = _rows(found, start_s, end_s)
    samples = _rtt_samples(run, start_s, end_s)
    lanes = _lanes(run)
    heights = [max(_ROW, _ROW * len(rows) + _LANE * len(lanes))]
    carried = rates(packets, run.scenario, start_s, end_s) if packets is not None else None
    if carried is not None and not any((*carried.relayed_bps, *carried.direct_bps)):
        carried = None
    heights += [_PANEL] * (carried is not None) + [_PANEL] * bool(samples)
    if ax is None:
        ax = style.new_axes(_WIDTH, sum(heights) + 0.12 * len(heights) + 0.5, colours)
    first, *others = style.panels(ax, tuple(heights), colours)
    _draw_lanes(first, run, rows, lanes, colours)
    if carried is not None:
        _draw_rates(others.pop(0), carried, colours)
    if samples:
        _draw_rtts(others.pop(0), run, samples, colours)
    panels = ax.child_axes
    for panel in panels:
        assert isinstance(panel, Axes)
        panel.set_xlim(start_s, end_s)
        for moment in found:
            is_within = start_s <= moment.t_s <= end_s
            if panel is not first and is_within:
                panel.axvline(moment.t_s, color=colours.rule, linewidth=0.6, zorder=0)
    last = panels[-1]
    assert isinstance(last, Axes)
    last.set_xlabel("seconds since the run began")
    return ax


# What happened, the transfers and the paths


def _rows(found: list[Moment], start_s: float, end_s: float) -> list[list[Moment]]:
    """Labels in as few rows as they need to stand side by side, each beginning at its moment."""
    inches_a_second = (_WIDTH - _LEFT) / (end_s - start_s)
    rows: list[tuple[float, list[Moment]]] = []
    for moment in found:
        if not start_s <= moment.t_s <= end_s:
            continue
        left = (moment.t_s - start_s) * inches_a_second
        width = style.text_width(moment.text, style.SMALL) + 0.18
        if left + width > _WIDTH - _LEFT:
            left -= width  # its label is on the left of its line
        for index, (taken, row) in enumerate(rows):
            if taken <= left:
                row.append(moment)
                rows[index] = left + width, row
                break
        else:
            rows.append((left + width, [moment]))
    return [row for _, row in rows]


def _lanes(run: Run) -> list[tuple[str, list[tuple[Stretch, str]]]]:
    """Bars by lane: (when and on which path, text). What is neither path is told by its name."""
    lanes: list[tuple[str, list[tuple[Stretch, str]]]] = []
    sent, came = run.named("oob-sent", LAB), run.named("oob-arrived", LAB)
    bars = [
        (Stretch(one.t_s, other.t_s, False), "") for one, other in zip(sent, came, strict=False)
    ]
    if bars:
        lanes.append(("out of band", bars))
    ends = {event.data["index"]: event.t_s for event in run.named("transfer-complete", LAB)}
    bars = [
        (
            Stretch(event.t_s, ends.get(event.data["index"], steps_done_s(run)), False),
            amount(event.data["size_bytes"]),
        )
        for event in run.named("transfer-started", LAB)
    ]
    if bars:
        lanes.append(("transfers", bars))
    for node in (run.scenario.dialer, run.scenario.accepter):
        paths = [(one, "direct" if one.direct else "relayed") for one in stretches(run, node)]
        if paths:
            lanes.append((f"{node} sends", paths))
    return lanes


def _draw_lanes(
    ax: Axes,
    run: Run,
    rows: list[list[Moment]],
    lanes: list[tuple[str, list[tuple[Stretch, str]]]],
    colours: style.Theme,
) -> None:
    start_s, end_s = span_s(run)
    inches_a_second = (_WIDTH - _LEFT) / (end_s - start_s)
    bottom = max(_ROW, _ROW * len(rows) + _LANE * len(lanes))
    ax.set_ylim(bottom, 0)
    for index, row in enumerate(rows):
        y = _ROW * (index + 0.5)
        for moment in row:
            _draw_moment(ax, moment, y, bottom, (moment.t_s - start_s) * inches_a_second, colours)
    middles = []
    for index, (_, bars) in enumerate(lanes):
        y = _ROW * len(rows) + _LANE * (index + 0.5)
        middles.append(y)
        for stretch, text in bars:
            width = (stretch.end_s - stretch.start_s) * inches_a_second
            _draw_bar(ax, stretch, text, y, width, colours)
    ax.set_yticks(middles, [name for name, _ in lanes])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _draw_moment(
    ax: Axes, moment: Moment, y: float, bottom: float, left: float, colours: style.Theme
) -> None:
    colour = colours.wrong if moment.bad else colours.muted
    ax.plot([moment.t_s, moment.t_s], [y, bottom], color=colours.rule, linewidth=0.7, zorder=1)
    ax.plot([moment.t_s], [y], marker="x" if moment.bad else "o", color=colour, markersize=3.5)
    width = style.text_width(moment.text, style.SMALL) + 0.18
    on_left = left + width > _WIDTH - _LEFT
    ax.annotate(
        moment.text,
        (moment.t_s, y),
        xytext=(-5 if on_left else 5, 0),
        textcoords="offset points",
        ha="right" if on_left else "left",
        va="center",
        fontsize=style.SMALL,
        fontweight="bold" if moment.bad else "normal",
        color=colour,
        bbox={"facecolor": colours.paper, "edgecolor": "none", "pad": 0.6},
        zorder=5,
    )


def _draw_bar(
    ax: Axes, stretch: Stretch, text: str, y: float, width: float, colours: style.Theme
) -> None:
    is_path = text in ("direct", "relayed")
    face, edge = colours.box, colours.box_edge
    if is_path:
        face = colours.direct_fill if stretch.direct else colours.relayed_fill
        edge = colours.direct if stretch.direct else colours.relayed
    ax.broken_barh(
        [(stretch.start_s, stretch.end_s - stretch.start_s)],
        (y - 0.09, 0.18),
        facecolor=face,
        edgecolor=edge,
        linewidth=0.8,
        hatch=_RELAYED_HATCH if is_path and not stretch.direct else None,
        hatch_linewidth=0.4,
        zorder=3,
    )
    if text and width > style.text_width(text, style.SMALL) + 0.12:
        ax.text(
            (stretch.start_s + stretch.end_s) / 2,
            y,
            text,
            ha="center",
            va="center",
            fontsize=style.SMALL,
            color=colours.ink,
            bbox={"facecolor": face, "edgecolor": "none", "pad": 0.8},
            zorder=6,
        )


# Throughput and round trips


def _draw_rates(ax: Axes, found: Rates, colours: style.Theme) -> None:
    x = [found.start_s + found.bin_s * index for index in range(len(found.relayed_bps) + 1)]
    style.dress(ax, colours, grid="y")
    for name, values, edge, fill, hatch, line in (
        (
            "relayed",
            found.relayed_bps,
            colours.relayed,
            colours.relayed_fill,
            _RELAYED_HATCH,
            style.RELAYED_LINE,
        ),
        ("direct", found.direct_bps, colours.direct, colours.direct_fill, None, style.DIRECT_LINE),
    ):
        if not any(values):
            continue
        mbps = [value / 1e6 for value in (*values, values[-1])]
        ax.fill_between(
            x,
            mbps,
            step="post",
            facecolor=fill,
            edgecolor=edge,
            hatch=hatch,
            linewidth=0,
            alpha=0.7,
        )
        ax.plot(
            x, mbps, drawstyle="steps-post", color=edge, linestyle=line, linewidth=1.2, label=name
        )
    ax.set_ylim(bottom=0)
    ax.set_ylabel("Mbit/s,\nboth ways")


def _rtt_samples(run: Run, start_s: float, end_s: float) -> list[RttSample]:
    if run.result is None or run.result.clock is None:
        return []
    path = run.directory / "qlog" / f"{run.scenario.dialer}.qlog"
    samples = peer_rtts(path, run.result.clock.epoch_unix_s)
    return [one for one in samples if start_s <= one.t_s <= end_s]


def _draw_rtts(ax: Axes, run: Run, samples: list[RttSample], colours: style.Theme) -> None:
    history = stretches(run, run.scenario.dialer)
    style.dress(ax, colours, grid="y")
    for direct, name, colour, marker in (
        (False, "relayed", colours.relayed, "+"),
        (True, "direct", colours.direct, "o"),
    ):
        chosen = [one for one in samples if is_direct_at(history, one.t_s) == direct]
        if chosen:
            ax.plot(
                [one.t_s for one in chosen],
                [1000 * one.rtt_s for one in chosen],
                linestyle="none",
                marker=marker,
                markersize=4 if marker == "+" else 3,
                markerfacecolor="none",
                markeredgewidth=0.9,
                color=colour,
                label=name,
            )
    ax.set_yscale("log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set_ylabel("round trip\n(ms)")
