"""The package in a real kernel: with ``await`` and without, interrupted, restarted, killed."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook.kernel import Kernel, children, kernel, wait_gone

pytestmark = pytest.mark.netns

_LONG = """
from dataclasses import replace
from quicpipe_lab.model.scenario import Idle
long = replace(scenarios["nat-to-nat"], steps=(Idle(1000.0),), deadline_s=2000.0)
def observe(event):
    if event.name == "connected":
        print("it runs", flush=True)
"""

_LIVE = """
import asyncio
from quicpipe_lab import Lab
from quicpipe_lab.notebook.live import LiveView
view = await LiveView(await Lab("two-homes").up()).start()
await view.play()
went_direct = asyncio.Event()
view.observe(lambda _: "(direct)" in view.told[-1] and went_direct.set(), "told")
await went_direct.wait()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernel")


@pytest.fixture(scope="module")
def python(folder: Path) -> Iterator[Kernel]:
    with kernel(folder) as one:
        one.run("from quicpipe_lab import *" + _LONG)
        yield one


def test_run_with_and_without_await(python: Kernel) -> None:
    inode = "import os; os.stat('/proc/self/ns/net').st_ino"
    before = python.run(inode).shown
    shown = python.run("run('nat-to-nat', run_dir='one', backend='netns')")
    assert "nat-to-nat: direct, as expected" in shown.html()
    assert sum("image/png" in one for one in shown.shown) == 3
    ticking = """
import asyncio
import threading
said, heard = asyncio.Event(), threading.Event()
loop = asyncio.get_running_loop()
def wait_for_the_loop(event):
    if event.name == "connected":
        loop.call_soon_threadsafe(said.set)
        heard.wait()  # which hangs where the loop stands still
running = asyncio.ensure_future(
    run_async("nat-to-nat", run_dir="two", backend="netns", observe=wait_for_the_loop)
)
await said.wait()
print(running.done())
heard.set()
print((await running).outcome)
print((await run("nat-to-nat", backend="sim", run_dir="three")).outcome)
"""
    assert python.run(ticking).text.split() == ["False", "direct", "direct"]
    assert python.run(inode).shown == before  # the kernel has stayed where it was
    assert children(python.pid) == []


def test_progress_is_shown_in_a_notebook(python: Kernel) -> None:
    shown = python.run("_ = run('relayed', run_dir='bar', backend='sim', progress=True)")
    told = shown.text + shown.html()
    assert "connected through the relay" in told
    assert any("application/vnd.jupyter.widget-view+json" in one for one in shown.shown)


@pytest.mark.parametrize(
    "cell",
    [
        "run(long, run_dir='long', observe=observe)",
        "await run_async(long, run_dir='long', observe=observe)",
        """
async with Lab("two-homes") as lab:
    program = await lab["alice"].start(["sleep", "1000"])
    print("it runs", flush=True)
    await program.wait()
""",
    ],
    ids=["run", "run_async", "Lab"],
)
def test_interrupt_takes_the_lab_down(python: Kernel, cell: str) -> None:
    number = python.start(cell)
    python.finish(number, until="it runs")
    started = children(python.pid)
    assert started
    python.manager.interrupt_kernel()
    assert python.finish(number).error in ("KeyboardInterrupt", "CancelledError")
    wait_gone(started)
    assert python.run("1 + 1").shown[0]["text/plain"] == "2"


@pytest.mark.parametrize("end", ["restart", "kill"])
def test_nothing_outlives_the_kernel(tmp_path: Path, end: str) -> None:
    with kernel(tmp_path) as python:
        python.run("from quicpipe_lab import *")
        python.run("lab = await Lab('two-homes').up()")
        python.run("program = await lab['alice'].start(['sleep', '1000'])")
        started = children(python.pid)
        assert len(started) >= 2
        if end == "restart":
            python.manager.restart_kernel(now=False)
        else:
            os.kill(python.pid, signal.SIGKILL)
        wait_gone(started)


def test_a_live_view_leaves_no_file_of_a_kernel_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    with kernel(tmp_path) as python:
        python.run(_LIVE)
        started = children(python.pid)
        os.kill(python.pid, signal.SIGKILL)
        wait_gone(started)
    assert list(temporary.iterdir()) == []
