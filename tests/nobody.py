"""A Python of another user, for tests of labs without root."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UID = 65534
_ROOT = Path(__file__).resolve().parents[1]


def python_of_nobody() -> tuple[list[str], dict[str, str]]:
    """How to start it, and its environment, in which it finds this package. Skips the test."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming another user needs root and setpriv (package util-linux)")
    path = os.pathsep.join([str(_ROOT), *(one for one in sys.path if "site-packages" in one)])
    env = {
        "HOME": "/tmp",
        "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": path,
    }
    # setpriv itself still executes with root's powers; env no longer does.
    become = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "env"]
    for python in (sys.executable, "/usr/bin/python3"):
        argv = [*become, python]
        check = [*argv, "-c", "import quicpipe_lab, pyroute2"]
        if subprocess.run(check, env=env, capture_output=True).returncode == 0:
            return argv, env
    pytest.skip("another user may read neither this Python nor a /usr/bin/python3 of its kind")
