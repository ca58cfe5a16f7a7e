"""Every NAT against every NAT: several runs at a time, resumable."""

import hashlib
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from quicpipe_lab.backends.many import Manner, run_many
from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model import link_presets
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.expectation import can_go_direct, is_a_race
from quicpipe_lab.model.ipv6 import over_ipv6
from quicpipe_lab.model.link import LinkPreset
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    Ipv6Behavior,
    MappingBehavior,
    NatBehavior,
)
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.result import PortSearched, RunResult
from quicpipe_lab.model.scenario import Outcome, Scenario, Transfer, WaitFor
from quicpipe_lab.model.scenario_data import dump_scenario
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.model.topology import Host, Link, Nat, Relay, Topology
from quicpipe_lab.model.whole import whole

CELLS: Mapping[str, NatBehavior] = MappingProxyType(
    {
        str(cell): cell
        for cell in (
            NatBehavior(mapping, filtering)
            for mapping, filtering in itertools.product(MappingBehavior, FilteringBehavior)
        )
    }
)
"""The nine combinations of RFC 4787's behaviours, with random ports, by name."""

IPV6_ROUTERS: Mapping[str, NatBehavior] = MappingProxyType(
    {
        str(kind): NatBehavior(ipv6=kind)
        for kind in (Ipv6Behavior.ROUTED, Ipv6Behavior.NPTV6, Ipv6Behavior.NAT66)
    }
)
"""What routers do to IPv6, by name; where they filter, as the most common home router does."""

TRANSFER_BYTES = 65536
SETTLED_WITHIN_S = 60.0
_RESULTS = "cells.jsonl"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of the matrix: the dialer's NAT, the accepter's, and the how-many-th time.

    ``link``: the preset of both homes' lines and the relay's, None for plain cables. Over IPv6, a
    NAT is what its router does to that.
    """

    row: str
    row_nat: NatBehavior
    column: str
    column_nat: NatBehavior
    trial: int = 0
    link: LinkPreset | None = None
    family: Family = Family.IPV4
    search: bool = False

    @property
    def name(self) -> str:
        """A name for files and people."""
        return run_name(self.row, self.column, self.trial)

    @property
    def expected(self) -> Outcome | None:
        """What the theory says; None where it says that chance decides."""
        pair = self.row_nat, self.column_nat
        one, other = map(over_ipv6, pair) if self.family is Family.IPV6 else pair
        if is_a_race(one, other, search=self.search):
            return None
        direct = can_go_direct(one, other, search=self.search)
        return Outcome.DIRECT if direct else Outcome.RELAYED

    def scenario(self) -> Scenario:
        """Two homes with these NATs: connect, punch, and move data by whatever path there is."""
        nodes = (
            Host("alice"),
            Host("bob"),
            Relay("relay"),
            Nat("nat-a", self.row_nat),
            Nat("nat-b", self.column_nat),
        )
        line = self.link
        down, up = (line.down, line.up) if line else (None, None)
        links = (
            Link(("core", "relay")),
            Link(("core", "nat-a"), down, up),
            Link(("core", "nat-b"), down, up),
            Link(("nat-a", "alice")),
            Link(("nat-b", "bob")),
        )
        return Scenario(
            name=self.name,
            topology=Topology(self.name, nodes, links, dual_stack=self.family is Family.IPV6),
            family=self.family,
            dialer="alice",
            accepter="bob",
            relay="relay",
            expect=self.expected or Outcome.DIRECT,
            steps=(WaitFor(settled=True, within_s=SETTLED_WITHIN_S), Transfer(TRANSFER_BYTES)),
            oob_delay_s=0.0,
            seed=self.trial + 1,
            search=self.search,
        )


class Run(Protocol):
    """What can be run: a cell, or a situation (situations.py)."""

    @property
    def row(self) -> str: ...
    @property
    def column(self) -> str: ...
    @property
    def trial(self) -> int: ...
    @property
    def name(self) -> str: ...
    @property
    def expected(self) -> Outcome | None: ...
    def scenario(self) -> Scenario: ...


@dataclass(frozen=True, slots=True)
class CellResult:
    """How a cell ended. ``direct_s``: from the first punch to the direct path; None if relayed.
    ``expected``: None where chance decides, and either path is right. ``search``: the port search
    that there was, None for none. ``conditions``: what was run, all of it, as a digest."""

    row: str
    column: str
    trial: int
    outcome: Outcome
    expected: Outcome | None
    direct_s: float | None
    failure: str | None
    search: PortSearched | None = None
    conditions: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ended as expected."""
        if self.expected is None:
            return self.outcome is not Outcome.FAILED
        return self.outcome is self.expected


def run_name(row: str, column: str, trial: int) -> str:
    """What a run of the matrix is called, and its directory."""
    return f"{row}-{column}-{trial}".replace("/", "-").lower()


