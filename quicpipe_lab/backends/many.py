"""Many runs, several at a time: on the kernel each in a process of its own, simulated ones in a
pool of processes.

On the kernel all are forked from this process, which has imported everything before: a run costs
little more than its own work, and its lab dies with it. A simulation is nothing but work, so that
there are as many workers as cores.
"""

import os
import pickle
import select
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from quicpipe_lab.backends.base import AUTO, NAMES, Backend, make_do, require_linux, run_in
from quicpipe_lab.backends.ending import ending
from quicpipe_lab.backends.simulators import Simulators, signals_held
from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError, ScenarioError
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.model.topology import CORE, Host, Link, Topology
from quicpipe_lab.model.whole import whole

LABS_AT_A_TIME = 4
"""On two cores: a run waits for its punching much of the time."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How to run. ``backend``: AUTO has to be settled before. ``jobs``: at a time; None for what
    suits the backend. Raises ScenarioError."""

    backend: str = "netns"
    jobs: int | None = None
    capture: bool = False

    def __post_init__(self) -> None:
        if self.backend not in NAMES:
            raise ScenarioError("backend", f"{self.backend!r} is none of {', '.join(NAMES)}")
        if self.jobs is not None:
            object.__setattr__(self, "jobs", whole("jobs", self.jobs, 1))

    def settled(self, tell: Callable[[str], None] = lambda _: None) -> "Manner":
        """Where the backend is AUTO, what that is here: found out by building a lab of one host,
        for many runs have to begin in the same way. ``tell``: see backends.base.run."""
        if self.backend != AUTO:
            return self
        try:
            require_linux()
            from quicpipe_lab.backends.netns.lab import Lab

            with Lab(Topology("probe", (Host("one"),), (Link((CORE, "one")),))):
                return replace(self, backend="netns")
        except BackendUnavailableError as problem:
            return replace(self, backend=make_do(problem, tell).name)


Task = tuple[Scenario, Path]
"""What to run, and where to leave its files."""


def run_many(tasks: Sequence[Task], manner: Manner) -> Iterator[tuple[int, RunResult]]:
    """Each task's number with its result, as they end.

    Raises QuicpipeLabError where a run could not be made at all; none goes on after that.
    """
    if manner.backend == "sim":
        return _simulated(tasks, manner)
    return _forked(tasks, manner)


# On the kernel


def _forked(tasks: Sequence[Task], manner: Manner) -> Iterator[tuple[int, RunResult]]:
    _preload()
    jobs = manner.jobs or LABS_AT_A_TIME
    waiting = iter(enumerate(tasks))
    running: dict[int, _Forked] = {}
    try:
        while True:
            for number, task in islice(waiting, jobs - len(running)):
                # Python drops an exception that a signal raises in what it calls at a fork.
                with signals_held():
                    forked = _fork_run(number, task, manner.capture)
                    running[os.pidfd_open(forked.pid)] = forked
            if not running:
                return
            for pidfd in select.select(list(running), [], [])[0]:
                forked = running.pop(pidfd)
                os.close(pidfd)
                status = os.waitstatus_to_exitcode(os.waitpid(forked.pid, 0)[1])
                yield forked.number, _result_of(forked, tasks[forked.number], status)
    finally:
        for pidfd, forked in running.items():
            os.kill(forked.pid, signal.SIGKILL)  # its lab goes with it
            os.waitpid(forked.pid, 0)
            os.close(forked.told)
            os.close(pidfd)


def _preload() -> None:
    """Import once what every run needs. Raises BackendUnavailableError."""
    require_linux()
    from quicpipe_lab.backends.netns import backend, encoding, programs

    programs.preload()
    del backend, encoding


class _Forked(NamedTuple):
    """``told``: a file in memory, which no full disk keeps from saying what came of the run."""

    number: int
    pid: int
    told: int


def _fork_run(number: int, task: Task, capture: bool) -> _Forked:
    told = os.memfd_create("told")
    try:
        pid = os.fork()
    except OSError:
        os.close(told)
        raise
    if pid:
        return _Forked(number, pid, told)
    status = 1
    try:
        from quicpipe_lab.backends.netns import syscalls
        from quicpipe_lab.backends.netns.backend import NetnsBackend

        syscalls.set_parent_death_signal(signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
        for number in (signal.SIGTERM, signal.SIGHUP):  # whose handlers are for itself
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        _tell(told, _outcome(NetnsBackend(fork_labs=True, capture=capture), task))
        status = 0
    finally:
        os._exit(status)


def _outcome(backend: Backend, task: Task) -> RunResult | Exception:
    try:
        return _run(backend, *task)
    except Exception as error:
        if not isinstance(error, QuicpipeLabError):  # of ours the text is enough
            error.add_note(traceback.format_exc())
        return error


def _tell(file: int, outcome: RunResult | Exception) -> None:
    try:
        data = pickle.dumps(outcome)
        pickle.loads(data)
    except Exception:  # others' exceptions need not know how
        data = pickle.dumps(RuntimeError(f"{type(outcome).__name__}: {outcome}"))
    with os.fdopen(file, "wb") as writer:
        writer.write(data)


def _result_of(forked: _Forked, task: Task, status: int) -> RunResult:
    """Raises what the run was ended by, as if it had been run in this process."""
    with os.fdopen(forked.told, "rb") as reader:
        reader.seek(0)
        data = reader.read()
    if status != 0:
        raise QuicpipeLabError(f"the run of {task[0].name} ended {ending(status, '')}")
    outcome: RunResult | Exception = pickle.loads(data)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


# Simulated


def _simulated(tasks: Sequence[Task], manner: Manner) -> Iterator[tuple[int, RunResult]]:
    with Simulators(manner.jobs, len(tasks)) as pool:
        futures: dict[Future[RunResult], int] = {}
        for number, task in enumerate(tasks):
            futures[pool.submit(_simulate, *task, manner.capture)] = number
        for future in as_completed(futures):
            yield futures[future], future.result()


def _simulate(scenario: Scenario, run_dir: Path, capture: bool) -> RunResult:
    from quicpipe_lab.backends.sim.backend import SimBackend

    return _run(SimBackend(capture=capture, qlog=False, watch=False), scenario, run_dir)


def _run(backend: Backend, scenario: Scenario, run_dir: Path) -> RunResult:
    try:
        run_dir.mkdir(exist_ok=True)
    except OSError as error:
        raise ScenarioError("run_dir", f"cannot make {run_dir}: {error.strerror}") from None
    return run_in(backend, scenario, run_dir, lambda _: None, certify=False)
