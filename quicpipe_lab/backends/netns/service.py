"""What the supervisor does once the lab is built: answers its caller, and reaps programs."""

import contextlib
import importlib
import os
import selectors
import signal
import socket
import time
from pathlib import Path
from typing import NoReturn

from quicpipe_lab.backends.netns import programs
from quicpipe_lab.backends.netns.blueprint import WIRES, End, Netem, table_from_json
from quicpipe_lab.backends.netns.channel import Channel, Message
from quicpipe_lab.backends.netns.failures import describe
from quicpipe_lab.backends.netns.namespaces import enter
from quicpipe_lab.backends.netns.naming import Place
from quicpipe_lab.backends.netns.process import EXIT_STATUS
from quicpipe_lab.backends.netns.reception import (
    Answer,
    Operation,
    Reception,
    kill_session,
    memory_file,
    own_processes,
)
from quicpipe_lab.backends.netns.surroundings import Surroundings
from quicpipe_lab.errors import LabEndedError

_WAKEUP_SIZE_BYTES = 4096


class Service:
    """The supervisor's loop. ``files`` are the namespaces by node.

    ``introduction`` is what the lab says of itself: its name, its topology's, its places.
    """

    def __init__(
        self,
        channel: Channel,
        listener: socket.socket,
        introduction: Message,
        files: dict[str, int],
        descriptor_limit: tuple[int, int],
    ) -> None:
        self._channel = channel
        self._listener = listener
        self._wires = files.pop(WIRES, -1)
        self._introduction = {**introduction, "started_s": time.time(), "files": files}
        self._surroundings = Surroundings([Place(*one) for one in introduction["places"]])
        self._files = files
        self._descriptor_limit = descriptor_limit
        self._exit_pipes: dict[int, int] = {}
        self._programs: dict[int, tuple[str, list[str]]] = {}
        self._operations: dict[str, Operation] = {
            "spawn": self._spawn,
            "kill": self._kill,
            "preload": self._preload,
            "table": self._replace_table,
            "flush-conntrack": self._flush_conntrack,
            "default-route": self._replace_default_route,
            "namespaces": self._namespaces,
            "wire": self._start_wire,
            "set-netem": self._set_netem,
            "netem-counters": self._netem_counters,
            "has-carrier": self._has_carrier,
            "xdp-peer": self._prepare_xdp_peer,
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
        visitors = {"describe": self._describe, "spawn": self._spawn, "end": self._end}
        reception = Reception(self._listener, selector, visitors)
        selector.register(woken, selectors.EVENT_READ, lambda: self._reap(woken, reception))
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
        node = request["node"]
        program = programs.Program(
            node,
            self._files[node],
            request["argv"],
            dict(zip(numbers, fds, strict=True)),
            request["env"],
            request["cwd"],
            request["terminal"],
        )
        reader, writer = os.pipe()
        try:
            pid = programs.start(program, self._surroundings, self._descriptor_limit)
        except BaseException:
            os.close(reader)
            os.close(writer)
            raise
        # Not reaped before this request is answered, so the number cannot be another's.
        self._exit_pipes[pid] = writer
        self._programs[pid] = (node, program.argv)
        return {"pid": pid}, [os.pidfd_open(pid), reader]

    def _kill(self, request: Message, _fds: list[int]) -> Answer:
        if request["pid"] in self._exit_pipes:
            kill_session(request["pid"])
        return {}, []

    def _preload(self, _request: Message, _fds: list[int]) -> Answer:
        programs.preload()
        importlib.import_module("quicpipe_lab.backends.netns.nft")
        importlib.import_module("quicpipe_lab.backends.netns.rtnetlink")
        return {}, []

    def _replace_table(self, request: Message, _fds: list[int]) -> Answer:
        # Here, for most labs never need it and it brings pyroute2 along.
        from quicpipe_lab.backends.netns.nft import commit, replace_table

        transaction = replace_table(table_from_json(request["table"]))
        enter(self._files[request["node"]])
        commit(transaction)
        return {}, []

    def _replace_default_route(self, request: Message, _fds: list[int]) -> Answer:
        from quicpipe_lab.backends.netns import netlink, rtnetlink

        requests = [rtnetlink.default_route(request["gateway"], replaces=True)]
        enter(self._files[request["node"]])
        netlink.carry_out(netlink.datagrams(socket.NETLINK_ROUTE, requests))
        return {}, []

    def _flush_conntrack(self, request: Message, _fds: list[int]) -> Answer:
        from quicpipe_lab.backends.netns.nft import flush_conntrack

        enter(self._files[request["node"]])
        flush_conntrack()
        return {}, []

    def _start_wire(self, _request: Message, fds: list[int]) -> Answer:
        from quicpipe_lab.backends.netns import wire_process

        wire_process.start(self._wires, fds[0])
        return {}, []

    def _set_netem(self, request: Message, _fds: list[int]) -> Answer:
        from quicpipe_lab.backends.netns import netem

        enter(self._files[request["node"]])
        netem.apply(End(*request["end"]), Netem(*request["netem"]))
        return {}, []

    def _netem_counters(self, request: Message, _fds: list[int]) -> Answer:
        from quicpipe_lab.backends.netns import netem

        enter(self._files[request["node"]])
        return netem.counters(End(*request["end"])), []

    def _has_carrier(self, request: Message, _fds: list[int]) -> Answer:
        from quicpipe_lab.backends.netns import ethtool

        enter(self._files[request["node"]])
        return {"has_carrier": ethtool.has_carrier(request["interface"])}, []

    def _prepare_xdp_peer(self, request: Message, _fds: list[int]) -> Answer:
        from quicpipe_lab.backends.netns import xdp_peer

        node, end = request["node"], End(*request["end"])
        enter(self._wires if node == WIRES else self._files[node])
        return {}, xdp_peer.prepare(end.interface, end.number, native=request["native"])

    def _namespaces(self, request: Message, _fds: list[int]) -> Answer:
        return {}, [os.dup(self._files[node]) for node in request["nodes"]]

    def _describe(self, _request: Message, _fds: list[int]) -> Answer:
        """In a file, because large labs would not fit into a message."""
        nodes = {os.fstat(file).st_ino: node for node, file in self._files.items()}
        found = {pid: (*program, True) for pid, program in self._programs.items()}
        for pid in own_processes():
            with contextlib.suppress(OSError, KeyError):
                node = nodes[Path(f"/proc/{pid}/ns/net").stat().st_ino]
                found.setdefault(pid, (node, _argv(pid), False))
        processes = [[pid, *one] for pid, one in sorted(found.items())]
        return {}, [memory_file({**self._introduction, "processes": processes})]

    def _end(self, _request: Message, _fds: list[int]) -> NoReturn:
        """By the wish of a visitor, which is told to the caller."""
        last_words = LabEndedError("the lab was taken down with quicpipe-lab down", True)
        with contextlib.suppress(OSError):
            self._channel.send(describe(last_words))
        raise SystemExit

    def _reap(self, woken: socket.socket, reception: Reception) -> None:
        """Also what programs left behind: as process 1, the supervisor inherits orphans."""
        woken.recv(_WAKEUP_SIZE_BYTES)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            reception.forget(pid)
            self._programs.pop(pid, None)
            writer = self._exit_pipes.pop(pid, None)
            if writer is not None:
                with contextlib.suppress(BrokenPipeError):
                    os.write(writer, EXIT_STATUS.pack(os.waitstatus_to_exitcode(status)))
                os.close(writer)


def _argv(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/cmdline").read_text("utf-8", "replace")
    return text.removesuffix("\0").split("\0")


def _stop(*_: object) -> None:
    raise SystemExit
