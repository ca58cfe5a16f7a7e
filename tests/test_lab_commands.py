"""up, ps, exec, shell and down, as a person uses them."""

import json
import os
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab_cli import Place, Screen, place_of_our_own

pytestmark = pytest.mark.netns


@pytest.fixture
def place() -> Iterator[Place]:
    """Without any lab."""
    with place_of_our_own() as made:
        yield made


@pytest.fixture(scope="module")
def home() -> Iterator[Place]:
    """With the lab two-homes."""
    with place_of_our_own() as made, made.lab():
        yield made


def test_up_in_the_foreground_until_interrupted(place: Place) -> None:
    up = place.start("up", "two-homes")
    assert up.stdout is not None
    assert up.stdout.readline() == (
        "the lab two-homes is up, with the nodes core, alice, bob, relay, nat-a, nat-b\n"
    )
    commands = [up.stdout.readline() for _ in range(5)]
    assert commands[0].split()[:3] == ["quicpipe-lab", "shell", "alice"]
    assert commands[-1] == "Ctrl-C ends it too\n"
    assert [lab["name"] for lab in place.labs()] == ["two-homes"]
    up.send_signal(signal.SIGINT)
    said, problems = up.communicate()
    assert (up.returncode, said.strip(), problems) == (
        0,
        "the lab two-homes is down; nothing was left running",
        "",
    )
    assert place.labs() == []


def test_foreground_lab_that_others_end(place: Place) -> None:
    up = place.start("up", "one-home", "--json")
    assert up.stdout is not None
    told = json.loads(up.stdout.readline())
    assert (told["name"], told["topology"]) == ("one-home", "one-home")
    down = place.run("down")
    assert down.stdout == "the lab one-home is down; nothing was left running\n"
    assert up.communicate() == ("", "")
    assert up.returncode == 0


def test_foreground_lab_that_dies(place: Place) -> None:
    up = place.start("up", "one-home", "--json")
    assert up.stdout is not None
    os.kill(json.loads(up.stdout.readline())["pid"], signal.SIGKILL)
    _, problems = up.communicate()
    assert problems == "quicpipe-lab: the lab 'one-home' is gone: its supervisor was killed\n"
    assert up.returncode == 2


def test_background_lab_from_up_to_down(place: Place) -> None:
    up = place.run("up", "one-home", "--detach", "--name", "mine")
    assert up.returncode == 0
    assert "the lab mine is up" in up.stdout
    server = place.start("exec", "bob", "--", "sleep", "1000")
    end = place.start("exec", "alice", "--", "sh", "-c", "echo here; setsid sleep 1000 & cat")
    assert end.stdout is not None
    assert end.stdout.readline() == "here\n"
    (lab,) = place.labs()
    nodes = {node["name"]: node for node in lab["nodes"]}
    assert lab["name"] == "mine"
    assert lab["kept"]
    assert nodes["alice"]["addresses"] == ["192.168.0.6"]
    assert nodes["alice"]["behind"] == "nat"
    assert nodes["core"]["uplink"] is None
    (program,) = nodes["bob"]["programs"]
    assert program["argv"] == ["sleep", "1000"]
    assert Path(f"/proc/{program['pid']}/cmdline").read_bytes() == b"sleep\x001000\x00"
    assert {tuple(one["argv"]) for one in nodes["alice"]["programs"]} >= {("cat",)}
    text = place.run("ps").stdout
    assert re.search(r"^mine: topology one-home, up for \d+ s, pid \d+$", text, re.MULTILINE)
    assert re.search(r"^  bob +192.168.0.10 \(behind nat\)\n +\d+ sleep 1000$", text, re.MULTILINE)
    down = place.run("down", "mine", "--json")
    assert json.loads(down.stdout) == {"name": "mine"}
    for program_of_lab in (server, end):
        said, problems = program_of_lab.communicate()
        assert program_of_lab.returncode == 128 + signal.SIGKILL
        assert said == ""
        assert re.fullmatch(
            r"quicpipe-lab: the lab 'mine' is gone, and (sleep|sh) with it\n", problems
        )


