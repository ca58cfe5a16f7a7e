"""What is left of a run that was killed: a spool in place of a capture, and no result."""

import re
import time
from pathlib import Path

import pytest

from quicpipe_lab import resources
from quicpipe_lab.cli import main
from quicpipe_lab.evidence import open_run
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.scenario_data import dump_scenario
from quicpipe_lab.shell.capture import CHUNK
from tests.shell.test_capture import play


@pytest.mark.netns
def test_a_killed_run_shows_what_its_recorder_had_written(tmp_path: Path) -> None:
    began = time.time()
    spool = play("everything", tmp_path).spool.read_bytes()
    run = tmp_path / "run"
    (run / "keys").mkdir(parents=True)
    (run / "scenario.json").write_text(dump_scenario(resources.find_scenario("nat-to-nat")))
    (run / "events.jsonl").write_text(
        Event(0.1, "lab", "lab-up", {"epoch_unix_s": began}).dumps() + "\n"
    )
    for name in ("bob", "alice"):
        (run / "keys" / f"{name}.log").write_text(f"{name}'s secrets\n")
    (run / "capture.spool").write_bytes(spool[:-1])
    evidence = open_run(run)
    assert evidence.warnings == (
        "the run has no result: it was killed, or could not be run",
        "the capture breaks off after 12 frames",
    )
    assert [packet.node for packet in evidence.packets].count("alpha") == 6
    assert 0 < evidence.packets[0].time_s < time.time() - began
    assert evidence.capture is not None
    assert evidence.capture.secrets == b"alice's secrets\nbob's secrets\n"


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("capture.spool", r"capture\.spool is damaged, or no recorder of ours wrote it"),
        ("keys/alice.log", r"cannot read .*alice\.log: Is a directory"),
        ("capture.pcapng", r"capture\.pcapng is no pcapng file"),
    ],
)
def test_a_file_that_is_damaged_is_named(
    what: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scenario = resources.find_scenario("nat-to-nat")
    (tmp_path / "scenario.json").write_text(dump_scenario(scenario))
    spool = CHUNK.pack(-1, 2) + b"[]"
    if what == "keys/alice.log":
        (tmp_path / what).mkdir(parents=True)
        spool = b""
    else:
        (tmp_path / what).write_bytes(spool)
    (tmp_path / "capture.spool").write_bytes(spool)
    for command in ("capture", "explain", "report"):
        assert main([command, str(tmp_path)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert re.fullmatch(rf"quicpipe-lab: .*{says}\n", told.err)
