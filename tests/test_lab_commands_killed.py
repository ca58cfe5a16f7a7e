"""up, exec, shell and down, killed at random moments: nothing is left that nobody knows of."""

import contextlib
import os
import pwd
import random
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from quicpipe_lab.backends.netns.registry import Visit, running_labs
from quicpipe_lab.errors import LabEndedError
from tests.lab_cli import Place, Screen, place_of_our_own
from tests.nobody import UID, python_of_nobody

pytestmark = pytest.mark.netns

_MOMENTS = 8
_LONGEST_S = 0.4
"""Beyond the time that each of the commands needs to have begun everything it does."""


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with place_of_our_own() as made:
        yield made


def kill_at_a_random_moment(process: subprocess.Popen[str], moment: int) -> None:
    """Or let it end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(random.Random(moment).uniform(0, _LONGEST_S))
    process.kill()


@pytest.mark.parametrize("moment", range(_MOMENTS))
def test_up_in_the_foreground(place: Place, moment: int) -> None:
    up = place.start("up", "one-home")
    kill_at_a_random_moment(up, moment)
    up.communicate()
    place.await_processes(0)
    assert place.labs() == []


@pytest.mark.parametrize("moment", range(_MOMENTS))
def test_up_in_the_background(place: Place, moment: int) -> None:
    """The lab is there only where it was said to be."""
    up = place.start("up", "one-home", "--detach", "--json")
    kill_at_a_random_moment(up, moment)
    said, _ = up.communicate()
    if said:
        place.run("down")  # there or, where the word was the last, not
    place.await_processes(0)


@pytest.mark.parametrize("moment", range(_MOMENTS))
@pytest.mark.parametrize("command", ["exec", "shell"])
def test_program(place: Place, command: str, moment: int) -> None:
    """It goes with the one who entered with it, and all that it has started; the lab stays."""
    with place.lab("one-home"):
        before = len(place.processes())
        script = "trap '' HUP TERM INT; sleep 1000 & while :; do sleep 1000; done"
        arguments = ["exec", "alice", "--", "sh", "-c", script]
        if command == "shell":
            arguments = ["shell", "alice"]
        program = place.start(*arguments)
        if command == "shell":
            assert program.stdin is not None
            program.stdin.write(f"{script}\n")
            program.stdin.flush()
        kill_at_a_random_moment(program, moment)
        program.communicate()
        place.await_processes(before)
        assert len(place.labs()) == 1


def test_a_terminal_does_not_stay_raw(place: Place) -> None:
    """Behind a script, that is: shells at a terminal look after it themselves."""
    with place.lab("one-home"):
        before = len(place.processes())
        visit = shlex.join(place.argv("exec", "alice", "--", "sh", "-c", "echo on; sleep 1000"))
        script = f"(echo pid $BASHPID; exec {visit}); until stty -a | grep -q ' icanon'; do :; done"
        with Screen(f"{script}; stty -a; echo done", place.env) as screen:
            screen.expect("pid ")
            pid = int(screen.expect("\n"))
            screen.expect("on")
            os.kill(pid, signal.SIGKILL)
            said = screen.expect("done")
        assert {"isig", "icanon", "echo", "opost"} <= set(said.split())
        place.await_processes(before)


def test_a_shells_own_editing_goes_on(place: Place) -> None:
    with place.lab("one-home"):
        visit = shlex.join(
            place.argv("exec", "alice", "--", "sh", "-c", "echo $((40+2)); sleep 1000")
        )
        with Screen("PS1='next> ' bash --norc -i", place.env) as screen:
            screen.expect("next> ")
            screen.type(f"(echo p$((1))=$BASHPID; exec {visit})\r")
            screen.expect("p1=")
            pid = int(screen.expect("\r\n"))
            screen.expect("42")
            os.kill(pid, signal.SIGKILL)
            screen.expect("next> ")
            screen.type("echo $((1+2))\x02\x02\x083\r")  # two to the left, and 3 in place of 2
            screen.expect("4\r\n")


@pytest.mark.parametrize("moment", range(_MOMENTS))
def test_down(place: Place, moment: int) -> None:
    with place.lab("one-home"):
        down = place.start("down")
        kill_at_a_random_moment(down, moment)
        down.communicate()
    place.await_processes(0)


def test_daemon_stays_until_the_lab_ends(place: Place) -> None:
    """As on a machine of its own: what leaves the session is not the caller's any more."""
    with place.lab("one-home"):
        before = len(place.processes())
        script = "setsid sleep 1000 >/dev/null 2>&1 & echo"
        assert place.run("exec", "alice", "--", "sh", "-c", script).returncode == 0
        place.await_processes(before + 1)
    place.await_processes(0)


# Other users

_KEEP = """
import sys
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.resources import find_topology
with Lab(find_topology("one-home"), name=sys.argv[1], kept=True) as lab:
    print('up', flush=True)
    print(lab.wait_for_end(), flush=True)
"""


@pytest.fixture
def nobodys_lab() -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Its name, and the process that keeps it."""
    name = f"test-{os.getpid()}"
    argv, env = python_of_nobody()
    with subprocess.Popen(
        [*argv, "-c", _KEEP, name], env=env, stdout=subprocess.PIPE, text=True
    ) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "up\n"
        yield name, keeper
        keeper.kill()


def test_root_sees_and_ends_other_users_labs_but_does_not_enter(
    nobodys_lab: tuple[str, "subprocess.Popen[str]"],
) -> None:
    name, keeper = nobodys_lab
    (found,) = [lab for lab in running_labs() if lab.name == name]
    assert found.user == UID
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    cli = [sys.executable, "-P", "-m", "quicpipe_lab.cli"]
    refused = subprocess.run(
        [*cli, "exec", "--lab", name, "alice", "--", "true"],
        env=environment,
        capture_output=True,
        text=True,
    )
    user = pwd.getpwuid(UID).pw_name
    assert refused.stderr == f"quicpipe-lab: the lab {name!r} is {user}'s: enter it as {user}\n"
    assert refused.returncode == 2
    assert subprocess.run([*cli, "down", name], env=environment).returncode == 0
    assert keeper.stdout is not None
    assert keeper.stdout.readline() == "the lab was taken down with quicpipe-lab down\n"


def test_another_user_is_not_let_in(nobodys_lab: tuple[str, "subprocess.Popen[str]"]) -> None:
    """Who knows the name, and asks as somebody else."""
    name, _ = nobodys_lab
    other = os.fork()
    if other == 0:
        status = 1
        try:
            os.setuid(UID - 1)
            with Visit((UID, name)) as stranger:
                stranger.ask({"request": "describe"})
        except (LabEndedError, OSError):
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(other, 0)[1]) == 0
