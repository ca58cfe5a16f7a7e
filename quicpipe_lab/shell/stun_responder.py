"""An RFC 5780 server: two addresses with two ports each. One thread, blocking.

What it leaves out of the RFC: PADDING, TCP and TLS, and the answer 420 to attributes that it does
not know.
"""

import argparse
import os
import selectors
import signal
import socket
import struct
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat_measurement import POINTS, ServerPoint
from quicpipe_lab.shell.stun import BindingAnswer, BindingRequest, decode

STUN_PORT = 3478
_DATAGRAM_BYTES = 2048
_SENDINGS = 3

_RECVERR = {
    # ip(7) and ipv6(7): the socket module has no names for these and their first field's values
    socket.AF_INET: (socket.IPPROTO_IP, 11),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 25),
}
_SO_EE_ORIGIN_ICMP, _SO_EE_ORIGIN_ICMP6 = 2, 3
_EXTENDED_ERROR = struct.Struct("=IBBBBII")


class Responder:
    """Answers on four sockets.

    ``icmp_errors``: ICMP types and codes that came back, by the address that was sent to.
    """

    def __init__(self, sockets: Mapping[ServerPoint, socket.socket]) -> None:
        self.icmp_errors: dict[str, set[tuple[int, int]]] = {}
        self.addresses = {
            point: TransportAddress(*one.getsockname()[:2]) for point, one in sockets.items()
        }
        self._sockets = sockets
        for one in sockets.values():
            one.setblocking(False)
            one.setsockopt(*_RECVERR[one.family], 1)

    def serve(self, stop_fd: int) -> None:
        """Until ``stop_fd`` is readable, or its other end closed."""
        with selectors.DefaultSelector() as selector:
            selector.register(stop_fd, selectors.EVENT_READ)
            for point, one in self._sockets.items():
                selector.register(one, selectors.EVENT_READ, point)
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    self._drain(key.data)

    def _drain(self, point: ServerPoint) -> None:
        """One socket's requests in the order in which they came."""
        sock = self._sockets[point]
        while True:
            try:
                datagram, (host, port, *_) = sock.recvfrom(_DATAGRAM_BYTES)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error about something that was sent
                self._note_icmp(sock)
                continue
            request = decode(datagram)
            if isinstance(request, BindingRequest):
                self._answer(request, point, TransportAddress(host, port))

    def _answer(
        self, request: BindingRequest, asked: ServerPoint, source: TransportAddress
    ) -> None:
        sender, answer, target = answer_to(request, asked, source, self.addresses)
        for _ in range(_SENDINGS):
            try:
                self._sockets[sender].sendto(answer.encode(), target)
                return
            except OSError:  # an ICMP error about an earlier one, reported here; or no route
                self._note_icmp(self._sockets[sender])

    def _note_icmp(self, sock: socket.socket) -> None:
        with suppress(OSError):
            while True:
                _, ancillary, _, target = sock.recvmsg(
                    _DATAGRAM_BYTES, socket.CMSG_SPACE(512), socket.MSG_ERRQUEUE
                )
                for _, _, data in ancillary:
                    _, origin, kind, code, *_ = _EXTENDED_ERROR.unpack_from(data)
                    if origin in (_SO_EE_ORIGIN_ICMP, _SO_EE_ORIGIN_ICMP6):
                        self.icmp_errors.setdefault(target[0], set()).add((kind, code))


def answer_to(
    request: BindingRequest,
    asked: ServerPoint,
    source: TransportAddress,
    addresses: Mapping[ServerPoint, TransportAddress],
) -> tuple[ServerPoint, BindingAnswer, TransportAddress]:
    """From which of the points what is to be sent to whom (RFC 5780, 6.1)."""
    sender = ServerPoint(asked.address ^ request.change_address, asked.port ^ request.change_port)
    answer = BindingAnswer(
        request.transaction,
        source,
        other=addresses[ServerPoint(1 - asked.address, 1 - asked.port)],
        origin=addresses[sender],
    )
    return sender, answer, TransportAddress(source.host, request.response_port or source.port)


def open_sockets(hosts: Sequence[str], ports: Sequence[int]) -> dict[ServerPoint, socket.socket]:
    """Bound in the calling thread's network namespace. Raises QuicpipeLabError."""
    made: dict[ServerPoint, socket.socket] = {}
    try:
        for point in POINTS:
            host, port = hosts[point.address], ports[point.port]
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            made[point] = socket.socket(family, socket.SOCK_DGRAM)
            made[point].bind((host, port))
    except OSError as error:
        for one in made.values():
            one.close()
        raise QuicpipeLabError(f"cannot bind to {host} port {port}: {error.strerror}") from None
    return made


def main(argv: Sequence[str]) -> int:
    """``quicpipe-lab _stun``: serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="quicpipe-lab _stun")
    parser.add_argument("--host", action="append", required=True)
    parser.add_argument("--port", action="append", type=int)
    arguments = parser.parse_args(argv)
    ports = arguments.port or [STUN_PORT, STUN_PORT + 1]
    if len(arguments.host) != 2 or len(ports) != 2:
        raise QuicpipeLabError("RFC 5780 takes two addresses and two ports")
    stop_fd, stopper = os.pipe()
    os.set_blocking(stopper, False)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda *_: None)
    signal.set_wakeup_fd(stopper)
    with ExitStack() as stack:
        sockets = open_sockets(arguments.host, ports)
        for one in sockets.values():
            stack.enter_context(one)
        responder = Responder(sockets)
        print("ready", flush=True)
        responder.serve(stop_fd)
    return 0
