"""What a test's markers ask for. What they say wrong is told in a line, without a traceback."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab import resources
from quicpipe_lab.backends.matrix import Cell, cells_of, parse_nats
from quicpipe_lab.errors import QuicpipeLabError, ScenarioError
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.model.topology import Topology

_DEFAULT = "two-homes"


@contextmanager
def told_in_a_line(prefix: str = "") -> Iterator[None]:
    """The test fails by an error that is ours to tell."""
    __tracebackhide__ = True
    try:
        yield
    except QuicpipeLabError as error:
        raise pytest.fail.Exception(f"{prefix}{error}", pytrace=False) from None


def nat_pairs(test: pytest.Item) -> dict[str, Cell]:
    """By the name of the test's variant."""
    marker = test.get_closest_marker("nat_pair")
    with told_in_a_line("nat_pair: "):
        dialers, accepters = _two_texts(marker.args, marker.kwargs) if marker else (None, None)
        rows = parse_nats(dialers)
        columns = rows if accepters is None else parse_nats(accepters)
        return {f"{one.row}-{one.column}": one for one in cells_of(rows, columns)}


def _two_texts(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> list[str | None]:
    names = ("dialers", "accepters")
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    texts = [given.get(name) for name in names]
    known = len(args) <= 2 and given.keys() <= set(names)
    if not known or not all(text is None or isinstance(text, str) for text in texts):
        raise ScenarioError("", 'write nat_pair("EIM/APDF,symmetric", "home") or less')
    return texts


def topology(request: pytest.FixtureRequest) -> Topology:
    """For a lab."""
    with told_in_a_line("lab: "):
        what, found = _marked(request)
        if what == "scenario":
            return _scenario(found, request.path).topology
        if what == "topology":
            return _topology(found, request.path)
    pair = _pair(request)
    return resources.find_topology(_DEFAULT) if pair is None else pair.scenario().topology


def scenario(request: pytest.FixtureRequest, given: Any) -> Scenario:
    """For a run: what the test gave it, or what its marker says, or its pair of NATs."""
    with told_in_a_line("run_scenario: "):
        if given is not None:
            return _scenario(given, request.path)
        what, found = _marked(request)
        if what == "scenario":
            return _scenario(found, request.path)
        pair = _pair(request)
        if pair is None:
            raise ScenarioError("", "which one? There is no marker lab(scenario=...) to say so")
        return pair.scenario()


def _marked(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """What the marker ``lab`` gives, and of which kind; nothing where there is none."""
    marker = request.node.get_closest_marker("lab")
    if marker is None:
        return "", None
    named = [*(("topology", one) for one in marker.args), *marker.kwargs.items()]
    if len(named) != 1 or named[0][0] not in ("topology", "scenario"):
        raise ScenarioError("", 'write lab("two-homes") or lab(scenario="nat-to-nat")')
    what, found = named[0]
    return what, found


def _pair(request: pytest.FixtureRequest) -> Cell | None:
    if "nat_pair" not in request.fixturenames:
        return None
    pair: Cell = request.getfixturevalue("nat_pair")
    return pair


def _topology(found: Any, test_file: Path) -> Topology:
    if isinstance(found, Topology):
        return found
    return resources.find_topology(_beside(found, test_file))


def _scenario(found: Any, test_file: Path) -> Scenario:
    if isinstance(found, Cell):
        return found.scenario()
    if isinstance(found, Scenario):
        return found
    return resources.find_scenario(_beside(found, test_file))


def _beside(found: Any, test_file: Path) -> str:
    """Names as they are; paths from where the test's file is, wherever pytest was started."""
    if not isinstance(found, str | os.PathLike):
        raise ScenarioError("", f"{found!r} is neither a name nor a path")
    text = os.fspath(found)
    is_path = isinstance(found, os.PathLike) or "/" in text or text.endswith((".toml", ".json"))
    return str(test_file.parent.absolute() / text) if is_path else text
