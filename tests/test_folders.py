"""What is left of a temporary folder."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.folders import vanishing_folder

_USER = """
import sys
from tests.folders import vanishing_folder
with vanishing_folder() as folder:
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "file").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_gone_after_the_block() -> None:
    with vanishing_folder() as folder:
        (folder / "file").write_text("x")
    assert not folder.exists()


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_gone_with_its_process(
    signum: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    # Its keeper writes to the same standard error, whose end thus is the keeper's.
    with subprocess.Popen(
        [sys.executable, "-c", _USER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        folder = Path(process.stdout.readline().strip())
        assert (folder / "deep" / "file").exists()
        process.send_signal(signum)
        process.stderr.read()
    assert list(tmp_path.iterdir()) == []
