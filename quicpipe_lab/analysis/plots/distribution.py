"""Picture 7: repeated trials as an empirical distribution, with percentiles."""

import itertools
import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from quicpipe_lab.analysis.matrix import MOST_SERIES
from quicpipe_lab.analysis.plots import style
from quicpipe_lab.analysis.units import duration

PERCENTS = (50, 90, 99)
_CONFIDENCE = 0.95
_LINES: tuple[style.Dash, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_MARKERS = "osD^"
_LOGARITHMIC_FROM = 50


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: a value that was measured. ``ordered`` is not empty."""
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def distribution(
    samples_s: Mapping[str, Sequence[float]],
    what: str,
    ax: Axes | None = None,
    *,
    dark: bool = False,
    of: str = "trials",
) -> Axes:
    """Which share of the trials took at most so long; ``what`` names the axis, ``of`` the trials.

    The band is the 95 % confidence band of Dvoretzky, Kiefer and Wolfowitz with Massart's
    constant (Ann. Probab. 18, 1990). Raises ValueError for more than MOST_SERIES, or for none
    that has a value.
    """
    series = {name: sorted(values) for name, values in samples_s.items()}
    if len(series) > MOST_SERIES or not any(series.values()):
        given = f"{len(series)} ({sum(map(bool, series.values()))} full)"
        raise ValueError(f"shows 1 to {MOST_SERIES} distributions, not {given}")
    colours = style.theme(dark)
    if ax is None:
        ax = style.new_axes(6.0, 3.3 + 0.2 * len(series), colours)
    style.dress(ax, colours, grid="y")
    hues = (colours.direct, colours.relayed, colours.nat_edge, colours.outband)
    for (name, values), hue, line, marker in zip(
        series.items(), hues, itertools.cycle(_LINES), _MARKERS, strict=False
    ):
        if not values:
            continue  # the others look as they do beside it
        steps = [(index + 1) / len(values) for index in range(len(values))]
        x = [1000 * value for value in (values[0], *values)]
        ax.plot(x, [0.0, *steps], drawstyle="steps-post", color=hue, linestyle=line, linewidth=1.6)
        margin = math.sqrt(math.log(2 / (1 - _CONFIDENCE)) / (2 * len(values)))
        low = [max(0.0, step - margin) for step in (0.0, *steps)]
        high = [min(1.0, step + margin) for step in (0.0, *steps)]
        ax.fill_between(x, low, high, step="post", color=hue, alpha=0.13, linewidth=0)
        ax.plot(
            [1000 * percentile(values, percent) for percent in PERCENTS],
            [math.ceil(percent / 100 * len(values)) / len(values) for percent in PERCENTS],
            linestyle="none",
            marker=marker,
            markersize=5,
            color=hue,
        )
        ax.plot([], [], color=hue, linestyle=line, marker=marker, label=_label(name, values))
    _scale(ax, [value for values in series.values() if values for value in (values[0], values[-1])])
    ax.set_ylim(0, 1.02)
    ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
    ax.set_xlabel(f"{what} (ms)")
    ax.set_ylabel(f"{of} that took at most so long")
    _add_legend(ax, colours)
    return ax


def _scale(ax: Axes, extremes_s: Sequence[float]) -> None:
    """Logarithmic where one of them would not be seen otherwise."""
    least, most = min(extremes_s), max(extremes_s)
    if least <= 0 or most / least < _LOGARITHMIC_FROM:
        return
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most / least < 1e3 else (1,)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())


def _label(name: str, values: Sequence[float]) -> str:
    marks = ", ".join(
        f"{percent} %: {duration(percentile(values, percent))}" for percent in PERCENTS
    )
    return f"{name} (n = {len(values):,}): {marks}"


def _add_legend(ax: Axes, colours: style.Theme) -> None:
    """Above the axes: nothing is below it there."""
    ax.legend(
        loc="lower left",
        bbox_to_anchor=(-0.05, 1.01),
        borderaxespad=0,
        frameon=False,
        fontsize=style.SMALL,
        labelcolor=colours.muted,
        handlelength=3.2,
    )
