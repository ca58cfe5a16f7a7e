"""What one host may have of the relay: connections and IDs, counted wherever they go."""

from collections import Counter

from aioquic.h3.connection import ErrorCode
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.protocol.forwarding import Forwarder, Reason
from quicpipe_lab.protocol.registrar import Registrar
from quicpipe_lab.protocol.relay_events import ClientConnected
from quicpipe_lab.protocol.relay_limits import RelayLimits, host_key
from quicpipe_lab.protocol.store import MapStore
from quicpipe_lab.protocol.wire import Registration, RequestError, encode_registration
from tests.protocol.relay_world import Client, Network

KEY, OTHER_KEY = b"k" * 16, b"o" * 16
HOST, OTHER_HOST = "203.0.113.1", "203.0.113.2"


def numbered(number: int) -> bytes:
    return number.to_bytes(16, "big")


def is_let_in(network: Network, host: str, port: int) -> bool:
    client = network.begin(host, port)
    network.settle()
    network.clients.remove(client)
    return client.http is not None


def move(client: Client, host: str, port: int) -> None:
    client.address = TransportAddress(host, port)
    client.quic.send_ping(0)
    client.network.settle()
    client.network.advance(1)


class TestConnections:
    def test_one_host_has_an_eighth_of_them(self) -> None:
        network = Network()
        first = network.client(HOST, 1)
        assert all(is_let_in(network, HOST, port) for port in range(2, 129))
        assert not is_let_in(network, HOST, 129)
        assert network.relay.counters[Reason.BUSY] == 1
        assert is_let_in(network, OTHER_HOST, 1)
        first.quic.close()
        network.advance(2)
        assert is_let_in(network, HOST, 129)

    def test_an_ipv6_network_is_one_host(self) -> None:
        network = Network(limits=RelayLimits(connections_per_host=2))
        assert is_let_in(network, "2001:db8::1", 1)
        assert is_let_in(network, "2001:db8::2", 1)
        assert not is_let_in(network, "2001:db8::3", 1)
        assert is_let_in(network, "2001:db8:0:1::1", 1)

    def test_nor_has_one_host_all_handshakes(self) -> None:
        """Who has shown its address counts from then on, even if it says nothing more."""
        limits = RelayLimits(
            unvalidated_connections=0, half_open_connections=16, connections_per_host=4
        )
        network = Network(limits=limits)
        sent: Counter[TransportAddress] = Counter()

        def two_initials(_data: bytes, source: TransportAddress) -> bool:
            sent[source] += 1
            return source.host != HOST or sent[source] <= 2

        network.to_relay = two_initials
        for port in range(1, 21):
            is_let_in(network, HOST, port)
        assert network.of(ClientConnected) == []
        assert is_let_in(network, OTHER_HOST, 1)
        network.advance(limits.handshake_timeout_s + 0.1)
        network.to_relay = lambda _data, _source: True
        assert is_let_in(network, HOST, 30)

    def test_no_host_loses_places_to_who_uses_its_name(self) -> None:
        network = Network(limits=RelayLimits(connections_per_host=4))
        spoofer = network.begin()
        network.clients.remove(spoofer)
        ((initial, _),) = spoofer.quic.datagrams_to_send(network.now)
        for port in range(100, 120):
            network.inject(initial, TransportAddress(HOST, port))
        assert all(is_let_in(network, HOST, port) for port in range(1, 5))

    def test_of_too_many_at_once_the_last_are_sent_away(self) -> None:
        """Each had room when it began, and asks for something as it completes its handshake."""
        network = Network(limits=RelayLimits(connections_per_host=4))
        clients = [network.begin(HOST, port) for port in range(1, 7)]
        for client in clients:
            for data, _ in client.quic.datagrams_to_send(network.now):
                network.relay.receive_datagram(data, client.address, network.now)
        for data, address in network.relay.datagrams_to_send(network.now):
            network._deliver(data, address)
        answers = [
            one.request("POST", "/v1/register", encode_registration(Registration(numbered(n), 1)))
            for n, one in enumerate(clients)
        ]
        network.settle()
        network.advance(0.1)
        assert [one.status for one in answers] == [200] * 4 + [0] * 2
        assert len(network.store) == 4
        for client in clients[4:]:
            assert client.terminated is not None
            assert client.terminated.error_code == ErrorCode.H3_EXCESSIVE_LOAD
        clients[0].quic.close()
        network.advance(2)
        assert is_let_in(network, HOST, 9)
        assert not is_let_in(network, HOST, 10)

    def test_who_moves_is_counted_where_it_is(self) -> None:
        network = Network(limits=RelayLimits(connections_per_host=1))
        move(network.client(HOST, 1), OTHER_HOST, 1)
        assert not is_let_in(network, OTHER_HOST, 2)
        assert is_let_in(network, HOST, 2)

    def test_who_moves_to_a_full_host_goes_on_and_counts_where_it_was(self) -> None:
        network = Network(limits=RelayLimits(connections_per_host=1))
        mover, settled = network.client(HOST, 1), network.client(OTHER_HOST, 1)
        assert mover.register(KEY, 4).status == 200
        move(mover, OTHER_HOST, 2)
        assert mover.register(KEY, 8).status == 200
        assert network.bound_to(KEY, 8) == mover.address
        assert not is_let_in(network, HOST, 2)
        settled.quic.close()
        network.advance(2)
        assert mover.register(KEY, 8).status == 200  # whatever it says: now there is room
        assert is_let_in(network, HOST, 2)
        assert not is_let_in(network, OTHER_HOST, 3)


