"""What the filter's API changes, at once and for packets too, and what it tells."""

import resource
import select
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from quicpipe_lab.errors import LocalProtocolError, QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.shell import bpf
from quicpipe_lab.shell.xdp_filter import Filter, Rejected
from quicpipe_lab.shell.xdp_layout import FilterReason
from quicpipe_lab.shell.xdp_table import FilterFullError, memory_bytes
from tests.xdp import kernel
from tests.xdp.kernel import XDP_DROP, XDP_PASS, ask, forwarded
from tests.xdp.packets import (
    ALICE4,
    ALICE6,
    BOB4,
    BOB6,
    OWN,
    TO_ALICE4,
    TO_ALICE6,
    TO_BOB4,
    TO_BOB6,
    frame,
    identity,
    quic,
    udp4,
    udp6,
)

pytestmark = pytest.mark.bpf

CAPACITY = 8
CLOCK_MONOTONIC_COARSE = 6
PACKET = frame(udp4(quic(TO_BOB4)))
CAROL4 = TransportAddress("198.51.100.99", 1234)
LINK_LOCAL = TransportAddress("fe80::1%2", 1234)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Filter]:
    """Compiled once."""
    with kernel.loaded(CAPACITY) as one:
        yield one


@pytest.fixture
def filter_(loaded: Filter) -> Iterator[Filter]:
    """Alice and Bob are bound in it, and nothing else."""
    loaded.add_redirects([(TO_ALICE4, ALICE4), (TO_BOB4, BOB4)])
    yield loaded
    for one in loaded.bindings():
        loaded.remove_redirect(one.connection_id)
    loaded.read_rejected()


def reason(one: Filter, data: bytes = PACKET) -> FilterReason:
    return ask(one, data).reason


# --- Bindings


def test_a_binding_that_goes_is_gone_at_once(filter_: Filter) -> None:
    assert reason(filter_) is FilterReason.FORWARDED
    filter_.remove_redirect(TO_BOB4)
    assert reason(filter_) is FilterReason.UNBOUND
    filter_.add_redirect(TO_BOB4, BOB4)
    assert reason(filter_) is FilterReason.FORWARDED


def test_a_binding_that_moves_has_moved_at_once(filter_: Filter) -> None:
    assert ask(filter_, PACKET).data == forwarded(PACKET, BOB4)
    filter_.add_redirect(TO_BOB4, CAROL4)
    assert ask(filter_, PACKET).data == forwarded(PACKET, CAROL4)
    assert {one.address for one in filter_.bindings()} == {ALICE4, CAROL4}


def test_a_sender_whose_last_binding_goes_sends_no_more(filter_: Filter) -> None:
    filter_.add_redirect(identity(50), ALICE4)
    assert reason(filter_) is FilterReason.FORWARDED
    filter_.remove_redirect(TO_ALICE4)
    assert reason(filter_) is FilterReason.FORWARDED
    filter_.remove_redirect(identity(50))
    assert reason(filter_) is FilterReason.SOURCE_NOT_BOUND
    filter_.add_redirect(TO_ALICE4, ALICE4)
    assert reason(filter_) is FilterReason.FORWARDED


def test_a_sender_whose_bindings_move_sends_no_more(filter_: Filter) -> None:
    assert reason(filter_) is FilterReason.FORWARDED
    filter_.add_redirect(TO_ALICE4, CAROL4)
    assert reason(filter_) is FilterReason.SOURCE_NOT_BOUND
    assert reason(filter_, frame(udp4(quic(TO_BOB4), CAROL4))) is FilterReason.FORWARDED


def test_userspace_can_have_a_senders_packets(filter_: Filter) -> None:
    for _ in range(2):
        assert reason(filter_) is FilterReason.FORWARDED
        filter_.set_source_passing(ALICE4, True)
        assert reason(filter_) is FilterReason.RATE_LIMITED
        assert reason(filter_, frame(udp4(quic(TO_ALICE4), BOB4))) is FilterReason.FORWARDED
        filter_.set_source_passing(ALICE4, False)
    filter_.set_source_passing(CAROL4, True)  # nobody
    assert reason(filter_) is FilterReason.FORWARDED


