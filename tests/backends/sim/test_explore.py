"""The search finds each kind of fault, shrinks it, and says what repeats it; and what it is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab import explore as explore_from_python
from quicpipe_lab.backends.explore import Exploration, explore
from quicpipe_lab.backends.sim import invariants
from quicpipe_lab.backends.sim.cast import Cast
from quicpipe_lab.backends.sim.trial import CRASH, QUIET, try_out
from quicpipe_lab.backends.sim.variation import vary
from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.scenario import (
    Attack,
    Cut,
    Hostility,
    Idle,
    Meanwhile,
    Outcome,
    Reboot,
    Scenario,
    Switch,
    Transfer,
)
from quicpipe_lab.resources import find_scenario, scenario_names
from quicpipe_lab.shell.scenario_file import as_read
from tests.backends.sim import faults

ALICE_REBOOTS = Meanwhile(0.3, Reboot("nat-a"))
"""Then what she sends comes from where nobody is bound."""
BOTH_PARTED = Meanwhile(0.3, Cut(("alice", "bob")), 500.0)


def scenario(topology: str, *meanwhile: Meanwhile, expect: str = "direct") -> Scenario:
    """Quickly run, and the fault has its occasion in every variation."""
    named = find_scenario({"two-symmetric": "relayed", "two-homes": "nat-to-nat"}[topology])
    steps = Transfer(500), Idle(0.4), Transfer(500)
    return replace(
        named, steps=steps, direct_after_bytes=0, expect=Outcome(expect), meanwhile=meanwhile
    )


def search(base: Scenario, cast: type[Cast], folder: Path, jobs: int = 1) -> Exploration:
    backend, file = replace(QUIET, cast=cast), folder / "found.toml"
    return explore(base, seeds=6, jobs=jobs, backend=backend, file=file, shrinking_trials=12)


def attacked(kind: str) -> Scenario:
    """Before Alice's NAT is rebooted, and when she has come back since."""
    attacks = [Meanwhile(at_s, Attack(Hostility(kind))) for at_s in (0.2, 3.0)]
    base = scenario("two-symmetric", ALICE_REBOOTS, *attacks, expect="relayed")
    return replace(base, steps=(*base.steps, Idle(2.0), Transfer(500)))


HOMES = scenario("two-homes")
SYMMETRIC = scenario("two-symmetric", ALICE_REBOOTS, expect="relayed")


@pytest.mark.parametrize(
    ("base", "cast", "invariant", "says"),
    [
        (HOMES, faults.LosesAByte, invariants.DATA, "came back altered"),
        (HOMES, faults.RepeatsAByte, invariants.DATA, "came back"),
        (HOMES, faults.Crashes, CRASH, "KeyError at faults.py"),
        (HOMES, faults.Amplifies, invariants.AMPLIFICATION, "RFC 9000, 8"),
        (SYMMETRIC, faults.PunchesForEver, invariants.AMPLIFICATION, "never answered"),
        (SYMMETRIC, faults.ForwardsForAnyone, invariants.OPEN_RELAY, "which is not bound"),
        (attacked("replay"), faults.NeverUnbinds, invariants.OPEN_RELAY, "which is not bound"),
        (attacked("copy"), faults.BindsWhoeverSends, invariants.OPEN_RELAY, "which is not bound"),
        (attacked("spoof"), faults.TakesAllForValidated, invariants.AMPLIFICATION, "RFC 9000, 8"),
        (attacked("spoof"), faults.CountsTooMuch, invariants.AMPLIFICATION, "RFC 9000, 8"),
        (attacked("spoof"), faults.NeverWaits, invariants.TIMER, "for nothing"),
        (HOMES, faults.TimerStandsStill, invariants.TIMER, "for nothing"),
        (
            scenario("two-homes", BOTH_PARTED),
            faults.NeverReturns,
            invariants.LIVENESS,
            "there was a path",
        ),
    ],
)
def test_each_invariant_can_be_broken(
    base: Scenario, cast: type[Cast], invariant: str, says: str, tmp_path: Path
) -> None:
    done = search(base, cast, tmp_path)
    found = done.found
    assert found is not None, done
    assert done.trials[-1] == found.trial
    assert not any(one.broken for one in done.trials[:-1])
    assert found.trial.broken == found.shrunk.broken == invariant
    assert says in str(found.shrunk.failure)
    first = vary(as_read(base), len(done.trials) - 1)
    assert len(found.scenario.steps) < len(first.steps)
    # The file says all: as it is read, it fails in the same way, and is sound without the fault.
    saved = find_scenario(str(found.file))
    assert try_out(saved, replace(QUIET, cast=cast)) == found.shrunk
    assert try_out(saved).broken is None
    assert str(found.file) in found.command


