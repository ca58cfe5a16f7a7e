"""Real runs to look at, each made once for all tests."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from quicpipe_lab import resources
from quicpipe_lab.analysis.packets import Packet, table
from quicpipe_lab.analysis.run_files import Run, read_run
from quicpipe_lab.backends import base
from quicpipe_lab.shell import pcapng


@dataclass(frozen=True)
class RealRun:
    """What its directory says, and the table of its packets."""

    run: Run
    packets: list[Packet]


Runs = Callable[[str], RealRun]


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """By a bundled scenario's name, its run. One that fails is not waited for to the end."""
    made: dict[str, RealRun] = {}

    def run(name: str) -> RealRun:
        if name not in made:
            made[name] = _make(name, tmp_path_factory.mktemp(name))
        return made[name]

    return run


def _make(name: str, directory: Path) -> RealRun:
    scenario = resources.find_scenario(name)
    if name == "udp-blocked":
        scenario = replace(scenario, deadline_s=1.5)
    result = base.run(scenario, run_dir=directory)
    assert result.ok, result.failure
    assert result.clock is not None
    frames = pcapng.read(directory / "capture.pcapng").frames
    return RealRun(read_run(directory), table(frames, result.clock.epoch_unix_s))
