"""A scenario's run beside an event loop, which goes on meanwhile: ``await run_async(...)``."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from quicpipe_lab.api.runs import run
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.result import RunResult
from quicpipe_lab.model.scenario import Scenario

_TICK_S = 0.2
"""For interrupts of a notebook's cell: see api/lab.py."""


async def run_async(scenario: Scenario | str | os.PathLike[str], **options: Any) -> RunResult:
    """``run`` in a thread of its own. A task that is cancelled takes the run down on its way out.

    ``observe`` is called in that thread.
    """
    observe = options.pop("observe", lambda _: None)
    stop_reader, stop_writer = os.pipe()
    stopped = False

    def watch(event: Event) -> None:
        if stopped:  # a run in virtual time waits for nothing, so looks at no descriptor
            raise KeyboardInterrupt
        observe(event)

    def work() -> RunResult:
        return run(scenario, observe=watch, stop_fd=stop_reader, **options)

    threads = ThreadPoolExecutor(1, "quicpipe-lab-run")
    try:
        running = asyncio.get_running_loop().run_in_executor(threads, work)
        while not running.done():
            try:
                await asyncio.wait([running], timeout=_TICK_S)
            except asyncio.CancelledError:
                stopped = True
                os.write(stop_writer, b"\n")
                await _ended(running)
                raise
        return running.result()
    finally:
        threads.shutdown(wait=False)
        os.close(stop_reader)
        os.close(stop_writer)


async def _ended(running: asyncio.Future[RunResult]) -> None:
    """However it ended, and however often this task is cancelled meanwhile: nothing is to be left
    behind."""
    while not running.done():
        try:
            await asyncio.wait([running])
        except asyncio.CancelledError:
            continue
    running.exception()
