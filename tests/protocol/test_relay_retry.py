"""Under many half-open handshakes newcomers show their address first (RFC 9000, 8.1.2)."""

import random

import pytest

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.forwarding import Reason
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.retry import AddressValidation
from quicpipe_lab.protocol.sources import Sources, drawn_from
from quicpipe_lab.protocol.wire import check_initial
from tests.protocol.relay_world import Network

KEY = b"k" * 16
BOUND = RelayLimits().unvalidated_connections
HERE = TransportAddress("192.0.2.1", 1)


def is_retry(data: bytes) -> bool:
    return data[0] & 0xF0 == 0xF0


def initial_of_nobody(network: Network) -> bytes:
    """A whole and proper one, whose sender never listens."""
    spoofer = network.begin("192.0.2.200", 1)
    network.clients.remove(spoofer)
    ((data, _),) = spoofer.quic.datagrams_to_send(network.now)
    return data


def flood(network: Network, count: int) -> None:
    """From as many addresses, all spoofed."""
    initial = initial_of_nobody(network)
    for number in range(count):
        host = f"192.0.{2 + number // 60000}.1"
        network.inject(initial, TransportAddress(host, 1024 + number % 60000))


def test_an_ordinary_start_is_not_slowed() -> None:
    network = Network()
    assert network.client().register(KEY, 1).status == 200
    assert network.relay.counters[Reason.BUSY] == 0


def test_spoofed_sources_take_no_more_room_than_the_bound_and_a_real_client_still_gets_in() -> None:
    network = Network()
    flood(network, 3000)
    answers = [data for sent in network.delivered.values() for data in sent]
    retries = [data for data in answers if is_retry(data)]
    assert len(retries) == network.relay.counters[Reason.BUSY] == 3000 - BOUND
    assert max(map(len, retries)) < 200  # nothing that would be worth reflecting
    handshaking = {address for address, sent in network.delivered.items() if not is_retry(sent[0])}
    assert len(handshaking) == BOUND

    client = network.client("203.0.113.7", 6000)
    assert client.register(KEY, 10).status == 200
    assert network.bound_to(KEY) == client.address
    assert network.relay.counters[Reason.BUSY] == 3000 - BOUND + 1  # the client's first Initial


def test_the_bound_holds_only_as_long_as_the_handshakes_are_open() -> None:
    network = Network()
    flood(network, BOUND)
    network.advance(RelayLimits().handshake_timeout_s + 0.1)
    network.client()
    assert network.relay.counters[Reason.BUSY] == 0


@pytest.mark.parametrize("how", ["from elsewhere", "too late", "altered"])
def test_a_token_is_good_for_its_address_and_its_time(how: str) -> None:
    """And whoever has one is sent no other: it would not be heeded (RFC 9000, 17.2.5.2)."""
    network = Network(limits=RelayLimits(handshake_timeout_s=1000.0))
    flood(network, BOUND)
    second: list[tuple[bytes, TransportAddress]] = []

    def withhold(data: bytes, source: TransportAddress) -> bool:
        if network.relay.counters[Reason.BUSY]:
            second.append((data, source))
        return not network.relay.counters[Reason.BUSY]

    network.to_relay = withhold
    network.begin("203.0.113.7", 6000)
    network.settle()
    network.clients.clear()
    data, source = second[0]
    if how == "from elsewhere":
        source = TransportAddress("203.0.113.8", 6000)
    elif how == "too late":
        network.now += 31.0
    else:
        token_at = 7 + data[5] + data[6 + data[5]] + 2 + 20
        data = data[:token_at] + bytes([data[token_at] ^ 1]) + data[token_at + 1 :]
    network.delivered.clear()
    network.inject(data, source)
    assert network.delivered == {}
    assert network.relay.counters[Reason.BUSY] == 2


def test_a_token_of_another_server_hinders_nobody() -> None:
    """As one of an earlier run of the relay's, where there is no load (RFC 9000, 8.1.3)."""
    network = Network()
    client = network.begin()
    client.quic._peer_token = b"somebody else's"
    network.settle()
    assert client.register(KEY, 1).status == 200


def test_one_source_of_randomness_gives_one_retry() -> None:
    """So that simulated runs under load are the same to the last bit."""
    network = Network()
    initial = initial_of_nobody(network)
    made = []
    for _ in range(2):
        source = random.Random(3)
        with drawn_from(Sources(source.randbytes, lambda: 0.0)):
            validation = AddressValidation(source.randbytes, 12)
            made.append(validation.retry(check_initial(initial), HERE, 1.0))
    assert made[0] == made[1]
