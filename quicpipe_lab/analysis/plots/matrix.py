"""Picture 5: every NAT against every NAT, how it ended, and how sure that is."""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from quicpipe_lab.analysis.matrix import HeatCell
from quicpipe_lab.analysis.plots import style

_FIELD_WIDTH = 0.95
_LINE_HEIGHT = 0.15


def matrix(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[HeatCell]],
    ax: Axes | None = None,
    *,
    dark: bool = False,
) -> Axes:
    """The dialer's NAT down, the accepter's across.

    Green with the time to direct, blue with "relay"; a thick frame, hatching and what was expected
    where the end was another one. With several trials the share that went direct, and Wilson's
    95 % interval of it.
    """
    colours = style.theme(dark)
    lines = max(1 + cell.detail.count("\n") + bool(cell.detail) for line in cells for cell in line)
    field_height = max(0.52, 0.22 + lines * _LINE_HEIGHT)
    if ax is None:
        width = 1.9 + _FIELD_WIDTH * len(columns)
        ax = style.new_axes(max(width, 4.2), 1.7 + field_height * len(rows), colours)
    for y, line in enumerate(cells):
        for x, cell in enumerate(line):
            _draw_field(ax, x, y, cell, lines, colours)
    style.dress(ax, colours)
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_xticks(range(len(columns)), [one.replace("/", "/\n") for one in columns])
    ax.set_yticks(range(len(rows)), list(rows))
    ax.xaxis.tick_top()
    ax.xaxis.set_label_position("top")
    ax.tick_params(length=0, labelsize=style.SMALL)
    ax.set_xlabel("accepter's NAT (mapping/filtering)", labelpad=8)
    ax.set_ylabel("dialer's NAT", labelpad=8)
    for spine in ax.spines.values():
        spine.set_visible(False)
    return ax


def _draw_field(ax: Axes, x: int, y: int, cell: HeatCell, lines: int, colours: style.Theme) -> None:
    ax.add_patch(
        Rectangle(
            (x - 0.48, y - 0.46),
            0.96,
            0.92,
            facecolor=colours.direct_fill if cell.direct else colours.relayed_fill,
            edgecolor=colours.paper if cell.ok else colours.wrong,
            linewidth=0.5 if cell.ok else 2.5,
            hatch=None if cell.ok else "//",
            hatch_linewidth=0.4,
        )
    )
    weight = "normal" if cell.ok else "bold"
    common: dict[str, Any] = {"ha": "center", "color": colours.ink}
    if not cell.ok:  # over the hatching
        ground = colours.direct_fill if cell.direct else colours.relayed_fill
        common["bbox"] = {"facecolor": ground, "edgecolor": "none", "pad": 1.5}
    edge = y - (0.02 if lines < 4 else 0.1)
    ax.text(
        x,
        edge if cell.detail else y,
        cell.text,
        fontsize=style.SMALL + 0.5,
        fontweight=weight,
        va="bottom" if cell.detail else "center",
        **common,
    )
    if cell.detail:
        size = style.SMALL - 1.5
        ax.text(x, edge + 0.07, cell.detail, fontsize=size, va="top", linespacing=1.2, **common)
