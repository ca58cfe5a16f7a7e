"""Netlink conversations, over a plain socket.

pyroute2 encodes what is said (encoders.py), but its own sockets run on asyncio, which would cost
the supervisor more to import than a whole network costs to build. A conversation needs no more
than this: the kernel works on a message while it is being sent, so that every answer is there
when ``sendto`` returns.
"""

import os
import socket
import struct
from collections.abc import Sequence

from quicpipe_lab.errors import QuicpipeLabError

Request = tuple[bytes, str]
"""An encoded message, and what it is for."""

Datagram = tuple[int, bytes, list[str], int]
"""Messages that are sent in one piece: the netlink protocol, the bytes, what each message is for,
and the one whose acknowledgement ends the answer. A message's sequence number is its place."""

# Length, type, flags, sequence number, port.
_HEADER = struct.Struct("=IHHII")
_ERROR = struct.Struct("=i")
_NLM_F_ACK = 0x4
_NLMSG_ERROR = 2
_CHUNK_MESSAGES = 128
_ANSWER_SIZE_BYTES = 64 * 1024


class NetlinkError(QuicpipeLabError):
    """The kernel refused a message."""


def datagrams(protocol: int, requests: Sequence[Request]) -> list[Datagram]:
    """As many as it takes."""
    return [
        datagram(protocol, requests[start : start + _CHUNK_MESSAGES])
        for start in range(0, len(requests), _CHUNK_MESSAGES)
    ]


def datagram(protocol: int, requests: Sequence[Request], last: int = -1) -> Datagram:
    """Number the messages, and ask for the acknowledgement of the last one that gets one."""
    last %= len(requests)
    data = bytearray()
    for number, (message, _) in enumerate(requests):
        size, kind, flags, _, _ = _HEADER.unpack_from(message)
        if number == last:
            flags |= _NLM_F_ACK
        data += _HEADER.pack(size, kind, flags, number, 0) + message[_HEADER.size :]
    return protocol, bytes(data), [purpose for _, purpose in requests], last


def carry_out(sequence: Sequence[Datagram]) -> None:
    """In the network namespace that the process is in. Raises NetlinkError.

    What came before the message that failed is not undone, outside of nftables' transactions.
    """
    for protocol, data, purposes, last in sequence:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
        with socket.socket(socket.AF_NETLINK, kind, protocol) as sock:
            sock.sendto(data, (0, 0))
            answers = _answers(sock)
        for number, error in answers:
            if error:
                raise NetlinkError(f"{purposes[number]}: {os.strerror(error)}")
        if last not in [number for number, _ in answers]:
            raise NetlinkError(f"{purposes[last]}: the kernel did not answer")


def _answers(sock: socket.socket) -> list[tuple[int, int]]:
    """(number of the message, errno or 0) of every answer that waits in the socket."""
    answers: list[tuple[int, int]] = []
    while True:
        try:
            data = sock.recv(_ANSWER_SIZE_BYTES)
        except BlockingIOError:
            return answers
        offset = 0
        while offset < len(data):
            size, kind, _, number, _ = _HEADER.unpack_from(data, offset)
            if kind == _NLMSG_ERROR:
                (status,) = _ERROR.unpack_from(data, offset + _HEADER.size)
                answers.append((number, -status))
            offset += (size + 3) & ~3
