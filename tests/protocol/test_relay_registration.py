"""POST /v1/register: what it binds, for whom, for how long, and what it refuses."""

import base64

import pytest

from quicpipe_lab.errors import LocalProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.protocol.relay_events import (
    Bound,
    ClientConnected,
    ClientLost,
    Expired,
    Refused,
    Registered,
    Unbound,
)
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.wire import (
    OBSERVED_ADDRESS_HEADER,
    Registration,
    encode_registration,
)
from tests.protocol.relay_world import RELAY, Client, Network

KEY = bytes(range(16))
OTHER_KEY = bytes(range(16, 32))


def ids(key: bytes, num: int) -> list[bytes]:
    generator = ConnectionIdGenerator(key, relay_leg=False)
    return [generator.next() for _ in range(num)]


def test_registration_binds_the_derived_ids_to_the_observed_address() -> None:
    network = Network()
    client = network.client("203.0.113.7", 6000)
    answer = client.register(KEY, 10)
    assert (answer.status, answer.body) == (200, b"OK")
    assert answer.headers[OBSERVED_ADDRESS_HEADER.encode()] == b"203.0.113.7:6000"
    assert network.events == [
        ClientConnected(client.address),
        Bound(tuple(ids(KEY, 10)), client.address),
        Registered(client.address, 10, 10),
    ]
    assert network.bound_to(KEY, 10) == client.address
    assert network.bound_to(KEY, 11) is None


def test_an_ipv6_address_is_answered_in_brackets() -> None:
    answer = Network().client("2001:db8::1", 6000).register(KEY, 1)
    assert answer.headers[OBSERVED_ADDRESS_HEADER.encode()] == b"[2001:db8::1]:6000"


@pytest.mark.parametrize(
    "body",
    [
        # encoding/json of the original's client, and what it would accept besides.
        b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":10}',
        b'{"num": 10, "key": "AAECAwQFBgcICQoLDA0ODw==", "more": [1, {"x": null}]}',
        b' {"key":"AAECAwQFBgcICQoLDA0ODw==",\n"num":10}\n',
        b'{"key":"AAECAwQFBgcICQoLDA0ODw\\u003d\\u003d","num":10}',
    ],
)
def test_bodies_as_go_writes_them(body: bytes) -> None:
    network = Network()
    assert network.client().post(body).status == 200
    assert network.of(Registered)[0].num == 10


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"not json", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw=="}', 400),
        (b'{"num":1}', 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0O","num":1}', 400),  # 15 bytes
        (b'{"key":"","num":1}', 400),
        (b'{"key":null,"num":1}', 400),
        (b'{"key":"%%%%","num":1}', 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":0}', 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":-1}', 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":1.5}', 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":true}', 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":"1"}', 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":65}', 429),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":4294967297}', 429),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":1' + b"0" * 4000 + b"}", 429),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":9,"first":0}', 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":9,"first":10}', 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":9,"first":null}', 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":9,"first":true}', 400),
        (b'{"key":"AAECAwQFBgcICQoLDA0ODw==","num":4294967296,"first":4294967290}', 400),
        (b"[" * 8000, 400),
        (b"\xff\xfe", 400),
        (b"x" * 8193, 413),
        (b"x" * 200_000, 413),
    ],
)
def test_bad_bodies(body: bytes, status: int) -> None:
    network = Network()
    client = network.client()
    answer = client.post(body)
    network.advance(1)
    assert answer.status == status
    assert answer.at_s is not None
    assert [one.status for one in network.of(Refused)] == [status]
    assert network.of(Bound) == []
    assert client.register(KEY, 1).status == 200  # and the connection lives


def test_keys_longer_than_blake2b_takes_are_refused() -> None:
    network = Network()
    client = network.client()
    for length, status in ((64, 200), (65, 400)):
        key = base64.b64encode(bytes(length)).decode()
        assert client.post({"key": key, "num": 1}).status == status


def test_other_paths_and_methods() -> None:
    network = Network()
    client = network.client()
    answers = {
        404: client.ask("GET", "/"),
        405: client.ask("GET", "/v1/register"),
    }
    for status, answer in answers.items():
        assert answer.status == status
    assert answers[405].headers[b"allow"] == b"POST"
    assert (
        client.ask("POST", "/v1/register?x=1", b"{}").status == 400
    )  # the query is not part of the path


