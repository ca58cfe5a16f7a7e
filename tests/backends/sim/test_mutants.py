"""Faults that somebody may make are found by the search; being watched changes no run."""

from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab.backends.sim.invariants import AMPLIFICATION, LIVENESS, TIMER
from quicpipe_lab.backends.sim.trial import QUIET, try_out
from quicpipe_lab.backends.sim.variation import vary
from quicpipe_lab.resources import find_scenario
from tests.backends.sim.mutants import MUTANTS


@pytest.mark.parametrize(
    ("name", "invariant"),
    [
        # Anything else that wakes the machine hides these: they are only late.
        ("direct: retry", TIMER),
        ("direct: heartbeat", TIMER),
        ("endpoint: keepalive", TIMER),
        ("leg: keepalive", TIMER),
        ("never punches again", LIVENESS),
        ("no death of a path", AMPLIFICATION),
    ],
)
def test_a_fault_is_found(name: str, invariant: str, tmp_path: Path) -> None:
    done = MUTANTS[name].explored(3, tmp_path / "found.toml")
    assert done.found is not None, done
    assert done.found.trial.broken == invariant


@pytest.mark.parametrize("name", ["nat-to-nat", "relayed"])
def test_who_is_watched_does_the_same(name: str) -> None:
    """Though it is woken when it need not be."""
    scenario = vary(find_scenario(name), 0).applied()
    assert try_out(scenario) == try_out(scenario, replace(QUIET, watch=False))
