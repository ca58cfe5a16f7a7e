"""What ``explore`` has found, shrunk and mended: each must go through, now and ever after."""

from pathlib import Path

import pytest

from quicpipe_lab.backends.sim.trial import try_out
from quicpipe_lab.resources import find_scenario

FOUND = sorted((Path(__file__).parent / "found").glob("*.toml"))


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.stem)
def test_found(file: Path) -> None:
    scenario = find_scenario(str(file))
    trial = try_out(scenario)
    assert (trial.failure, trial.outcome) == (None, scenario.expect)
