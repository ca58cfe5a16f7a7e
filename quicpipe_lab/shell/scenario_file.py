"""Scenarios as TOML files that a program has written; the only importer of tomli_w."""

import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tomli_w

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.load import scenario_from_table
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.model.scenario_data import scenario_to_data
from quicpipe_lab.shell.out_file import require_file


def to_toml(scenario: Scenario, comment: str = "") -> str:
    """The file's text, its topology inside. ``comment`` comes first, line by line."""
    lines = [f"# {line}".rstrip() + "\n" for line in comment.splitlines()]
    table = scenario_to_data(scenario)["scenario"]
    return "".join([*lines, "\n" if lines else "", tomli_w.dumps(table)])


def as_read(scenario: Scenario) -> Scenario:
    """What comes back of it from such a file: nodes are ordered by kind there."""
    return scenario_from_table(tomllib.loads(to_toml(scenario)), scenario.name)


def save(scenario: Scenario, file: Path, comment: str) -> None:
    """Raises ScenarioError where the file cannot be written."""
    with _told(file):
        file.write_text(to_toml(scenario, comment), encoding="utf-8")


def require_writable(file: Path) -> None:
    """Before long work for it; what is there stays. Raises QuicpipeLabError."""
    require_file(file)
    with _told(file):
        was_there = file.exists()
        with file.open("a"):
            pass
        if not was_there:
            file.unlink()


@contextmanager
def _told(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ScenarioError("", f"cannot write {file}: {error.strerror}") from None