def test_slots_change_hands_without_a_trace(filter_: Filter) -> None:
    """Each binding has another address, and sooner or later the slot of another one."""
    for number in range(5 * CAPACITY):
        to = TransportAddress(f"198.51.100.{number + 100}", 2000 + number)
        filter_.add_redirect(identity(100 + number), to)
        data = frame(udp4(quic(identity(100 + number))))
        for packets in (1, 2):
            assert ask(filter_, data).data == forwarded(data, to)
            (counted,) = (one for one in filter_.bindings() if one.address == to)
            assert counted.packets == packets
        assert reason(filter_, frame(udp4(quic(TO_BOB4), to))) is FilterReason.FORWARDED
        filter_.remove_redirect(identity(100 + number))
        assert reason(filter_, data) is FilterReason.UNBOUND
        assert reason(filter_, frame(udp4(quic(TO_BOB4), to))) is FilterReason.SOURCE_NOT_BOUND


def test_a_full_filter_evicts_nobody_and_still_moves(filter_: Filter) -> None:
    room = CAPACITY - len(filter_)
    new = [(identity(100 + n), TransportAddress(f"10.0.0.{n}", n + 1)) for n in range(room + 1)]
    with pytest.raises(FilterFullError, match=f"holds {CAPACITY} connection IDs"):
        filter_.add_redirects(new)
    assert len(filter_) == CAPACITY - room
    filter_.add_redirects(new[:room])
    with pytest.raises(FilterFullError):
        filter_.add_redirect(*new[room])
    assert reason(filter_) is FilterReason.FORWARDED
    filter_.add_redirects((connection_id, CAROL4) for connection_id, _ in new[:room])
    filter_.add_redirect(TO_BOB4, TransportAddress("10.9.9.9", 9))
    assert len(filter_) == CAPACITY
    for connection_id, to in (
        (TO_BOB4, TransportAddress("10.9.9.9", 9)),
        *((connection_id, CAROL4) for connection_id, _ in new[:room]),
    ):
        data = frame(udp4(quic(connection_id)))
        assert ask(filter_, data).data == forwarded(data, to)


def test_bad_ids_and_addresses_change_nothing(filter_: Filter) -> None:
    before = filter_.bindings()
    for connection_id, address in (
        (b"short", BOB4),
        (identity(60), TransportAddress("not.an.address", 1)),
    ):
        with pytest.raises(LocalProtocolError):
            filter_.add_redirects([(identity(61), BOB4), (connection_id, address)])
        assert filter_.bindings() == before


def test_addresses_of_one_link_stay_with_userspace(filter_: Filter) -> None:
    filter_.add_redirects([(identity(60), LINK_LOCAL)])
    assert len(filter_) == 2


# --- What it tells


def test_counters_of_bindings_and_senders(filter_: Filter) -> None:
    began_s = time.clock_gettime(CLOCK_MONOTONIC_COARSE)
    filter_.add_redirects([(TO_ALICE6, ALICE6), (TO_BOB6, BOB6)])
    for size in (10, 20, 30):
        ask(filter_, frame(udp6(quic(TO_BOB6, size))))
    ended_s = time.clock_gettime(CLOCK_MONOTONIC_COARSE)
    bytes_ = 3 * len(quic(TO_BOB6, 0)) + 60
    counted = {one.connection_id: one for one in filter_.bindings()}
    assert counted[TO_BOB6][1:4] == (BOB6, 3, bytes_)
    assert began_s <= counted[TO_BOB6].last_seen_s <= ended_s
    assert counted[TO_ALICE6][1:] == (ALICE6, 0, 0, 0.0)
    senders = {one.address: one for one in filter_.senders()}
    assert senders[ALICE6][1:4] == counted[TO_BOB6][2:]
    assert senders[BOB6][1:4] == (0, 0, 0.0)


