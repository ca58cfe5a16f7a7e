"""What a test's labs and runs left: told where it fails, gone where it does not."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from quicpipe_lab.analysis.lab_traffic import dropped
from quicpipe_lab.cycle_search import no_cycle_search
from quicpipe_lab.evidence import capture_in
from quicpipe_lab.explain_report import sentence_for
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.topology import Topology

_MANY = 10
"""Lines about drops."""
_TITLE = "quicpipe-lab"


class Left(Protocol):
    """One directory."""

    @property
    def directory(self) -> Path:
        """What it was left in."""
        ...

    def lines(self) -> Iterator[str]:
        """What a person should know of it first."""
        ...


class Kept:
    """All that one test left."""

    def __init__(self, *, always: bool) -> None:
        self._left: list[Left] = []
        self.is_wanted = always

    def add(self, left: Left) -> None:
        """One more directory."""
        self._left.append(left)

    def tell(self, report: pytest.TestReport) -> None:
        """Put it into the report of a failure; from now on it is kept."""
        self.is_wanted = True
        for left in self._left:
            report.sections.append((_TITLE, "\n".join(_lines(left))))

    def discard(self) -> None:
        """At the end of the test: remove what nobody wants."""
        if not self.is_wanted:
            for left in self._left:
                shutil.rmtree(left.directory, ignore_errors=True)


def _lines(left: Left) -> Iterator[str]:
    try:
        yield from left.lines()
    except Exception as error:  # whatever it is: the test's own failure must be told
        yield f"cannot explain it: {error or type(error).__name__}"
    yield f"run directory: {left.directory}"


class LeftByRun:
    """Of a scenario: the sentence that ``quicpipe-lab explain`` ends in."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def lines(self) -> Iterator[str]:
        result = self.directory / "result.json"
        if not result.exists():
            yield "the scenario did not come to an end"
            return
        found = RunResult.from_json(json.loads(result.read_text("utf-8")))
        yield f"{found.scenario} on {found.backend}: {found.outcome}, expected {found.expected}"
        if found.failure is not None:
            yield found.failure
        yield sentence_for(found)


class LeftByLab:
    """Of a lab: how its programs ended, and what routers did not pass on."""

    def __init__(
        self, directory: Path, topology: Topology, end_capture: Callable[[], None]
    ) -> None:
        self.directory = directory
        self._topology = topology
        self._end_capture = end_capture

    def lines(self) -> Iterator[str]:
        yield from self._programs()
        self._end_capture()
        with no_cycle_search():
            capture = capture_in(self.directory)
            told = [] if capture is None else dropped(capture.frames, self._topology)
        yield from told[:_MANY]
        if len(told) > _MANY:
            yield f"... and {len(told) - _MANY} more kinds of drops, see capture.pcapng"

    def _programs(self) -> Iterator[str]:
        """Those that have ended, in the order in which they did."""
        index = self.directory / "programs.jsonl"
        for line in index.read_text("utf-8").splitlines() if index.exists() else ():
            one = json.loads(line)
            text = f"{one['node']}: {' '.join(one['argv'])[:120]} ended with {one['exit_code']}"
            said = (self.directory / one["stderr"]).read_text("utf-8", "replace").strip()
            if one["exit_code"] and said:
                text += f": {said.splitlines()[-1]}"
            yield text