def test_topping_up_and_quotas() -> None:
    network = Network()
    client = network.client()
    for num in (64, 128, 192, 256):
        assert client.register(KEY, num).status == 200
    assert client.register(KEY, 257).status == 429
    assert client.register(OTHER_KEY, 1).status == 429  # all its keys count together
    assert client.register(KEY, 10).status == 200  # asking for less takes nothing away
    assert [len(one.connection_ids) for one in network.of(Bound)] == [64, 64, 64, 64]
    assert network.bound_to(KEY, 256) == client.address
    assert network.bound_to(KEY, 257) is None


class TestGivingBack:
    """A client that asks for later IDs gives back those before its ``first``."""

    def test_a_window_that_slides_for_ever(self) -> None:
        network = Network()
        client = network.client()
        for first in range(1, 2000, 40):
            assert client.register(KEY, first + 63, first=first).status == 200
            assert len(network.store) == 64
            assert network.bound_to(KEY, first - 1) is None
            assert network.bound_to(KEY, first) == client.address
            assert network.bound_to(KEY, first + 63) == client.address
        bound = {one for event in network.of(Bound) for one in event.connection_ids}
        gone = {one for event in network.of(Unbound) for one in event.connection_ids}
        assert bound - gone == set(ids(KEY, first + 63)[-64:])

    def test_quotas_count_what_is_held(self) -> None:
        network = Network()
        client = network.client()
        for num in (64, 128, 192, 256):
            assert client.register(KEY, num).status == 200
        assert client.register(KEY, 300, first=44).status == 429  # 257
        assert network.bound_to(KEY, 1) == client.address  # which has changed nothing
        assert client.register(KEY, 300, first=45).status == 200
        assert client.register(OTHER_KEY, 1).status == 429
        assert client.register(KEY, 365, first=300).status == 429  # 65 new ones
        assert client.register(KEY, 364, first=300).status == 200
        assert client.register(OTHER_KEY, 64).status == 200

    def test_what_was_given_back_stays_so(self) -> None:
        """Requests may overtake one another: each has its own stream."""
        network = Network()
        client = network.client()
        assert client.register(KEY, 64).status == 200
        assert client.register(KEY, 100, first=50).status == 200
        assert client.register(KEY, 64).status == 200
        assert client.register(KEY, 30, first=20).status == 200
        assert network.bound_to(KEY, 49) is None
        assert network.bound_to(KEY, 100) == client.address
        assert len(network.store) == 51

    def test_a_relay_that_has_forgotten_begins_where_it_is_asked_to(self) -> None:
        network = Network()
        client = network.client()
        assert client.register(KEY, 1063, first=1000).status == 200
        assert network.bound_to(KEY, 999) is None
        assert network.bound_to(KEY, 1000) == client.address

    def test_all_may_be_given_back_for_later_ones(self) -> None:
        network = Network()
        client = network.client()
        assert client.register(KEY, 10).status == 200
        assert client.register(KEY, 30, first=21).status == 200
        assert [network.bound_to(KEY, one) for one in (10, 11, 20)] == [None] * 3
        assert len(network.store) == 10
        assert client.register(KEY, 2**32 - 1, first=2**32 - 1).status == 200
        assert network.bound_to(KEY, 2**32 - 1) == client.address

    def test_what_moves_and_is_given_back_at_once(self) -> None:
        network = Network()
        before = network.client("203.0.113.1", 1)
        assert before.register(KEY, 20).status == 200
        before.quic.close()
        network.advance(2)
        after = network.client("203.0.113.9", 1)
        assert after.register(KEY, 30, first=15).status == 200
        assert network.bound_to(KEY, 14) is None
        assert network.bound_to(KEY, 15) == after.address
        assert network.events[-3:] == [
            Unbound(tuple(ids(KEY, 20)), before.address),
            Bound(tuple(ids(KEY, 30)[14:]), after.address),
            Registered(after.address, 16, 10),
        ]


def test_who_lost_its_ids_to_a_successor_sends_no_more() -> None:
    """The relay is closed: only who is registered sends through it."""
    network = Network()
    before, peer = network.client("203.0.113.1", 1), network.client("203.0.113.2", 1)
    assert before.register(KEY, 1).status == peer.register(OTHER_KEY, 1).status == 200
    before.quic.close()
    network.advance(2)
    after = network.client("203.0.113.9", 1)
    assert after.register(KEY, 1).status == 200
    assert {one.address for one in network.relay.senders()} == {after.address, peer.address}
    network.inject(b"\x41" + ids(OTHER_KEY, 1)[0] + b"data", before.address)
    assert peer.address not in network.delivered


