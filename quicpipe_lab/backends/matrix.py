"""Every NAT against every NAT: the real programs, several labs at a time, resumable.

One process a run, forked from this one, which has imported everything before: a run costs little
more than its own work.
"""

import itertools
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from quicpipe_lab.errors import QuicpipeLabError, ScenarioError
from quicpipe_lab.model.expectation import can_go_direct
from quicpipe_lab.model.nat import FilteringBehavior, MappingBehavior, NatBehavior
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Outcome, Scenario, Transfer, WaitFor
from quicpipe_lab.model.topology import Host, Link, Nat, Relay, Topology

CELLS = tuple(
    NatBehavior(mapping, filtering)
    for mapping, filtering in itertools.product(MappingBehavior, FilteringBehavior)
)
"""The nine combinations of RFC 4787's behaviours, with random ports."""

DEFAULT_JOBS = 4
"""Labs at a time on two cores: a run waits for its punching much of the time."""
TRANSFER_BYTES = 65536
_RESULTS = "cells.jsonl"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the matrix: the dialer's NAT, the accepter's, and the how-many-th time."""

    row: NatBehavior
    column: NatBehavior
    trial: int = 0

    @property
    def name(self) -> str:
        """A name for files and people."""
        return f"{self.row}-{self.column}-{self.trial}".replace("/", "-").lower()

    @property
    def expected(self) -> Outcome:
        """What the theory says."""
        return Outcome.DIRECT if can_go_direct(self.row, self.column) else Outcome.RELAYED


@dataclass(frozen=True, slots=True)
class CellResult:
    """How a cell ended. ``direct_s``: from the first punch to the direct path; None if relayed."""

    row: str
    column: str
    trial: int
    outcome: Outcome
    expected: Outcome
    direct_s: float | None
    failure: str | None

    @property
    def ok(self) -> bool:
        """Whether it ended as expected."""
        return self.outcome == self.expected


def parse_cells(text: str | None) -> tuple[NatBehavior, ...]:
    """``EIM/APDF,APDM/APDF`` to behaviours; None is all nine. Raises ScenarioError."""
    if text is None:
        return CELLS
    by_name = {str(cell): cell for cell in CELLS}
    names = [name.strip().upper() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in by_name:
            raise ScenarioError("", f"{name!r} is none of {', '.join(by_name)}")
    if not names:
        raise ScenarioError("", "name at least one cell, as EIM/APDF")
    return tuple(by_name[name] for name in names)


def scenario_of(cell: Cell) -> Scenario:
    """Two homes with the cell's NATs: connect, punch, and move data by whatever path there is."""
    nodes = (
        Host("alice"),
        Host("bob"),
        Relay("relay"),
        Nat("nat-a", cell.row),
        Nat("nat-b", cell.column),
    )
    links = (
        Link(("core", "relay")),
        Link(("core", "nat-a")),
        Link(("core", "nat-b")),
        Link(("nat-a", "alice")),
        Link(("nat-b", "bob")),
    )
    return Scenario(
        name=cell.name,
        topology=Topology(cell.name, nodes, links),
        dialer="alice",
        accepter="bob",
        relay="relay",
        expect=cell.expected,
        steps=(WaitFor(settled=True), Transfer(TRANSFER_BYTES)),
        oob_delay_s=0.0,
        seed=cell.trial + 1,
    )


def cells_of(
    rows: Sequence[NatBehavior], columns: Sequence[NatBehavior], trials: int
) -> list[Cell]:
    """Every pair, trial by trial, so that an interrupted matrix is even."""
    return [
        Cell(row, column, trial)
        for trial, row, column in itertools.product(range(trials), rows, columns)
    ]


def run_matrix(
    cells: Sequence[Cell],
    run_dir: Path,
    *,
    jobs: int = DEFAULT_JOBS,
    capture: bool = False,
    observe: Callable[[CellResult], None] = lambda _: None,
) -> list[CellResult]:
    """Run what ``run_dir`` has no result of yet; all results, in the order of ``cells``.

    ``observe`` is called with each new result. Raises QuicpipeLabError where a run could not be
    made at all; what was run until then stays in ``run_dir`` and is not run again.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    done = dict(_read_results(run_dir / _RESULTS))
    _preload()
    with (run_dir / _RESULTS).open("a", encoding="utf-8") as file:
        for cell, result in _run_all(
            [one for one in cells if _key(one) not in done], run_dir, jobs, capture
        ):
            done[_key(cell)] = result
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
            observe(result)
    return [done[_key(cell)] for cell in cells]


def _key(cell: Cell) -> tuple[str, str, int]:
    return str(cell.row), str(cell.column), cell.trial


def _read_results(path: Path) -> Iterator[tuple[tuple[str, str, int], CellResult]]:
    """What an earlier start has finished; a line that was cut off by a kill is run again."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            data = json.loads(line)
            data |= {name: Outcome(data[name]) for name in ("outcome", "expected")}
            result = CellResult(**data)
        except (ValueError, TypeError, KeyError):
            continue
        yield (result.row, result.column, result.trial), result


def _preload() -> None:
    """Import once what every run needs."""
    from quicpipe_lab.backends.netns import backend, encoding, programs

    programs.preload()
    del backend, encoding


def _run_all(
    cells: Iterable[Cell], run_dir: Path, jobs: int, capture: bool
) -> Iterator[tuple[Cell, CellResult]]:
    waiting = iter(cells)
    running: dict[int, tuple[Cell, int]] = {}
    try:
        while True:
            for cell in itertools.islice(waiting, jobs - len(running)):
                pid = _fork_run(cell, run_dir / cell.name, capture)
                running[os.pidfd_open(pid)] = cell, pid
            if not running:
                return
            for pidfd in select.select(list(running), [], [])[0]:
                cell, pid = running.pop(pidfd)
                os.close(pidfd)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                yield cell, _result_of(cell, run_dir / cell.name, status)
    finally:
        for pidfd, (_, pid) in running.items():
            os.kill(pid, signal.SIGKILL)  # its lab goes with it
            os.waitpid(pid, 0)
            os.close(pidfd)


def _fork_run(cell: Cell, run_dir: Path, capture: bool) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        from quicpipe_lab.backends.netns import syscalls
        from quicpipe_lab.backends.netns.backend import NetnsBackend

        syscalls.set_parent_death_signal(signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
        run_dir.mkdir(exist_ok=True)
        backend = NetnsBackend(fork_labs=True, capture=capture)
        result = backend.run(scenario_of(cell), run_dir, lambda _: None)
        (run_dir / "result.json").write_text(result.dumps() + "\n", encoding="utf-8")
        status = 0
    except QuicpipeLabError as error:
        (run_dir / "complaint").write_text(str(error), encoding="utf-8")
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _result_of(cell: Cell, run_dir: Path, status: int) -> CellResult:
    if status != 0:
        complaint = run_dir / "complaint"
        problem = complaint.read_text("utf-8") if complaint.exists() else f"status {status}"
        raise QuicpipeLabError(f"the run of {cell.row} against {cell.column} failed: {problem}")
    result = RunResult.from_json(json.loads((run_dir / "result.json").read_text("utf-8")))
    direct_s = None
    if result.times_s.direct is not None and result.punching_s is not None:
        direct_s = round(result.times_s.direct - result.punching_s, 6)
    return CellResult(
        row=str(cell.row),
        column=str(cell.column),
        trial=cell.trial,
        outcome=result.outcome,
        expected=cell.expected,
        direct_s=direct_s,
        failure=result.failure,
    )
