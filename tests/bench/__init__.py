"""Benchmarks: ``./lab bench`` runs them all, ``./lab bench NAME`` one, ``--json`` for machines.

A benchmark is a module of this folder. Its file name is its name; it has

- ``TITLE: str``, one line that says what is measured, and
- ``run() -> list[Row]``, which measures now and returns the table's rows.

Whatever two things are compared are measured alternately in one run, because this project's
machines are noisy: absolute numbers are for reading, ratios are what limits are set on. A program
that is not installed here gives ``skipped("turnserver", "coturn is not installed")`` in place of
its row. A benchmark that cannot run at all on this machine raises BackendUnavailableError. Nothing
is printed by ``run``.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The checkout."""
SCRIPTS = Path(sys.executable).parent
"""Where the environment's programs lie."""


@dataclass(frozen=True, slots=True)
class Row:
    """One measured number.

    ``ratio`` is ``value`` over the value of the row named ``against``. ``limit`` is the most that
    is allowed, of ``ratio`` where there is one and of ``value`` where not; None only reports.
    """

    what: str
    value: float | None
    unit: str = ""
    ratio: float | None = None
    against: str = ""
    limit: float | None = None
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the limit holds; a row without number or limit breaks none."""
        measured = self.value if self.ratio is None else self.ratio
        return self.limit is None or measured is None or measured <= self.limit


def skipped(what: str, reason: str) -> Row:
    """The row of something that this machine cannot measure."""
    return Row(what, None, note=f"skipped: {reason}")


def alternate(rounds: int, **runs: Callable[[], float]) -> dict[str, list[float]]:
    """Call each of ``runs`` once a round, in turn, after one uncounted round; all their answers."""
    answers: dict[str, list[float]] = {name: [] for name in runs}
    for counted in range(-1, rounds):
        for name, run in runs.items():
            answer = run()
            if counted >= 0:
                answers[name].append(answer)
    return answers


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def time_program_s(argv: Sequence[str], env: Mapping[str, str] | None = None) -> float:
    """Wall-clock seconds from exec to exit. Raises CalledProcessError unless it exits with 0."""
    started = time.perf_counter()
    subprocess.run(
        argv,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env=None if env is None else {**os.environ, **env},
    )
    return time.perf_counter() - started
