"""Scenarios to run, without asyncio: a run has the thread that it is called in."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from quicpipe_lab import resources
from quicpipe_lab.backends import base
from quicpipe_lab.backends.sim.simulation import Simulation
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Scenario


class _Scenarios(Mapping[str, Scenario]):
    """The bundled scenarios by name."""

    def __getitem__(self, name: str) -> Scenario:
        if name not in resources.scenario_names():
            raise KeyError(name)
        return resources.find_scenario(name)

    def __iter__(self) -> Iterator[str]:
        return iter(resources.scenario_names())

    def __len__(self) -> int:
        return len(resources.scenario_names())

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {scenario.summary}" for name, scenario in self.items())


scenarios = _Scenarios()


def simulate(
    scenario: Scenario | str, *, run_dir: str | os.PathLike[str] | None = None
) -> Simulation:
    """A scenario, also by its name or path, in virtual time and under your control: on by a step,
    to an event, back in time. ``run_dir`` exists, where it is given."""
    if isinstance(scenario, str):
        scenario = resources.find_scenario(scenario)
    return Simulation(scenario, run_dir=None if run_dir is None else Path(run_dir))


def run(
    scenario: Scenario | str, *, run_dir: str | os.PathLike[str] | None = None, **options: Any
) -> RunResult:
    """Run a scenario, also by its name or path; it blocks. See backends.base.run for the rest."""
    if isinstance(scenario, str):
        scenario = resources.find_scenario(scenario)
    folder = None if run_dir is None else Path(run_dir)
    return base.run(scenario, run_dir=folder, **options)
