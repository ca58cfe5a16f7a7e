"""Lines of events to a descriptor or a file."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.event import Event
from quicpipe_lab.shell.event_log import EventLog

HERE = TransportAddress("192.0.2.1", 80)


@dataclass(frozen=True)
class PathWasChanged:
    address: TransportAddress
    others: tuple[TransportAddress, ...]
    body: bytes
    rtt_s: float | None


def test_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "events"
    began_s = time.monotonic()
    with EventLog(str(path), "node") as log:
        log.write("ready", address=HERE)
        assert path.read_text().endswith("\n")  # at once
        log.record(PathWasChanged(HERE, (HERE,), b"\xff", None))
    first, second = (Event.loads(line) for line in path.read_text().splitlines())
    assert began_s - 0.001 <= first.t_s <= second.t_s <= time.monotonic() + 0.001
    assert (first.node, first.name, first.data) == ("node", "ready", {"address": "192.0.2.1:80"})
    assert second.name == "path-was-changed"
    assert second.data == {
        "address": "192.0.2.1:80",
        "others": ["192.0.2.1:80"],
        "body": "ff",
        "rtt_s": None,
    }


def test_to_a_descriptor() -> None:
    reader, writer = os.pipe()
    with EventLog(f"fd:{writer}", "node") as log:
        log.write("one")
    with os.fdopen(reader) as lines:
        assert [Event.loads(line).name for line in lines] == ["one"]
    with pytest.raises(OSError):
        os.fstat(writer)  # closed with the log, so that its reader sees the end


def test_to_nowhere() -> None:
    with EventLog(None, "node") as log:
        log.write("one")


def test_a_reader_that_leaves_stops_nothing() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with EventLog(f"fd:{writer}", "node") as log:
        log.write("one")
        log.write("two")


@pytest.mark.parametrize("target", ["fd:1000000", "fd:", "/no/such/folder/x", ""])
def test_bad_targets(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if target == "fd:":
        EventLog(target, "node").close()  # a file of that name
        assert (tmp_path / target).exists()
        return
    with pytest.raises(QuicpipeLabError, match="events "):
        EventLog(target, "node")
