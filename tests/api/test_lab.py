"""The asyncio face of a lab."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import quicpipe_lab
from quicpipe_lab.api import Lab, ProgramResult
from quicpipe_lab.backends.netns import lab as netns
from quicpipe_lab.errors import LocalProtocolError, ProgramNotStartedError, QuicpipeLabError

pytestmark = pytest.mark.netns

_DEADLINE_S = 20.0


def play(story: Coroutine[Any, Any, None]) -> None:
    """In an event loop, with a deadline."""

    async def bounded() -> None:
        async with asyncio.timeout(_DEADLINE_S):
            await story

    asyncio.run(bounded())


def test_programs_talk_through_a_nat() -> None:
    async def story() -> None:
        serve = "import socket as s; l = s.create_server(('', 0)); print(l.getsockname()[1])"
        serve += "; c, a = l.accept(); c.sendall(c.recv(9).upper()); print(a[0])"
        ask = "import socket as s, sys; c = s.create_connection(('relay', int(sys.argv[1])))"
        ask += "; c.sendall(b'word'); print(c.recv(9).decode())"
        python = [sys.executable, "-u", "-S", "-c"]
        async with Lab("two-homes") as lab:
            server = await lab["relay"].start([*python, serve])
            await server.wrote("\n")
            client = await lab["alice"].run([*python, ask, server.stdout.strip()])
            assert (client.ok, client.stdout, client.stderr) == (True, "WORD\n", "")
            assert (await server.wait()).stdout.split()[1] == "198.18.0.10"

    play(story())


def test_results() -> None:
    async def story() -> None:
        async with Lab("one-home") as lab:
            alice = lab["alice"]
            upper = await alice.run(["tr", "a-z", "A-Z"], input="word")
            assert (upper.node, upper.argv[0], upper.stdout) == ("alice", "tr", "WORD")
            assert upper.check() is upper
            failed = await alice.run(["sh", "-c", "echo one; echo two >&2; exit 3"])
            assert failed == ProgramResult(
                "alice", failed.argv, 3, "one\n", "two\n", failed.duration_s
            )
            with pytest.raises(QuicpipeLabError, match=r"^sh on alice ended with status 3: two$"):
                failed.check()
            assert (await alice.run(["sh", "-c", "kill -9 $$"])).exit_code == -9
            there = await alice.run(["sh", "-c", "echo $A; pwd"], env={"A": "b"}, cwd="/")
            assert there.stdout == "b\n/\n"
            names = await asyncio.gather(*(lab[node].run(["hostname"]) for node in lab))
            assert [one.stdout.strip() for one in names] == list(lab)

    play(story())


def test_a_run_directory_that_cannot_be_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def story() -> None:
        for place, why in (("file", "File exists"), ("file/below", "Not a directory")):
            lab = Lab("one-home", run_dir=tmp_path / place)
            with pytest.raises(QuicpipeLabError) as refused:
                await lab.up()
            assert str(refused.value) == f"run_dir: cannot make {tmp_path / place}: {why}"
            assert not lab.is_up

    play(story())


def test_output_is_kept_in_the_run_directory(tmp_path: Path) -> None:
    async def story() -> None:
        async with Lab("one-home", run_dir=tmp_path / "run") as lab:
            await lab["bob"].run(["sh", "-c", "echo out; echo err >&2"])
            with pytest.raises(ProgramNotStartedError):
                await lab["bob"].run(["nonsense"])
            await lab["alice"].start(["/bin/sleep", "1000"])

    play(story())
    folder = tmp_path / "run"
    assert (folder / "001-bob-sh.stdout").read_text() == "out\n"
    assert (folder / "001-bob-sh.stderr").read_text() == "err\n"
    lines = [json.loads(line) for line in (folder / "programs.jsonl").read_text().splitlines()]
    assert [(line["node"], line["exit_code"]) for line in lines] == [("bob", 0), ("alice", -9)]
    assert {path.name for path in folder.iterdir()} == {
        "programs.jsonl",
        *(line[stream] for line in lines for stream in ("stdout", "stderr")),
    }


def test_cancelled_run_kills_what_it_started() -> None:
    async def story() -> None:
        async with Lab("one-home") as lab:
            script = (
                "import signal, subprocess; subprocess.Popen(['sleep', '1000']); signal.pause()"
            )
            task = asyncio.create_task(lab["bob"].run([sys.executable, "-c", script]))
            count = ["sh", "-c", "cat /proc/[0-9]*/comm | grep -c sleep"]
            while (await lab["bob"].run(count)).stdout != "1\n":
                pass
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while (await lab["bob"].run(count)).stdout != "0\n":
                pass

    play(story())


def test_program_as_a_block() -> None:
    async def story() -> None:
        async with Lab("one-home") as lab:
            async with await lab["bob"].start(["sleep", "1000"]) as program:
                assert repr(program) == "<Program 'sleep' on 'bob', runs>"
                assert Path(f"/proc/{program.pid}").exists()
            assert (await program.wait()).exit_code == -signal.SIGKILL
            other = await lab["bob"].start(["sleep", "1000"])
            other.send_signal(signal.SIGTERM)
            assert (await other.wait()).exit_code == -signal.SIGTERM
            other.send_signal(signal.SIGTERM)
            left = await lab["bob"].start(["sleep", "1000"])
        assert (await left.kill()).exit_code == -signal.SIGKILL

    play(story())


def test_cuts() -> None:
    async def story() -> None:
        async with Lab("two-homes") as lab:
            ping = "import socket as s; c = s.socket(s.AF_INET, s.SOCK_DGRAM); c.settimeout(0.2)"
            ping += "; c.connect(('relay', 9)); c.send(b''); c.recv(1)"
            argv = [sys.executable, "-S", "-c", ping]
            assert "ConnectionRefused" in (await lab["alice"].run(argv)).stderr
            await lab.cut("alice", "relay")
            assert "TimeoutError" in (await lab["alice"].run(argv)).stderr
            await lab.restore("alice", "relay")
            assert "ConnectionRefused" in (await lab["alice"].run(argv)).stderr

    play(story())


def test_mistakes() -> None:
    async def story() -> None:
        lab = Lab("one-home")
        with pytest.raises(LocalProtocolError, match="not up"):
            await lab["alice"].run(["true"])
        async with lab:
            with pytest.raises(LocalProtocolError, match="no node 'alcie'; did you mean 'alice'"):
                lab["alcie"]
            with pytest.raises(ProgramNotStartedError, match="not on the PATH"):
                await lab["alice"].run(["nonsense"])
            with pytest.raises(LocalProtocolError, match="up already"):
                await lab.up()
            os.kill(lab.pid, signal.SIGKILL)
            with pytest.raises(QuicpipeLabError, match="supervisor is gone"):
                await lab["alice"].run(["true"])
        await lab.down()

    play(story())


def test_loop_is_never_blocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a lab comes up, runs a program and goes down, the loop takes turns."""
    seen = []

    def awaiting_a_turn(name: str, loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
        """The lab's own method, which begins when the loop has taken one."""
        itself = getattr(netns.Lab, name)

        def begin(*args: Any, **kwargs: Any) -> Any:
            turn = threading.Event()
            loop.call_soon_threadsafe(turn.set)
            assert turn.wait(_DEADLINE_S / 2), f"the loop waits for {name}"
            seen.append(name)
            return itself(*args, **kwargs)

        return begin

    async def story() -> None:
        loop = asyncio.get_running_loop()
        for name in ("up", "spawn", "down"):
            monkeypatch.setattr(netns.Lab, name, awaiting_a_turn(name, loop))
        turns_s = [loop.time()]

        def take_turn() -> None:
            turns_s.append(loop.time())
            loop.call_later(0.001, take_turn)

        take_turn()
        async with Lab("two-homes") as lab:
            await lab["alice"].run(["sleep", "0.3"])
        turns_s.append(loop.time())
        longest_s = max(after_s - before_s for before_s, after_s in pairwise(turns_s))
        assert longest_s < (turns_s[-1] - turns_s[0]) / 3
        assert seen == ["up", "spawn", "down"]

    play(story())
    others = set(threading.enumerate()) - {threading.current_thread()}
    for thread in others:
        thread.join(_DEADLINE_S)  # it has been told to end, and nobody has waited for it
        assert not thread.is_alive()


def test_cancelled_while_it_comes_up() -> None:
    async def story() -> None:
        lab = Lab("two-homes")
        begun = asyncio.Event()

        async def come_up() -> None:
            begun.set()
            await lab.up()

        task = asyncio.create_task(come_up())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert repr(lab).endswith("down>")
        with pytest.raises(LocalProtocolError):
            _ = lab.pid

    play(story())


def test_interrupt_as_notebooks_have_it() -> None:
    """A signal handler cancels by a callback that does not wake the loop: the lab has it wake."""

    async def story() -> None:
        loop = asyncio.get_running_loop()
        async with Lab("one-home") as lab:
            task = asyncio.create_task(lab["alice"].run(["sleep", "1000"]))
            before = signal.signal(signal.SIGUSR1, lambda *_: loop.call_soon(task.cancel))
            try:
                started_s = loop.time()
                threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert loop.time() - started_s < _DEADLINE_S / 2
            finally:
                signal.signal(signal.SIGUSR1, before)

    play(story())


_INTERRUPTED = """
import asyncio
from quicpipe_lab import Lab
async def main():
    async with Lab("two-homes") as lab:
        print(lab.pid, flush=True)
        await lab["alice"].run(["sleep", "1000"])
asyncio.run(main())
"""


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGKILL])
def test_interrupt_takes_the_lab_down(signum: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        supervisor = os.pidfd_open(int(process.stdout.readline()))
        process.send_signal(signum)
        assert select.select([supervisor], [], [], _DEADLINE_S)[0]
        os.close(supervisor)
        _, problems = process.communicate()
    if signum is signal.SIGINT:
        assert problems.splitlines()[-1] == "KeyboardInterrupt"


def test_package_is_imported_lazily() -> None:
    heavy = ["asyncio", "pyroute2", "aioquic", "json", "subprocess", "quicpipe_lab.api"]
    script = f"import sys, quicpipe_lab; print([one for one in {heavy} if one in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-S", "-c", script],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(quicpipe_lab.__file__).parents[1])},
    )
    assert result.stdout == "[]\n", result.stderr
    assert quicpipe_lab.Lab is Lab
    assert {"Lab", "run", "scenarios"} <= set(dir(quicpipe_lab))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = quicpipe_lab.nonsense


def test_scenarios() -> None:
    assert "nat-to-nat" in quicpipe_lab.scenarios
    assert quicpipe_lab.scenarios["same-nat"].name == "same-nat"
    assert len(quicpipe_lab.scenarios) == len(list(quicpipe_lab.scenarios))
    assert "same-nat: " in repr(quicpipe_lab.scenarios)
    with pytest.raises(KeyError):
        quicpipe_lab.scenarios["nonsense"]


def test_run(tmp_path: Path) -> None:
    result = quicpipe_lab.run("public-to-nat", run_dir=str(tmp_path))
    assert result.ok
    assert (tmp_path / "result.json").exists()
