"""The markers, on a machine that can and, by the kernel's own limits, on one that cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
WITHOUT_NAMESPACES = [sys.executable, str(TESTS / "without_namespaces.py")]
NEEDS_NAMESPACES = (
    "tests/shell/test_capture.py::test_cut_frames_keep_their_length_and_a_signal_stops"
)
REASON = (
    "network-namespaces: no network namespace can be made (unshare: No space left on device); "
    "sudo sysctl -w user.max_net_namespaces="
)


def run_pytest(require: str, wrapper: list[str]) -> subprocess.CompletedProcess[str]:
    arguments = ["-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-rsE", NEEDS_NAMESPACES]
    return subprocess.run(
        [*wrapper, sys.executable, *arguments],
        cwd=TESTS.parent,
        # Wide enough that pytest does not cut the reasons short.
        env={**os.environ, "QUICPIPE_LAB_REQUIRE": require, "COLUMNS": "500"},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.netns
def test_a_marked_test_runs_where_it_can() -> None:
    done = run_pytest("netns", [])
    assert "1 passed" in done.stdout
    assert done.returncode == 0


@pytest.mark.netns
@pytest.mark.usefixtures("user_namespaces")
def test_where_it_cannot_it_is_skipped_with_the_doctors_reason() -> None:
    done = run_pytest("", WITHOUT_NAMESPACES)
    assert "1 skipped" in done.stdout
    assert REASON in done.stdout
    assert done.returncode == 0


@pytest.mark.netns
@pytest.mark.usefixtures("user_namespaces")
def test_where_it_is_required_it_fails_with_the_doctors_reason() -> None:
    done = run_pytest("bpf,netns", WITHOUT_NAMESPACES)
    assert "1 error" in done.stdout
    assert f"netns is required here, but {REASON}" in done.stdout
    assert done.returncode == 1


def test_a_marker_that_does_not_exist_cannot_be_required() -> None:
    done = run_pytest("netsn", [])
    assert "QUICPIPE_LAB_REQUIRE: no such marker: netsn" in done.stderr
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