def parse_nats(
    text: str | None, scope: FilterScope | None = None, family: Family = Family.IPV4
) -> dict[str, NatBehavior]:
    """``EIM/APDF,symmetric`` to behaviours by name: cells, presets, ``presets`` for all of these,
    None for all nine cells. ``scope`` replaces that of the cells. Over IPv6, None is for what
    routers do to that, and ``nptv6`` one of these. Raises ScenarioError."""
    ipv6 = family is Family.IPV6
    if text is None:
        names = list(IPV6_ROUTERS if ipv6 else CELLS)
    elif text == "presets":
        names = list(PRESETS)
    else:
        names = [name.strip() for name in text.split(",") if name.strip()]
    known = {**CELLS, **PRESETS, **(IPV6_ROUTERS if ipv6 else {})}
    found: dict[str, NatBehavior] = {}
    for name in names:
        key = name.upper() if name.upper() in CELLS else name
        if key not in known:
            nearest = did_you_mean(name, known)
            raise ScenarioError("", f"{name!r} is no cell (as EIM/APDF) and no preset{nearest}")
        nat = known[key]
        found[key] = replace(nat, filter_scope=scope) if scope and key in CELLS else nat
    if not found:
        raise ScenarioError("", "name at least one NAT, as EIM/APDF or symmetric")
    return found


def parse_link(name: str | None) -> LinkPreset | None:
    """A link's preset by name. Raises ScenarioError."""
    if name is None:
        return None
    if name not in link_presets.PRESETS:
        nearest = did_you_mean(name, link_presets.PRESETS)
        raise ScenarioError("", f"there is no link preset {name!r}{nearest}")
    return link_presets.PRESETS[name]


def cells_of(
    rows: Mapping[str, NatBehavior],
    columns: Mapping[str, NatBehavior],
    trials: int = 1,
    link: LinkPreset | None = None,
    family: Family = Family.IPV4,
    *,
    search: bool = False,
) -> list[Cell]:
    """Every pair, trial by trial, so that an interrupted matrix is even. Raises ScenarioError."""
    trials = whole("trials", trials, 1)
    return [
        Cell(row, rows[row], column, columns[column], trial, link, family, search)
        for trial, row, column in itertools.product(range(trials), rows, columns)
    ]


def run_matrix(
    cells: Sequence[Run],
    run_dir: Path,
    *,
    manner: Manner | None = None,
    observe: Callable[[CellResult], None] = lambda _: None,
) -> list[CellResult]:
    """Run what ``run_dir`` has no result of yet, or one of other conditions (another link, filter
    scope, backend); all results, in the order of ``cells``.

    ``observe`` is called with each new result. Raises QuicpipeLabError where a run could not be
    made at all; what was run until then stays in ``run_dir`` and is not run again.
    """
    manner = (manner or Manner()).settled()
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = (run_dir / _RESULTS).open("a", encoding="utf-8")
    except OSError as error:
        raise ScenarioError("run_dir", f"cannot write in {run_dir}: {error.strerror}") from None
    with file:
        done = read_results(run_dir)
        scenarios = [one.scenario() for one in cells]
        conditions = [_conditions(one, manner) for one in scenarios]
        wanted = list(zip(cells, scenarios, conditions, strict=True))
        waiting = [one for one in wanted if not _is_done(one[0], one[2], done)]
        tasks = [(scenario, run_dir / cell.name) for cell, scenario, _ in waiting]
        for number, outcome in run_many(tasks, manner):
            cell, _, told = waiting[number]
            done[_key(cell)] = result = _judged(cell, outcome, told)
            file.write(json.dumps(asdict(result)) + "\n")
            file.flush()
            observe(result)
    return [done[_key(cell)] for cell in cells]


def _conditions(scenario: Scenario, manner: Manner) -> str:
    return hashlib.sha256(f"{manner.backend} {dump_scenario(scenario)}".encode()).hexdigest()[:16]


def _is_done(cell: Run, conditions: str, done: Mapping[tuple[str, str, int], CellResult]) -> bool:
    result = done.get(_key(cell))
    return result is not None and result.conditions == conditions


def _key(cell: Run) -> tuple[str, str, int]:
    return cell.row, cell.column, cell.trial


def read_results(run_dir: Path) -> dict[tuple[str, str, int], CellResult]:
    """What was finished there; a line that was cut off by a kill is no result."""
    path = run_dir / _RESULTS
    if not path.exists():
        return {}
    results = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            data = json.loads(line)
            data["outcome"] = Outcome(data["outcome"])
            data["expected"] = data["expected"] and Outcome(data["expected"])
            data["search"] = data.get("search") and PortSearched.from_json(data["search"])
            result = CellResult(**data)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue
        results[result.row, result.column, result.trial] = result
    return results


def _judged(cell: Run, result: RunResult, conditions: str) -> CellResult:
    direct_s = None
    if result.times_s.direct is not None and result.punching_s is not None:
        direct_s = round(result.times_s.direct - result.punching_s, 6)
    return CellResult(
        row=cell.row,
        column=cell.column,
        trial=cell.trial,
        outcome=result.outcome,
        expected=cell.expected,
        direct_s=direct_s,
        failure=result.failure,
        search=result.search,
        conditions=conditions,
    )
