"""Two runs in one folder: the second is refused, and the first is what it would have been. A run
that is refused before it has begun leaves none."""

from dataclasses import replace
from pathlib import Path

import pytest

from quicpipe_lab import simulate
from quicpipe_lab.backends.base import run
from quicpipe_lab.errors import BackendUnavailableError, ScenarioError, UnsupportedBehaviorError
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.scenario import Attack, Hostility, Scenario, Xdp
from quicpipe_lab.model.topology import Nat
from quicpipe_lab.resources import find_scenario

SCENARIO = find_scenario("public-to-nat")


@pytest.mark.parametrize("backend", ["sim", pytest.param("netns", marks=pytest.mark.netns)])
def test_a_folder_is_one_runs_at_a_time(backend: str, tmp_path: Path) -> None:
    refusals = []

    def also(event: Event) -> None:
        if event.name == "connected":
            with pytest.raises(ScenarioError) as refused:
                run(SCENARIO, backend="sim", run_dir=tmp_path)
            refusals.append(str(refused.value))

    result = run(SCENARIO, backend=backend, run_dir=tmp_path, observe=also)
    assert result.ok
    assert refusals == [f"run_dir: another run is at work in {tmp_path}"] * 2
    events = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [Event.loads(one).name for one in events].count("lab-up") == 1
    assert run(SCENARIO, backend="sim", run_dir=tmp_path).ok  # one after the other


def test_a_run_that_is_given_up_leaves_its_folder_and_nothing_of_the_one_before(
    tmp_path: Path,
) -> None:
    def give_up(_: Event) -> None:
        raise KeyboardInterrupt

    assert run(SCENARIO, backend="sim", run_dir=tmp_path).ok
    files = set(tmp_path.rglob("*"))
    with pytest.raises(KeyboardInterrupt):
        run(SCENARIO, backend="sim", run_dir=tmp_path, observe=give_up)
    left = sorted(one.name for one in tmp_path.rglob("*"))
    assert left == ["events.jsonl", "qlog", "scenario.json"]
    assert run(SCENARIO, backend="sim", run_dir=tmp_path).ok
    assert set(tmp_path.rglob("*")) == files


def test_a_simulation_has_its_folder_alone_until_it_is_over(tmp_path: Path) -> None:
    refused = pytest.raises(ScenarioError, match="another run is at work in")
    simulation = simulate(SCENARIO, run_dir=tmp_path)
    simulation.run_until("connected")
    with refused:
        run(SCENARIO, backend="sim", run_dir=tmp_path)
    with refused:
        simulate(SCENARIO, run_dir=tmp_path)
    simulation.rewind(0.01)
    with refused:
        run(SCENARIO, backend="sim", run_dir=tmp_path)
    assert simulation.run().ok  # it is over, and still there
    assert run(SCENARIO, backend="sim", run_dir=tmp_path).ok
    simulation.rewind(0.01)
    with refused:
        simulate(SCENARIO, run_dir=tmp_path)
    simulation.close()
    assert run(SCENARIO, backend="sim", run_dir=tmp_path).ok


def test_a_simulation_that_cannot_begin_keeps_nobody_out(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedBehaviorError) as refused:
        simulate(REFUSED["xdp"], run_dir=tmp_path)
    assert run(SCENARIO, backend="sim", run_dir=tmp_path).ok
    assert refused.traceback  # with all that it holds
    with pytest.raises(ScenarioError, match=r"run_dir: cannot open .*/nowhere: No such file"):
        simulate(SCENARIO, run_dir=tmp_path / "nowhere")


def test_what_is_in_a_folder_that_is_no_runs_stays(tmp_path: Path) -> None:
    theirs = tmp_path / "keys" / "theirs.log"
    theirs.parent.mkdir()
    theirs.touch()
    assert run(SCENARIO, backend="sim", run_dir=tmp_path).ok
    assert theirs.exists()


def with_contiguous_ports() -> Scenario:
    """Which no backend's NATs have."""
    nodes = tuple(
        replace(one, behavior=NatBehavior(port_contiguity=True)) if isinstance(one, Nat) else one
        for one in SCENARIO.topology.nodes
    )
    return replace(SCENARIO, topology=replace(SCENARIO.topology, nodes=nodes))


REFUSED = {
    "xdp": replace(SCENARIO, xdp=Xdp.ON),
    "attack": replace(SCENARIO, steps=(Attack(Hostility.SPOOF), *SCENARIO.steps)),
    "contiguity": with_contiguous_ports(),
}
ON = [("sim", "xdp"), ("sim", "contiguity"), ("netns", "attack"), ("netns", "contiguity")]


@pytest.mark.parametrize(
    ("backend", "what"),
    [
        pytest.param(*one, marks=[pytest.mark.netns] if one[0] == "netns" else [], id="-".join(one))
        for one in ON
    ],
)
def test_a_run_that_never_began_leaves_no_folder_of_its_own(
    backend: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for run_dir in (None, tmp_path / "new", tmp_path / "some" / "where"):
        with pytest.raises(UnsupportedBehaviorError):
            run(REFUSED[what], backend=backend, run_dir=run_dir)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("backend", ["sim", pytest.param("auto", marks=pytest.mark.netns)])
def test_a_run_that_had_begun_keeps_its_folder_and_is_not_begun_anew(
    backend: str, tmp_path: Path
) -> None:
    names = []

    def fail(event: Event) -> None:
        names.append(event.name)
        raise BackendUnavailableError("no more of it", "nothing helps")

    with pytest.raises(BackendUnavailableError, match="no more of it"):
        run(SCENARIO, backend=backend, run_dir=tmp_path / "run", observe=fail)
    assert names.count("lab-up") == 1
    assert (tmp_path / "run" / "events.jsonl").read_text()


def test_others_and_what_is_in_them_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for there in ("runs", "mine"):
        (tmp_path / there).mkdir()
        (tmp_path / there / "file").touch()
    for run_dir in (None, tmp_path / "mine", tmp_path / "mine" / "new"):
        with pytest.raises(UnsupportedBehaviorError):
            run(REFUSED["xdp"], backend="sim", run_dir=run_dir)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["mine", "runs"]
    assert [one.name for one in (tmp_path / "runs").iterdir()] == ["file"]
    assert not (tmp_path / "mine" / "new").exists()
    assert (tmp_path / "mine" / "file").exists()
