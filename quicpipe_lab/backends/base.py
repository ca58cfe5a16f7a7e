"""What a backend is, and how one is found: lazily, for each needs libraries of its own."""

import importlib
import itertools
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quicpipe_lab.backends.sole_use import sole_use
from quicpipe_lab.errors import BackendUnavailableError, ScenarioError, UnsupportedBehaviorError
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Scenario, Xdp
from quicpipe_lab.model.scenario_data import dump_scenario

Observer = Callable[[Event], None]
"""Called with every event of a run as it happens."""

AUTO = "auto"
"""The kernel where this machine lets us have namespaces, the simulator elsewhere, and where a
stranger attacks."""
NO_STRANGER = "a lab on the kernel has no stranger in it"
"""Why there are no attacks."""

_BACKENDS = {
    "netns": "quicpipe_lab.backends.netns.backend",
    "sim": "quicpipe_lab.backends.sim.backend",
}
NAMES = (AUTO, *_BACKENDS)
_SCENARIO, _RESULT = "scenario.json", "result.json"
_OF_A_RUN = (
    *(_RESULT, "capture.pcapng", "keys.log", "qlog/*.qlog"),
    *("capture.spool", "keys/*.log"),  # until then, on the kernel
)
"""What stands in a run's folder when it is over; events are written from the beginning."""


class Backend(Protocol):
    """Executes scenarios."""

    @property
    def name(self) -> str:
        """What a user calls it."""
        ...

    def run(
        self,
        scenario: Scenario,
        run_dir: Path,
        observe: Observer,
        *,
        certify: bool = False,
        stop_fd: int | None = None,
    ) -> RunResult:
        """Execute, leave the files in ``run_dir`` (which exists), and say how it went.

        ``certify``: measure first what the NATs are, and fail where they are not as declared.
        ``stop_fd``: where it becomes readable while the run waits, that ends as by Ctrl-C, with a
        KeyboardInterrupt. A run that never waits does not look; ``observe`` may raise at any time.
        A scenario that ends otherwise than expected is a result. Raises BackendUnavailableError
        or UnsupportedBehaviorError where this machine or this backend cannot do it.
        """
        ...


def find_backend(name: str) -> Backend:
    """Raises ScenarioError where there is none of that name, BackendUnavailableError."""
    module = _BACKENDS.get(name)
    if module is None:
        raise ScenarioError("backend", f"{name!r} is none of {', '.join(NAMES)}")
    if name == "netns":
        require_linux()
    backend: Backend = importlib.import_module(module).BACKEND
    return backend


def require_linux() -> None:
    """Before anything of ``backends.netns`` is imported, which elsewhere fails. Raises
    BackendUnavailableError."""
    if sys.platform != "linux":
        raise BackendUnavailableError(
            f"{sys.platform} has no network namespaces", "they are Linux's own: use the sim backend"
        )


def make_do(problem: BackendUnavailableError, tell: Callable[[str], None]) -> Backend:
    """The simulator, where AUTO cannot have the kernel; a line for a person says so."""
    return _simulator(problem.problem if sys.platform != "linux" else problem, tell)


def _simulator(why: object, tell: Callable[[str], None]) -> Backend:
    tell(f"simulated in virtual time, as by --backend sim: {why}")
    return find_backend("sim")


def run(
    scenario: Scenario,
    *,
    backend: str = AUTO,
    run_dir: Path | None = None,
    observe: Observer = lambda _: None,
    certify: bool = True,
    tell: Callable[[str], None] = lambda _: None,
    stop_fd: int | None = None,
) -> RunResult:
    """Run a scenario and return its result, which also stands in ``run_dir/result.json``.

    ``stop_fd``: see Backend.run. ``tell`` gets a line for a person where AUTO has to make do with
    the simulator. A run that is refused before it has begun leaves no folder that was not there.
    """
    chosen = _Auto(tell) if backend == AUTO else find_backend(backend)
    directory = (run_dir or Path("runs")).resolve()
    made = [one for one in (directory, *directory.parents) if not one.exists()]
    watch = _Watch(observe)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if run_dir is None:
            directory = _new_run_dir(directory, scenario.name)
            made.insert(0, directory)
    except OSError as error:
        raise ScenarioError("run_dir", f"cannot make {directory}: {error.strerror}") from None
    try:
        return run_in(chosen, scenario, directory, watch, certify=certify, stop_fd=stop_fd)
    except (BackendUnavailableError, UnsupportedBehaviorError):
        if not watch.has_begun:
            _unmake(made)
        raise


