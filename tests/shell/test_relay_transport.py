"""Both ways between the relay's socket and its machine, on loopback: they must do the same."""

import ctypes
import itertools
import random
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.forwarding import Reason
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.shell import batch
from quicpipe_lab.shell.batch import Message, ReceiveBatch, SendBatch
from quicpipe_lab.shell.relay_batch import BatchTransport, pack_name, unpack_name
from quicpipe_lab.shell.relay_socket import (
    OwnAddresses,
    PlainTransport,
    RelayTransport,
    from_socket,
    open_socket,
)
from tests.shell.relay_scene import Client, Scene

needs_batches = pytest.mark.skipif(
    not batch.is_available(), reason="this system has no recvmmsg and sendmmsg"
)

Factory = Callable[[socket.socket], RelayTransport]
TRANSPORTS = [
    pytest.param(PlainTransport, id="plain"),
    pytest.param(BatchTransport, id="as it chooses", marks=needs_batches),
    pytest.param(partial(BatchTransport, waiting_gap_s=0.0), id="thin", marks=needs_batches),
    pytest.param(
        partial(BatchTransport, few=0, waiting_gap_s=1e9), id="batches", marks=needs_batches
    ),
    pytest.param(
        partial(BatchTransport, few=0, waiting_gap_s=1e9, offload=False),
        id="batches, no offload",
        marks=needs_batches,
    ),
]


@pytest.fixture(params=TRANSPORTS)
def factory(request: pytest.FixtureRequest) -> Factory:
    made: Factory = request.param
    return made


@pytest.fixture
def scene(factory: Factory, tmp_path: Path) -> Iterator[Scene]:
    with Scene(factory, tmp_path) as made:
        yield made


def short(client: Client, number: int, size_bytes: int) -> bytes:
    """A datagram that a relay takes for a peer's, with a number to tell it by."""
    head = bytes([0x40 | number % 64]) + client.connection_id(1 + number % 4)
    return (head + number.to_bytes(4, "big")).ljust(size_bytes, b".")[:size_bytes]


def exchange(scene: Scene, one: Client, other: Client, rounds: int = 6) -> None:
    """Bursts of datagrams of many sizes both ways: all arrive, in order, unchanged."""
    rng = random.Random(5)
    numbers = itertools.count()
    sent: dict[bytes, list[bytes]] = {one.key: [], other.key: []}
    for round_ in range(rounds):
        for _ in range(3 ** (round_ % 5)):
            source, target = rng.choice([(one, other), (other, one)])
            size = rng.choice([17, 1200, 1200, 1200, 1200, 1201, rng.randrange(17, 1400)])
            datagram = short(target, next(numbers), size)
            sent[target.key].append(datagram)
            source.send(datagram)
        scene.until(
            lambda: (
                len(one.received) == len(sent[one.key])
                and len(other.received) == len(sent[other.key])
            )
        )
    # Order is kept within a flow, which is one sender's datagrams to one ID.
    for client in (one, other):
        for index in range(1, 5):
            wanted = client.connection_id(index)
            arrived, expected = (
                [data for data in datagrams if data[1:13] == wanted]
                for datagrams in (client.received, sent[client.key])
            )
            assert arrived == expected


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_pass_both_ways(factory: Factory, tmp_path: Path, host: str) -> None:
    with Scene(factory, tmp_path, host) as scene:
        exchange(scene, scene.client(b"a" * 16), scene.client(b"b" * 16))
        assert scene.relay.counters[Reason.RATE_LIMITED] == 0


def test_ipv4_and_ipv6_through_one_socket(factory: Factory, tmp_path: Path) -> None:
    with Scene(factory, tmp_path, "::") as scene:
        four, six = scene.client(b"4" * 16, "127.0.0.1"), scene.client(b"6" * 16, "::1")
        exchange(scene, four, six)
        hosts = {sender.address.host for sender in scene.relay.senders()}
        assert hosts == {"127.0.0.1", "::1"}


