"""Every NAT against every NAT, and NATs measured: for programs and notebooks. Both block."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from quicpipe_lab import pictures
from quicpipe_lab.analysis import matrix as analysis
from quicpipe_lab.analysis.explain import Explanation
from quicpipe_lab.api.looks import Drawn, explain
from quicpipe_lab.backends import nat_check
from quicpipe_lab.backends.many import Manner
from quicpipe_lab.backends.matrix import CellResult, cells_of, parse_nats, run_matrix, run_name
from quicpipe_lab.errors import QuicpipeLabError, ScenarioError
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.topology import Topology
from quicpipe_lab.shell.out_file import run_folder


class Certificates(tuple[Certificate, ...]):
    """What NATs were declared and measured to be, and on which backend; a notebook shows it as
    tables."""

    backend: str

    @property
    def ok(self) -> bool:
        """Whether all are what they are declared to be."""
        return all(one.ok for one in self)


def check_nats(
    what: Topology | str | os.PathLike[str], *, backend: str = "auto", lifetime: bool = False
) -> Certificates:
    """Measure NATs, as ``quicpipe-lab nat-check`` does: those of a topology, given by itself, by
    name or by path, or a named one, ``home`` or ``symmetric``.

    ``backend``: as ``matrix`` has it; which it was stands in the result.
    ``lifetime``: wait for idle mappings to end as well; in virtual time (``sim``) that takes none.
    """
    if not isinstance(what, Topology):
        what = nat_check.nats_named(os.fspath(what))
    checked = nat_check.check_nats(what, backend=backend, lifetime=lifetime)
    found = Certificates(checked.certificates)
    found.backend = checked.backend
    return found


@dataclass(frozen=True, eq=False)
class Matrix:
    """Runs of pairs of NATs, in the order in which they were asked for; all on one backend."""

    results: tuple[CellResult, ...]
    run_dir: Path
    backend: str

    def __str__(self) -> str:
        return analysis.text_table(self.results)

    def __repr__(self) -> str:
        told = analysis.summary(self.results)
        ends = f"{told['as_expected']} as expected, {told['direct']} direct"
        return f"<Matrix of {told['runs']} runs on {self.backend}, {ends}>"

    @property
    def ok(self) -> bool:
        """Whether all ended as theory says."""
        return all(one.ok for one in self.results)

    def picture(self, name: str = "matrix", *, dark: bool = False) -> Drawn:
        """``matrix``, or ``times``: how long it took to go direct."""
        drawn = pictures.draw_matrix(list(self.results), name, dark=dark)
        return Drawn(drawn, pictures.MATRIX_PICTURES[name])

    def explain(self, row: str, column: str, trial: int = 0) -> Explanation:
        """Why one of the runs ended as it did. ``row`` is the dialer's NAT."""
        for one in self.results:
            if (one.row, one.column, one.trial) == (row, column, trial):
                return explain(self.run_dir / run_name(row, column, trial))
        raise QuicpipeLabError(f"the matrix has no run {trial} of {row!r} against {column!r}")


def matrix(
    rows: str | Iterable[str] | None = None,
    columns: str | Iterable[str] | None = None,
    *,
    trials: int = 1,
    backend: str = "auto",
    search: bool = False,
    run_dir: str | os.PathLike[str] | None = None,
) -> Matrix:
    """Run every pair of NATs: ``rows`` dial, ``columns`` accept.

    Each is a list, ``["EIM/APDF", "symmetric"]`` or ``"EIM/APDF, symmetric"``, ``"presets"`` for
    all named ones, or None for the nine cells of RFC 4787. ``backend``: "auto" is the kernel
    ("netns") where this machine lets us have namespaces, the simulator ("sim") elsewhere. With a
    ``run_dir`` that has results it goes on where it stopped.
    """
    if run_dir is None:
        run_dir = time.strftime("runs/matrix-%Y%m%d-%H%M%S")
    folder = run_folder(run_dir)
    nats = parse_nats(_names("rows", rows)), parse_nats(_names("columns", columns))
    cells = cells_of(*nats, trials, search=search)
    manner = Manner(backend, capture=True).settled()
    return Matrix(tuple(run_matrix(cells, folder, manner=manner)), folder, manner.backend)


def _names(field: str, given: object) -> str | None:
    """As parse_nats takes them. Raises ScenarioError."""
    if given is None or isinstance(given, str):
        return given
    names: list[str] = []
    for one in given if isinstance(given, Iterable) else [given]:
        if isinstance(one, str):
            names.append(one)
        else:
            wanted = "names of NATs, as ['home', 'EIM/APDF'], or 'presets', or None"
            raise ScenarioError(field, f"is {wanted}; {one!r} is no name")
    return ",".join(names)
