"""What benchmarks of relays have in common: programs in a lab that are spoken to, and servers."""

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from quicpipe_lab.backends.netns.lab import Lab, Process
from quicpipe_lab.errors import QuicpipeLabError
from tests.bench import ROOT, SCRIPTS

PYTHON = str(SCRIPTS / "python")


class Program:
    """A module of this folder as a program on a node: a line of JSON when it is ready, then one
    for each that it is sent."""

    def __init__(self, lab: Lab, node: str, module: str, *arguments: str) -> None:
        stdin_out, self._stdin = os.pipe()
        stdout, stdout_in = os.pipe()
        argv = [PYTHON, "-m", f"tests.bench.{module}", *arguments]
        self._process = lab.spawn(node, argv, stdin=stdin_out, stdout=stdout_in, cwd=ROOT)
        os.close(stdin_out)
        os.close(stdout_in)
        self._stdout = os.fdopen(stdout)
        self.ready = self._read()

    def ask(self, **command: object) -> dict[str, Any]:
        """Raises QuicpipeLabError where it has ended."""
        os.write(self._stdin, json.dumps(command).encode() + b"\n")
        return self._read()

    def close(self) -> None:
        """Its input ends, and so it does."""
        os.close(self._stdin)
        self._process.wait(5)
        self._process.close()
        self._stdout.close()

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        line = self._stdout.readline()
        if not line:
            raise QuicpipeLabError("a program of the benchmark ended early")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def serving(
    lab: Lab, node: str, argv: Sequence[str], log: Path, ready: str, cpu: int = 1
) -> Iterator[Process]:
    """A server on a processor of its own, once its output says ``ready``."""
    with log.open("wb") as output:
        process = lab.spawn(node, argv, stdout=output.fileno(), stderr=output.fileno(), cwd=ROOT)
    os.sched_setaffinity(process.pid, {cpu % (os.cpu_count() or 1)})
    deadline_s = time.monotonic() + 10
    while ready not in log.read_text():
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise QuicpipeLabError(f"{argv[0]} does not start: {log.read_text()[-300:]}")
        os.sched_yield()
    try:
        yield process
    finally:
        process.send_signal(15)
        process.wait(10)
        process.close()


def coturn_argv(address: str, port: int, directory: Path) -> list[str]:
    """One thread that relays, no security, no other protocol."""
    return [
        *("turnserver", "-n", "--no-auth", "--no-cli", "--no-tls", "--no-dtls", "--no-tcp"),
        *("-L", address, "-E", address, "-p", str(port), "-m", "1", "-l", "stdout", "-v"),
        *("--pidfile", str(directory / "turn.pid"), "-b", str(directory / "turn.db")),
    ]


COTURN_READY = "IPv4. UDP listener opened on"


def cpu_s(pids: Sequence[int]) -> float:
    """User and system time of all threads so far, in nanoseconds' resolution (proc(5))."""
    threads = [thread for pid in pids for thread in Path(f"/proc/{pid}/task").iterdir()]
    return sum(int((one / "schedstat").read_text().split()[0]) for one in threads) / 1e9
