"""Two runs in one folder: the second is refused, and the first is what it would have been."""

from pathlib import Path

import pytest

from quicpipe_lab.backends.base import run
from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.event import Event
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


def test_what_is_in_a_folder_that_is_no_runs_stays(tmp_path: Path) -> None:
    theirs = tmp_path / "keys" / "theirs.log"
    theirs.parent.mkdir()
    theirs.touch()
    assert run(SCENARIO, backend="sim", run_dir=tmp_path).ok
    assert theirs.exists()
