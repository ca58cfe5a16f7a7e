"""Netlink conversations: pyroute2 encodes the messages, a plain socket carries them.

pyroute2's own sockets run on asyncio, which would cost the supervisor more to import than the
whole network costs to build. A conversation needs no more than this: the kernel works on a
message while it is being sent, so that every answer is there when ``send`` returns.
"""

import os
import socket
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST

from quicpipe_lab.errors import QuicpipeLabError

NLM_F_NEW = NLM_F_CREATE | NLM_F_EXCL

_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_NLMSG_ERROR = 2
_CHUNK_MESSAGES = 128
_ANSWER_SIZE_BYTES = 64 * 1024


class NetlinkError(QuicpipeLabError):
    """The kernel refused a message."""


class Request(NamedTuple):
    """An encoded message, its sequence number unset, and what it is for."""

    data: bytes
    purpose: str


def encode(message: Any, kind: int, flags: int, purpose: str) -> Request:
    """From a pyroute2 message to bytes; ``kind`` is the netlink message type."""
    message["header"]["type"] = kind
    message["header"]["flags"] = NLM_F_REQUEST | flags
    message.encode()
    return Request(bytes(message.data), purpose)


class Netlink:
    """A netlink socket in the network namespace that the process is in when it is made."""

    def __init__(self, protocol: int) -> None:
        self._sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol
        )

    def __enter__(self) -> "Netlink":
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def carry_out(self, requests: Sequence[Request]) -> None:
        """One after the other; the rest is not undone where one fails. Raises NetlinkError."""
        for start in range(0, len(requests), _CHUNK_MESSAGES):
            self.carry_out_at_once(requests[start : start + _CHUNK_MESSAGES])

    def carry_out_at_once(self, requests: Sequence[Request], last: int = -1) -> None:
        """All in one datagram. ``last`` is the message whose acknowledgement ends the answer."""
        datagram = bytearray()
        for number, request in enumerate(requests):
            size, kind, flags, _, _ = _HEADER.unpack_from(request.data)
            if number == last % len(requests):
                flags |= NLM_F_ACK
            datagram += _HEADER.pack(size, kind, flags, number, 0) + request.data[_HEADER.size :]
        self._sock.sendto(datagram, (0, 0))
        acknowledged = False
        for number, error in self._answers():
            if error:
                raise NetlinkError(f"{requests[number].purpose}: {os.strerror(error)}")
            acknowledged = acknowledged or number == last % len(requests)
        if not acknowledged:
            raise NetlinkError(f"{requests[last].purpose}: the kernel did not answer")

    def _answers(self) -> list[tuple[int, int]]:
        """(number of the message, errno or 0) of every answer that waits in the socket."""
        answers: list[tuple[int, int]] = []
        while True:
            try:
                data = self._sock.recv(_ANSWER_SIZE_BYTES)
            except BlockingIOError:
                return answers
            offset = 0
            while offset < len(data):
                size, kind, _, number, _ = _HEADER.unpack_from(data, offset)
                if kind == _NLMSG_ERROR:
                    (status,) = _ERROR.unpack_from(data, offset + _HEADER.size)
                    answers.append((number, -status))
                offset += (size + 3) & ~3
