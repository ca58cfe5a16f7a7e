"""What the fixtures give: labs and runs, in directories that outlive a test that fails."""

import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab.api import BlockingLab, Lab
from quicpipe_lab.backends import base
from quicpipe_lab.backends.netns.doctor import capability
from quicpipe_lab.backends.netns.nat64 import nat64s
from quicpipe_lab.errors import BackendUnavailableError
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.topology import Topology
from quicpipe_lab.pytest_plugin import KEPT, asked_for
from quicpipe_lab.pytest_plugin.kept import Kept, LeftByLab, LeftByRun

_NEEDS = ("network-namespaces", "nftables", "af-packet")


def blocking_lab(request: pytest.FixtureRequest) -> Iterator[BlockingLab]:
    """For the fixture ``lab``."""
    topology = asked_for.topology(request)
    kept, directory = _kept_by(request), _run_dir(request, "lab")
    lab = BlockingLab(topology, run_dir=directory, capture=True)
    kept.add(LeftByLab(directory, topology, lab.end_capture))
    try:
        with _or_skip(request, topology):
            lab.up()
        yield lab
        if not kept.is_wanted:
            lab.end_capture(keep=False)
    finally:
        lab.down()


def asyncio_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """For the fixture ``async_lab``. That it can be had is tried here, where a test can still be
    skipped."""
    topology = asked_for.topology(request)
    with _or_skip(request, topology), BlockingLab(topology):
        pass
    directory = _run_dir(request, "lab")
    _kept_by(request).add(LeftByLab(directory, topology, lambda: None))
    yield Lab(topology, run_dir=directory, capture=True)


def run(
    request: pytest.FixtureRequest, given: Any, backend: str, options: Mapping[str, Any]
) -> RunResult:
    """For the fixture ``run_scenario``."""
    __tracebackhide__ = True
    scenario = asked_for.scenario(request, given)
    with asked_for.told_in_a_line("run_scenario: "):
        base.find_backend(backend)
    kept = _kept_by(request)
    options = {"run_dir": _run_dir(request, scenario.name), **options}
    kept.add(LeftByRun(Path(options["run_dir"])))
    with _or_skip(request, scenario.topology):
        return base.run(scenario, backend=backend, **options)


@contextmanager
def _or_skip(request: pytest.FixtureRequest, topology: Topology) -> Iterator[None]:
    """Whether a lab can be had is found out by building it; the doctor is asked only for words."""
    __tracebackhide__ = True
    with asked_for.told_in_a_line():
        try:
            yield
            return
        except BackendUnavailableError as error:
            reason = _missing(topology) or str(error)
    if request.config.getoption("lab_require"):
        pytest.fail(f"a lab is required here, but {reason}", pytrace=False)
    pytest.skip(reason)


def _missing(topology: Topology) -> str:
    """What this machine lacks, and how to enable it; empty where the doctor finds nothing."""
    if sys.platform != "linux":
        return ""
    needs = [*_NEEDS, *(["nat64"] if nat64s(topology) else [])]
    return " | ".join(str(found) for found in map(capability, needs) if not found.ok)


def _kept_by(request: pytest.FixtureRequest) -> Kept:
    """One for a test, whatever of its fixtures comes first."""
    kept: Kept | None = request.node.stash.get(KEPT, None)
    if kept is None:
        kept = request.node.stash[KEPT] = Kept(always=request.config.getoption("lab_keep"))
        request.addfinalizer(kept.discard)  # called after what the fixture does at its end
    return kept


def _run_dir(request: pytest.FixtureRequest, what: str) -> Path:
    """Where pytest keeps tmp_path's, and for as many sessions."""
    factory: pytest.TempPathFactory = request.getfixturevalue("tmp_path_factory")
    name = re.sub(r"\W+", "-", f"{request.node.name}-{what}")
    return factory.mktemp(name[:60].strip("-"))
