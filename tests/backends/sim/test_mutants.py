"""Faults that somebody may make are found by the search; being watched changes no run."""

from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab.backends.sim.invariants import AMPLIFICATION, LIVENESS, OPEN_RELAY, TIMER
from quicpipe_lab.backends.sim.trial import QUIET, try_out
from quicpipe_lab.backends.sim.variation import vary
from quicpipe_lab.model.scenario import (
    Attack,
    Cut,
    Hostility,
    Idle,
    Meanwhile,
    Outcome,
    WaitFor,
)
from quicpipe_lab.resources import find_scenario
from tests.backends.sim.mutants import MUTANTS


@pytest.mark.parametrize(
    ("name", "invariant"),
    [
        # Anything else that wakes the machine hides these: they are only late.
        ("direct: retry", TIMER),
        ("direct: heartbeat", TIMER),
        ("direct: silence", TIMER),
        ("relay: half open", TIMER),
        ("never punches again", LIVENESS),
        ("no death of a path", AMPLIFICATION),
        # Both programs end with their stream, and only the word is missing.
        ("no close", LIVENESS),
        ("close is not repeated", LIVENESS),
    ],
)
def test_a_fault_is_found(name: str, invariant: str, tmp_path: Path) -> None:
    done = MUTANTS[name].explored(3, tmp_path / "found.toml")
    assert done.found is not None, done
    assert done.found.trial.broken == invariant


@pytest.mark.parametrize(
    ("name", "invariant", "says"),
    [
        ("endpoint: keepalive", TIMER, "when it was woken, and would have slept on"),
        ("leg: keepalive", TIMER, "when it was woken, and would have slept on"),
        ("no keepalive at the relay", LIVENESS, "lost the relay, though there was a way to it"),
        ("no keepalive of the peer", LIVENESS, "Idle timeout, though there was a path"),
    ],
)
def test_silence_is_when_keepalives_are_missed(
    name: str, invariant: str, says: str, tmp_path: Path
) -> None:
    """The search has minutes of it, in a quarter of all seeds."""
    steps = WaitFor(path=Outcome.DIRECT), Idle(250.0)
    named = find_scenario("nat-to-nat")
    silent = replace(named, steps=steps, direct_after_bytes=0, deadline_s=600.0)
    done = MUTANTS[name].explored(3, tmp_path / "found.toml", silent)
    assert done.found is not None, done
    assert done.found.trial.broken == invariant
    assert says in str(done.found.trial.failure)


@pytest.mark.parametrize(
    ("name", "invariant", "says"),
    [
        ("relay: leases", TIMER, "relay had Unbound when it was woken"),
        ("leases never end", TIMER, "relay's timer went off 500 times"),
        ("binding outlives unbinding", OPEN_RELAY, "which is not bound"),
    ],
)
def test_who_is_gone_is_forgotten(name: str, invariant: str, says: str, tmp_path: Path) -> None:
    """The search cuts peers off for so long now and then, where there are minutes for it, and ends
    with a stranger who says again what they said."""
    replay = Attack(Hostility.REPLAY)
    steps = WaitFor(path=Outcome.DIRECT), Idle(160.0), replay
    gone = replace(
        find_scenario("nat-to-nat"),
        steps=steps,
        direct_after_bytes=0,
        deadline_s=600.0,
        meanwhile=(Meanwhile(5.0, Cut(("alice", "relay")), 200.0),),
    )
    done = MUTANTS[name].explored(3, tmp_path / "found.toml", gone)
    assert done.found is not None, done
    assert done.found.trial.broken == invariant
    assert says in str(done.found.trial.failure)


@pytest.mark.parametrize("name", ["nat-to-nat", "relayed"])
def test_who_is_watched_does_the_same(name: str) -> None:
    """Though it is woken when it need not be."""
    scenario = vary(find_scenario(name), 0).applied()
    assert try_out(scenario) == try_out(scenario, replace(QUIET, watch=False))
