"""Visitors of a lab: processes of the same user that ask what there is, run a program, or end it.

The supervisor's side; registry.py is theirs. A visitor's program ends with the visitor: when the
connection closes before the program has ended, its whole session is killed.
"""

import contextlib
import json
import os
import selectors
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from quicpipe_lab.backends.netns.channel import Channel, Message
from quicpipe_lab.backends.netns.failures import describe
from quicpipe_lab.errors import LocalProtocolError

Answer = tuple[Message, list[int]]
Operation = Callable[[Message, list[int]], Answer]

CREDENTIALS = struct.Struct("=iII")
"""What SO_PEERCRED gives: process, user and group id."""

_PROC_SELF = Path("/proc/self")


class Reception:
    """Answers visitors with the given operations.

    An answer that has a ``pid`` is taken for a program that the visitor now has in the lab.
    """

    def __init__(
        self,
        listener: socket.socket,
        selector: selectors.BaseSelector,
        operations: Mapping[str, Operation],
    ) -> None:
        self._listener = listener
        self._selector = selector
        self._operations = {**operations, "signal": self._signal}
        self._programs: dict[Channel, set[int]] = {}
        selector.register(listener, selectors.EVENT_READ, self._let_in)

    def forget(self, pid: int) -> None:
        """A program has ended: its number may become another's."""
        for programs in self._programs.values():
            programs.discard(pid)

    def _let_in(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # no more files: nothing that the lab should end for
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
        _, user, _ = CREDENTIALS.unpack(credentials)
        if user != os.getuid():
            connection.close()
            return
        connection.setblocking(False)  # one who does not read is not waited for
        visitor = Channel(connection)
        self._programs[visitor] = set()
        self._selector.register(visitor, selectors.EVENT_READ, lambda: self._answer(visitor))

    def _answer(self, visitor: Channel) -> None:
        given: list[int] = []
        fds: list[int] = []
        try:
            request, fds = visitor.receive()
            answer, given = self._carry_out(visitor, request, fds)
            visitor.send(answer, given)
        except (EOFError, OSError, ValueError):
            self._see_off(visitor)
        finally:
            for fd in (*fds, *given):
                os.close(fd)

    def _carry_out(self, visitor: Channel, request: Message, fds: list[int]) -> Answer:
        try:
            operation = self._operations[request["request"]]
            if operation == self._signal and request["pid"] not in self._programs[visitor]:
                raise LocalProtocolError("this program is not yours, or has ended")
            answer, given = operation(request, fds)
        except Exception as error:
            return describe(error), []
        if "pid" in answer:
            self._programs[visitor].add(answer["pid"])
        return answer, given

    def _signal(self, request: Message, _fds: list[int]) -> Answer:
        """To the program's process group, as a terminal would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(request["pid"], request["signal"])
        return {}, []

    def _see_off(self, visitor: Channel) -> None:
        self._selector.unregister(visitor)
        visitor.close()
        for leader in self._programs.pop(visitor):
            kill_session(leader)


def memory_file(data: object) -> int:
    """JSON that is too long for a message, as a file."""
    fd = os.memfd_create("answer")
    with open(fd, "w", encoding="utf-8", closefd=False) as file:
        json.dump(data, file)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def own_processes() -> list[int]:
    """The processes of the lab but the supervisor, or none where /proc is not the lab's own."""
    own = os.getpid()
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    return [pid for pid in pids if pid != own] if _PROC_SELF.readlink() == Path(str(own)) else []


def kill_session(leader: int) -> None:
    """A program and all in its session, but not daemons, which have left it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
    killed: set[int] = set()
    # Until a look finds none that was not there before: they may be forking.
    while members := {pid for pid in own_processes() if _session(pid) == leader} - killed:
        for pid in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed |= members


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
