"""``quicpipe-lab explain``, as a person types it, on real runs of the simulator and the kernel."""

import json
import re
import shutil
from pathlib import Path

import pytest

from quicpipe_lab.cli import main


@pytest.fixture(scope="module")
def relayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In virtual time, between two symmetric NATs."""
    folder = tmp_path_factory.mktemp("relayed")
    arguments = ["scenario", "symmetric-to-symmetric", "--backend", "sim", "--run-dir", str(folder)]
    assert main([*arguments, "--json"]) == 0
    return folder


def test_the_timeline_is_in_order_and_ends_in_the_cause(
    relayed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(relayed)]) == 0
    *lines, sentence = capsys.readouterr().out.splitlines()
    times = [float(line.split(" s  ")[0]) for line in lines]
    assert times == sorted(times)
    assert sentence.startswith("relayed, because both NATs map per destination (APDM): alice's")
    said = "\n".join(lines)
    for wanted in (
        r"nat-a +maps 192\.168\.0\.6:\d+ to 198\.18\.0\.10:\d+, towards 198\.18\.0\.6:443",
        r"nat-b +drops a packet from 198\.18\.0\.10:\d+ .*filtered.*, and \d+ more until",
        r"alice +sends its first punch, to 198\.18\.0\.14:\d+",
        r"bob +no hole after \d+ datagrams",
        r"relay +counted datagrams: forwarded \d+",
    ):
        assert re.search(wanted, said), wanted


def test_as_json(relayed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(relayed), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["outcome"], told["cause"]) == ("relayed", "both-mappings-depend")
    assert told["details"]["a"] == "alice"
    assert told["sentence"].count(told["details"]["port"]) == 1
    assert {row["source"] for row in told["timeline"]} == {"events.jsonl", "capture.pcapng"}


def test_a_scenario_that_does_not_go_direct_ends_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in (
        ("symmetric-to-symmetric", "relayed, because both NATs map per destination"),
        ("udp-blocked", "failed, because blocked lets no UDP out"),
        ("public-to-nat", "files"),
    ):
        folder = str(tmp_path / name)
        assert main(["scenario", name, "--backend", "sim", "--run-dir", folder]) == 0
        assert capsys.readouterr().out.splitlines()[-1].startswith(words)


@pytest.mark.netns
def test_a_direct_run_on_the_kernel_with_quics_own_checks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "run")
    arguments = ["scenario", "public-to-nat", "--backend", "netns", "--run-dir", folder]
    assert main([*arguments, "--no-certify"]) == 0
    capsys.readouterr()
    assert main(["explain", folder]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == (
        "direct, because alice can be reached by anybody, and bob's own packets opened nat-b for"
        " the answer."
    )
    assert re.search(r"alice +challenges the new path\n", said)
    assert re.search(r"alice +has the answer: the new path is valid\n", said)


def test_runs_that_are_not_whole(
    relayed: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(relayed, copy)
    capture = copy / "capture.pcapng"
    capture.write_bytes(capture.read_bytes()[:-7])
    assert main(["explain", str(copy)]) == 0
    told = capfd.readouterr()
    assert re.search(r"the capture breaks off after \d+ frames\n", told.err)
    assert "both NATs map per destination" in told.out
    capture.unlink()
    assert main(["explain", str(copy)]) == 0
    assert "no punch was answered, and nothing was captured" in capfd.readouterr().out
    (copy / "result.json").unlink()
    assert main(["explain", str(copy)]) == 0
    assert capfd.readouterr().out.endswith(
        "failed, because it has no result: it was killed, or could not be run.\n"
    )
    (copy / "scenario.json").write_text('{"format": 99}')
    assert main(["explain", str(copy)]) == 2
    assert "not a scenario of format" in capfd.readouterr().err
    (copy / "scenario.json").write_bytes((relayed / "scenario.json").read_bytes())
    capture.write_bytes(b"nothing of ours")
    assert main(["explain", str(copy)]) == 2
    assert "capture.pcapng is no pcapng file" in capfd.readouterr().err
    assert main(["explain", str(tmp_path / "nowhere")]) == 2


@pytest.mark.parametrize("command", ["explain", "report"])
def test_a_run_of_another_version_is_refused_in_one_line(
    command: str, relayed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what is missing, and where."""
    copy = tmp_path / "copy"
    shutil.copytree(relayed, copy)
    lines = (copy / "events.jsonl").read_text().splitlines()
    number, line = next(
        (number, json.loads(line)) for number, line in enumerate(lines, 1) if "punch-failed" in line
    )
    del line["sent"]
    lines[number - 1] = json.dumps(line)
    (copy / "events.jsonl").write_text("\n".join(lines))
    assert main([command, str(copy)]) == 2
    assert capsys.readouterr().err == (
        f"quicpipe-lab: {copy}/events.jsonl:{number} (punch-failed): no 'sent' is told: another"
        " version's run\n"
    )