def run_in(
    backend: Backend,
    scenario: Scenario,
    directory: Path,
    observe: Observer,
    *,
    certify: bool,
    stop_fd: int | None = None,
) -> RunResult:
    """Run on a backend and leave, beside its files, what was run and what came of it.

    The first stands there from the beginning: a run that is killed can still be looked at.
    """
    with sole_use(directory):
        leave_scenario(scenario, directory)
        result = backend.run(scenario, directory, observe, certify=certify, stop_fd=stop_fd)
        leave_result(result, directory)
    return result


def leave_scenario(scenario: Scenario, directory: Path) -> None:
    """What is run, at its beginning, in place of what another run has left there. Raises
    ScenarioError where nothing can be written."""
    try:
        if (directory / _SCENARIO).exists():  # else they are somebody else's
            for pattern in _OF_A_RUN:
                for file in directory.glob(pattern):
                    file.unlink()
        (directory / _SCENARIO).write_text(dump_scenario(scenario), encoding="utf-8")
    except OSError as error:
        raise ScenarioError("run_dir", f"cannot write in {directory}: {error.strerror}") from None


def leave_result(result: RunResult, directory: Path) -> None:
    """What came of it."""
    (directory / _RESULT).write_text(result.dumps() + "\n", encoding="utf-8")


class _Watch:
    """An observer that knows whether a run has begun: then something has happened in it."""

    def __init__(self, observe: Observer) -> None:
        self.has_begun = False
        self._observe = observe

    def __call__(self, event: Event) -> None:
        self.has_begun = True
        self._observe(event)


@dataclass(frozen=True)
class _Auto:
    """See AUTO. Whether there can be a lab is found out by building it."""

    tell: Callable[[str], None]
    name: str = AUTO

    def run(
        self,
        scenario: Scenario,
        run_dir: Path,
        observe: Observer,
        *,
        certify: bool = False,
        stop_fd: int | None = None,
    ) -> RunResult:
        if scenario.attack is not None and scenario.xdp is Xdp.OFF:
            simulator = _simulator(f"{scenario.attack}: {NO_STRANGER}", self.tell)
            return simulator.run(scenario, run_dir, observe, certify=certify)
        watch = _Watch(observe)
        try:
            netns = find_backend("netns")
            return netns.run(scenario, run_dir, watch, certify=certify, stop_fd=stop_fd)
        except BackendUnavailableError as error:
            if watch.has_begun or scenario.xdp is not Xdp.OFF:  # which only netns can do
                raise
            simulator = make_do(error, self.tell)
        return simulator.run(scenario, run_dir, observe, certify=certify)


def _unmake(folders: Sequence[Path]) -> None:
    """What was made for a run that never began, the innermost first, but what others use too."""
    if not folders:
        return
    with suppress(OSError, ScenarioError):
        with sole_use(folders[0]):
            shutil.rmtree(folders[0])
        for parent in folders[1:]:
            parent.rmdir()


def _new_run_dir(parent: Path, scenario: str) -> Path:
    """Made here and now, for another run may look for its own at this moment."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for attempt in itertools.count():
        directory = parent / (f"{scenario}-{stamp}" + (f"-{attempt}" if attempt else ""))
        with suppress(FileExistsError):
            directory.mkdir()
            return directory
    raise AssertionError("itertools.count() does not end")