def test_an_id_that_is_not_bound_is_reported_once(filter_: Filter) -> None:
    poller = select.poll()
    poller.register(filter_.rejected_fd(), select.POLLIN)
    assert filter_.read_rejected() == []
    assert poller.poll(0) == []
    for _ in range(3):
        assert ask(filter_, frame(udp4(quic(identity(70))))).verdict == XDP_PASS
    ask(filter_, frame(udp6(quic(identity(71)))))
    assert poller.poll(0)
    assert filter_.read_rejected(1) == [Rejected(identity(70), ALICE4)]
    assert filter_.read_rejected() == [Rejected(identity(71), ALICE6)]
    assert filter_.read_rejected() == []
    assert poller.poll(0) == []
    filter_.add_redirect(identity(70), BOB4)
    filter_.remove_redirect(identity(70))
    assert reason(filter_, frame(udp4(quic(identity(70))))) is FilterReason.UNBOUND
    assert filter_.read_rejected() == [Rejected(identity(70), ALICE4)]


def test_a_relay_that_does_not_know_its_addresses_makes_no_loop(filter_: Filter) -> None:
    """The address that a packet came to is one of the relay's."""
    filter_.set_own_addresses([])
    try:
        filter_.add_redirect(TO_BOB4, OWN[0])
        assert reason(filter_) is FilterReason.LOOP
        filter_.add_redirect(TO_BOB4, OWN[0]._replace(port=OWN[0].port + 1))
        assert reason(filter_) is FilterReason.FORWARDED
    finally:
        filter_.set_own_addresses(OWN)


# --- Floods


def verdicts_of_a_flood(one: Filter) -> dict[int, int]:
    """Of packets to IDs that are not bound, in a time in which hardly any is allowed."""
    verdicts = [ask(one, frame(udp4(quic(identity(1000 + n))))).verdict for n in range(60)]
    return {verdict: verdicts.count(verdict) for verdict in set(verdicts)}


def test_a_flood_of_unbound_ids_is_dropped_beyond_the_rate() -> None:
    with kernel.loaded(CAPACITY, unbound_per_s=10.0) as one:
        one.add_redirects([(TO_ALICE4, ALICE4), (TO_BOB4, BOB4)])
        counted = verdicts_of_a_flood(one)
        assert 1 <= counted[XDP_PASS] < 60
        assert counted[XDP_DROP] == one.counters()[FilterReason.UNBOUND_FLOOD]
        assert reason(one) is FilterReason.FORWARDED
        with pytest.raises(FilterFullError):
            one.add_redirects((identity(100 + n), BOB4) for n in range(CAPACITY))
        # From here on userspace knows of bindings that are not here.
        assert verdicts_of_a_flood(one) == {XDP_PASS: 60}


def test_nothing_is_dropped_while_the_relays_addresses_are_not_known() -> None:
    with kernel.loaded(CAPACITY, unbound_per_s=1.0) as one:
        one.set_own_addresses([])
        assert verdicts_of_a_flood(one) == {XDP_PASS: 60}
        one.set_own_addresses(OWN)
        assert verdicts_of_a_flood(one)[XDP_DROP] > 50


MAPS = ("slots", "hints", "bindings", "flows", "sources", "senders", "reported", "config")


def test_memory_is_what_the_kernel_says() -> None:
    with Filter.open(capacity=100_000) as one:
        fds = [one._program.map_fd(name) for name in MAPS]
        said = [Path(f"/proc/self/fdinfo/{fd}").read_text() for fd in fds]
    words = [text.partition("memlock:")[2].split()[0] for text in said]
    assert sum(map(int, words)) == pytest.approx(memory_bytes(100_000), rel=0.05)


def test_more_memory_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpf, "possible_cpus", lambda: 8192)
    with pytest.raises(QuicpipeLabError, match=r"2000000 bindings takes \d{7} MB of memory here,"):
        Filter.open(capacity=2_000_000)


def test_capacities_that_cannot_be() -> None:
    for capacity in (0, 2_000_001):
        with pytest.raises(QuicpipeLabError, match=f"1 to 2000000 bindings, not {capacity}"):
            Filter.open(capacity=capacity)


def test_what_cannot_be_opened_to_the_end_is_unloaded() -> None:
    """For want of one more open file; the limit is let down to that."""

    def numbers() -> set[int]:
        return {int(one.name) for one in Path("/proc/self/fd").iterdir() if one.exists()}

    before = numbers()
    with Filter.open(capacity=8):
        opened = numbers()
    assert numbers() == before
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(opened - before), limits[1]))
    try:
        Filter.open(capacity=8)
    except (OSError, QuicpipeLabError):
        pass
    else:
        pytest.fail("there was room for all of it")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert numbers() == before
