"""Starts programs in namespaces, as children of the supervisor.

``quicpipe-lab`` is not executed but called, in a child that is forked from the supervisor: what
its programs import is imported once for a lab, not once a program.
"""

import contextlib
import fcntl
import importlib
import os
import resource
import signal
import sys
import termios
import traceback
from typing import NoReturn

from quicpipe_lab.backends.netns.namespaces import enter
from quicpipe_lab.backends.netns.surroundings import Surroundings
from quicpipe_lab.errors import ProgramNotStartedError

OWN_PROGRAM = "quicpipe-lab"

_PRELOADED = (
    "quicpipe_lab.cli",
    "quicpipe_lab.shell.peer_program",
    "quicpipe_lab.shell.relay_program",
)
_LIGHT_COMMAND = "_nat-probe"
"""Needs little of that, and does its work while the supervisor imports it for the others."""
_FIRST_FREE_FD = 3
_NOT_STARTED, _NOT_FOUND = 126, 127
"""Exit statuses, as shells have them."""


class Program:
    """What to start. ``fds``: number in the program to a file of the supervisor.

    ``terminal`` is the number of the one that is to be its controlling terminal.
    """

    def __init__(
        self,
        node: str,
        namespace: int,
        argv: list[str],
        fds: dict[int, int],
        env: dict[str, str] | None,
        cwd: str | None,
        terminal: int | None,
    ) -> None:
        self.node = node
        self.namespace = namespace
        self.argv = argv
        self.fds = fds
        self.env = env
        self.cwd = cwd
        self.terminal = terminal


def preload() -> None:
    """Import what the programs of ``quicpipe-lab`` need, so that every child has it."""
    for name in _PRELOADED:
        importlib.import_module(name)


def start(program: Program, surroundings: Surroundings, descriptor_limit: tuple[int, int]) -> int:
    """The new process's id. Raises ProgramNotStartedError."""
    if program.argv[0] == OWN_PROGRAM and program.argv[1:2] != [_LIGHT_COMMAND]:
        preload()
    surroundings.prepare(program.node)
    complaint, complaint_writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _become(program, surroundings, complaint_writer, descriptor_limit)
        finally:
            os._exit(_NOT_STARTED)
    os.close(complaint_writer)
    with os.fdopen(complaint, encoding="utf-8") as reader:
        problem = reader.read()
    if problem:
        _, status = os.waitpid(pid, 0)
        raise ProgramNotStartedError(problem, os.waitstatus_to_exitcode(status))
    return pid


def _become(
    program: Program,
    surroundings: Surroundings,
    complaint: int,
    descriptor_limit: tuple[int, int],
) -> NoReturn:
    """In the child. What goes wrong before the program runs is written to ``complaint``."""
    own = program.argv[0] == OWN_PROGRAM
    try:
        _reset_signals(python=own)
        os.setsid()
        enter(program.namespace)
        surroundings.enter(program.node)
        complaint = _arrange_fds(program.fds, complaint)
        if program.terminal is not None:
            fcntl.ioctl(program.terminal, termios.TIOCSCTTY, 0)
        resource.setrlimit(resource.RLIMIT_NOFILE, descriptor_limit)
        if program.cwd is not None:
            os.chdir(program.cwd)
        if not own:
            _execute(program)
    except (OSError, ProgramNotStartedError) as error:
        problem = f"{program.argv[0]} cannot be started: {_reason(error)}"
        os.write(complaint, problem.encode())
        os._exit(getattr(error, "exit_status", _NOT_STARTED))
    os.close(complaint)
    if program.env is not None:
        os.environ.clear()
        os.environ.update(program.env)
    os._exit(_call(program.argv))


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
    return str(error)


def _execute(program: Program) -> NoReturn:
    env = dict(os.environ) if program.env is None else program.env
    try:
        os.execvpe(program.argv[0], program.argv, env)
    except (FileNotFoundError, NotADirectoryError):
        where = "there is no such file" if "/" in program.argv[0] else "it is not on the PATH"
        raise ProgramNotStartedError(where, _NOT_FOUND) from None
    except OSError as error:
        raise ProgramNotStartedError(str(error.strerror), _NOT_STARTED) from None


def _reset_signals(python: bool) -> None:
    """As a fresh process has them: Python's own takes SIGINT as an exception and no SIGPIPE."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler if python else signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN if python else signal.SIG_DFL)


def _arrange_fds(fds: dict[int, int], complaint: int) -> int:
    """Put every file at its number and close all others; the new number of ``complaint``."""
    above = max(fds, default=0) + 1
    above = max(above, _FIRST_FREE_FD)
    # First out of each other's way: a source may have the number of another's target.
    copies = {number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for number, fd in fds.items()}
    complaint = fcntl.fcntl(complaint, fcntl.F_DUPFD_CLOEXEC, above)
    if 0 not in copies:
        copies[0] = os.open(os.devnull, os.O_RDONLY)
    for number, copy in copies.items():
        os.dup2(copy, number, inheritable=True)
    with os.scandir("/proc/self/fd") as entries:
        open_fds = [int(entry.name) for entry in entries]
    for fd in set(open_fds) - {0, 1, 2, complaint, *copies}:
        with contextlib.suppress(OSError):  # the one that the folder was read through
            os.close(fd)
    return complaint


def _call(argv: list[str]) -> int:
    """Run ``quicpipe-lab`` in this process; its exit status, as Python would give it."""
    sys.argv = argv
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    try:
        from quicpipe_lab.cli import main

        status: object = main(argv[1:])
    except SystemExit as stop:
        status = stop.code
    except BaseException:
        traceback.print_exc()
        status = 1
    if status is not None and not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    return int(status or 0) & 0xFF
