"""Which datagrams the relay forwards, which it answers, which it drops, and that it counts them."""

import random

import pytest
from aioquic.h3.connection import H3_ALPN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.protocol.forwarding import Flow, Reason, Verdict
from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.quic_configuration import standard_configuration
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.sources import Sources, drawn_from
from quicpipe_lab.protocol.wire import Punch, PunchKind, encode_punch
from tests.protocol.relay_world import RELAY, Client, Network

KEY_A, KEY_B = b"a" * 16, b"b" * 16
ID_A, ID_B = (ConnectionIdGenerator(key, relay_leg=False).at(1) for key in (KEY_A, KEY_B))
STRANGER = TransportAddress("192.0.2.99", 99)


def short(destination: bytes, size_bytes: int = 100) -> bytes:
    return (b"\x41" + destination).ljust(size_bytes, b".")


def long(destination: bytes, source: bytes, *, version: int = 1, size_bytes: int = 1200) -> bytes:
    head = b"\xc0" + version.to_bytes(4, "big")
    ids = bytes([len(destination)]) + destination + bytes([len(source)]) + source
    return (head + ids).ljust(size_bytes, b"\x00")


@pytest.fixture
def pair() -> tuple[Network, Client, Client]:
    """Two registered peers."""
    network = Network()
    dialer, accepter = network.client("203.0.113.1"), network.client("203.0.113.2")
    assert dialer.register(KEY_A, 4).status == accepter.register(KEY_B, 4).status == 200
    return network, dialer, accepter


def count(network: Network, reason: Reason) -> int:
    return network.relay.counters[reason]


def test_short_and_long_headers_are_forwarded_as_they_are(
    pair: tuple[Network, Client, Client],
) -> None:
    network, dialer, accepter = pair
    sent = [short(ID_B), short(ID_B, 13), long(ID_B, ID_A), long(ID_B, b"")]
    for data in sent:
        network.inject(data, dialer.address)
    assert network.delivered[accepter.address] == sent
    network.inject(short(ID_A), accepter.address)
    assert network.delivered[dialer.address] == [short(ID_A)]
    assert count(network, Reason.FORWARDED) == 5
    by_address = {one.address: (one.packets, one.bytes) for one in network.relay.senders()}
    assert by_address[dialer.address] == (4, 100 + 13 + 2400)


def test_the_relay_is_closed_to_strangers(pair: tuple[Network, Client, Client]) -> None:
    network, _, _ = pair
    network.inject(short(ID_B), STRANGER)
    assert count(network, Reason.SOURCE_NOT_BOUND) == 1
    assert network.delivered == {}


def test_nothing_goes_back_to_its_sender_or_to_the_relay(
    pair: tuple[Network, Client, Client],
) -> None:
    network, dialer, _ = pair
    network.inject(short(ID_A), dialer.address)
    assert count(network, Reason.LOOP) == 1
    assert network.delivered == {}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", Reason.NOT_QUIC),
        (b"\x41", Reason.NOT_QUIC),
        (b"\x41" + ID_B[:-1], Reason.NOT_QUIC),
        (b"\x01" + ID_B + b"no fixed bit", Reason.NOT_QUIC),
        (b"\x80\x00\x00\x00\x01" + bytes([12]) + ID_B + b"\x00", Reason.NOT_QUIC),
        (b"\xc0\x00\x00\x00\x01\xff", Reason.NOT_QUIC),
        (encode_punch(Punch(PunchKind.PING, True, bytes(8)), bytes(32)), Reason.PUNCH),
        (short(b"\x00" * 12), Reason.UNBOUND),
        (short(b"\xff" * 12), Reason.NOT_INITIAL),
        (long(b"x" * 12, b"\x7f" * 12), Reason.UNBOUND),  # a peer's Initial for one not bound
        (long(b"x" * 12, b"\xff" * 12, version=2), Reason.NOT_INITIAL),
        (long(b"x" * 12, b"\xff" * 12, version=0), Reason.NOT_INITIAL),
        (long(b"x" * 12, b"\xff" * 12, size_bytes=1199), Reason.NOT_INITIAL),
        (long(b"x" * 7, b"\xff" * 12), Reason.NOT_INITIAL),
        (b"\xe0" + long(b"x" * 12, b"\xff" * 12)[1:], Reason.NOT_INITIAL),  # a Handshake packet
    ],
)
def test_what_is_dropped_is_counted(
    pair: tuple[Network, Client, Client], data: bytes, reason: Reason
) -> None:
    network, dialer, _ = pair
    before = count(network, reason)
    network.inject(data, dialer.address)
    assert count(network, reason) == before + 1
    assert network.delivered == {}


