"""What a run left in its directory, read back: also of a run that was killed or failed."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.model.scenario_data import scenario_from_data

LAB = "lab"
"""The node that the lab's own events bear."""


class _Told(dict[str, Any]):
    """An event's data, which knows where it stands in its file: what it lacks is said by that."""

    def __init__(self, data: Iterable[tuple[str, Any]], where: str = "") -> None:
        super().__init__(data)
        self._where = where

    def __missing__(self, key: str) -> Any:
        raise ScenarioError("", f"{self._where}: no {key!r} is told: another version's run")


@dataclass(frozen=True)
class Run:
    """``result`` is None where the run never came to an end."""

    directory: Path
    scenario: Scenario
    events: tuple[Event, ...]
    result: RunResult | None = None

    @property
    def end_s(self) -> float:
        """When the last thing happened, on the run's clock."""
        return max((event.t_s for event in self.events), default=0.0)

    def named(self, name: str, *nodes: str) -> list[Event]:
        """The events of a name, of these nodes or of all."""
        return [
            event
            for event in self.events
            if event.name == name and (not nodes or event.node in nodes)
        ]


def read_run(directory: Path) -> Run:
    """Raises ScenarioError where there is no run, or one of another version."""
    if not directory.is_dir():
        raise ScenarioError("", f"{directory} is no directory: give that of a run")
    document = _document(directory / "scenario.json")
    if document is None:
        raise ScenarioError(
            "", f"{directory} has no scenario.json: no run's directory, or an older version's"
        )
    result = _document(directory / "result.json")
    events = tuple(_events(directory / "events.jsonl"))
    try:
        scenario = scenario_from_data(document)
        ended = None if result is None else RunResult.from_json(result)
        return Run(directory, scenario, events, ended)
    except ValueError as error:
        raise ScenarioError("", f"{directory}: result.json: {error}") from None
    except ScenarioError as error:
        raise ScenarioError("", f"{directory}: scenario.json: {error}") from None


def _document(path: Path) -> Any:
    """None where there is no such file."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ScenarioError("", f"cannot read {path}: {error}") from None


def _events(path: Path) -> Iterator[Event]:
    """In order of time. A kill may have cut the last line off."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    events = []
    for number, line in enumerate(lines, 1):
        try:
            event = Event.loads(line)
            events.append(
                replace(event, data=_Told(event.data.items(), f"{path}:{number} ({event.name})"))
            )
        except ValueError as error:
            if number < len(lines):
                raise ScenarioError("", f"cannot read {path}:{number}: {error}") from None
    yield from sorted(events, key=lambda event: event.t_s)
