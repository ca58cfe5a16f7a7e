"""How all pictures look: colours by meaning, sizes of text, and how a figure is made and saved."""

import io
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

NORMAL, SMALL = 9.0, 7.5
"""Points of text."""
_POINTS_AN_INCH = 72.0

Drawing = Axes
"""What pictures give back, for those who do not import matplotlib."""

Dash = tuple[float, tuple[float, ...]] | str
DIRECT_LINE: Dash = "-"
RELAYED_LINE: Dash = (0, (4.0, 2.0))
"""Paths are told apart without colour: direct is solid, relayed is dashed."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours by what they mean. Within a theme no two are alike: a page can exchange them."""

    paper: str
    ink: str
    muted: str
    rule: str
    zone: str
    box: str
    box_edge: str
    nat: str
    nat_edge: str
    relayed: str
    relayed_fill: str
    direct: str
    direct_fill: str
    outband: str
    wrong: str


LIGHT = Theme(
    paper="#ffffff",
    ink="#1d2733",
    muted="#52616f",
    rule="#d3dae0",
    zone="#f7f9fa",
    box="#eef2f5",
    box_edge="#5b6b7b",
    nat="#fff3d6",
    nat_edge="#a67c00",
    relayed="#1769aa",
    relayed_fill="#dbe8f4",
    direct="#1a7f37",
    direct_fill="#a5dbae",
    outband="#7b3fa0",
    wrong="#c62828",
)
DARK = Theme(
    paper="#16202a",
    ink="#e6edf3",
    muted="#b4c1cd",
    rule="#3a4855",
    zone="#1b2732",
    box="#263442",
    box_edge="#9fb1c1",
    nat="#4a3b12",
    nat_edge="#e3b341",
    relayed="#6cb6ff",
    relayed_fill="#20405f",
    direct="#5fbf6a",
    direct_fill="#24663a",
    outband="#c792ea",
    wrong="#ff7b72",
)


def theme(dark: bool) -> Theme:
    """The one of the two."""
    return DARK if dark else LIGHT


def colours(one: Theme) -> dict[str, str]:
    """A theme's colours by name."""
    return {field.name: str(getattr(one, field.name)) for field in fields(one)}


def new_axes(width: float, height: float, colours: Theme) -> Axes:
    """The only axes of a new figure, in inches. No pyplot: no display, and no global state."""
    figure = Figure(figsize=(width, height), facecolor=colours.paper, layout="constrained")
    return figure.add_subplot()


def canvas(ax: Axes | None, width: float, height: float, colours: Theme) -> Axes:
    """Axes to draw boxes on, y going down: in a figure of their own a unit is an inch."""
    if ax is None:
        figure = Figure(figsize=(width, height), facecolor=colours.paper)
        ax = figure.add_axes((0, 0, 1, 1))
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_aspect("equal", adjustable="box")
    ax.set_axis_off()
    return ax


def panels(
    ax: Axes,
    heights: tuple[float, ...],
    colours: Theme,
    *,
    gap: float = 0.04,
    shared: bool = True,
) -> list[Axes]:
    """``ax`` parted from top to bottom, with one x axis for all, or one for each.

    ``gap``: between two of them, a part of the whole.
    """
    ax.set_axis_off()
    share = (1 - gap * (len(heights) - 1)) / sum(heights)
    parts: list[Axes] = []
    top = 1.0
    for height in heights:
        bottom = top - height * share
        first = parts[0] if parts and shared else None
        parts.append(ax.inset_axes((0, bottom, 1, height * share), sharex=first))
        top = bottom - gap
    for part in parts:
        dress(part, colours)
    for part in parts[:-1] if shared else ():
        part.tick_params(labelbottom=False)
    return parts


def dress(ax: Axes, colours: Theme, *, grid: str = "") -> None:
    """Two spines, quiet ticks, and a grid across one axis (``x`` or ``y``) where it helps."""
    ax.set_facecolor(colours.paper)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(colours.rule)
    ax.tick_params(colors=colours.muted, labelsize=SMALL, length=3, color=colours.rule)
    for axis in (ax.xaxis, ax.yaxis):
        axis.label.set_color(colours.muted)
        axis.label.set_fontsize(SMALL)
    ax.set_axisbelow(True)
    if grid in ("x", "y"):
        ax.grid(axis="x" if grid == "x" else "y", color=colours.rule, linewidth=0.6)


def title(ax: Axes, text: str, colours: Theme) -> None:
    """What the picture shows, in one line, above its left edge."""
    ax.set_title(text, loc="left", fontsize=NORMAL + 1, fontweight="bold", color=colours.ink)


@lru_cache(maxsize=4096)
def text_width(text: str, points: float = NORMAL, *, bold: bool = False) -> float:
    """Inches that a line of text takes, without a figure to try it on."""
    if not text.strip():
        return 0.0
    font = FontProperties(weight="bold" if bold else "normal")
    box = TextPath((0, 0), text, size=points, prop=font).get_extents()
    return float(box.x1 - min(box.x0, 0.0)) / _POINTS_AN_INCH


def figure_of(ax: Axes) -> Figure:
    """The whole figure that axes stand in."""
    figure: Figure | SubFigure | None = ax.get_figure()
    while isinstance(figure, SubFigure):
        figure = figure.figure
    assert figure is not None
    return figure


def png(ax: Axes, dots_per_inch: float) -> bytes:
    """The axes' figure for a page."""
    figure, out = figure_of(ax), io.BytesIO()
    # Without its maker's name two of the same picture are the same.
    metadata = {"Software": None}
    figure.savefig(
        out, dpi=dots_per_inch, facecolor=figure.get_facecolor(), format="png", metadata=metadata
    )
    return out.getvalue()


def save(ax: Axes, path: Path) -> Path:
    """The axes' figure as PNG, SVG or PDF, by the name's ending; in SVG text becomes outlines."""
    figure = figure_of(ax)
    figure.savefig(path, dpi=150, facecolor=figure.get_facecolor())
    return path