class TestIds:
    @staticmethod
    def talk(network: Network) -> None:
        """From each of the two ports to the other's first ID, which keeps all of theirs alive."""
        for number in (0, 1):
            to = ConnectionIdGenerator(numbered(number), relay_leg=False).at(1)
            source = TransportAddress(HOST, 5001 - number)
            network.inject(b"\x41" + to + b"data", source)

    def test_one_host_has_an_eighth_of_them_its_connections_alive_or_not(self) -> None:
        """Each client takes all that a client may have, and leaves; its address goes on sending."""
        network = Network()
        statuses: Counter[int] = Counter()
        for number in range(70):
            client = network.client(HOST, 5000 + number % 2)
            for num in (64, 128, 192, 256):
                network.advance(0.1)
                statuses[client.register(numbered(number), num).status] += 1
            client.quic.close()
            network.advance(0.1)
            network.clients.clear()
            self.talk(network)
        assert statuses == {200: 256, 429: 24}
        assert len(network.store) == 16_384
        assert network.client(OTHER_HOST, 1).register(OTHER_KEY, 64).status == 200
        for _ in range(10):
            network.advance(30)
            self.talk(network)
        assert network.client(HOST, 1).register(KEY, 1).status == 429
        network.advance(61)
        assert network.client(HOST, 2).register(KEY, 64).status == 200

    def test_a_neighbour_whose_window_moves_needs_no_more_room(self) -> None:
        network = Network(limits=RelayLimits(ids_per_host=100))
        one, other = network.client(HOST, 1), network.client(HOST, 2)
        assert one.register(KEY, 60).status == 200
        refused = other.register(OTHER_KEY, 41)
        assert (refused.status, refused.body) == (429, b"at most 100 connection IDs a host")
        assert other.register(OTHER_KEY, 40).status == 200
        assert one.register(KEY, 61).status == 429
        assert one.register(KEY, 90, first=31).status == 200

    def test_ids_move_with_their_client_or_count_where_they_were(self) -> None:
        network = Network(limits=RelayLimits(ids_per_host=100))
        mover, settled = network.client(HOST, 1), network.client(OTHER_HOST, 1)
        assert mover.register(KEY, 60).status == 200
        assert settled.register(OTHER_KEY, 41).status == 200
        move(mover, OTHER_HOST, 2)  # 101 would be too many there
        assert network.bound_to(KEY, 60) == mover.address
        assert mover.register(KEY, 60).status == 200
        assert network.client(HOST, 3).register(numbered(1), 41).status == 429
        assert network.client(OTHER_HOST, 3).register(numbered(1), 59).status == 200
        move(mover, "203.0.113.3", 1)
        assert network.client(HOST, 4).register(numbered(2), 64).status == 200