def test_route_is_the_whole_decision(pair: tuple[Network, Client, Client]) -> None:
    network, dialer, accepter = pair
    route, now = network.relay.route, network.now
    assert route(ID_B, dialer.address, 100, now) == Verdict(Reason.FORWARDED, accepter.address)
    assert route(ID_A, dialer.address, 100, now) == Verdict(Reason.LOOP)
    assert route(ID_B, STRANGER, 100, now) == Verdict(Reason.SOURCE_NOT_BOUND)
    assert route(b"", dialer.address, 0, now) == Verdict(Reason.UNBOUND)


def test_rates_are_limited_by_sender() -> None:
    limits = RelayLimits(packets_per_s=100.0, bytes_per_s=1e9, burst_s=0.1)
    network = Network(limits=limits)
    fast, slow, target = (network.client(port=port) for port in (1, 2, 3))
    for client, key in ((fast, KEY_A), (slow, b"s" * 16), (target, KEY_B)):
        client.register(key, 1)
    verdicts = [network.relay.route(ID_B, fast.address, 50, network.now) for _ in range(20)]
    assert [one.reason for one in verdicts] == [Reason.FORWARDED] * 10 + [Reason.RATE_LIMITED] * 10
    assert network.relay.route(ID_B, slow.address, 50, network.now).destination == target.address
    assert network.relay.route(ID_B, fast.address, 50, network.now + 0.02).destination is not None


def test_bytes_are_limited_too() -> None:
    network = Network(limits=RelayLimits(bytes_per_s=10_000.0, burst_s=0.1))
    client, target = network.client(port=1), network.client(port=2)
    client.register(KEY_A, 1)
    target.register(KEY_B, 1)
    reasons = [network.relay.route(ID_B, client.address, 500, network.now)[0] for _ in range(4)]
    assert reasons == [Reason.FORWARDED] * 2 + [Reason.RATE_LIMITED] * 2


def test_a_batch_is_charged_like_its_datagrams(pair: tuple[Network, Client, Client]) -> None:
    network, dialer, accepter = pair
    flow = network.relay.resolve(ID_B, dialer.address)
    assert isinstance(flow, Flow)
    assert flow.destination == accepter.address
    assert flow.charge(50, 60_000, network.now)
    assert count(network, Reason.FORWARDED) == 50


def test_flows_are_void_when_bindings_change(pair: tuple[Network, Client, Client]) -> None:
    network, dialer, accepter = pair
    generations = [network.relay.generation]
    accepter.register(KEY_B, 5)
    generations.append(network.relay.generation)
    accepter.quic.close()
    network.advance(100)
    assert isinstance(network.relay.resolve(ID_B, dialer.address), Reason)
    generations.append(network.relay.generation)
    assert len(set(generations)) == 3


def test_a_client_cannot_divert_anothers_datagrams_by_its_choice_of_ids() -> None:
    """A client's first destination ID is its own choice: also one that a peer will be bound to."""
    network = Network()
    attacker = TransportAddress("203.0.113.66", 6)
    network.inject(long(ID_B, b"\xff" * 12), attacker)
    assert count(network, Reason.TO_RELAY) == 1  # a connection is open under that ID
    dialer, accepter = network.client("203.0.113.1"), network.client("203.0.113.2")
    dialer.register(KEY_A, 1)
    accepter.register(KEY_B, 1)
    for data in (long(ID_B, ID_A), short(ID_B)):
        network.inject(data, dialer.address)
    assert network.delivered[accepter.address] == [long(ID_B, ID_A), short(ID_B)]


def test_initials_that_lead_nowhere_are_forgotten() -> None:
    limits = RelayLimits(half_open_connections=8, handshake_timeout_s=10.0)
    network = Network(limits=limits)
    rng = random.Random(1)
    for port in range(20):
        garbage = long(rng.randbytes(12), b"\xff" * 12)
        network.inject(garbage, TransportAddress("203.0.113.5", 1000 + port))
        spoofed = network.begin("203.0.113.6", 1000 + port)
        for data, _ in spoofed.quic.datagrams_to_send(network.now):
            network.relay.receive_datagram(data, STRANGER, network.now)
        network.clients.remove(spoofed)
    assert count(network, Reason.BUSY) > 0
    network.advance(10.1)
    assert network.client().register(KEY_A, 1).status == 200


