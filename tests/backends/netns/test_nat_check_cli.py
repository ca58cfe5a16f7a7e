"""``quicpipe-lab nat-check`` as a person runs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from quicpipe_lab import cli
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    MappingBehavior,
    NatBehavior,
)
from tests.backends.netns.lying import make_lie

pytestmark = pytest.mark.netns

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior

DEADLINE_S = 60.0
COMMAND = [sys.executable, "-m", "quicpipe_lab.cli", "nat-check"]


def run_cli(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=DEADLINE_S
    )


def test_a_preset_is_checked_with_two_hosts(tmp_path: Path) -> None:
    done = run_cli("symmetric", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    report = json.loads(done.stdout)
    assert report["ok"]
    (nat,) = report["nats"]
    assert (nat["nat"], nat["through"], nat["ok"]) == ("symmetric", ["symmetric"], True)
    rows = {one["property"]: one for one in nat["properties"]}
    assert rows["mapping"] == {
        "property": "mapping",
        "declared": "APDM",
        "measured": "APDM",
        "ok": True,
        "remark": "",
    }
    assert rows["two hosts, one port"]["measured"] == "distinct ports, APDM"
    assert "mapping lifetime" not in rows


def test_a_topology_is_checked_nat_by_nat(tmp_path: Path) -> None:
    done = run_cli("two-symmetric", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nat-a, seen from alice" in done.stdout
    assert "nat-b, seen from bob" in done.stdout
    assert "all 2 as declared" in done.stdout
    assert "DIFFERENT" not in done.stdout


def test_a_difference_exits_1_and_says_which(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_lie("home", NatBehavior(filtering=ADF), monkeypatch)
    assert cli.main(["nat-check", "home"]) == 1
    printed = capsys.readouterr().out
    assert "DIFFERENT" in printed
    assert "home is not what it is declared to be: filtering is ADF and not APDF" in printed
    assert cli.main(["nat-check", "home", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]


def test_lifetimes_by_the_command_line(tmp_path: Path) -> None:
    done = run_cli("home", "--lifetime-scale", "200", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (nat,) = json.loads(done.stdout)["nats"]
    rows = {one["property"]: one for one in nat["properties"]}
    assert rows["mapping lifetime"]["declared"] == "2 s"
    assert rows["mapping lifetime"]["ok"]
    assert rows["refreshed by"]["measured"] == "outbound"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["hme"], "there is no preset or topology 'hme'; did you mean 'home'?"),
        (["./nowhere.toml"], "cannot read nowhere.toml"),
        (["broken.toml"], "broken.toml:1"),
        (["--server", "host:port"], "'host:port' is not HOST:PORT"),
        (["--server", "no-such-host.invalid"], "--server no-such-host.invalid: "),
        (["home", "--server", "127.0.0.1:1"], "--server is for NATs that are there"),
        (["home", "--lifetime-scale", "0.5"], "--lifetime-scale is a number of 1 or more"),
        (["home", "--lifetime-scale", "nan"], "--lifetime-scale is a number of 1 or more"),
        (["home", "--lifetime-scale", "much"], "invalid float value: 'much'"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], says: str, tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text('nat = [{ name = "n", preset = "no" }]\n')
    done = run_cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
    done = run_cli(*arguments, "--json", cwd=tmp_path)
    assert set(json.loads(done.stdout)) == {"error", "exit_status"}


@pytest.mark.usefixtures("user_namespaces")
def test_a_machine_without_namespaces_exits_3_where_the_kernel_is_asked_for(tmp_path: Path) -> None:
    without = [sys.executable, str(Path(__file__).parents[2] / "without_namespaces.py")]
    argv = [*without, *COMMAND, "home", "--backend", "netns", "--json"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "user.max_net_namespaces" in json.loads(done.stdout)["error"]
