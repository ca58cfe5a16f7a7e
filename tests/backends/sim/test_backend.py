"""Scenarios in virtual time, through the command line as a person runs them."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab.model.event import Event
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Outcome

HERE = Path(__file__).parent
COMMAND = [sys.executable, "-m", "quicpipe_lab.cli"]
ELSEWHERE = [sys.executable, str(HERE / "elsewhere.py")]
WITHOUT_NAMESPACES = [sys.executable, str(HERE.parents[1] / "without_namespaces.py")]
DEADLINE_S = 60


def run_cli(
    *arguments: str, command: list[str] = COMMAND, hash_seed: str = "random"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        env=os.environ | {"PYTHONHASHSEED": hash_seed},
    )


def simulate(name: str, run_dir: Path, hash_seed: str = "random") -> dict[str, Any]:
    done = run_cli(
        *("scenario", name, "--backend", "sim", "--json", "--run-dir", str(run_dir)),
        hash_seed=hash_seed,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_the_main_job_and_what_it_leaves(tmp_path: Path) -> None:
    result = simulate("nat-to-nat", tmp_path)
    assert (result["backend"], result["outcome"], result["ok"]) == ("sim", "direct", True)
    assert result["clock"]["kind"] == "virtual"
    assert RunResult.from_json(result).to_json() == result
    assert json.loads((tmp_path / "result.json").read_text()) == result
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys.log").read_text()
    for name in ("alice", "bob", "relay"):
        (trace, *_) = json.loads((tmp_path / "qlog" / f"{name}.qlog").read_text())["traces"]
        assert abs(trace["events"][0]["time"] / 1000 - result["clock"]["epoch_unix_s"]) < 1
    times = [Event.loads(one).t_s for one in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert times == sorted(times)
    assert times[-1] == result["times_s"]["total"]


@pytest.mark.parametrize("name", ["only-port-443", "udp-blocked"])
def test_scenarios_that_do_not_end_direct_are_as_expected(name: str, tmp_path: Path) -> None:
    done = run_cli("scenario", name, "--backend", "sim", "--run-dir", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{name}: " in done.stdout
    assert "as expected" in done.stdout
    result = RunResult.from_json(json.loads((tmp_path / "result.json").read_text()))
    assert (result.failure is None) == (result.outcome is not Outcome.FAILED)


def test_a_port_search_takes_what_chance_says_and_is_the_same_each_time(tmp_path: Path) -> None:
    first, second = (simulate("port-search", tmp_path / name) for name in "ab")
    assert first["outcome"] == "direct"
    assert 0 < first["search"]["hit"] <= first["search"]["probes"] <= 2048
    assert first["search"] == second["search"]


def test_without_the_other_sides_nat_there_is_nothing_to_search_for(tmp_path: Path) -> None:
    """Both symmetric: --search is for any scenario, and does not make wonders."""
    done = run_cli(
        *("scenario", "symmetric-to-symmetric", "--backend", "sim", "--search", "--json"),
        *("--run-dir", str(tmp_path)),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["outcome"] == "relayed"
    assert (result["search"]["found"], result["search"]["hit"]) == (False, None)
    assert result["search"]["probes"] == 2 * 1024


@pytest.mark.parametrize("name", ["direct-dies", "long-way"])
def test_one_seed_gives_one_run_to_the_last_byte(name: str, tmp_path: Path) -> None:
    folders = [tmp_path / number for number in "12"]
    for folder, seed in zip(folders, ("0", "12345"), strict=True):
        simulate(name, folder, seed)
    one, other = ({at.relative_to(f): at for at in f.rglob("*") if at.is_file()} for f in folders)
    assert one.keys() == other.keys() > {Path("events.jsonl"), Path("keys.log")}
    different = [str(at) for at in one if one[at].read_bytes() != other[at].read_bytes()]
    assert different == ["result.json"]  # which says where it stands


def test_another_seed_gives_another_run(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "netns/scenarios/public-to-nat.toml").read_text()
    for seed in (1, 2):
        (tmp_path / f"{seed}.toml").write_text(f"seed = {seed}\n{text}")
        simulate(str(tmp_path / f"{seed}.toml"), tmp_path / str(seed))
    one, other = ((tmp_path / str(seed) / "keys.log").read_text() for seed in (1, 2))
    assert one != other


def test_on_a_machine_that_is_not_linux(tmp_path: Path) -> None:
    done = run_cli("scenario", "nat-to-nat", "--run-dir", str(tmp_path), command=ELSEWHERE)
    assert done.returncode == 0, done.stderr
    assert "quicpipe-lab: simulated in virtual time" in done.stderr.splitlines()[0]
    assert "darwin has no network namespaces" in done.stderr
    assert "nat-to-nat: direct, as expected" in done.stdout


@pytest.mark.netns
def test_where_no_namespaces_can_be_made(tmp_path: Path) -> None:
    command = [*WITHOUT_NAMESPACES, *COMMAND]
    arguments = ("scenario", "public-to-nat", "--json", "--run-dir", str(tmp_path))
    done = run_cli(*arguments, command=command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backend"] == "sim"
    assert done.stderr.count("\n") == 1
    assert "limit on namespaces" in done.stderr
    done = run_cli(*arguments, "--backend", "netns", command=command)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1


def test_what_a_run_left_is_looked_at_elsewhere(tmp_path: Path) -> None:
    """And searched for more: nothing that Linux alone has, or Windows has not, is asked for."""
    run = str(tmp_path / "run")
    for command in (
        ("scenario", "public-to-nat", "--backend", "sim", "--run-dir", run),
        ("explain", run),
        ("capture", run),
        ("report", run),
        ("explore", "relayed", "--seeds", "2", "--jobs", "2", "-o", str(tmp_path / "x.toml")),
    ):
        done = run_cli(*command, command=ELSEWHERE)
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout, command
    assert (tmp_path / "run" / "report.html").exists()


PAIR = ("--rows", "EIM/EIF", "--cols", "EIM/EIF")


def test_the_matrix_makes_do_with_virtual_time_elsewhere(tmp_path: Path) -> None:
    """And where the kernel is asked for by name, no library is missed in its place."""
    done = run_cli("matrix", *PAIR, "--run-dir", str(tmp_path), command=ELSEWHERE)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == (
        "quicpipe-lab: simulated in virtual time, as by --backend sim:"
        " darwin has no network namespaces"
    )
    assert "1 of 1 as expected" in done.stdout
    for command in (("matrix", *PAIR, "--run-dir", str(tmp_path)), ("nat-check", "home")):
        by_name = (*command, "--backend", "netns")
        done = run_cli(*by_name, command=ELSEWHERE)
        assert done.returncode == 3
        assert done.stderr == (
            "quicpipe-lab: darwin has no network namespaces;"
            " they are Linux's own: use the sim backend\n"
        )


@pytest.mark.netns
def test_the_matrix_where_no_namespaces_can_be_made(tmp_path: Path) -> None:
    command = [*WITHOUT_NAMESPACES, *COMMAND]
    arguments = ("matrix", *PAIR, "--json", "--run-dir", str(tmp_path))
    done = run_cli(*arguments, command=command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["as_expected"] == 1
    assert done.stderr.count("\n") == 1
    assert "limit on namespaces" in done.stderr
    done = run_cli(*arguments, "--backend", "netns", command=command)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "raise it: sudo sysctl" in done.stderr


def test_nat_check_makes_do_with_virtual_time_elsewhere() -> None:
    done = run_cli("nat-check", "home", command=ELSEWHERE)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "quicpipe-lab: simulated in virtual time, as by --backend sim:"
        " darwin has no network namespaces\n"
    )
    assert done.stdout.endswith("as declared\n")


@pytest.mark.netns
def test_nat_check_where_no_namespaces_can_be_made() -> None:
    command = [*WITHOUT_NAMESPACES, *COMMAND]
    done = run_cli("nat-check", "home", "--json", command=command)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["backend"], report["ok"]) == ("sim", True)
    assert done.stderr.count("\n") == 1
    assert "limit on namespaces" in done.stderr


ATTACKED = """
topology = "two-homes"
expect = "direct"
[roles]
dialer = "alice"
accepter = "bob"
relay = "relay"
[[step]]
do = "transfer"
size_bytes = 1000
[[step]]
do = "wait"
path = "direct"
[[meanwhile]]
do = "attack"
kind = "garbage"
at_s = 0.2
"""


@pytest.mark.parametrize(
    "command",
    [COMMAND, ELSEWHERE, pytest.param([*WITHOUT_NAMESPACES, *COMMAND], marks=pytest.mark.netns)],
    ids=["here", "elsewhere", "without-namespaces"],
)
def test_a_stranger_attacks_in_virtual_time_wherever_it_is_run(
    command: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "attacked.toml"
    file.write_text(ATTACKED)
    arguments = ("scenario", str(file), "--json", "--run-dir", str(tmp_path / "run"))
    done = run_cli(*arguments, command=command)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["backend"] == "sim"
    assert done.stderr == (
        "quicpipe-lab: simulated in virtual time, as by --backend sim: attack (garbage):"
        " a lab on the kernel has no stranger in it\n"
    )


@pytest.mark.netns
def test_the_kernel_says_who_has_a_stranger(tmp_path: Path) -> None:
    file = tmp_path / "attacked.toml"
    file.write_text(ATTACKED)
    run_dir = str(tmp_path / "run")
    done = run_cli("scenario", str(file), "--backend", "netns", "--run-dir", run_dir)
    assert done.returncode == 3
    assert done.stderr == (
        "quicpipe-lab: attack (garbage): a lab on the kernel has no stranger in it;"
        " use --backend sim\n"
    )


def test_an_unknown_backend_is_bad_input(tmp_path: Path) -> None:
    done = run_cli("scenario", "nat-to-nat", "--backend", "moon", "--run-dir", str(tmp_path))
    assert done.returncode == 2
    assert "'moon' is none of auto, netns, sim" in done.stderr


def test_relaying_in_a_kernel_is_refused_by_name(tmp_path: Path) -> None:
    done = run_cli(
        *("scenario", "relayed", "--backend", "sim", "--xdp", "on"),
        *("--run-dir", str(tmp_path)),
    )
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "--xdp" in done.stderr


def test_where_the_matrix_is_killed_no_worker_is_left(tmp_path: Path) -> None:
    """Workers end because nobody is there who wants their work, not by a signal of ours."""
    command = [*COMMAND, "matrix", "--backend", "sim", "--trials", "50", "--run-dir", str(tmp_path)]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with subprocess.Popen(
        command,
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(temporary)},
    ) as process:
        end_s = time.monotonic() + DEADLINE_S
        while not list(tmp_path.glob("*/result.json")):
            assert time.monotonic() < end_s
        process.kill()
    with pytest.raises(ProcessLookupError):  # nobody of its group is there
        while time.monotonic() < end_s:
            os.killpg(process.pid, 0)
    assert not list(temporary.iterdir())
