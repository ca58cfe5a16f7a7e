"""Scenarios to run, without asyncio: a run has the thread that it is called in."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from quicpipe_lab import resources
from quicpipe_lab.backends import base
from quicpipe_lab.backends.sim.simulation import Simulation
from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.model.topology import Topology
from quicpipe_lab.shell.out_file import run_folder

T = TypeVar("T")


class Bundled(Mapping[str, T]):
    """What the package brings, by name: read when it is asked for."""

    def __init__(
        self, names: Callable[[], list[str]], find: Callable[[str], T], tell: Callable[[T], str]
    ) -> None:
        self._names = names
        self._find = find
        self._tell = tell

    def __getitem__(self, name: str) -> T:
        if name not in self._names():
            raise KeyError(name)
        return self._find(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {self._tell(one)}" for name, one in self.items())


def _nodes(topology: Topology) -> str:
    return ", ".join(node.name for node in topology.nodes)


scenarios = Bundled(resources.scenario_names, resources.find_scenario, lambda one: one.summary)
topologies = Bundled(resources.topology_names, resources.find_topology, _nodes)


def simulate(
    scenario: Scenario | str | os.PathLike[str],
    *,
    run_dir: str | os.PathLike[str] | None = None,
) -> Simulation:
    """A scenario, also by its name or path, in virtual time and under your control: on by a step,
    to an event, back in time. ``run_dir`` exists, where it is given, and is the simulation's alone
    until that is over or closed."""
    return Simulation(
        as_scenario(scenario), run_dir=None if run_dir is None else run_folder(run_dir)
    )


def run(
    scenario: Scenario | str | os.PathLike[str],
    *,
    run_dir: str | os.PathLike[str] | None = None,
    progress: bool = False,
    **options: Any,
) -> RunResult:
    """Run a scenario, also by its name or path; it blocks. See backends.base.run for the rest.

    ``progress``: show meanwhile what happens, with a bar, on a terminal and in a notebook. See
    ``run_async`` for programs and notebooks that have other things to do meanwhile.
    """
    scenario = as_scenario(scenario)
    folder = None if run_dir is None else run_folder(run_dir)
    if not progress:
        return base.run(scenario, run_dir=folder, **options)
    from quicpipe_lab.console import watcher

    also = options.pop("observe", lambda _: None)
    with watcher(scenario, quiet=False) as watching:

        def observe(event: Event) -> None:
            watching.observe(event)
            also(event)

        return base.run(scenario, run_dir=folder, observe=observe, **options)


def as_scenario(given: Scenario | str | os.PathLike[str]) -> Scenario:
    """By name or path, or itself. Raises ScenarioError."""
    if isinstance(given, Scenario):
        return given
    if not isinstance(given, str | os.PathLike):
        raise ScenarioError("scenario", f"is one, or its name or path, not {given!r}")
    return resources.find_scenario(os.fspath(given))
