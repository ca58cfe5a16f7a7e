"""``nat-check --backend sim``: without privileges, and lifetimes of minutes at once."""

import json
from pathlib import Path

import pytest

from quicpipe_lab.cli import main
from quicpipe_lab.model.nat_presets import PRESETS


def test_all_presets_with_their_lifetimes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nat-check", "--backend", "sim", "--lifetime", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["backend"]) == (True, "sim")
    lifetimes = {
        nat["nat"]: (one["declared"], one["ok"])
        for nat in report["nats"]
        for one in nat["properties"]
        if one["property"] == "mapping lifetime"
    }
    assert set(lifetimes) == set(PRESETS)
    assert lifetimes["cloud-aws"] == ("350 s", True)
    assert lifetimes["linux-masquerade"] == ("120 s", True)


def test_a_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["nat-check", "symmetric", "--backend", "sim"]) == 0
    said = capsys.readouterr().out
    assert "APDM" in said
    assert "as declared" in said


NARROW = """
host = [{ name = "alice" }, { name = "bob" }]
nat = [{ name = "nat-a", preset = "home" }, { name = "nat-b", preset = "home" }]
[[link]]
between = ["core", "nat-a"]
mtu_bytes = 68
[[link]]
between = ["core", "nat-b"]
[[link]]
between = ["nat-a", "alice"]
[[link]]
between = ["nat-b", "bob"]
"""


@pytest.mark.parametrize(
    ("topology", "says"),
    [
        (NARROW, "1 of 2 as declared; 1 not measured"),
        (NARROW.replace('"nat-b"]', '"nat-b"]\nmtu_bytes = 68', 1), "none of 2 measured"),
    ],
)
def test_what_was_not_measured_is_not_said_to_be_as_declared(
    topology: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "narrow.toml"
    file.write_text(topology)
    assert main(["nat-check", str(file), "--backend", "sim"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == says


@pytest.mark.parametrize(
    ("argv", "status", "said"),
    [
        (["--backend", "sim", "--server", "198.18.0.1"], 2, "takes --lifetime alone"),
        (["--backend", "slim"], 2, "'slim' is none of auto, netns, sim"),
    ],
)
def test_what_cannot_be(
    argv: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nat-check", *argv]) == status
    assert said in capsys.readouterr().err