def test_hosts_with_several_links_are_switched_beside_the_steps() -> None:
    """Once each, and not those that steps switch."""
    phone = replace(find_scenario("handover"), steps=(Transfer(500),))
    asides = [vary(phone, number).applied().meanwhile for number in range(40)]
    drawn = [[one.step for one in all_ if isinstance(one.step, Switch)] for all_ in asides]
    assert {len(all_) for all_ in drawn} == {0, 1}
    assert {all_[0] for all_ in drawn if all_} == {Switch("alice", "carrier")}
    varied = [vary(find_scenario("handover"), number).applied() for number in range(40)]
    assert not any(isinstance(one.step, Switch) for all_ in varied for one in all_.meanwhile)


def test_the_first_seed_is_the_same_however_many_work(tmp_path: Path) -> None:
    alone = search(SYMMETRIC, faults.ForwardsForAnyone, tmp_path)
    text = (tmp_path / "found.toml").read_text()
    together = search(SYMMETRIC, faults.ForwardsForAnyone, tmp_path, jobs=2)
    assert replace(alone, wall_s=0.0) == replace(together, wall_s=0.0)
    assert (tmp_path / "found.toml").read_text() == text


def test_nothing_found_is_counted(tmp_path: Path) -> None:
    done = explore_from_python(HOMES, seeds=2, file=tmp_path / "not-written")
    assert done.ok
    assert done.counts == {"direct": 2}
    assert done.to_data()["found"] is None
    assert "no invariant was broken" in str(done)
    assert not list(tmp_path.iterdir())


def test_further_seeds_are_those_that_a_longer_search_comes_to(tmp_path: Path) -> None:
    """Nothing is tried twice, and what is found has the name that the longer one would give it."""
    whole = explore(HOMES, seeds=3, jobs=1, file=tmp_path / "not-written")
    rest = explore(HOMES, seeds=2, first_seed=2, jobs=1, file=tmp_path / "not-written")
    assert [one.seed for one in rest.trials] == [2, 3]
    assert rest.trials == whole.trials[1:]
    assert rest.to_data()["seeds"] == {"first": 2, "asked": 2, "tried": 2}
    assert str(rest).startswith("2 of 2 seeds (2 to 3) of nat-to-nat: ")


@pytest.mark.parametrize("name", scenario_names())
def test_every_variation_is_a_scenario(name: str) -> None:
    base = as_read(find_scenario(name))
    seen = set()
    for number in range(40):
        variation = vary(base, number)
        assert vary(base, number) == variation
        applied = variation.applied()
        assert as_read(applied) == applied
        seen |= {type(one) for one in variation.changes}
        for change in variation.changes:
            for smaller in change.smaller():
                smaller.apply(variation.scenario)
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"seeds": 0}, "seeds: is 1 or more, not 0"),
        ({"seeds": 1.5}, "seeds: is a whole number, not 1.5"),
        ({"seeds": "3"}, "seeds: is a whole number, not '3'"),
        ({"seeds": None}, "seeds: is a whole number, not None"),
        ({"first_seed": 0.5}, "first_seed: is a whole number, not 0.5"),
        (
            {"first_seed": 2**63 - 2, "seeds": 3},
            f"first_seed: is {-(2**63)} to {2**63 - 3}, not {2**63 - 2}",
        ),
        ({"jobs": -1}, "jobs: is 1 or more, not -1"),
        ({"jobs": 0}, "jobs: is 1 or more, not 0"),
        ({"scenario": None}, "scenario: is one, or its name or path, not None"),
    ],
)
def test_what_cannot_be_explored_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ScenarioError) as refused:
        explore_from_python(**{"scenario": "relayed", **given})
    assert str(refused.value) == says
