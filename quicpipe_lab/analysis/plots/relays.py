"""Picture 6 over several runs, as one with the filter and one without: packets and latency."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from quicpipe_lab.analysis.matrix import MOST_SERIES
from quicpipe_lab.analysis.plots import style
from quicpipe_lab.analysis.plots.distribution import distribution
from quicpipe_lab.analysis.plots.relay import FILLS
from quicpipe_lab.analysis.relaying import FILTER, USERSPACE, Relaying

_BY = {FILTER: "by the filter", USERSPACE: "by the process"}
_LEAST_SHARE = 0.01
_BAR = 0.42


def relays(by_run: Mapping[str, Relaying], ax: Axes | None = None, *, dark: bool = False) -> Axes:
    """Above, who forwarded how many packets in each run; below, how long they were at the relay.

    Less than a hundredth of a run's packets has no curve of its own: of two packets there is no
    distribution. Raises ValueError where there are more curves than can be told apart.
    """
    colours = style.theme(dark)
    latencies = {
        f"{number}, {_BY[who]}": found.latency_s[who]
        for who in (FILTER, USERSPACE)
        for number, found in enumerate(by_run.values(), 1)
        if len(found.at_s.get(who, ())) >= _LEAST_SHARE * sum(map(len, found.at_s.values()))
        and who in found.latency_s
    }
    if len(latencies) > MOST_SERIES:
        raise ValueError(f"shows {MOST_SERIES} distributions at most, not {len(latencies)}")
    if ax is None:
        ax = style.new_axes(7.5, 4.0 + 0.2 * len(latencies) + 0.5 * len(by_run), colours)
    heights = (0.6 * len(by_run), 2.6)
    above, below = style.panels(ax, heights, colours, gap=0.24, shared=False)
    _draw_amounts(above, by_run, colours)
    what = "at the relay, its link there and back"
    distribution(latencies, what, below, dark=dark, of="packets")
    return ax


def _draw_amounts(ax: Axes, by_run: Mapping[str, Relaying], colours: style.Theme) -> None:
    """A bar for each run, its parts by who forwarded."""
    style.dress(ax, colours, grid="x")
    for row, found in enumerate(by_run.values()):
        left, told = 0, list[str]()
        for who in (FILTER, USERSPACE):
            packets = len(found.at_s.get(who, ()))
            edge, fill, hatch = FILLS[who]
            ax.barh(
                row,
                packets,
                _BAR,
                left,
                facecolor=getattr(colours, fill),
                edgecolor=getattr(colours, edge),
                hatch=hatch,
            )
            left += packets
            if packets:
                told.append(f"{packets:,} {_BY[who]}")
        ax.text(0, row - 0.68 * _BAR, ", ".join(told), fontsize=style.SMALL, color=colours.muted)
    names = [f"{number}  {name}" for number, name in enumerate(by_run, 1)]
    ax.set_yticks(range(len(by_run)), names)
    ax.set_ylim(len(by_run) - 0.6, -0.75)
    ax.set_xlabel("packets")
