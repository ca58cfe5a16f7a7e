"""Real runs to look at, each made once for all tests."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab import resources
from quicpipe_lab.analysis.run_files import Run, read_run
from quicpipe_lab.backends import base

Runs = Callable[[str], Run]


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """By a bundled scenario's name, its run. One that fails is not waited for to the end."""
    made: dict[str, Path] = {}

    def run(name: str) -> Run:
        if name not in made:
            scenario = resources.find_scenario(name)
            if name == "udp-blocked":
                scenario = replace(scenario, deadline_s=1.5)
            made[name] = tmp_path_factory.mktemp(name)
            result = base.run(scenario, run_dir=made[name])
            assert result.ok, result.failure
        return read_run(made[name])

    return run
