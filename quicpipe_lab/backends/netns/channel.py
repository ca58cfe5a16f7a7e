"""The control socket between a Lab and its supervisor: JSON objects with open files beside them.

The socket is SOCK_SEQPACKET: the kernel keeps messages apart and each with its files. Both ends
are blocking and take turns, a request and its answer.
"""

import array
import contextlib
import os
import socket
from collections.abc import Sequence

# typing's own would bring typing and re along: 4 ms of the 35 that a lab's start takes.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_FDS = 200
"""Files in one message; the kernel's own limit is 253 (SCM_MAX_FD)."""
_MAX_SIZE_BYTES = 256 * 1024  # more than the socket takes
_INT_SIZE_BYTES = array.array("i").itemsize

Message = dict[str, "Any"]


class Channel:
    """One end of the control socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    @classmethod
    def pair(cls) -> tuple["Channel", socket.socket]:
        """The caller's end, and the socket that the supervisor inherits."""
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(here), there

    def fileno(self) -> int:
        """For selectors."""
        return self._sock.fileno()

    def close(self) -> None:
        """Idempotent. Closing the caller's end takes the lab down.

        Also where a child that the caller has forked still holds the socket.
        """
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        """Raises OSError where the other end is gone or the message too long."""
        import json

        self._send(json.dumps(message).encode(), fds)

    def send_yes(self, fds: Sequence[int]) -> None:
        """The empty message, as an answer to what has no other answer."""
        self._send(b"{}", fds)

    def _send(self, data: bytes, fds: Sequence[int]) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._sock.sendmsg([data], rights)

    def receive(self) -> tuple[Message, list[int]]:
        """The next message and its files, all close-on-exec. Raises EOFError at the end."""
        import json

        space = socket.CMSG_SPACE(MAX_FDS * _INT_SIZE_BYTES)
        try:
            data, ancillary, _, _ = self._sock.recvmsg(
                _MAX_SIZE_BYTES, space, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            data, ancillary = b"", []
        fds = array.array("i")
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % _INT_SIZE_BYTES])
        if not data:
            for fd in fds:
                os.close(fd)
            raise EOFError("the other end of the control socket is gone")
        message: Message = json.loads(data)
        return message, list(fds)
