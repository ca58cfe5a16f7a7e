"""What is left of a run that was killed: a spool in place of a capture, and no result."""

import time
from pathlib import Path

import pytest

from quicpipe_lab import resources
from quicpipe_lab.evidence import open_run
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.scenario_data import dump_scenario
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
