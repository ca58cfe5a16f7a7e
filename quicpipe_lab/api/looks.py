"""What a run looks like and why it ended so, for programs and notebooks."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quicpipe_lab import pictures
from quicpipe_lab.analysis.explain import Explanation
from quicpipe_lab.analysis.explain import explain as explain_run
from quicpipe_lab.analysis.relaying import relaying
from quicpipe_lab.cycle_search import no_cycle_search
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.evidence import open_run
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.topology import Topology

if TYPE_CHECKING:
    from quicpipe_lab.analysis.plots.style import Drawing

DOTS_PER_INCH = 100.0
"""In a notebook: sharp enough to read, and some ten kB a picture."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """A picture that a notebook shows. ``axes`` are matplotlib's, to go on from."""

    axes: "Drawing"
    title: str
    caption: str = ""

    def __repr__(self) -> str:
        return f"<Drawn {self.title!r}>"

    def save(self, path: str | os.PathLike[str]) -> Path:
        """As PNG, SVG or PDF, by the name's ending."""
        from quicpipe_lab.analysis.plots import style

        return style.save(self.axes, Path(path))

    def png(self) -> bytes:
        """As a page shows it."""
        from quicpipe_lab.analysis.plots import style

        return style.png(self.axes, DOTS_PER_INCH)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """See IPython. PNG, for forges show no other pictures of a notebook as reliably."""
        import base64

        image = base64.b64encode(self.png()).decode()
        return {"image/png": image, "text/plain": f"{self.title}. {self.caption}".strip()}


def picture(
    what: RunResult | Topology | str | os.PathLike[str],
    name: str = "topology",
    *,
    dark: bool = False,
) -> Drawn:
    """A picture of a run, given as its result or its directory, or of a topology.

    ``name``: topology, sequence, timeline, nat-tables or relay. Raises QuicpipeLabError where the
    run has nothing to show in it.
    """
    if isinstance(what, Topology):
        from quicpipe_lab.analysis.plots.plan import plan

        return Drawn(plan(what, dark=dark), what.name)
    pictures.require(name, pictures.PICTURES)
    one = pictures.PICTURES[name]
    evidence = open_run(what if isinstance(what, RunResult) else Path(what))
    return Drawn(one.draw(evidence, dark), one.title, one.caption)


def relay_latency(run: RunResult | str | os.PathLike[str]) -> dict[str, float]:
    """How long the peers' packets were away on the relay's link, in microseconds: what the relay
    takes to send them on. Raises QuicpipeLabError where the relay has forwarded none."""
    evidence = open_run(run if isinstance(run, RunResult) else Path(run))
    found = relaying(evidence.packets, evidence.run.scenario).latency_s
    values = sorted(1e6 * one for series in found.values() for one in series)
    if not values:
        raise QuicpipeLabError("the relay has forwarded nothing in this run")
    last = len(values) - 1
    told = {
        "packets": len(values),
        "median_us": values[last // 2],
        "p99_us": values[99 * last // 100],
    }
    return {name: round(value, 1) for name, value in told.items()}


def explain(run: RunResult | str | os.PathLike[str]) -> Explanation:
    """Why a run ended as it did: ``verdict.sentence``, and the ``timeline`` that led there."""
    evidence = open_run(run if isinstance(run, RunResult) else Path(run))
    with no_cycle_search():
        return explain_run(evidence.run, evidence.frames, evidence.epoch_unix_s)