def test_long_headers_pass(scene: Scene) -> None:
    one, other = scene.client(b"a" * 16), scene.client(b"b" * 16)
    datagrams = [
        b"\xe0\x00\x00\x00\x01\x0c%b%c%bx" % (other.connection_id(), len(source), source)
        for source in (b"", b"y" * 12, b"z" * 20)
    ]
    for datagram in datagrams:
        one.send(datagram)
    scene.until(lambda: other.received == datagrams)


def test_strangers_and_nonsense(scene: Scene) -> None:
    one, other = scene.client(b"a" * 16), scene.client(b"b" * 16)
    with open_socket("127.0.0.1", 0) as stranger:
        stranger.sendto(short(other, 1, 100), scene.address)
        for nonsense in (b"", b"\x41", b"\x41" + bytes(11), b"\x01" * 40, b"\xc0" * 1200):
            one.send(nonsense)
        last = short(other, 2, 100)
        one.send(last)
        scene.until(lambda: other.received == [last])
    counters = scene.relay.counters
    assert counters[Reason.SOURCE_NOT_BOUND] == 1
    assert counters[Reason.NOT_QUIC] == 4
    assert counters[Reason.NOT_INITIAL] == 1
    assert counters[Reason.FORWARDED] == 1


def test_limits_hold(factory: Factory, tmp_path: Path) -> None:
    limits = RelayLimits(packets_per_s=100.0, burst_s=1.0)
    with Scene(factory, tmp_path, limits=limits) as scene:
        one, other = scene.client(b"a" * 16), scene.client(b"b" * 16)
        counters = scene.relay.counters
        for number in range(600):
            one.send(short(other, 0, 1200))
            if number % 50 == 49:  # less than a socket holds
                scene.turn()
        scene.until(lambda: counters[Reason.FORWARDED] + counters[Reason.RATE_LIMITED] == 600)
        scene.until(lambda: len(other.received) == counters[Reason.FORWARDED])
        # One batch may run into debt (TokenBucket); the rest of it is what a slow machine's time
        # brings in.
        assert 100 <= counters[Reason.FORWARDED] < 400


def test_a_route_ends_with_its_binding(scene: Scene) -> None:
    one, other = scene.client(b"a" * 16), scene.client(b"b" * 16)
    one.send(short(other, 1, 1200))
    scene.until(lambda: len(other.received) == 1)
    other.leg.close()
    other.turn()
    scene.drain()
    for scene.later_s in (5.0, 70.0):  # past the closing period, past the minute more
        scene.turn()
    one.send(short(other, 2, 1200))
    scene.until(lambda: scene.relay.counters[Reason.UNBOUND] == 1)
    assert len(other.received) == 1


def test_a_route_follows_its_binding(scene: Scene) -> None:
    one, before = scene.client(b"a" * 16), scene.client(b"b" * 16)
    one.send(short(before, 1, 1200))
    scene.until(lambda: len(before.received) == 1)
    before.leg.close()
    before.turn()
    scene.drain()
    scene.later_s = 5.0  # the closing period is over
    after = scene.client(b"b" * 16)
    one.send(short(after, 2, 1200))
    scene.until(lambda: len(after.received) == 1)
    assert len(before.received) == 1


