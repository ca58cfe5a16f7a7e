"""However a lab's processes end, and whenever: nothing of the lab is left.

A lab is recognised by a word in the environment of all its processes, and its namespaces by what
those processes hold open, so that other labs on the machine do not disturb the tests.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.backends.netns.remote import DEADLINE_S

pytestmark = pytest.mark.netns

_ROOT = Path(__file__).resolve().parents[3]
_MARK = "QUICPIPE_LAB_LEAK_TEST"
_MOMENTS = 40
_LONGEST_S = 0.35
"""Beyond the time in which the caller's program below is all up."""
_NOBODY = 65534

# Starts a lab with a program and a daemon in it, says where its namespaces are, and waits.
_CALLER = """
import json, os, signal, sys
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.resources import find_topology
with Lab(find_topology("two-homes")) as lab:
    lab.spawn("alice", ["sleep", "1000"])
    lab.spawn("bob", ["sh", "-c", "setsid sleep 1000 &"]).wait()
    print(json.dumps([os.fstat(fd).st_ino for fd in lab.namespaces().values()]), flush=True)
    signal.pause()
"""


class Caller:
    """The program above as a process of its own."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.mark = f"{_MARK}={uuid.uuid4().hex}"
        key, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            argv,
            env={**os.environ, **env, key: value},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def processes(self) -> list[int]:
        """All that bear the mark, zombies not among them, in the order in which they started."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                marked = self.mark.encode() in (folder / "environ").read_bytes()
                started = int((folder / "stat").read_text().rpartition(")")[2].split()[19])
            except OSError:
                continue
            if marked:
                found.append((started, int(folder.name)))
        return [pid for _, pid in sorted(found)]

    def namespaces(self) -> set[int]:
        """Waits until the lab is up."""
        assert self.process.stdout is not None
        return set(json.loads(self.process.stdout.readline()))

    def all_processes(self) -> list[int]:
        """Waits until the caller, the watcher, the supervisor, a program and a daemon are there."""
        end_s = time.monotonic() + DEADLINE_S
        while len(found := self.processes()) != 5:
            assert time.monotonic() < end_s, found
        return found

    def assert_nothing_is_left(self, namespaces: set[int]) -> None:
        """At the latest after the deadline."""
        self.process.wait(DEADLINE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()
        end_s = time.monotonic() + DEADLINE_S
        while (left := self.processes()) or _held(namespaces):
            assert time.monotonic() < end_s, (left, _held(namespaces))


def _held(namespaces: set[int]) -> list[str]:
    """Whatever keeps one of these network namespaces alive: processes, files and mounts."""
    names = {f"net:[{inode}]" for inode in namespaces}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        for path in (folder / "ns/net", *_listing(folder / "fd")):
            try:
                if str(path.readlink()) in names:
                    found.append(str(path))
            except OSError:
                continue
    mounts = Path("/proc/self/mountinfo").read_text()
    return found + [name for name in names if name in mounts]


def _listing(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


@pytest.fixture
def callers() -> Iterator[Callable[..., Caller]]:
    """Starts them, and sees to it that a test that fails leaves none."""
    started: list[Caller] = []

    def start(argv: list[str], program: str = _CALLER, **env: str) -> Caller:
        started.append(Caller([*argv, "-c", program], env))
        return started[-1]

    yield start
    for caller in started:
        caller.process.kill()
        caller.process.wait()


@pytest.fixture
def caller(callers: Callable[..., Caller]) -> Caller:
    return callers([sys.executable])


@pytest.fixture
def interfaces() -> Iterator[None]:
    """The host's network interfaces are the same afterwards."""
    before = sorted(os.listdir("/sys/class/net"))  # noqa: PTH208
    yield
    assert sorted(os.listdir("/sys/class/net")) == before  # noqa: PTH208


@pytest.mark.usefixtures("interfaces")
@pytest.mark.parametrize("moment", range(_MOMENTS))
def test_killed_at_a_random_moment(caller: Caller, moment: int) -> None:
    """SIGKILL or SIGINT to the caller, or SIGKILL to the watcher or the supervisor."""
    chance = random.Random(moment)
    try:
        caller.process.wait(chance.uniform(0, _LONGEST_S))
    except subprocess.TimeoutExpired:
        pass
    else:
        raise AssertionError("the caller ended by itself")
    victim = moment % 4
    if victim == 0:
        caller.process.send_signal(signal.SIGINT)
    else:
        # The caller, its watcher and the supervisor start in this order.
        processes = caller.processes()[:victim]
        if processes:
            os.kill(processes[-1], signal.SIGKILL)
        caller.process.kill()
    caller.assert_nothing_is_left(set())


@pytest.mark.usefixtures("interfaces")
@pytest.mark.parametrize("victim", ["caller", "watcher", "supervisor"])
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_when_all_is_up(caller: Caller, victim: str, signum: signal.Signals) -> None:
    namespaces = caller.namespaces()
    processes = caller.all_processes()
    assert _held(namespaces)
    os.kill(processes[["caller", "watcher", "supervisor"].index(victim)], signum)
    if victim != "caller":
        if signum is not signal.SIGINT:
            # The lab goes without the caller's doing.
            end_s = time.monotonic() + DEADLINE_S
            while len(caller.processes()) > 1:
                assert time.monotonic() < end_s
        caller.process.kill()
    caller.assert_nothing_is_left(namespaces)


def test_caller_leaves_a_child_that_holds_the_lifeline(callers: Callable[..., Caller]) -> None:
    """Where the caller had forked, the control socket outlives it; the lab does not."""
    fork = "if os.fork() == 0:\n        os.close(1)\n        signal.pause()\n    print("
    caller = callers([sys.executable], _CALLER.replace("print(", fork))
    namespaces = caller.namespaces()
    caller.process.kill()
    end_s = time.monotonic() + DEADLINE_S
    while len(left := caller.processes()) > 1:
        assert time.monotonic() < end_s, left
    os.kill(left[0], signal.SIGKILL)
    caller.assert_nothing_is_left(namespaces)


def _python_of_nobody() -> list[str] | None:
    """How nobody runs a Python with this package, if it may read one."""
    for python in (sys.executable, "/usr/bin/python3"):
        argv = [*_AS_NOBODY, python]
        check = [*argv, "-c", "import quicpipe_lab, pyroute2"]
        if subprocess.run(check, env=_environment(), capture_output=True).returncode == 0:
            return argv
    return None


# setpriv itself still executes with root's powers; env no longer does.
_AS_NOBODY = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups", "env"]


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(_ROOT), *(one for one in sys.path if "site-packages" in one)])
    return {"HOME": "/tmp", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def nobody() -> list[str]:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("becoming another user needs root and setpriv (package util-linux)")
    argv = _python_of_nobody()
    if argv is None:
        pytest.skip("another user may read neither this Python nor a /usr/bin/python3 of its kind")
    return argv


@pytest.mark.usefixtures("interfaces")
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT])
def test_without_root(
    callers: Callable[..., Caller], nobody: list[str], signum: signal.Signals
) -> None:
    caller = callers(nobody, **_environment())
    namespaces = caller.namespaces()
    caller.all_processes()
    caller.process.send_signal(signum)
    caller.assert_nothing_is_left(namespaces)


def test_without_root_and_user_namespaces(nobody: list[str]) -> None:
    """One line that says what to do. The limit is that of a user namespace of the test's own."""
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all "$@"'
    argv = ["unshare", "--user", "--map-root-user", "sh", "-c", script, "sh", nobody[-1], "-c"]
    result = subprocess.run(
        [*nobody[:-1], *argv, _CALLER], env=_environment(), capture_output=True, text=True
    )
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "quicpipe_lab.errors.BackendUnavailableError: no user namespace with powers of its own"
        " (unshare: No space left on device); sudo sysctl -w user.max_user_namespaces=15000"
    )