def test_program_has_the_callers_files(home: Place, tmp_path: Path) -> None:
    script = "cat; echo problem >&2; pwd; echo $QUICPIPE_LAB/$QUICPIPE_LAB_NODE; exit 7"
    result = home.run(
        "exec", "bob", "--", "sh", "-c", script, stdin=None, input="text\n", cwd=tmp_path
    )
    assert result.stdout == f"text\n{tmp_path}\ntwo-homes/bob\n"
    assert result.stderr == "problem\n"
    assert result.returncode == 7


def test_program_is_reached_through_a_nat(home: Place) -> None:
    """By its node's name: nothing of it has to know an address."""
    serve = "import http.server as h; s = h.HTTPServer(('', 0), h.SimpleHTTPRequestHandler)"
    serve += "; print(s.server_port, flush=True); s.serve_forever()"
    server = home.start("exec", "relay", "--", sys.executable, "-c", serve)
    assert server.stdout is not None
    port = int(server.stdout.readline())
    fetch = f"import urllib.request as u; print(u.urlopen('http://relay:{port}/').status)"
    assert home.run("exec", "alice", "--", sys.executable, "-c", fetch).stdout == "200\n"
    server.send_signal(signal.SIGINT)
    _, log = server.communicate()
    assert log.startswith("198.18.0.10 ")  # the NAT's address
    assert "KeyboardInterrupt" in log
    assert server.returncode == 128 + signal.SIGINT


def test_own_program(home: Place) -> None:
    result = home.run("exec", "alice", "quicpipe-lab", "scenario", "--list")
    assert "nat-to-nat" in result.stdout
    assert result.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_signals_reach_the_whole_program(home: Place, number: signal.Signals) -> None:
    """As the terminal's Ctrl-C does: also what it has started."""
    script = "import signal as s, subprocess as p; s.signal(s.SIGINT, s.SIG_DFL)"
    script += "; p.Popen(['sleep', '1000']); print('on', flush=True); s.pause()"
    program = home.start("exec", "alice", "--", sys.executable, "-c", script)
    assert program.stdout is not None
    assert program.stdout.readline() == "on\n"
    program.send_signal(number)
    program.communicate()  # to the end of its output, which its child holds too
    assert program.returncode == 128 + number


@pytest.mark.parametrize(
    ("arguments", "status", "problem"),
    [
        (["up", "nonsense"], 2, "there is no topology 'nonsense'"),
        (["up", "one-home", "--name", "a b"], 2, "'a b' cannot be a lab's name: up to 64"),
        (["up", "one-home", "--name", "two-homes"], 2, "a lab named 'two-homes' is running"),
        (["up", "two-homes", "--detach"], 2, "a lab named 'two-homes' is running already: give"),
        (
            ["exec", "alcie", "--", "true"],
            2,
            "there is no node 'alcie' in the lab 'two-homes'; did",
        ),
        (["shell", "zzz"], 2, "there is no node 'zzz' in the lab 'two-homes'; there are core, "),
        (
            ["exec", "--lab", "two-home", "bob", "true"],
            2,
            "there is no running lab 'two-home'; did",
        ),
        (["down", "nonsense"], 2, "there is no running lab 'nonsense'; quicpipe-lab ps shows"),
        (["exec", "alice"], 2, "which program? quicpipe-lab exec NODE -- COMMAND..."),
        (["exec", "alice", "--lab", "x", "--", "true"], 2, "options go before the node: exec"),
        (["exec", "alice", "nonsense"], 127, "nonsense cannot be started: it is not on the PATH"),
        (["exec", "alice", "/nonsense"], 127, "/nonsense cannot be started: there is no such file"),
        (["exec", "alice", "/etc/hosts"], 126, "/etc/hosts cannot be started: Permission denied"),
    ],
)
def test_mistakes(home: Place, arguments: list[str], status: int, problem: str) -> None:
    result = home.run(*arguments)
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"quicpipe-lab: {problem}")
    assert (result.returncode, result.stdout) == (status, "")


