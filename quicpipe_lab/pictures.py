"""The pictures of a run by name: for the commands, the report and notebooks.

Nothing of matplotlib is imported before a picture is drawn.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.evidence import Evidence, open_run
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.shell.out_file import require_file

if TYPE_CHECKING:
    from quicpipe_lab.analysis.plots.style import Drawing
    from quicpipe_lab.backends.matrix import CellResult

KINDS = (".png", ".svg", ".pdf")


@dataclass(frozen=True, slots=True)
class Picture:
    """``draw`` raises QuicpipeLabError where the run has nothing to show in it."""

    title: str
    caption: str
    draw: "Callable[[Evidence, bool], Drawing]"


def _topology(evidence: Evidence, dark: bool) -> "Drawing":
    from quicpipe_lab.analysis.plots.topology import topology

    return topology(evidence.run, dark=dark)


def _sequence(evidence: Evidence, dark: bool) -> "Drawing":
    from quicpipe_lab.analysis.plots.sequence import sequence

    return sequence(evidence.run, _packets(evidence), dark=dark)


def _timeline(evidence: Evidence, dark: bool) -> "Drawing":
    from quicpipe_lab.analysis.plots.timeline import timeline

    if not evidence.run.events:
        raise QuicpipeLabError("nothing happened in this run")
    packets = evidence.packets if evidence.capture is not None else None
    return timeline(evidence.run, packets, dark=dark)


def _nat_tables(evidence: Evidence, dark: bool) -> "Drawing":
    from quicpipe_lab.analysis.plots.nat_tables import nat_tables

    return nat_tables(evidence.run, _packets(evidence), dark=dark)


def _relay(evidence: Evidence, dark: bool) -> "Drawing":
    from quicpipe_lab.analysis.plots.relay import relay

    return relay(evidence.run, _packets(evidence), dark=dark)


def _packets(evidence: Evidence) -> list[Packet]:
    if evidence.capture is None:
        raise QuicpipeLabError("this run was not captured")
    return evidence.packets


PICTURES: Mapping[str, Picture] = MappingProxyType(
    {
        "topology": Picture(
            "Who is where",
            "What hangs from what, what the NATs do, and which way data went. Dotted frames are"
            " realms of addresses of their own.",
            _topology,
        ),
        "sequence": Picture(
            "How it went, packet by packet",
            "Each line is a packet on its way from node to node; a cross marks where it was"
            " dropped. Of bulk data only the amount is told.",
            _sequence,
        ),
        "timeline": Picture(
            "Paths over time",
            "Which path each peer sent on, what both carried at the dialer, and the round trips"
            " that QUIC measured.",
            _timeline,
        ),
        "nat-tables": Picture(
            "What the NATs remembered",
            "A bar is a mapping from its birth to its end, the narrow ones below it say who may"
            " answer. Ticks are uses that refresh, crosses packets that were stopped. A bar with an"
            " arrow outlived the run.",
            _nat_tables,
        ),
        "relay": Picture(
            "The relay's work",
            "Packets between the peers, forwarded by the relay's process (hatched) or by its filter"
            " in the kernel, and how long each was away on the relay's link.",
            _relay,
        ),
    }
)
"""Of one run."""


def save(run_dir: Path, name: str, out: Path, *, dark: bool, beside: Path | None = None) -> Path:
    """One picture of a run, or of a matrix, as a file; ``beside``: another run, to compare.

    Raises QuicpipeLabError.
    """
    if out.suffix not in KINDS:
        raise QuicpipeLabError(f"{out}: a picture's name ends in {', '.join(KINDS)}")
    require_file(out)
    if beside is None:
        axes = draw(run_dir, name, dark=dark)
    else:
        axes = draw_beside(run_dir, beside, name, dark=dark)
    from quicpipe_lab.analysis.plots import style

    try:
        return style.save(axes, out)
    except OSError as error:
        raise QuicpipeLabError(f"cannot write {out}: {error.strerror or error}") from None


def draw(run_dir: Path, name: str, *, dark: bool) -> "Drawing":
    """One picture of a run, or of a matrix, by name."""
    results = matrix_results(run_dir)
    if results:
        return draw_matrix(results, name, dark=dark)
    require(name, PICTURES)
    return PICTURES[name].draw(open_run(run_dir), dark)


def require(name: str, known: Iterable[str]) -> None:
    """Raises QuicpipeLabError where there is no picture of that name."""
    names = list(known)
    if name not in names:
        raise QuicpipeLabError(
            f"there is no picture {name!r}; there are {', '.join(names)}{did_you_mean(name, names)}"
        )


def draw_beside(run_dir: Path, other: Path, name: str, *, dark: bool) -> "Drawing":
    """The relay's work in two runs, as with the filter and without."""
    if name != "relay":
        raise QuicpipeLabError(f"only the picture relay compares two runs, not {name}")
    if run_dir.resolve().name == other.resolve().name:
        raise QuicpipeLabError(f"{run_dir} and {other} have the same name, or are the same run")
    from quicpipe_lab.analysis.plots.relays import relays
    from quicpipe_lab.analysis.relaying import relaying

    by_run = {}
    for directory in (run_dir, other):
        evidence = open_run(directory)
        found = relaying(_packets(evidence), evidence.run.scenario)
        if not found.at_s:
            raise QuicpipeLabError(f"{directory}: the relay forwarded nothing")
        by_run[directory.resolve().name] = found
    return relays(by_run, dark=dark)


# Of a matrix

MATRIX_PICTURES: Mapping[str, str] = MappingProxyType(
    {"matrix": "Every NAT against every NAT", "times": "How long it took to go direct"}
)


def matrix_results(run_dir: Path) -> "list[CellResult]":
    """The results in a matrix' directory; none where it is that of a run."""
    from quicpipe_lab.backends.matrix import read_results

    return list(read_results(run_dir).values())


def draw_matrix(results: "list[CellResult]", name: str, *, dark: bool) -> "Drawing":
    """One of MATRIX_PICTURES. Raises QuicpipeLabError."""
    require(name, MATRIX_PICTURES)
    from quicpipe_lab.analysis import matrix as analysis
    from quicpipe_lab.analysis.plots.distribution import distribution
    from quicpipe_lab.analysis.plots.matrix import matrix

    if name == "matrix":
        rows, columns = analysis.names(results)
        return matrix(rows, columns, analysis.heat_cells(results), dark=dark)
    times_s = analysis.times_to_direct(results)
    if not times_s:
        raise QuicpipeLabError("no run of this matrix went direct")
    return distribution(times_s, "from the first punch to the direct path", dark=dark)
