"""The search for a seed that breaks an invariant: many variations of a scenario, in virtual time.

Which seed is the first does not depend on how many are tried at a time: results are looked at in
the order of seeds, and what was tried beyond the first that broke something does not count.
"""

import shlex
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from quicpipe_lab.backends.sim.backend import SimBackend
from quicpipe_lab.backends.sim.shrink import MOST_TRIALS, shrink
from quicpipe_lab.backends.sim.trial import QUIET, Trial, try_out
from quicpipe_lab.backends.sim.variation import Variation, vary
from quicpipe_lab.backends.simulators import Simulators
from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.scenario import SEEDS, Scenario
from quicpipe_lab.model.whole import whole
from quicpipe_lab.shell import scenario_file

_AHEAD = 4
"""Seeds a worker that are given out before the first of them is looked at."""

Observe = Callable[[Trial], None]
"""Called with every trial, in the order of seeds."""


@dataclass(frozen=True)
class Found:
    """The first seed that broke an invariant, ``trial``, and what it was shrunk to: the scenario,
    what became of it, and the file that it is in."""

    trial: Trial
    scenario: Scenario
    shrunk: Trial
    shrinking_trials: int
    file: Path

    @property
    def command(self) -> str:
        """What repeats it."""
        return f"quicpipe-lab scenario {shlex.quote(_as_argument(self.file))} --backend sim"


@dataclass
class Exploration:
    """What was tried, in the order of seeds; ``wall_s`` is all that another time may differ in."""

    scenario: str
    first_seed: int
    asked: int
    trials: list[Trial] = field(default_factory=list)
    found: Found | None = None
    wall_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing was broken."""
        return self.found is None

    @property
    def counts(self) -> dict[str, int]:
        """Trials by their end: ``direct``, ``relayed``, ``no path`` (the network's doing), and the
        names of the invariants that were broken."""
        ends = Counter(
            one.broken or ("no path" if one.failure else one.outcome) for one in self.trials
        )
        return dict(sorted(ends.items()))

    @property
    def seeds(self) -> str:
        """How many were tried, and which."""
        last = self.first_seed + len(self.trials) - 1
        return f"{len(self.trials)} of {self.asked} seeds ({self.first_seed} to {last})"

    @property
    def simulated_s(self) -> float:
        """Virtual seconds in all."""
        return sum(one.simulated_s for one in self.trials)

    def __str__(self) -> str:
        speed = self.simulated_s / self.wall_s if self.wall_s else 0.0
        ends = ", ".join(f"{count} {end}" for end, count in self.counts.items())
        lines = [
            f"{self.seeds} of {self.scenario}: {ends}",
            f"{self.simulated_s:,.0f} s simulated in {self.wall_s:.1f} s,"
            f" {speed:,.0f} times as fast",
        ]
        found = self.found
        if found is None:
            lines.append("no invariant was broken")
        else:
            lines += [
                f"seed {found.trial.seed}: {found.trial.failure}",
                f"shrunk by {found.shrinking_trials} further runs: {found.shrunk.failure}",
                f"repeat it: {found.command}",
            ]
        return "\n".join(lines)

    def to_data(self) -> dict[str, Any]:
        """As JSON takes it."""
        found = self.found
        return {
            "scenario": self.scenario,
            "seeds": {"first": self.first_seed, "asked": self.asked, "tried": len(self.trials)},
            "counts": self.counts,
            "simulated_s": round(self.simulated_s, 3),
            "wall_s": round(self.wall_s, 3),
            "ok": self.ok,
            "found": found
            and {
                "seed": found.trial.seed,
                "invariant": found.trial.broken,
                "failure": found.trial.failure,
                "shrunk_failure": found.shrunk.failure,
                "shrinking_trials": found.shrinking_trials,
                "file": str(found.file),
                "command": found.command,
            },
        }


def explore(
    scenario: Scenario,
    *,
    seeds: int,
    first_seed: int | None = None,
    jobs: int | None = None,
    file: Path | None = None,
    observe: Observe = lambda _: None,
    backend: SimBackend = QUIET,
    shrinking_trials: int = MOST_TRIALS,
) -> Exploration:
    """Try ``seeds`` of them, from ``first_seed`` on (default: the scenario's own), or up to the
    first that breaks an invariant; that one is shrunk and saved in ``file`` (default:
    NAME-seed-SEED.toml, here).

    Raises ScenarioError, UnsupportedBehaviorError.
    """
    least, most = SEEDS
    seeds = whole("seeds", whole("seeds", seeds, 1), 1, most - least + 1)  # so many there are
    jobs = jobs if jobs is None else whole("jobs", jobs, 1)
    first_seed = scenario.seed if first_seed is None else first_seed
    first_seed = whole("first_seed", first_seed, least, most - seeds + 1)
    scenario = scenario_file.as_read(replace(scenario, seed=first_seed))
    scenario_file.require_writable(file or _default_file(scenario, scenario.seed))
    began_s = time.monotonic()
    exploration = Exploration(scenario.name, first_seed, seeds)
    for number, trial in enumerate(_trials(scenario, seeds, jobs, backend)):
        exploration.trials.append(trial)
        observe(trial)
        if trial.broken is not None:
            small, tried = shrink(vary(scenario, number), _breaks(trial, backend), shrinking_trials)
            exploration.found = _save(small, trial, tried, backend, file)
            break
    exploration.wall_s = time.monotonic() - began_s
    return exploration


def _trials(
    scenario: Scenario, seeds: int, jobs: int | None, backend: SimBackend
) -> Iterator[Trial]:
    """In the order of seeds."""
    if jobs == 1:
        for number in range(seeds):
            yield _try(scenario, number, backend)
        return
    with Simulators(jobs, seeds) as pool:
        waiting: list[Future[Trial]] = []
        ahead = _AHEAD * (jobs or 8)
        for number in range(seeds):
            waiting.append(pool.submit(_try, scenario, number, backend))
            if len(waiting) > ahead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()


def _try(scenario: Scenario, number: int, backend: SimBackend) -> Trial:
    return try_out(vary(scenario, number).applied(), backend)


def _breaks(trial: Trial, backend: SimBackend) -> Callable[[Scenario], bool]:
    return lambda candidate: try_out(candidate, backend).broken == trial.broken


def _save(
    variation: Variation, trial: Trial, tried: int, backend: SimBackend, file: Path | None
) -> Found:
    small = scenario_file.as_read(variation.applied())
    again = try_out(small, backend)
    file = file or _default_file(small, trial.seed)
    found = Found(trial, small, again, tried, file)
    comment = (
        f"Found by quicpipe-lab explore {small.name}, seed {trial.seed}, and shrunk:\n"
        f"{again.failure}\n\n    {found.command}"
    )
    try:
        scenario_file.save(small, file, comment)
    except ScenarioError as error:
        raise ScenarioError("", f"{error}; found was seed {trial.seed}: {again.failure}") from None
    return found


def _default_file(scenario: Scenario, seed: int) -> Path:
    return Path(f"{scenario.name}-seed-{seed}.toml")


def _as_argument(file: Path) -> str:
    """A scenario's name without a slash must end in .toml to be taken for a path."""
    text = str(file)
    return text if "/" in text or file.suffix == ".toml" else f"./{text}"
