"""Scenarios on the real kernel, through the command line, as a person runs them.

All of the bundled ones are run by tests/backends/test_contract.py, on both backends.
"""

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab import resources
from quicpipe_lab.backends import base
from quicpipe_lab.backends.netns.lab import Lab, Process
from quicpipe_lab.errors import QuicpipeLabError, ScenarioError
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.nat_presets import PRESETS
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Cut, Outcome, Restore, Scenario, Transfer, WaitFor
from quicpipe_lab.model.topology import Host, Link, Nat, Relay, Topology
from quicpipe_lab.shell.pcapng import read
from tests.backends.netns.test_leaks import Caller
from tests.small_disk import on_a_small_disk

pytestmark = pytest.mark.netns

COMMAND = [sys.executable, "-m", "quicpipe_lab.cli", "scenario"]
DEADLINE_S = 60
MOMENTS = 30
LONGEST_S = 2.2
"""A little longer than a whole run of nat-to-nat takes here, so that its end is met as well."""


def run_cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=DEADLINE_S
    )


def events(run_dir: Path) -> list[Event]:
    return [Event.loads(line) for line in (run_dir / "events.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def nat_to_nat(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run of the main job: what it printed."""
    folder = tmp_path_factory.mktemp("nat-to-nat")
    done = run_cli("nat-to-nat", "--json", "--run-dir", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def test_main_job_says_what_was_promised(nat_to_nat: dict[str, Any]) -> None:
    assert {
        "scenario": "nat-to-nat",
        "backend": "netns",
        "outcome": "direct",
        "expected": "direct",
        "ok": True,
    }.items() <= nat_to_nat.items()
    times = nat_to_nat["times_s"]
    moments = [times[name] for name in ("lab_up", "relay_ready", "connected", "direct", "total")]
    assert moments == sorted(moments)
    assert all(value > 0 for value in nat_to_nat["rtt_s"].values())
    home = {"mapping": "EIM", "filtering": "APDF"}
    assert nat_to_nat["nat"] == {"dialer": home, "accepter": home}
    assert RunResult.from_json(nat_to_nat).to_json() == nat_to_nat


def test_main_job_relays_first_and_moves_in_mid_transfer(nat_to_nat: dict[str, Any]) -> None:
    assert nat_to_nat["bytes"]["relayed"] > 2 * 1024 * 1024
    assert nat_to_nat["bytes"]["direct"] > 2 * 1024 * 1024
    order = [(event.name, event.data.get("index")) for event in events(Path(nat_to_nat["run_dir"]))]
    moved = order.index(("path-changed", None))
    assert order.index(("transfer-complete", 0)) < moved
    assert order.index(("transfer-started", 1)) < moved < order.index(("transfer-complete", 1))
    assert order.index(("cut", None)) < order.index(("transfer-complete", 2))


def test_main_job_leaves_the_files_that_were_promised(nat_to_nat: dict[str, Any]) -> None:
    run_dir = Path(nat_to_nat["run_dir"])
    assert json.loads((run_dir / "result.json").read_text()) == nat_to_nat
    for name in ("alice", "bob", "relay"):
        assert json.loads((run_dir / "qlog" / f"{name}.qlog").read_text())["traces"]
    assert "CLIENT_TRAFFIC_SECRET_0" in (run_dir / "keys.log").read_text()
    assert not list(run_dir.glob("*.spool"))


def test_main_job_is_captured_at_every_interface(nat_to_nat: dict[str, Any]) -> None:
    frames = read(Path(nat_to_nat["run_dir"]) / "capture.pcapng").frames
    assert {(frame.node, frame.interface) for frame in frames} == {
        ("alice", "nat-a"),
        ("nat-a", "alice"),
        ("nat-a", "core"),
        ("core", "nat-a"),
        ("core", "nat-b"),
        ("core", "relay"),
        ("relay", "core"),
        ("nat-b", "core"),
        ("nat-b", "bob"),
        ("bob", "nat-b"),
        ("oob", ""),
    }
    clock = nat_to_nat["clock"]["epoch_unix_s"]
    times = [frame.time_ns / 1e9 - clock for frame in frames]
    assert 0 < min(times) < max(times) < nat_to_nat["times_s"]["total"]
    assert nat_to_nat["capture"] == {"packets": len(frames) - 1, "dropped": 0}


def test_direct_dies_falls_back_and_returns(tmp_path: Path) -> None:
    done = run_cli("direct-dies", "--json", "--run-dir", "run", cwd=tmp_path)
    result = json.loads(done.stdout)
    assert result["longest_gap_s"] < 1.5
    alice = [event for event in events(tmp_path / "run") if event.node == "alice"]
    assert [e.data["direct"] for e in alice if e.name == "path-changed"] == [True, False, True]
    assert [event.name for event in alice].count("direct-silent") == 1


def symmetric_against_expectation() -> str:
    text = (resources.folder("netns") / "scenarios" / "symmetric-to-symmetric.toml").read_text()
    return text.replace('expect = "relayed"', 'expect = "direct"')


def test_another_outcome_than_expected_exits_1(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(symmetric_against_expectation())
    done = run_cli("./mine.toml", "--json", cwd=tmp_path)
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert (result["outcome"], result["expected"], result["ok"]) == ("relayed", "direct", False)
    assert Path(result["run_dir"]).is_relative_to(tmp_path / "runs")


def test_a_wait_in_vain_fails_the_run_and_says_for_what(tmp_path: Path) -> None:
    text = symmetric_against_expectation().replace(
        'event = "punch-failed"', 'path = "direct"\nwithin_s = 0.3'
    )
    (tmp_path / "mine.toml").write_text(text)
    done = run_cli("mine.toml", "--json", cwd=tmp_path)
    assert done.returncode == 1
    result = json.loads(done.stdout)
    assert result["outcome"] == "failed"
    assert result["failure"] == "waited in vain for both peers to use the direct path (0.3 s)"
    assert (Path(result["run_dir"]) / "capture.pcapng").stat().st_size > 1000


def test_a_scenario_written_in_python(tmp_path: Path) -> None:
    topology = Topology(
        "mine",
        (Host("one"), Host("two"), Relay("r"), Nat("n", PRESETS["restricted-cone"])),
        (
            Link(("core", "r")),
            Link(("core", "n")),
            Link(("n", "one")),
            Link(("core", "two")),
        ),
    )
    scenario = Scenario(
        name="mine",
        topology=topology,
        dialer="two",
        accepter="one",
        relay="r",
        expect=Outcome.RELAYED,
        steps=(
            WaitFor(path=Outcome.DIRECT),
            Cut(("one", "two")),
            WaitFor(path=Outcome.RELAYED),
            Transfer(100_000),
        ),
    )
    seen: list[str] = []
    result = base.run(scenario, run_dir=tmp_path, observe=lambda event: seen.append(event.name))
    assert result.ok, result.failure
    assert result.nat["dialer"].mapping is None
    assert result.nat["accepter"].filtering == "ADF"
    assert result.transferred_bytes == 100_000
    assert {"lab-up", "connected", "path-changed", "transfer-complete", "done"} <= set(seen)
    assert Restore not in map(type, scenario.steps)


def test_runs_in_one_process_leave_no_file_open(tmp_path: Path) -> None:
    scenario = resources.find_scenario("public-to-nat")
    assert base.run(scenario, run_dir=tmp_path / "first").ok
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert base.run(scenario, run_dir=tmp_path / "second").ok
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_run_given_up_at_any_moment_leaves_no_file_open(tmp_path: Path) -> None:
    scenario = resources.find_scenario("public-to-nat")
    base.run(scenario, run_dir=tmp_path / "whole")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for moment in range(8):
        short = dataclasses.replace(scenario, deadline_s=0.1 + moment * 0.06)
        result = base.run(short, run_dir=tmp_path / str(moment))
        assert result.failure is None or "deadline" in result.failure
        assert len(os.listdir("/proc/self/fd")) == before, moment  # noqa: PTH208


@pytest.mark.parametrize("command", ["relay", "accept", "dial"])
def test_a_program_that_dies_fails_the_run_at_once(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, Process] = {}
    spawn = Lab.spawn

    def noting(lab: Lab, node: str, argv: Sequence[str], **options: Any) -> Process:
        process = spawn(lab, node, argv, **options)
        started[argv[1]] = process
        return process

    def kill(event: Event) -> None:
        if event.name == "connected":
            started[command].send_signal(signal.SIGKILL)

    monkeypatch.setattr(Lab, "spawn", noting)
    begin_s = time.monotonic()
    result = base.run(resources.find_scenario("nat-to-nat"), run_dir=tmp_path, observe=kill)
    assert result.outcome is Outcome.FAILED
    assert result.failure is not None
    assert result.failure == f"the {command} ended too early, by SIGKILL"
    assert time.monotonic() - begin_s < 10


@pytest.mark.parametrize(
    ("command", "moment", "says"),
    [
        ("_capture", None, "the capture did not start: its recorder ended by SIGKILL; "),
        ("_capture", "ready", "the capture is not complete: its recorder ended by SIGKILL"),
        ("_nat-probe", None, "the NATs could not be probed: the prober ended by SIGKILL"),
    ],
)
def test_what_is_killed_beside_the_programs_is_said_as_such(
    command: str, moment: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: dict[str, Process] = {}
    spawn = Lab.spawn

    def noting(lab: Lab, node: str, argv: Sequence[str], **options: Any) -> Process:
        process = started[argv[1]] = spawn(lab, node, argv, **options)
        if moment is None and argv[1] == command:
            process.send_signal(signal.SIGKILL)
        return process

    def kill(event: Event) -> None:
        if event.name == moment:
            started[command].send_signal(signal.SIGKILL)

    monkeypatch.setattr(Lab, "spawn", noting)
    scenario = dataclasses.replace(resources.find_scenario("nat-to-nat"), steps=())
    try:
        said = base.run(scenario, run_dir=tmp_path, observe=kill, certify=True).failure
    except QuicpipeLabError as error:
        said = str(error)
    assert said is not None
    assert said.startswith(says)


def test_a_program_that_a_full_disk_keeps_from_saying_why_is_spoken_for(tmp_path: Path) -> None:
    """There is room for the relay's log, and none for the accepter's."""
    command = f"{' '.join(COMMAND)} nat-to-nat --run-dir run"
    done = on_a_small_disk(tmp_path, "16k", command)
    assert done.stderr.splitlines()[-1].startswith(
        "quicpipe-lab: the accept cannot run here; it could not say why: No space left on device"
    )
    assert done.returncode == 3


def test_certifying_is_under_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The prober is stopped, and so would never end."""
    spawn = Lab.spawn
    probers: list[Process] = []

    def stopping(lab: Lab, node: str, argv: Sequence[str], **options: Any) -> Process:
        process = spawn(lab, node, argv, **options)
        if argv[1] == "_nat-probe":
            process.send_signal(signal.SIGSTOP)
            probers.append(process)
        return process

    monkeypatch.setattr(Lab, "spawn", stopping)
    scenario = dataclasses.replace(resources.find_scenario("nat-to-nat"), deadline_s=2.0)
    result = base.run(scenario, run_dir=tmp_path, certify=True)
    assert result.outcome is Outcome.FAILED
    assert result.failure == (
        "waited in vain for the NATs to be measured (the scenario's deadline)"
    )
    assert len(probers) == 1


def test_two_runs_at_one_moment_have_folders_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda *_: "20260101-000000")
    folders: list[Path] = []

    class Backend:
        name = "pretended"

        def run(self, _: Scenario, run_dir: Path, *__: object, **___: object) -> RunResult:
            folders.append(run_dir)
            if len(folders) == 1:
                base.run(resources.find_scenario("nat-to-nat"))
            raise ScenarioError("", "enough")

    monkeypatch.setattr(base, "find_backend", lambda _: Backend())
    with pytest.raises(ScenarioError, match="enough"):
        base.run(resources.find_scenario("nat-to-nat"))
    assert [path.name for path in folders] == [
        "nat-to-nat-20260101-000000",
        "nat-to-nat-20260101-000000-1",
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_end_a_run_as_ctrl_c_does(number: signal.Signals, tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "nat-to-nat", "--json", "--run-dir", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    end_s = time.monotonic() + DEADLINE_S
    log = tmp_path / "run" / "events.jsonl"
    while not (log.exists() and "lab-up" in log.read_text()):
        assert time.monotonic() < end_s
    process.send_signal(number)
    out, complaint = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 128 + number
    assert complaint.count("\n") == 1
    assert number.name in complaint
    assert json.loads(out)["exit_status"] == 128 + number


def test_a_run_dir_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    for folder in ("/proc", "/proc/nowhere"):
        done = run_cli("nat-to-nat", "--run-dir", folder, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "run_dir" in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "there is no scenario 'nowhere'"),
        ("summary = ", "mine.toml"),
        ('topology = "two-homes"\n', "roles: is missing"),
        ('topology = "two-moons"\nexpect = "direct"\n', "there is no topology 'two-moons'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(text: str | None, says: str, tmp_path: Path) -> None:
    name = "nowhere"
    if text is not None:
        (tmp_path / "mine.toml").write_text(text)
        name = "mine.toml"
    done = run_cli(name, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    done = run_cli(name, "--json", cwd=tmp_path)
    assert set(json.loads(done.stdout)) == {"error", "exit_status"}
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("moment", range(MOMENTS))
def test_killed_at_a_random_moment_nothing_is_left(moment: int, tmp_path: Path) -> None:
    """SIGKILL, or every third time Ctrl-C, which must end in one line and status 130."""
    before = sorted(os.listdir("/sys/class/net"))  # noqa: PTH208
    caller = Caller([*COMMAND, "nat-to-nat", "--run-dir", str(tmp_path)], {})
    gentle = moment % 3 == 2
    try:
        caller.process.wait(random.Random(moment).uniform(0, LONGEST_S))
    except subprocess.TimeoutExpired:
        caller.process.send_signal(signal.SIGINT if gentle else signal.SIGKILL)
    caller.assert_nothing_is_left(set())
    assert sorted(os.listdir("/sys/class/net")) == before  # noqa: PTH208
    if gentle:
        # Before main() runs and after it has returned, Python itself answers the signal.
        assert caller.process.returncode in (0, 1, 130, -signal.SIGINT)