def test_too_many_requests_of_one_host() -> None:
    limits = RelayLimits(requests_per_s=0.5, requests_burst=2.5)
    network = Network(limits=limits)
    client = network.client("203.0.113.1", 5000)
    neighbour = network.client("203.0.113.1", 5001)
    other = network.client("203.0.113.2", 5000)
    assert [client.register(KEY, 1).status for _ in range(3)] == [200] * 3
    assert neighbour.register(OTHER_KEY, 1).status == 429
    assert other.register(OTHER_KEY, 1).status == 200
    network.advance(2)
    assert neighbour.register(b"n" * 16, 1).status == 200


def test_a_full_store_refuses_and_evicts_nobody() -> None:
    network = Network(limits=RelayLimits(bindings=70))
    first, second = network.client(port=1), network.client(port=2)
    assert first.register(KEY, 60).status == 200
    assert second.register(OTHER_KEY, 11).status == 503
    assert second.register(OTHER_KEY, 9).status == 200
    assert network.bound_to(KEY, 60) == first.address
    assert network.bound_to(OTHER_KEY, 9) == second.address


def test_a_refused_registration_changes_nothing() -> None:
    network = Network(limits=RelayLimits(bindings=20))
    client = network.client()
    assert client.register(KEY, 10).status == 200
    assert client.register(KEY, 30).status == 503
    assert client.register(KEY, 20).status == 200
    assert network.of(Bound)[-1].connection_ids == tuple(ids(KEY, 20)[10:])


def test_another_clients_key_is_refused_while_that_client_lives() -> None:
    network = Network()
    owner = network.client("203.0.113.1", 1)
    thief = network.client("203.0.113.9", 1)
    assert owner.register(KEY, 5).status == 200
    assert thief.register(KEY, 5).status == 409
    assert network.bound_to(KEY) == owner.address


def test_a_lost_clients_key_is_taken_over_with_all_its_ids() -> None:
    network = Network()
    before = network.client("203.0.113.1", 1)
    assert before.register(KEY, 20).status == 200
    before.quic.close()
    network.advance(2)  # closing takes three PTOs (RFC 9000, 10.2)
    assert len(network.of(ClientLost)) == 1
    assert network.bound_to(KEY) == before.address  # it lingers
    after = network.client("203.0.113.9", 1)
    assert after.register(KEY, 1).status == 200
    assert network.bound_to(KEY, 20) == after.address
    assert Unbound(tuple(ids(KEY, 20)), before.address) in network.events


def test_the_same_address_takes_over_at_once() -> None:
    """A client that was killed and started again with the port it had."""
    network = Network()
    before = network.client()
    assert before.register(KEY, 5).status == 200
    network.clients.remove(before)
    after = network.client()
    assert after.register(KEY, 5).status == 200
    network.advance(80)  # the first connection times out meanwhile, the second one soon after
    assert network.bound_to(KEY) == after.address


def test_two_keys_of_one_address_live_apart() -> None:
    network = Network()
    client = network.client()
    assert client.register(KEY, 5).status == 200
    assert client.register(OTHER_KEY, 5).status == 200
    assert network.bound_to(KEY) == network.bound_to(OTHER_KEY) == client.address


def test_bearer_token() -> None:
    network = Network(token="secret", strict=True)
    client = network.client()
    assert client.register(KEY, 1).status == 401
    assert client.register(KEY, 1, {"authorization": "Bearer wrong"}).status == 401
    assert client.register(KEY, 1, {"authorization": "Bearer secret"}).status == 200


def test_a_strict_relay_wants_a_token() -> None:
    with pytest.raises(LocalProtocolError, match="bearer token"):
        Network(strict=True)


def test_nothing_is_bound_to_the_relays_own_address() -> None:
    network = Network()
    client = network.begin(*RELAY)
    network.settle()
    assert client.register(KEY, 1).status == 403
    assert network.of(Bound) == []


def test_a_binding_lives_as_long_as_its_connection_and_a_minute_more() -> None:
    network = Network()
    client = network.client()
    client.register(KEY, 3)
    for _ in range(8):  # kept warm as endpoints do
        network.advance(15)
        client.quic.send_ping(0)
        network.settle()
    assert network.bound_to(KEY) == client.address
    network.clients.remove(client)
    left_s = network.now
    network.advance(119)
    assert network.bound_to(KEY) == client.address
    network.advance(3)
    assert network.bound_to(KEY) is None
    assert Expired(3, client.address) in network.events
    assert network.now - left_s > 120  # idle timeout, then the minute


