"""The filter in the kernel, packet by packet: verdict, reason, and every byte that leaves."""

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.packet import Packet

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.forwarding import Flow, Forwarder, Reason
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.store import Association, MapStore
from quicpipe_lab.shell.xdp_filter import Filter
from quicpipe_lab.shell.xdp_layout import FilterReason
from tests.xdp import kernel, packets
from tests.xdp.kernel import XDP_PASS, XDP_TX, ask, forwarded
from tests.xdp.packets import ALICE4, BINDINGS, BOB4, CORPUS, OWN, PORT, frame, quic, udp4, udp6
from tests.xdp.parser import in_python

pytestmark = pytest.mark.bpf

SHORTEST_FRAME = 14
"""What the kernel's test run takes."""
BOUND = dict(BINDINGS)


@pytest.fixture(scope="module")
def bound() -> Iterator[Filter]:
    with kernel.with_bindings() as one:
        yield one


@pytest.mark.parametrize("name", [name for name, one in CORPUS.items() if one.data])
def test_the_corpus(bound: Filter, name: str) -> None:
    data, expected = CORPUS[name]
    for _ in range(2):  # the second one finds what was remembered of the first
        outcome = ask(bound, data)
        assert outcome.reason == int(expected)
        if expected is FilterReason.FORWARDED:
            to = BOUND[data[in_python(data).id_at :][:12]]
            assert (outcome.verdict, outcome.data) == (XDP_TX, forwarded(data, to))
        else:
            assert (outcome.verdict, outcome.data) == (XDP_PASS, data)


@pytest.mark.parametrize("name", packets.FORWARDED)
def test_cut_off_at_every_length(bound: Filter, name: str) -> None:
    whole = CORPUS[name].data
    for size in range(SHORTEST_FRAME, len(whole)):
        outcome = ask(bound, whole[:size])
        assert outcome.verdict == XDP_PASS
        assert outcome.reason == in_python(whole[:size]).reason


@given(payload=st.binary(max_size=60), checksum=st.integers(0, 0xFFFF), hops=st.integers(2, 255))
def test_checksums_of_anything(bound: Filter, payload: bytes, checksum: int, hops: int) -> None:
    """A wrong checksum stays wrong, by as much."""
    for packet in (
        udp4(quic(packets.TO_BOB4) + payload, ttl=hops),
        udp6(quic(packets.TO_BOB6) + payload, hlim=hops),
    ):
        data = frame(packet)
        to = BOUND[data[in_python(data).id_at :][:12]]
        assert ask(bound, data).data == forwarded(data, to)
    wrong = frame(packets.with_udp(udp4(quic(packets.TO_BOB4) + payload), chksum=checksum))
    right = frame(udp4(quic(packets.TO_BOB4) + payload))
    outcome = ask(bound, wrong)
    if outcome.reason is not FilterReason.HALF_CHECKSUM and checksum:
        at = 14 + 20 + 6
        sent, expected = (one[at : at + 2] for one in (outcome.data, forwarded(right, BOB4)))
        change = _ones_complement(expected) - _ones_complement(right[at : at + 2])
        assert (_ones_complement(sent) - checksum - change) % 0xFFFF == 0


def _ones_complement(raw: bytes) -> int:
    return int.from_bytes(raw, "big")


@pytest.mark.parametrize(
    ("make", "to", "connection_id"),
    [(udp4, BOB4, packets.TO_BOB4), (udp6, packets.BOB6, packets.TO_BOB6)],
    ids=["IPv4", "IPv6"],
)
def test_a_checksum_that_comes_out_as_0_is_written_as_ffff(
    bound: Filter,
    make: Callable[..., Packet],
    to: TransportAddress,
    connection_id: bytes,
) -> None:
    """RFC 768: 0 would say that there is none. Two bytes of the payload make it so."""

    def data(at_end: bytes) -> bytes:
        return frame(make(quic(connection_id, 1) + at_end))

    at = len(data(b"")) - len(quic(connection_id, 1)) - 2
    checksum = forwarded(data(b"\0\0"), to)[at : at + 2]
    outcome = ask(bound, data(checksum))
    assert outcome.data[at : at + 2] == b"\xff\xff"
    assert outcome.data == forwarded(data(checksum), to)


# --- Against the twin in Python

HOSTS = [TransportAddress(f"198.51.100.{number}", 5000 + number) for number in range(4)]
IDS = [packets.identity(100 + number) for number in range(8)]


@settings(max_examples=150, deadline=None)
@given(
    bindings=st.dictionaries(st.sampled_from(IDS), st.sampled_from([*HOSTS, *OWN[:1]])),
    removed=st.sets(st.sampled_from(IDS)),
    asked=st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(HOSTS)), max_size=12),
)
def test_the_decision_is_the_forwarders(
    bound: Filter,
    bindings: dict[bytes, TransportAddress],
    removed: set[bytes],
    asked: list[tuple[bytes, TransportAddress]],
) -> None:
    """Before and after some bindings have gone again."""
    forwarder = Forwarder(MapStore(64), OWN, RelayLimits())
    for connection_id, address in bindings.items():
        forwarder.bind(Association((connection_id,), address), None, 0.0)
        bound.add_redirect(connection_id, address)
    try:
        for gone in (set(), removed & bindings.keys()):
            for connection_id in gone:
                forwarder.unbind(Association((connection_id,), bindings[connection_id]), None)
                bound.remove_redirect(connection_id)
            for connection_id, source in asked:
                expected = forwarder.resolve(connection_id, source)
                outcome = ask(bound, frame(udp4(quic(connection_id), source)))
                if isinstance(expected, Flow):
                    data = frame(udp4(quic(connection_id), source))
                    assert outcome.data == forwarded(data, expected.destination)
                    assert outcome.reason is FilterReason.FORWARDED
                else:
                    assert outcome.reason == int(expected)
    finally:
        for connection_id in bindings:
            bound.remove_redirect(connection_id)


def test_reasons_have_the_numbers_of_the_twin() -> None:
    assert {one.name: one.value for one in Reason}.items() <= {
        one.name: one.value for one in FilterReason
    }.items()


def test_ports_come_and_go(bound: Filter) -> None:
    other = frame(packets.with_udp(udp4(quic(packets.TO_BOB4), ALICE4), dport=PORT + 1))
    bound.attach_port(PORT + 1)
    assert ask(bound, other).reason is FilterReason.FORWARDED
    bound.detach_port(PORT + 1)
    assert ask(bound, other).reason is FilterReason.OTHER_PORT
