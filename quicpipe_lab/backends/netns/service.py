"""What the supervisor does once the lab is built: answers its caller, and reaps programs."""

import contextlib
import importlib
import os
import selectors
import signal
import socket
import struct
import time
from collections.abc import Callable

from quicpipe_lab.backends.netns import announcement, programs
from quicpipe_lab.backends.netns.blueprint import table_from_json
from quicpipe_lab.backends.netns.channel import Channel, Message
from quicpipe_lab.backends.netns.failures import describe
from quicpipe_lab.backends.netns.namespaces import enter

EXIT_STATUS = struct.Struct("=i")
"""How a program ended, as ``os.waitstatus_to_exitcode`` gives it: what its exit pipe says."""

_WAKEUP_SIZE_BYTES = 4096

Answer = tuple[Message, list[int]]


class Service:
    """The supervisor's loop. ``files`` are the namespaces by node."""

    def __init__(
        self,
        channel: Channel,
        listener: socket.socket,
        topology: str,
        files: dict[str, int],
        descriptor_limit: tuple[int, int],
    ) -> None:
        self._channel = channel
        self._listener = listener
        self._topology = topology
        self._started_s = time.time()
        self._files = files
        self._descriptor_limit = descriptor_limit
        self._exit_pipes: dict[int, int] = {}
        self._operations: dict[str, Callable[[Message, list[int]], Answer]] = {
            "spawn": self._spawn,
            "preload": self._preload,
            "table": self._replace_table,
            "namespaces": self._namespaces,
        }

    def run(self) -> None:
        """Until the caller's end of the channel is gone (EOFError) or SIGTERM (SystemExit)."""
        woken, waker = socket.socketpair()
        waker.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, _stop)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        selector.register(self._channel, selectors.EVENT_READ, self._answer_caller)
        selector.register(self._listener, selectors.EVENT_READ, self._answer_stranger)
        selector.register(woken, selectors.EVENT_READ, lambda: self._reap(woken))
        while True:
            for key, _ in selector.select():
                key.data()

    def _answer_caller(self) -> None:
        request, fds = self._channel.receive()
        given: list[int] = []
        try:
            answer, given = self._operations[request["request"]](request, fds)
        except Exception as error:
            answer = describe(error)
        finally:
            for fd in fds:
                os.close(fd)
        self._channel.send(answer, given)
        for fd in given:
            os.close(fd)

    def _spawn(self, request: Message, fds: list[int]) -> Answer:
        numbers: list[int] = request["fds"]
        program = programs.Program(
            self._files[request["node"]],
            request["argv"],
            dict(zip(numbers, fds, strict=True)),
            request["env"],
            request["cwd"],
        )
        reader, writer = os.pipe()
        try:
            pid = programs.start(program, self._descriptor_limit)
        except BaseException:
            os.close(reader)
            os.close(writer)
            raise
        # Not reaped before this request is answered, so the number cannot be another's.
        self._exit_pipes[pid] = writer
        return {}, [os.pidfd_open(pid), reader]

    def _preload(self, _request: Message, _fds: list[int]) -> Answer:
        programs.preload()
        importlib.import_module("quicpipe_lab.backends.netns.nft")
        return {}, []

    def _replace_table(self, request: Message, _fds: list[int]) -> Answer:
        # Here, for most labs never need it and it brings pyroute2 along.
        from quicpipe_lab.backends.netns.nft import commit, replace_table

        transaction = replace_table(table_from_json(request["table"]))
        enter(self._files[request["node"]])
        commit(transaction)
        return {}, []

    def _namespaces(self, request: Message, _fds: list[int]) -> Answer:
        return {}, [os.dup(self._files[node]) for node in request["nodes"]]

    def _answer_stranger(self) -> None:
        announcement.answer(self._listener, self._topology, self._started_s, self._files)

    def _reap(self, woken: socket.socket) -> None:
        """Also what programs left behind: as process 1, the supervisor inherits orphans."""
        woken.recv(_WAKEUP_SIZE_BYTES)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            writer = self._exit_pipes.pop(pid, None)
            if writer is not None:
                with contextlib.suppress(BrokenPipeError):
                    os.write(writer, EXIT_STATUS.pack(os.waitstatus_to_exitcode(status)))
                os.close(writer)


def _stop(*_: object) -> None:
    raise SystemExit
