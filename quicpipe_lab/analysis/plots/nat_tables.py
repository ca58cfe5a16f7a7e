"""Picture 4: what NATs and firewalls remembered, from birth through each use to the end."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes

from quicpipe_lab.analysis.nat_tables import MappingLife, RouterLife, lifetime_s, router_lives
from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.analysis.paths import span_s
from quicpipe_lab.analysis.plots import style
from quicpipe_lab.analysis.run_files import Run
from quicpipe_lab.analysis.units import duration
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.nat import FilteringBehavior
from quicpipe_lab.traffic.outages import outages

_MOST = 12
"""Mappings of one router that are shown, and of each as many who may answer: a port search asks
hundreds, and a picture of them all is higher than 65,536 pixels."""
_ROW = 0.235
_WIDTH = 9.0
_TICKS = 160
"""So many uses can be told apart in a row."""


class _Row(NamedTuple):
    """A router's heading, a mapping or who may answer. ``refused_s``: packets that were stopped."""

    label: str
    start_s: float = 0.0
    end_s: float = 0.0
    uses_s: Sequence[float] = ()
    refused_s: Sequence[float] = ()
    kind: str = "heading"


def nat_tables(
    run: Run, packets: Sequence[Packet], ax: Axes | None = None, *, dark: bool = False
) -> Axes:
    """A bar for each mapping, and below it one for each remote endpoint that may answer.

    Ticks are uses that refreshed it, crosses are packets that were not let in. A bar that goes on
    at the right edge was not over when the run was. Raises QuicpipeLabError where there is no
    router that a packet came to.
    """
    colours = style.theme(dark)
    off = outages(run.events, run.scenario.relay)
    lives = router_lives(run.scenario.topology, packets, off)
    if not lives:
        raise QuicpipeLabError("no packet came to a NAT or a firewall")
    rows = [row for life in lives for row in _rows(life)]
    if ax is None:
        ax = style.new_axes(_WIDTH, 0.7 + _ROW * len(rows), colours)
    style.dress(ax, colours, grid="x")
    start_s, end_s = span_s(run)
    for index, row in enumerate(rows):
        _draw(ax, row, float(index), start_s, end_s, colours)
    ax.set_xlim(start_s, end_s)
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.set_yticks(range(len(rows)), [row.label for row in rows])
    ax.tick_params(axis="y", length=0)
    for label, row in zip(ax.get_yticklabels(), rows, strict=True):
        is_heading = row.kind == "heading"
        label.set_fontweight("bold" if is_heading else "normal")
        label.set_color(colours.ink if is_heading else colours.muted)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel("seconds since the run began")
    return ax


def _rows(life: RouterLife) -> list[_Row]:
    behavior = life.behavior
    what = str(behavior) if life.translates else f"firewall, {behavior.filtering}"
    lives_s = duration(lifetime_s(behavior)).removesuffix(".00 s").removesuffix(" s") + " s"
    if lifetime_s(behavior) < 1:
        lives_s = duration(lifetime_s(behavior))
    heading = f"{life.name}: {what}, forgets after {lives_s}"
    rows = [_Row(heading, refused_s=life.stopped_s)]
    for mapping in life.mappings[:_MOST]:
        rows += _mapping_rows(life, mapping)
    if len(life.mappings) > _MOST:
        rows.append(_Row(f"and {len(life.mappings) - _MOST} more mappings", kind="note"))
    return rows


def _mapping_rows(life: RouterLife, mapping: MappingLife) -> list[_Row]:
    label = str(mapping.inside)
    if life.translates:
        label += f" → {mapping.external}"
    rows = [
        _Row(
            label,
            mapping.born_s,
            mapping.ends_s,
            mapping.refreshed_s,
            mapping.refused_s,
            "mapping",
        )
    ]
    # The first ones, as elsewhere; and whoever was sent to most, for that is who answered.
    permissions = list(mapping.permissions.values())
    shown = permissions[: _MOST - 1]
    if rest := permissions[_MOST - 1 :]:
        shown.append(max(rest, key=lambda one: len(one.sent_s)))
    for permission in shown:
        uses = permission.sent_s
        ends_s = uses[-1] + lifetime_s(life.behavior)
        rows.append(_Row(f"lets in {permission.remote}", uses[0], ends_s, uses, (), "filter"))
    if len(permissions) > _MOST:
        rows.append(_Row(f"and lets in {len(permissions) - _MOST} more", kind="note"))
    if life.behavior.filtering is FilteringBehavior.ENDPOINT_INDEPENDENT:
        rows.append(_Row("lets in anybody", mapping.born_s, mapping.ends_s, (), (), "filter"))
    return rows


def _draw(
    ax: Axes, row: _Row, y: float, start_s: float, end_s: float, colours: style.Theme
) -> None:
    if row.kind in ("mapping", "filter"):
        is_mapping = row.kind == "mapping"
        height = 0.56 if is_mapping else 0.3
        left, right = max(row.start_s, start_s), min(row.end_s, end_s)
        if right > left:
            _draw_bar(ax, row, y, (left, right), height, colours)
        if row.end_s > end_s > row.start_s:
            colour = colours.nat_edge if is_mapping else colours.direct
            ax.plot([end_s], [y], marker=">", color=colour, markersize=6, clip_on=False, zorder=5)
    if row.refused_s:
        ax.plot(
            _thin(row.refused_s, end_s - start_s),
            [y] * len(_thin(row.refused_s, end_s - start_s)),
            linestyle="none",
            marker="x",
            markersize=6,
            markeredgewidth=1.7,
            color=colours.wrong,
            zorder=6,
        )


def _draw_bar(
    ax: Axes,
    row: _Row,
    y: float,
    ends: tuple[float, float],
    height: float,
    colours: style.Theme,
) -> None:
    is_mapping = row.kind == "mapping"
    left, right = ends
    ax.broken_barh(
        [(left, right - left)],
        (y - height / 2, height),
        facecolor=colours.nat if is_mapping else colours.direct_fill,
        edgecolor=colours.nat_edge if is_mapping else colours.direct,
        linewidth=0.8,
        zorder=3,
    )
    uses = _thin([one for one in row.uses_s if left <= one <= right], right - left)
    ax.vlines(
        uses,
        y - height / 2,
        y + height / 2,
        color=colours.nat_edge if is_mapping else colours.direct,
        linewidth=0.8,
        zorder=4,
    )


def _thin(times_s: Sequence[float], span_s: float) -> list[float]:
    """Without those that would stand on another one's place."""
    kept: list[float] = []
    for t_s in sorted(times_s):
        if not kept or t_s - kept[-1] >= span_s / _TICKS:
            kept.append(t_s)
    return kept