@needs_batches
class TestRuns:
    """Runs of equal datagrams that the kernel joins and splits."""

    @staticmethod
    def run(datagrams: list[bytes], to: TransportAddress) -> tuple[Message, list[object]]:
        """One message with UDP_SEGMENT, and what must live until it is sent."""
        memory = bytearray(b"".join(datagrams))
        name = bytearray(pack_name(to, socket.AF_INET))
        at, name_at = (_address_of(one) for one in (memory, name))
        size = len(datagrams[0])
        message = Message(
            (name_at, len(name)), size, [at], [len(memory)], len(memory), len(datagrams)
        )
        return message, [memory, name]

    @pytest.mark.parametrize("last", [1200, 500, 15])
    @pytest.mark.parametrize("same_id", [True, False])
    def test_a_run_arrives_as_its_datagrams(self, tmp_path: Path, last: int, same_id: bool) -> None:
        with Scene(BatchTransport, tmp_path) as scene:
            one, other = scene.client(b"a" * 16), scene.client(b"b" * 16)
            step = 4 if same_id else 1
            sizes = [1200] * 29 + [last]
            datagrams = [short(other, step * i, size) for i, size in enumerate(sizes)]
            message, alive = self.run(datagrams, scene.address)
            SendBatch(one.socket, offload=True).send([message])
            scene.until(lambda: len(other.received) == 30)
            assert sorted(other.received) == sorted(datagrams)
            assert scene.relay.counters[Reason.FORWARDED] == 30
            del alive

    @pytest.mark.parametrize("gap_s", [0.0, 1e9])
    def test_a_run_with_nonsense_in_it(self, tmp_path: Path, gap_s: float) -> None:
        with Scene(partial(BatchTransport, few=0, waiting_gap_s=gap_s), tmp_path) as scene:
            one, other = scene.client(b"a" * 16), scene.client(b"b" * 16)
            good = [short(other, 4 * i, 100) for i in range(4)]
            datagrams = [good[0], b"\x00" * 100, good[1], b"\x41" * 100, good[2], good[3][:16]]
            message, alive = self.run(datagrams, scene.address)
            SendBatch(one.socket, offload=True).send([message])
            scene.until(lambda: len(other.received) == 4)
            assert other.received == [*good[:3], good[3][:16]]
            assert scene.relay.counters[Reason.NOT_QUIC] == 1
            assert scene.relay.counters[Reason.UNBOUND] == 1
            del alive

    def test_a_run_can_be_sent_datagram_by_datagram(self) -> None:
        """Which is done where the kernel refuses to split it: EINVAL where one datagram is longer
        than the way's MTU, EIO (before Linux 6.10) where the way out makes no checksums. Neither
        can happen on loopback, so this asks for it."""
        with open_socket("127.0.0.1", 0) as source, open_socket("127.0.0.1", 0) as target:
            batches = SendBatch(source, offload=True)
            received = ReceiveBatch(target, offload=False)
            to = TransportAddress(*target.getsockname())
            message, alive = self.run([bytes([i]) * 100 for i in range(5)], to)
            batches._send_singly(message)
            assert received.receive() == 5
            assert received.sizes == [100] * 5
            assert batches.unsent == 0
            del alive

    def test_one_message_that_cannot_be_sent_stops_no_other(self) -> None:
        with open_socket("127.0.0.1", 0) as source, open_socket("127.0.0.1", 0) as target:
            batches = SendBatch(source, offload=True)
            received = ReceiveBatch(target, offload=False)
            here = TransportAddress(*target.getsockname())
            runs = [self.run([b"x" * 50], to) for to in (here, here._replace(port=0), here)]
            batches.send([message for message, _ in runs])
            assert batches.unsent == 1
            assert received.receive() == 2


@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.integers(0, 65535),
)
def test_socket_addresses_in_memory(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    host = socket.inet_ntop(family, socket.inet_pton(family, host))  # as the system writes it
    address = TransportAddress(host, port)
    expected = from_socket(address)
    assert unpack_name(pack_name(address, family), family) == expected
    if family == socket.AF_INET:
        assert unpack_name(pack_name(address, socket.AF_INET6), socket.AF_INET6) == address


def test_own_addresses() -> None:
    with open_socket("0.0.0.0", 0) as opened:
        port = opened.getsockname()[1]
        own = OwnAddresses(TransportAddress("0.0.0.0", port))
        assert TransportAddress("127.0.0.1", port) in own
        assert TransportAddress("127.0.0.1", port ^ 1) not in own
        assert TransportAddress("192.0.2.1", port) not in own  # RFC 5737: nobody's
    own = OwnAddresses(TransportAddress("127.0.0.1", port))
    assert TransportAddress("127.0.0.1", port) in own
    assert TransportAddress("127.0.0.2", port) not in own


def test_a_full_send_buffer_loses_and_goes_on() -> None:
    with open_socket("127.0.0.1", 0) as source:
        transport = PlainTransport(source)
        transport.send([(b"x" * 70_000, TransportAddress("127.0.0.1", 9))])  # EMSGSIZE
        assert transport.unsent == 1
        transport.send([(b"x", TransportAddress("127.0.0.1", 9))])
        assert transport.unsent == 1


def _address_of(memory: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