def test_who_sends_lives_on_without_its_connection() -> None:
    """The original's clients close the connection right after they have registered."""
    network = Network()
    talker, silent, warm = (network.client(port=port) for port in (1, 2, 3))
    for client, key in ((talker, KEY), (silent, OTHER_KEY), (warm, b"w" * 16)):
        client.register(key, 1)
    talker.quic.close()
    silent.quic.close()
    for _ in range(20):
        network.advance(20)
        warm.quic.send_ping(0)
        for key in (OTHER_KEY, b"w" * 16):
            network.inject(b"\x41" + ids(key, 1)[0] + b"data", talker.address)
    assert len(network.delivered[warm.address]) == 20
    expired = [event.address for event in network.of(Expired)]
    assert expired == [silent.address]  # to be sent to is no sign of life
    assert network.bound_to(KEY) == talker.address
    network.advance(61)
    assert network.bound_to(KEY) is None


def test_leases_leave_nothing_behind() -> None:
    network = Network()
    for round_ in range(50):
        client = network.client(port=round_ + 1)
        client.register(round_.to_bytes(16, "big"), 20)
        client.quic.close()
        network.settle()
        network.clients.remove(client)
    network.advance(200)
    assert len(network.of(Expired)) == 50
    assert network.relay.senders() == []
    assert network.relay.get_timer() is None


def test_a_lease_is_looked_at_once_however_often_its_client_comes_and_leaves() -> None:
    network = Network()
    for _ in range(20):
        client = network.client()
        assert client.register(KEY, 4).status == 200
        client.quic.close()
        network.settle()
        network.clients.remove(client)
        network.advance(1.0)
    assert len(network.relay._registrar._expiring) == 1
    network.advance(58.0)
    assert network.bound_to(KEY) is not None  # since the last one left
    network.advance(70)
    assert network.relay.get_timer() is None


class TestMoving:
    """An address that is not validated is not bound, whoever claims it."""

    @staticmethod
    def registered(network: Network) -> Client:
        client = network.client("203.0.113.1", 1000)
        assert client.register(KEY, 4).status == 200
        return client

    def test_a_clients_new_address_is_bound_once_validated(self) -> None:
        network = Network()
        client = self.registered(network)
        before = client.address
        client.address = TransportAddress("203.0.113.1", 2000)  # the NAT forgot its mapping
        client.quic.send_ping(0)
        network.settle()
        network.advance(1)
        assert network.bound_to(KEY) == client.address
        moves = network.events[-2:] if len(network.events) == 5 else network.events[3:5]
        assert moves == [
            Unbound(tuple(ids(KEY, 4)), before),
            Bound(tuple(ids(KEY, 4)), client.address),
        ]

    def test_a_copied_packet_binds_nothing_where_it_came_from(self) -> None:
        """Anybody on the way may copy the packet with the POST and be faster from elsewhere."""
        network = Network()
        client = network.client("203.0.113.1", 1000)
        attacker = TransportAddress("198.51.100.66", 666)
        copied: list[bytes] = []

        def copy(data: bytes, _source: TransportAddress) -> bool:
            if not copied:
                copied.append(data)
                network.relay.receive_datagram(data, attacker, network.now)
                return False  # the copy wins by so much that the packet itself is lost
            return True

        network.to_relay = copy
        body = encode_registration(Registration(KEY, 4))
        answer = client.request("POST", "/v1/register", body)
        network.advance(0.001)  # aioquic paces its packets
        assert copied
        assert network.of(Bound) == []
        assert answer.status == 0
        assert network.bound_to(KEY) is None
        network.advance(3)  # the client's retransmission brings the path back
        assert answer.status == 200
        assert answer.headers[OBSERVED_ADDRESS_HEADER.encode()] == b"203.0.113.1:1000"
        assert network.bound_to(KEY) == client.address
        assert attacker not in {event.address for event in network.of(Bound)}
        sent = sum(len(data) for data in network.delivered.get(attacker, []))
        assert sent <= 3 * len(copied[0])  # RFC 9000, 8

    def test_an_attacker_who_carries_the_answers_too_is_found_out(self) -> None:
        """A copy of any later packet unbinds until the client's next one, and binds nothing."""
        network = Network()
        client = self.registered(network)
        attacker = TransportAddress("198.51.100.66", 666)
        network.to_relay = lambda _data, _source: False
        client.quic.send_ping(0)
        (copied, _), *_ = client.quic.datagrams_to_send(network.now)
        network.inject(copied, attacker)
        assert network.bound_to(KEY) is None
        network.to_relay = lambda _data, _source: True
        network.advance(5)
        assert network.bound_to(KEY) == client.address
        assert [event.address for event in network.of(Bound)].count(attacker) == 0
