"""The command line itself; what the commands do is tested with what they are made of."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from quicpipe_lab import cli


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"quicpipe-lab {version('quicpipe-lab')}\n"


def test_a_mistyped_command_names_those_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["donw"]) == cli.BAD_INPUT
    said = capsys.readouterr().err
    assert said.startswith("quicpipe-lab: argument COMMAND: invalid choice: 'donw'")
    assert "doctor" in said
    assert "_capture" not in said
    assert "_nat-probe" not in said


@pytest.mark.netns
def test_a_full_disk_is_said_as_such(tmp_path: Path) -> None:
    """Not as a mistake of ours at a line of our code. The disk is a small one of its own."""
    command = f"{sys.executable} -m quicpipe_lab.cli scenario nat-to-nat --backend sim --run-dir"
    script = f"mount -t tmpfs -o size=64k tmpfs {tmp_path} && exec {command} {tmp_path}/run"
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].startswith(
        "quicpipe-lab: No space left on device; make room where runs are kept"
    )
    assert done.returncode == 3
