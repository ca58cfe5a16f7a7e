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
ticks = 0
async def tick():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep(0.01)
clock = asyncio.create_task(tick())
result = await run_async("nat-to-nat", run_dir="two", backend="netns")
clock.cancel()
print(result.outcome, ticks > 50)
print((await run("nat-to-nat", backend="sim", run_dir="three")).outcome)
"""
    assert python.run(ticking).text.split() == ["direct", "True", "direct"]
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
