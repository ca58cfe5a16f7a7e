"""Picture 6: the relay's work, by its process and by its filter: how much, and how fast."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.analysis.plots import style
from quicpipe_lab.analysis.plots.distribution import distribution
from quicpipe_lab.analysis.relaying import FILTER, USERSPACE, relaying
from quicpipe_lab.analysis.run_files import Run
from quicpipe_lab.errors import QuicpipeLabError

_BINS = 80


def relay(
    run: Run, packets: Sequence[Packet], ax: Axes | None = None, *, dark: bool = False
) -> Axes:
    """Above, packets a second; below, the distribution of how long each was at the relay.

    The time is from when a packet went into the relay's link to when it came out again. Raises
    QuicpipeLabError where nothing was relayed.
    """
    colours = style.theme(dark)
    found = relaying(packets, run.scenario)
    if not found.at_s:
        raise QuicpipeLabError("the relay forwarded nothing")
    if ax is None:
        ax = style.new_axes(7.5, 4.6 + 0.2 * len(found.at_s), colours)
    above, below = style.panels(ax, (1.0, 1.7), colours, gap=0.24, shared=False)
    _draw_rates(above, found.at_s, colours)
    distribution(
        {
            "by the filter": found.latency_s.get(FILTER, []),
            "by the process": found.latency_s.get(USERSPACE, []),
        },
        "at the relay, its link there and back",
        below,
        dark=dark,
        of="packets",
    )
    return ax


FILLS = {USERSPACE: ("relayed", "relayed_fill", "////"), FILTER: ("direct", "direct_fill", None)}
"""Of one who forwards: edge, filling, hatching. The process' share stands upon the filter's, which
is drawn over it."""


def _draw_rates(ax: Axes, at_s: Mapping[str, list[float]], colours: style.Theme) -> None:
    times = [one for several in at_s.values() for one in several]
    start_s, end_s = min(times), max(times) + 1e-6
    bin_s = (end_s - start_s) / _BINS
    x = [start_s + bin_s * index for index in range(_BINS + 1)]
    style.dress(ax, colours, grid="y")
    for who, (edge, fill, hatch) in FILLS.items():
        if who not in at_s:
            continue
        stacked = at_s[who] if who == FILTER else times
        counts = [0.0] * _BINS
        for t_s in stacked:
            counts[int((t_s - start_s) / bin_s)] += 1 / bin_s
        top = [*counts, counts[-1]]
        colour = getattr(colours, edge)
        ax.fill_between(
            x,
            top,
            step="post",
            facecolor=getattr(colours, fill),
            edgecolor=colour,
            hatch=hatch,
            linewidth=0,
        )
        dash = style.DIRECT_LINE if who == FILTER else style.RELAYED_LINE
        ax.plot(x, top, drawstyle="steps-post", color=colour, linestyle=dash, linewidth=1.2)
    ax.set_xlim(start_s, end_s)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("seconds since the run began")
    ax.set_ylabel("packets/s")
