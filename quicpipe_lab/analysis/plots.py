"""Figures from results; the only importer of matplotlib.

Every figure can be read without colour: what colour says, a letter, a hatch or a line says too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quicpipe_lab.errors import BackendUnavailableError


@dataclass(frozen=True, slots=True)
class HeatCell:
    """One field of the matrix: how it ended in the middle, and whether as expected."""

    text: str
    direct: bool
    ok: bool


@dataclass(frozen=True, slots=True)
class _Theme:
    """Colours that differ in lightness, so that they differ in black and white."""

    background: str
    text: str
    direct: str
    relayed: str
    wrong: str


_LIGHT = _Theme("#ffffff", "#1d2733", "#9fd8a8", "#eef1f4", "#c62828")
_DARK = _Theme("#16202a", "#e6edf3", "#2c7a3f", "#2b3946", "#ff7b72")


def matrix_heatmap(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[Sequence[HeatCell]],
    *,
    dark: bool = False,
) -> Any:
    """A Figure: the dialer's NAT down, the accepter's across. Raises BackendUnavailableError.

    Green with the time to direct, grey with "relay"; a thick frame and hatching where the end was
    not the expected one.
    """
    figure_class, rectangle = _matplotlib()
    theme = _DARK if dark else _LIGHT
    width, height = 1.9 + 0.95 * len(columns), 1.5 + 0.62 * len(rows)
    figure = figure_class(figsize=(width, height), facecolor=theme.background, layout="constrained")
    axes = figure.add_subplot(facecolor=theme.background)
    for y, line in enumerate(cells):
        for x, cell in enumerate(line):
            axes.add_patch(
                rectangle(
                    (x - 0.48, y - 0.46),
                    0.96,
                    0.92,
                    facecolor=theme.direct if cell.direct else theme.relayed,
                    edgecolor=theme.wrong if not cell.ok else theme.background,
                    linewidth=2.5 if not cell.ok else 0.5,
                    hatch=None if cell.ok else "//",
                )
            )
            axes.text(x, y, cell.text, ha="center", va="center", color=theme.text, fontsize=8)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xticks(range(len(columns)), [one.replace("/", "\n") for one in columns])
    axes.set_yticks(range(len(rows)), list(rows))
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.tick_params(length=0, colors=theme.text, labelsize=9)
    axes.set_xlabel("accepter's NAT (mapping, filtering)", color=theme.text)
    axes.set_ylabel("dialer's NAT", color=theme.text)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure


def save(figure: Any, stem: Path) -> list[Path]:
    """The figure as ``stem.png`` and ``stem.svg``."""
    paths = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    for path in paths:
        figure.savefig(path, dpi=150, facecolor=figure.get_facecolor())
    return paths


def _matplotlib() -> tuple[Any, Any]:
    """Figure and Rectangle, without pyplot: no display is needed, and no global state is made."""
    try:
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError:
        raise BackendUnavailableError(
            "figures need matplotlib", "pip install 'quicpipe-lab[plot]'"
        ) from None
    return Figure, Rectangle
