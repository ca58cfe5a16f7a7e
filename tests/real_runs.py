"""Real runs to look at, each made once for all tests."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from quicpipe_lab import resources
from quicpipe_lab.backends import base
from quicpipe_lab.evidence import Evidence, open_run

Runs = Callable[[str], Evidence]


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """By a bundled scenario's name, its run on the kernel. One that fails is not waited for to the
    end."""
    made: dict[str, Evidence] = {}

    def run(name: str) -> Evidence:
        if name not in made:
            scenario = resources.find_scenario(name)
            if name == "udp-blocked":
                scenario = replace(scenario, deadline_s=4.0)
            directory = tmp_path_factory.mktemp(name)
            result = base.run(scenario, backend="netns", run_dir=directory)
            assert result.ok, result.failure
            made[name] = open_run(directory)
        return made[name]

    return run
