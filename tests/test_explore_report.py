"""``quicpipe-lab explore``: what it says, what it saves, how it ends."""

import json
import shlex
from pathlib import Path

import pytest

from quicpipe_lab.cli import main
from quicpipe_lab.resources import find_scenario
from quicpipe_lab.shell.scenario_file import to_toml

WAITS_FOR_NOTHING = """
topology = "two-symmetric"
roles = { dialer = "alice", accepter = "bob", relay = "relay" }
expect = "relayed"
step = [
    { do = "transfer", size_bytes = 500 },
    { do = "wait", event = "direct-silent" },
]
"""


def test_what_is_found_is_saved_and_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "waits.toml").write_text(WAITS_FOR_NOTHING)
    argv = ["explore", "waits.toml", "--seeds", "3", "--jobs", "1"]
    assert main([*argv, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["counts"] == {"liveness": 1}
    assert (told["found"]["seed"], told["found"]["invariant"]) == (1, "liveness")
    file = tmp_path / "waits-seed-1.toml"
    assert told["found"]["command"] == "quicpipe-lab scenario waits-seed-1.toml --backend sim"
    assert file.read_text().startswith("# Found by quicpipe-lab explore waits, seed 1, and shrunk:")
    # What matters is left, and nothing else.
    small = find_scenario(str(file))
    assert [type(step).__name__ for step in small.steps] == ["WaitFor"]
    assert not small.meanwhile
    assert main([*shlex.split(told["found"]["command"])[1:], "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["failure"] == told["found"]["shrunk_failure"]
    (tmp_path / "other").mkdir()
    assert main([*argv, "-o", str(tmp_path / "other" / "found it.toml")]) == 1
    said = capsys.readouterr().out
    assert "seed 1: invariant broken: liveness: waited in vain for the event direct-silent" in said
    found = tmp_path / "other" / "found it.toml"
    assert found.exists()
    assert f"quicpipe-lab scenario '{found}' --backend sim" in said


@pytest.mark.parametrize(
    ("out", "why"),
    [
        ("folder", "Is a directory"),
        ("nowhere/x.toml", "No such file or directory"),
        ("waits.toml/x.toml", "Not a directory"),
    ],
)
def test_where_nothing_can_be_saved_nothing_is_searched(
    out: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As many seeds as here would take days."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "waits.toml").touch()
    file = tmp_path / out
    assert main(["explore", "relayed", "--seeds", "1000000", "-o", str(file)]) == 2
    assert capsys.readouterr().err == f"quicpipe-lab: cannot write {file}: {why}\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["folder", "waits.toml"]


def test_what_is_found_is_said_also_where_the_disk_is_full(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "waits.toml").write_text(WAITS_FOR_NOTHING)
    argv = ["explore", str(tmp_path / "waits.toml"), "--seeds", "3", "--jobs", "1"]
    assert main([*argv, "-o", "/dev/full"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("quicpipe-lab: cannot write /dev/full: No space left on device; found")
    assert "seed 1: invariant broken: liveness: waited in vain for the event direct-silent" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "status", "says"),
    [
        (["nowhere"], 2, "there is no scenario 'nowhere'"),
        (["relayed", "--seeds", "0"], 2, "0 is not 1 or more"),
        (["relayed", "--seeds", str(2**64 + 1)], 2, f"seeds: is 1 to {2**64}, not "),
        (["relayed", "--jobs", "x"], 2, "--jobs: 'x' is no whole number of 1 or more, as 1000"),
        (["relayed", "--seeds", "1e3"], 2, "--seeds: '1e3' is no whole number of 1 or more"),
        (["relayed", "--first-seed", "x"], 2, "invalid int value: 'x'"),
        (["relayed", "--first-seed", str(2**63)], 2, "first_seed: is "),
        (["on.toml", "--seeds", "2", "--jobs", "1"], 3, "no kernel for --xdp"),
        (["on.toml", "--seeds", "2", "--jobs", "2"], 3, "no kernel for --xdp"),
    ],
)
def test_what_cannot_be(
    argv: list[str],
    status: int,
    says: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    text = to_toml(find_scenario("relayed")).replace("xdp =", "was_xdp =")
    (tmp_path / "on.toml").write_text('xdp = "on"\n' + text)
    assert main(["explore", *argv]) == status
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