def test_what_cannot_be_read_opens_no_connection() -> None:
    """Such as what a client goes on with, after the relay was started anew."""
    network = Network(limits=RelayLimits(connections=1))
    client = network.begin("203.0.113.5", 1)
    ((initial, _),) = client.quic.datagrams_to_send(network.now)
    length = len(client.quic.host_cid)
    of_another_server = initial[:6] + bytes(length) + initial[6 + length :]
    network.inject(of_another_server, client.address)
    network.relay.close()
    assert network.relay.datagrams_to_send(network.now) == []
    assert network.relay.get_timer() is None


def test_as_many_connections_as_allowed() -> None:
    network = Network(limits=RelayLimits(connections=3))
    clients = [network.client(port=port) for port in range(1, 4)]
    late = network.begin(port=9)
    network.settle()
    assert late.http is None
    assert count(network, Reason.BUSY) == 1
    clients[0].quic.close()
    network.advance(5)
    assert late.http is not None


def test_an_ordinary_http3_client_without_an_id() -> None:
    """curl and others have zero-length source IDs."""
    network = Network()
    client = network.begin()
    configuration = standard_configuration(is_client=True, alpn=H3_ALPN)

    class NoId(ConnectionIdGenerator):
        def next(self) -> bytes:
            return b""

    client.quic = Connection(configuration, NoId(b"k" * 16, relay_leg=True))
    client.quic.configuration.connection_id_length = 0
    client.quic.connect(RELAY, network.now)
    network.settle()
    assert client.http is not None


class TestAnything:
    """Whatever arrives, nothing raises, and the clients that behave notice nothing."""

    @staticmethod
    def network() -> tuple[Network, Client]:
        network = Network()
        client = network.client()
        assert client.register(KEY_A, 4).status == 200
        return network, client

    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=60),
                st.binary(min_size=1, max_size=40).map(lambda b: bytes([b[0] | 0xC0]) + b[1:]),
                st.builds(
                    long,
                    st.binary(max_size=20),
                    st.binary(max_size=20),
                    size_bytes=st.sampled_from([20, 60, 1200, 1500]),
                ),
                st.builds(short, st.binary(min_size=12, max_size=12)),
            ),
            max_size=20,
        )
    )
    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    def test_arbitrary_datagrams(self, datagrams: list[bytes]) -> None:
        network, client = self.network()
        for data in datagrams:
            network.inject(data, STRANGER)
            network.inject(data, client.address)
        network.advance(15)
        assert sum(network.relay.counters.values()) >= 2 * len(datagrams)
        assert client.register(KEY_A, 5).status == 200

    @given(st.data())
    @settings(max_examples=60, deadline=None)
    def test_damaged_handshakes(self, data: st.DataObject) -> None:
        """aioquic's own draws must repeat too, or hypothesis calls an example flaky."""
        with drawn_from(Sources(random.Random(1).randbytes, lambda: 0.0)):
            self.damage_handshakes(data)

    def damage_handshakes(self, data: st.DataObject) -> None:
        network, client = self.network()

        def damage(datagram: bytes, source: TransportAddress) -> bool:
            if source == client.address:
                return True
            damaged = bytearray(datagram)
            for _ in range(data.draw(st.integers(0, 3))):
                damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(
                    st.integers(0, 255)
                )
            cut = data.draw(st.sampled_from([0, 0, 1, 100, 1180]))
            network.relay.receive_datagram(
                bytes(damaged[: len(damaged) - cut]), source, network.now
            )
            return False

        network.to_relay = damage
        network.begin("203.0.113.77")
        network.advance(2)
        assert client.register(KEY_A, 5).status == 200

    @given(st.data())
    @settings(max_examples=40, deadline=None)
    def test_arbitrary_bytes_on_http3_streams(self, data: st.DataObject) -> None:
        """Malformed HTTP/3 costs its own connection at most."""
        network, client = self.network()
        bad = network.client("203.0.113.88")
        for _ in range(data.draw(st.integers(1, 4))):
            stream_id = bad.quic.get_next_available_stream_id(
                is_unidirectional=data.draw(st.booleans())
            )
            kind = data.draw(
                st.sampled_from([b"", b"\x00", b"\x01", b"\x02", b"\x03", b"\x01\x10"])
            )
            ends = data.draw(st.booleans())
            bad.quic.send_stream_data(stream_id, kind + data.draw(st.binary(max_size=60)), ends)
            if data.draw(st.booleans()):
                bad.quic.reset_stream(stream_id, 0x10C)
            network.advance(0.2)
        assert client.register(KEY_A, 5).status == 200