class TestMovesNeverFail:
    """While an address is not validated, nothing is bound to it; then all is, or nothing."""

    @staticmethod
    def unvalidated(network: Network, client: Client) -> None:
        """Its first datagram from elsewhere arrives, and no other until ``to_relay`` lets it."""
        client.address = TransportAddress("203.0.113.9", 1)
        arrived: list[bytes] = []

        def only_the_first(data: bytes, source: TransportAddress) -> bool:
            if source == client.address:
                arrived.append(data)
            return source != client.address or len(arrived) == 1

        network.to_relay = only_the_first
        client.quic.send_ping(0)
        network.settle()

    def test_room_is_kept_meanwhile(self) -> None:
        network = Network(limits=RelayLimits(bindings=20))
        mover, other = network.client(HOST, 1), network.client(OTHER_HOST, 1)
        assert mover.register(KEY, 10).status == 200
        self.unvalidated(network, mover)
        assert len(network.store) == 0
        assert other.register(OTHER_KEY, 20).status == 503
        assert other.register(OTHER_KEY, 10).status == 200
        network.to_relay = lambda _data, _source: True
        network.advance(3)
        assert network.bound_to(KEY, 10) == mover.address

    def test_a_short_id_that_is_anothers_meanwhile(self) -> None:
        """It waits until that is free again."""
        network = Network(connection_id_length=2)
        mover, other = network.client(HOST, 1), network.client(OTHER_HOST, 1)
        wanted = set(self.short_ids(KEY))
        alike = next(
            numbered(n)
            for n in range(1 << 20)
            if not wanted.isdisjoint(self.short_ids(numbered(n)))
        )
        assert mover.register(KEY, 4).status == 200
        assert other.register(alike, 4).status == 409
        self.unvalidated(network, mover)
        assert other.register(alike, 4).status == 200
        network.to_relay = lambda _data, _source: True
        network.advance(3)
        assert len(network.store) == 4
        assert mover.register(KEY, 4).status == 409
        assert other.register(alike, 8, first=5).status == 200
        mover.quic.send_ping(0)
        network.settle()
        assert {network.store.get_association(one).address for one in wanted} == {mover.address}

    @staticmethod
    def short_ids(key: bytes) -> list[bytes]:
        ids = ConnectionIdGenerator(key, relay_leg=False, length=2)
        return [ids.next() for _ in range(4)]


class Counting(RuleBasedStateMachine):
    """Whatever happens to leases: the counts are what one finds by counting, and within bounds."""

    keys = st.sampled_from([numbered(n) for n in range(5)])
    clients = st.sampled_from("abc")
    addresses = st.sampled_from([TransportAddress(f"192.0.2.{n}", 1) for n in range(3)])

    def __init__(self) -> None:
        super().__init__()
        limits = RelayLimits(bindings=25, ids_per_host=12, ids_per_owner=10, ids_per_call=8)
        self.store = MapStore(limits.bindings)
        self.registrar = Registrar(Forwarder(self.store, (), limits), limits, self.id_length)
        self.now = 0.0

    id_length = 12

    @rule(key=keys, num=st.integers(1, 12), first=st.integers(1, 12), who=clients, to=addresses)
    def register(self, key: bytes, num: int, first: int, who: str, to: TransportAddress) -> None:
        before = self.shares()
        try:
            self.registrar.register(Registration(key, num, min(first, num)), who, to, self.now)
        except RequestError as error:
            assert error.status in (409, 429, 503)
            assert self.shares() == before

    @rule(who=clients, to=st.none() | addresses)
    def move(self, who: str, to: TransportAddress | None) -> None:
        self.registrar.move(who, to, self.now)

    @rule(who=clients)
    def leave(self, who: str) -> None:
        self.registrar.leave(who, self.now)

    @rule(elapsed_s=st.sampled_from([1.0, 61.0]))
    def wait(self, elapsed_s: float) -> None:
        self.now += elapsed_s
        self.registrar.handle_timer(self.now)

    def shares(self) -> dict[bytes, tuple[int | None, int]]:
        leases = self.registrar._leases.items()
        return {key: (lease.share.host, lease.share.count) for key, lease in leases}

    @invariant()
    def counts_are_exact(self) -> None:
        found: Counter[int] = Counter()
        for lease in self.registrar._leases.values():
            assert lease.share.host is not None
            assert lease.share.count == len(lease.connection_ids)
            found[lease.share.host] += lease.share.count
        hosts = self.registrar._hosts
        assert hosts._counts == found
        assert hosts.total == found.total() <= 25
        assert max(found.values(), default=0) <= 12

    @invariant()
    def what_is_bound_is_counted(self) -> None:
        bound = [one for one in self.registrar._leases.values() if one.address is not None]
        if self.id_length == 12:
            assert len(self.store) == sum(len(one.connection_ids) for one in bound)


class CountingShortIds(Counting):
    """Of one byte, so that keys share some."""

    id_length = 1


TestCounting = Counting.TestCase
TestCounting.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestCountingShortIds = CountingShortIds.TestCase
TestCountingShortIds.settings = TestCounting.settings


def test_a_lease_that_can_be_counted_where_it_is_bound_is() -> None:
    limits = RelayLimits(ids_per_host=12)
    registrar = Registrar(Forwarder(MapStore(100), (), limits), limits, 12)
    here, there = (TransportAddress(host, 1) for host in (HOST, OTHER_HOST))
    registrar.register(Registration(KEY, 8), "client", here, 0.0)
    registrar.move("client", None, 1.0)
    assert registrar._hosts._counts == {host_key(HOST): 8}
    registrar.move("client", there, 2.0)
    assert registrar._hosts._counts == {host_key(OTHER_HOST): 8}
    registrar.leave("client", 3.0)
    registrar.handle_timer(63.0)
    assert registrar._hosts._counts == {}
    assert registrar._hosts.total == 0
