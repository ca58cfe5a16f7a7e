"""A real Jupyter kernel, as a notebook has one: cells are run in it, interrupted, and looked at."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

DEADLINE_S = 60.0


@dataclass
class Cell:
    """What came of one. ``shown``: MIME bundles; ``error``: the exception's name, or none."""

    text: str = ""
    shown: list[dict[str, Any]] = field(default_factory=list)
    error: str = ""
    traceback: str = ""

    def html(self) -> str:
        """All HTML that was shown."""
        return "\n".join(one.get("text/html", "") for one in self.shown)


class Kernel:
    """For the time of a ``with kernel()`` block."""

    def __init__(self, manager: KernelManager) -> None:
        self.manager = manager
        self._client: BlockingKernelClient = manager.client()
        self._client.start_channels()
        self._client.wait_for_ready(timeout=DEADLINE_S)

    @property
    def pid(self) -> int:
        provisioner: Any = self.manager.provisioner
        return int(provisioner.process.pid)

    def start(self, code: str) -> str:
        """Send a cell, and do not wait."""
        return str(self._client.execute(code))

    def finish(self, cell: str, *, until: str = "") -> Cell:
        """Wait for its end, or until it has printed something."""
        done = Cell()
        deadline_s = time.monotonic() + DEADLINE_S
        while time.monotonic() < deadline_s:
            message = self._client.get_iopub_msg(timeout=DEADLINE_S)
            if message["parent_header"].get("msg_id") != cell:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                done.text += content["text"]
                if until and until in done.text:
                    return done
            elif message["msg_type"] in ("display_data", "execute_result"):
                done.shown.append(content["data"])
            elif message["msg_type"] == "error":
                done.error, done.traceback = content["ename"], "\n".join(content["traceback"])
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return done
        raise TimeoutError(f"the cell did not end: {done.text}")

    def run(self, code: str) -> Cell:
        """A cell from start to end, which must not fail."""
        done = self.finish(self.start(code))
        assert not done.error, done.traceback
        return done

    def close(self) -> None:
        self._client.stop_channels()


@contextmanager
def kernel(folder: Path) -> Iterator[Kernel]:
    """A kernel in a folder, which is gone at the end."""
    manager = KernelManager(kernel_name="python3", transport="ipc", ip=str(folder / "ipc"))
    manager.start_kernel(cwd=str(folder))
    try:
        started = Kernel(manager)
        try:
            yield started
        finally:
            started.close()
    finally:
        manager.shutdown_kernel(now=True)


def children(pid: int) -> list[int]:
    """All that descends from a process."""
    found: list[int] = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            own = [int(one) for one in path.read_text().split()]
        except OSError:
            continue
        for child in own:
            found += [child, *children(child)]
    return found


def wait_gone(pids: list[int]) -> None:
    """Until none of these lives, but for what nobody has waited for."""
    deadline_s = time.monotonic() + DEADLINE_S
    while left := [pid for pid in pids if _lives(pid)]:
        assert time.monotonic() < deadline_s, f"still there: {left}"


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
