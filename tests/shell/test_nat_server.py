"""The STUN server, the asking socket and ``--server`` on loopback, where nothing translates."""

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat_measurement import POINTS, Property, ServerPoint
from quicpipe_lab.shell.nat_server import check_server, parse_server
from quicpipe_lab.shell.stun import BindingAnswer, BindingError, BindingRequest, decode
from quicpipe_lab.shell.stun_client import (
    LOSSY,
    PLAIN,
    NoAnswerError,
    RefusedError,
    StunClient,
)
from quicpipe_lab.shell.stun_responder import Responder

TIMING = replace(PLAIN, first_wait_s=0.1, grace_s=0.05)
IMPATIENT = replace(TIMING, first_wait_s=0.01, tries=2)
PRIMARY, SAME_ADDRESS, SAME_PORT, OTHER = POINTS

Answering = Callable[[BindingRequest, TransportAddress], bytes | None]


def udp(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((host, port))
    return sock


@pytest.fixture
def client() -> Iterator[StunClient]:
    with StunClient(udp(), TIMING) as one:
        yield one


@contextmanager
def running(serve: Callable[[int], None]) -> Iterator[None]:
    stop_reader, stop = os.pipe()
    thread = threading.Thread(target=serve, args=[stop_reader])
    thread.start()
    try:
        yield
    finally:
        os.close(stop)
        thread.join()
        os.close(stop_reader)


@pytest.fixture
def responder() -> Iterator[Responder]:
    """On two loopback addresses, and two ports that are free on both."""
    sockets: dict[ServerPoint, socket.socket] = {}
    for point in POINTS[:2]:
        sockets[point] = udp("127.0.0.1")
        sockets[ServerPoint(1, point.port)] = udp("127.0.0.2", sockets[point].getsockname()[1])
    one = Responder(sockets)
    with running(one.serve):
        yield one
    for sock in sockets.values():
        sock.close()


@contextmanager
def other_server(answer: Answering) -> Iterator[TransportAddress]:
    """A server that is not ours: ``answer`` makes its answers, or none."""
    sock = udp()
    sock.settimeout(0.01)

    def serve(stop: int) -> None:
        os.set_blocking(stop, False)
        while True:
            try:
                datagram, (host, port) = sock.recvfrom(2048)
            except TimeoutError:
                try:
                    os.read(stop, 1)
                    return
                except BlockingIOError:
                    continue
            request = decode(datagram)
            assert isinstance(request, BindingRequest)
            made = answer(request, TransportAddress(host, port))
            if made is not None:
                sock.sendto(made, (host, port))

    with sock, running(serve):
        yield TransportAddress(*sock.getsockname())


def plain(request: BindingRequest, source: TransportAddress) -> bytes:
    """As a server of RFC 8489 alone answers, which takes no notice of what RFC 5780 adds."""
    return BindingAnswer(request.transaction, source).encode()


def test_answers_say_who_and_where_from(responder: Responder, client: StunClient) -> None:
    for point, address in responder.addresses.items():
        answer = client.ask(address)
        assert answer.mapped == TransportAddress("127.0.0.1", client.port)
        assert answer.origin == address
        assert answer.other == responder.addresses[ServerPoint(1 - point.address, 1 - point.port)]


@pytest.mark.parametrize("asked", POINTS)
@pytest.mark.parametrize("change_address", [False, True])
@pytest.mark.parametrize("change_port", [False, True])
def test_answers_come_from_where_they_were_wanted(
    responder: Responder, asked: ServerPoint, change_address: bool, change_port: bool
) -> None:
    with udp() as sock:
        sock.settimeout(5.0)
        request = BindingRequest(bytes(12), change_address, change_port)
        sock.sendto(request.encode(), responder.addresses[asked])
        datagram, source = sock.recvfrom(2048)
    wanted = responder.addresses[
        ServerPoint(asked.address ^ change_address, asked.port ^ change_port)
    ]
    answer = decode(datagram)
    assert isinstance(answer, BindingAnswer)
    assert source == answer.origin == wanted


def test_answers_go_to_another_port_when_asked_to(responder: Responder, client: StunClient) -> None:
    server = responder.addresses[PRIMARY]
    with StunClient(udp(), TIMING) as target, StunClient(udp(), TIMING) as elsewhere:
        assert client.provoke(server, response_port=target.port, target=target)
        assert not client.provoke(server, response_port=target.port, target=elsewhere)


def test_noise_is_not_answered(responder: Responder, client: StunClient) -> None:
    with udp() as sock:
        for noise in (b"", b"\0" * 20, plain(BindingRequest(bytes(12)), TransportAddress("::", 1))):
            sock.sendto(noise, responder.addresses[PRIMARY])
        client.ask(responder.addresses[PRIMARY])  # behind the noise
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(2048)


def test_icmp_errors_are_kept_and_hold_up_no_answer(
    responder: Responder, client: StunClient
) -> None:
    server = responder.addresses[PRIMARY]
    with udp() as gone:
        closed_port = gone.getsockname()[1]
    with StunClient(udp(), IMPATIENT) as nobody:
        for _ in range(3):
            assert not client.provoke(server, response_port=closed_port, target=nobody)
    assert responder.icmp_errors == {"127.0.0.1": {(3, 3)}}
    assert client.ask(server).mapped.port == client.port


def test_what_is_lost_is_sent_again(client: StunClient) -> None:
    seen: list[bytes] = []

    def lose_the_first_two(request: BindingRequest, source: TransportAddress) -> bytes | None:
        seen.append(request.transaction)
        return plain(request, source) if len(seen) > 2 else None

    with other_server(lose_the_first_two) as server:
        assert client.ask(server).mapped.port == client.port
    assert len(seen) == 3
    assert len(set(seen)) == 1  # RFC 8489, 6.2.1: the same transaction


def test_answers_to_others_questions_are_none() -> None:
    def other_transaction(request: BindingRequest, source: TransportAddress) -> bytes:
        transaction = struct.pack("12s", request.transaction[::-1])
        return BindingAnswer(transaction, source).encode()

    with (
        other_server(other_transaction) as server,
        StunClient(udp(), IMPATIENT) as impatient,
        pytest.raises(NoAnswerError, match="does not answer"),
    ):
        impatient.ask(server)


def test_servers_that_cannot_are_told_from_nats_that_filter(client: StunClient) -> None:
    """A NAT's fault must not be made of a server's: all of these would look like filtering."""

    def refuse(request: BindingRequest, source: TransportAddress) -> bytes:
        if request.change_address or request.response_port:
            return BindingError(request.transaction, 420, "Unknown Attribute").encode()
        return plain(request, source)

    with other_server(refuse) as server, pytest.raises(RefusedError, match="420 Unknown"):
        client.provoke(server, change_address=True)
    with other_server(plain) as server, pytest.raises(RefusedError, match="CHANGE-REQUEST"):
        client.provoke(server, change_port=True)
    with (
        other_server(plain) as server,
        StunClient(udp(), TIMING) as target,
        pytest.raises(RefusedError, match="RESPONSE-PORT"),
    ):
        client.provoke(server, response_port=target.port, target=target)


def test_loopback_has_no_nat(responder: Responder) -> None:
    check = check_server(responder.addresses[PRIMARY], timing=TIMING)
    assert check.other == responder.addresses[OTHER]
    assert check.measured.words == {
        Property.EXTERNAL_ADDRESS: "127.0.0.1",
        Property.MAPPING: "EIM",
        Property.FILTERING: "EIF",
        Property.PORT_ASSIGNMENT: "preserving",
        Property.UNSOLICITED: "no effect",
    }
    assert "nothing translates" in check.measured.remarks[Property.EXTERNAL_ADDRESS]


def test_a_server_with_one_address_tests_what_it_can() -> None:
    with other_server(plain) as server:
        check = check_server(server, timing=TIMING)
    assert check.other is None
    assert check.measured.words[Property.PORT_ASSIGNMENT] == "preserving"
    for what in (Property.MAPPING, Property.FILTERING, Property.UNSOLICITED):
        assert what not in check.measured.words
        assert "no second address" in check.measured.remarks[what]


def test_a_silent_server_is_the_machines_fault() -> None:
    with (
        other_server(lambda *_: None) as server,
        pytest.raises(BackendUnavailableError, match="does UDP get through"),
    ):
        check_server(server, timing=IMPATIENT)


def test_a_port_where_nobody_is_says_so_at_once() -> None:
    """RFC 8489, 6.2.1: a hard ICMP error ends a transaction. Not after 40 s of questions."""
    with udp() as sock:
        gone = TransportAddress("127.0.0.1", sock.getsockname()[1])
    began_s = time.monotonic()
    with pytest.raises(BackendUnavailableError, match="refused"):
        check_server(gone)
    assert time.monotonic() - began_s < 10


def test_how_long_a_silent_server_is_asked() -> None:
    """RFC 8489, 6.2.1: Rc = 7 and Rm = 16 with an RTO of 500 ms give it up after 39,500 ms."""
    waits_s: list[float] = []

    class Silence:
        """A socket that nothing comes to, in time of its own."""

        def settimeout(self, timeout_s: float | None) -> None:
            waits_s.append(timeout_s or 0.0)

        def recvfrom(self, _size: int, /) -> tuple[bytes, Any]:
            raise TimeoutError

        def sendto(self, data: bytes, _address: Any, /) -> int:
            return len(data)

        def getsockname(self) -> Any:
            return ("127.0.0.1", 1)

        def close(self) -> None:
            pass

    client = StunClient(Silence(), LOSSY)
    with pytest.raises(NoAnswerError):
        client.ask(TransportAddress("192.0.2.1", 3478))
    assert [round(wait_s, 1) for wait_s in waits_s] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 8.0]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("stun.example.org", ("stun.example.org", 3478)),
        ("stun.example.org:19302", ("stun.example.org", 19302)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
        ("2001:db8::1", ("2001:db8::1", 3478)),
        ("[2001:db8::1]", ("2001:db8::1", 3478)),
        ("[2001:db8::1]:99", ("2001:db8::1", 99)),
    ],
)
def test_server_names(text: str, address: tuple[str, int]) -> None:
    assert parse_server(text) == address


@pytest.mark.parametrize("text", ["", ":3478", "host:", "host:0", "host:65536", "host:x", "[]:1"])
def test_server_names_that_are_none(text: str) -> None:
    with pytest.raises(QuicpipeLabError, match="is not HOST:PORT"):
        parse_server(text)


def test_a_host_that_is_not_there() -> None:
    with pytest.raises(QuicpipeLabError, match=r"--server no-such-host\.invalid: "):
        check_server(TransportAddress("no-such-host.invalid", 1))