def test_no_lab_and_several(place: Place) -> None:
    none = "quicpipe-lab: no lab is running; start one with: quicpipe-lab up TOPOLOGY\n"
    for arguments in (["exec", "alice", "true"], ["shell", "alice"], ["down"]):
        result = place.run(*arguments)
        assert (result.returncode, result.stderr) == (2, none)
    assert place.run("ps").stdout == none.removeprefix("quicpipe-lab: ")
    with place.lab("one-home", "--name", "b"), place.lab("one-home", "--name", "a"):
        result = place.run("exec", "alice", "true")
        assert result.stderr == "quicpipe-lab: several labs are running, say which: b, a\n"
        assert result.returncode == 2
        assert place.run("exec", "--lab", "a", "alice", "true").returncode == 0


def test_stopped_lab_is_ended_by_force(place: Place) -> None:
    """One whose supervisor does not answer is not listed, but can be ended by its name."""
    with place.lab("one-home"):
        (lab,) = place.labs()
        waiting = place.start("exec", "alice", "--", "sh", "-c", "echo on; cat")
        assert waiting.stdout is not None
        waiting.stdout.readline()
        os.kill(lab["pid"], signal.SIGSTOP)
        result = place.run("down", "one-home")
        assert result.returncode == 0, result.stderr
        waiting.communicate()
        assert waiting.returncode == 128 + signal.SIGKILL


@pytest.mark.parametrize(
    ("own", "shown"), [("outside$ ", "[alice] outside$ "), (r"\h: ", "alice: ")]
)
def test_shell_at_a_terminal(home: Place, tmp_path: Path, own: str, shown: str) -> None:
    (tmp_path / ".bashrc").write_text(f"PS1='{own}'\n")
    env = {**home.env, "SHELL": "/bin/bash", "HOME": str(tmp_path), "TERM": "dumb"}
    script = shlex.join(home.argv("shell", "alice")) + "; echo status $?; stty -a"
    with Screen(script, env) as screen:
        screen.expect(shown)
        screen.type("hostname; tty; stty size\r")
        answer = screen.expect(shown)
        assert "\r\nalice\r\n/dev/pts/" in answer
        assert "\r\n30 90\r\n" in answer
        screen.type("trap 'stty size' WINCH; echo set\r")
        screen.expect("\r\nset")
        screen.expect(shown)
        screen.resize(40, 100)
        screen.expect("40 100")
        # Ctrl-C ends the program and not the shell; Ctrl-Z is the shell's job control.
        screen.type("sh -c 'echo begun; exec sleep 1000'\r")
        screen.expect("\r\nbegun")
        screen.type("\x03")
        screen.expect(shown)
        screen.type("echo last $?\r")
        screen.expect("last 130")
        screen.type("sh -c 'echo begun; exec sleep 1001'\r")
        screen.expect("\r\nbegun")
        screen.type("\x1a")
        screen.expect("Stopped")
        screen.type("disown -a; exit 5\r")
        screen.expect("status 5")
        assert " -icanon" not in screen.expect("echonl")


def test_terminal_that_goes_takes_its_programs_along(home: Place) -> None:
    before = len(home.processes())
    argv = home.argv("exec", "alice", "--", "sh", "-c", "trap '' HUP; echo on; sleep 1000")
    with Screen(shlex.join(argv), home.env) as screen:
        screen.expect("on")
    home.await_processes(before)


def test_terminal_beside_a_pipeline(home: Place) -> None:
    """What the pipeline's last program writes is not garbled, and Ctrl-C ends both."""
    argv = home.argv("exec", "alice", "--", "sh", "-c", "echo a; echo b; exec sleep 1000")
    script = shlex.join(argv) + " | cat; echo status ${PIPESTATUS[0]}"
    with Screen(f"trap : INT; {script}", home.env) as screen:
        screen.expect("a\r\nb\r\n")
        screen.type("\x03")
        screen.expect("status 130")


def test_program_in_the_background_reads_nothing(home: Place) -> None:
    """What is typed is for others."""
    argv = home.argv("exec", "alice", "--", "cat")
    with Screen(
        f"set -m; {shlex.join(argv)} & wait; echo over; read x; echo got $x", home.env
    ) as one:
        one.expect("over")
        one.type("word\r")
        one.expect("got word")
