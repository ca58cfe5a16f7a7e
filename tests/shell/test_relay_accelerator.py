"""The accelerator between a real relay machine and a table in memory, in virtual time.

The kernel's own table takes its place in tests/backends/netns/test_xdp_relay.py.
"""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pytest

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.protocol.forwarding import Reason
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.store import Association
from quicpipe_lab.shell import relay_status
from quicpipe_lab.shell.relay_accelerator import ACTIVE_INTERVAL_S, MirroredStore, RelayAccelerator
from tests.protocol.relay_world import Network

KEY, OTHER = b"k" * 16, b"o" * 16
PORT = 4433
CLIENT = TransportAddress("203.0.113.1", 5000)


@dataclass
class Sent:
    """What a sender has sent through the kernel."""

    address: TransportAddress
    packets: int
    bytes: int
    last_seen_s: float
    tag: int


@dataclass
class Report:
    connection_id: bytes


class Table:
    """What the filter's maps hold, with room for ``capacity`` IDs."""

    def __init__(self, capacity: int = 1000) -> None:
        self.capacity = capacity
        self.bound: dict[bytes, TransportAddress] = {}
        self.sent: dict[TransportAddress, Sent] = {}
        self.passing: set[TransportAddress] = set()
        self.reports: list[Report] = []
        self.ports: set[int] = set()
        self.gone: set[str] = set()
        self.before_removal: Callable[[], None] = lambda: None

    def add_redirects(self, bindings: Iterable[tuple[bytes, TransportAddress]]) -> None:
        new = dict(bindings)
        if len(self.bound | new) > self.capacity:
            raise QuicpipeLabError("full")
        self.bound |= new
        self._forget_senders()

    def remove_redirect(self, connection_id: bytes) -> None:
        self.before_removal()
        self.bound.pop(connection_id, None)
        self._forget_senders()

    def _forget_senders(self) -> None:
        """Of an address without bindings nothing is known."""
        self.passing &= set(self.bound.values())
        self.sent = {one: sent for one, sent in self.sent.items() if one in self.bound.values()}

    def read_rejected(self) -> list[Report]:
        reports, self.reports = self.reports, []
        return reports

    def rejected_fd(self) -> int:
        return -1

    def senders(self) -> list[Sent]:
        return list(self.sent.values())

    def set_source_passing(self, address: TransportAddress, is_passing: bool) -> None:
        (self.passing.add if is_passing else self.passing.discard)(address)

    def counters(self) -> dict[Reason, int]:
        packets = sum(one.packets for one in self.sent.values())
        return {Reason.FORWARDED: packets, Reason.UNBOUND: 0}

    def attach_port(self, port: int) -> None:
        self.ports.add(port)

    def detach_port(self, port: int) -> None:
        self.ports.discard(port)

    def is_attached(self, interface: str) -> bool:
        return interface not in self.gone


class World(Network):
    """A network whose relay has an accelerator, and the kernel's part of it."""

    def __init__(self, capacity: int = 1000, limits: RelayLimits | None = None) -> None:
        self.limits = limits or RelayLimits()
        self.table = Table(capacity)
        self.accelerator = RelayAccelerator(self.table, PORT, self.limits.bindings)
        self.delivering: Callable[[], None] = lambda: None
        self.tags = itertools.count(1)
        super().__init__(store=self.accelerator.store, limits=self.limits)

    def _deliver(self, data: bytes, address: TransportAddress) -> None:
        self.delivering()
        super()._deliver(data, address)

    def kernel_forwards(self, source: TransportAddress, packets: int, size_bytes: int) -> None:
        """So many more, just now."""
        before = self.table.sent.get(source)
        if before is None:
            before = Sent(source, 0, 0, 0.0, next(self.tags))
        sent = before.packets + packets, before.bytes + size_bytes
        self.table.sent[source] = Sent(source, *sent, self.now, before.tag)

    def account(self) -> bool:
        return self.accelerator.account(self.relay, self.now)


def ids(key: bytes, num: int) -> list[bytes]:
    generator = ConnectionIdGenerator(key, relay_leg=False)
    return [generator.at(index) for index in range(1, num + 1)]


def test_the_kernel_knows_what_is_bound_before_the_client_is_told() -> None:
    world = World()
    client = world.client()
    bound_then: list[int] = []
    world.delivering = lambda: bound_then.append(len(world.table.bound))
    client.register(KEY, 4)
    assert world.table.bound == dict.fromkeys(ids(KEY, 4), client.address)
    assert set(bound_then) == {4}


def test_an_address_change_unbinds_in_the_kernel_until_it_is_validated() -> None:
    world = World()
    client = world.client()
    client.register(KEY, 4)
    client.address = TransportAddress("203.0.113.1", 6000)
    bound_then: list[int] = []
    world.delivering = lambda: bound_then.append(len(world.table.bound))
    client.quic.send_ping(1)
    world.settle()
    assert 0 in bound_then
    assert world.table.bound == dict.fromkeys(ids(KEY, 4), client.address)


def test_the_kernel_forgets_before_userspace_does() -> None:
    world = World()
    client = world.client()
    client.register(KEY, 4)
    bound_then: list[TransportAddress | None] = []
    world.table.before_removal = lambda: bound_then.append(world.bound_to(KEY))
    client.quic.close()
    world.advance(200)
    assert world.table.bound == {}
    assert bound_then == [client.address] * 4
    assert world.bound_to(KEY) is None


@pytest.mark.parametrize("others_send", [False, True])
def test_what_the_kernel_has_seen_of_an_address_keeps_it_bound(others_send: bool) -> None:
    world = World()
    client, other = world.client(), world.client("203.0.113.2")
    client.register(KEY, 1)
    other.register(OTHER, 1)
    client.quic.close()
    sender = other if others_send else client
    for _ in range(20):
        world.advance(20)
        world.kernel_forwards(sender.address, 1, 100)
        world.account()
    # Only what an address itself sends is a sign of its life.
    assert (world.bound_to(KEY) is None) == others_send


def test_who_sends_too_much_through_the_kernel_comes_up_until_it_has_rested() -> None:
    limits = RelayLimits(packets_per_s=1000, burst_s=0.1)
    world = World(limits=limits)
    client, other = world.client(), world.client("203.0.113.2")
    client.register(KEY, 1)
    other.register(OTHER, 1)
    (to_other,) = ids(OTHER, 1)

    world.kernel_forwards(client.address, 99, 9900)
    assert world.account()
    assert world.table.passing == set()
    world.kernel_forwards(client.address, 1001, 100_100)
    world.account()
    assert world.table.passing == {client.address}
    # A debt of 1000 packets: nothing passes in userspace either before it is paid.
    world.advance(0.9)
    assert not world.account()
    verdict = world.relay.route(to_other, client.address, 100, world.now)
    assert verdict.reason is Reason.RATE_LIMITED
    world.advance(0.15)
    world.account()
    assert world.table.passing == {client.address}  # it may send, but has not rested
    verdict = world.relay.route(to_other, client.address, 100, world.now)
    assert verdict.reason is Reason.FORWARDED
    world.advance(0.2)
    world.account()
    assert world.table.passing == set()


def test_who_goes_and_comes_again_before_it_is_looked_at_is_held_to_its_rate_all_the_same() -> None:
    """The kernel has nothing against an address that is new to it, whatever we knew of it."""
    world = World(limits=RelayLimits(packets_per_s=1000, burst_s=0.1))
    client = world.client()
    client.register(KEY, 1)
    here = client.address
    world.kernel_forwards(here, 1001, 100_100)
    world.account()
    assert world.table.passing == {here}
    for address in (here._replace(port=6000), here):
        client.address = address
        client.quic.send_ping(1)
        world.settle()
    assert world.table.bound == dict.fromkeys(ids(KEY, 1), here)
    assert world.table.passing == set()
    world.kernel_forwards(here, 1001, 100_100)  # as many as before
    world.account()
    assert world.table.passing == {here}


def test_counters_that_began_anew_are_counted_from_there() -> None:
    world = World()
    client = world.client()
    client.register(KEY, 1)
    world.kernel_forwards(client.address, 50, 5000)
    world.account()
    del world.table.sent[client.address]
    world.kernel_forwards(client.address, 3, 300)
    world.account()
    sender = world.relay.sender(client.address)
    assert sender is not None
    assert (sender.packets, sender.bytes) == (53, 5300)


def test_what_has_no_room_is_userspaces_until_the_kernel_asks_and_has() -> None:
    world = World(capacity=4)
    client, other = world.client(), world.client("203.0.113.2")
    client.register(KEY, 4)
    assert other.register(OTHER, 2).status == 200
    assert world.accelerator.store.unmirrored == 2
    assert world.bound_to(OTHER) == other.address
    world.table.capacity = 6
    world.table.reports = [Report(one) for one in [*ids(OTHER, 2), b"nobody knows"]]
    world.accelerator.take_rejected()
    assert world.accelerator.restored == 2
    assert world.table.bound.keys() == {*ids(KEY, 4), *ids(OTHER, 2)}


def test_room_that_becomes_free_is_used() -> None:
    table = Table(capacity=4)
    store = MirroredStore(10, table)
    first = Association(tuple(ids(KEY, 3)), CLIENT)
    store.put_association(first, KEY)
    waiting = Association(tuple(ids(OTHER, 2)), CLIENT)
    store.put_association(waiting, OTHER)
    assert table.bound.keys() == {*ids(KEY, 3)}
    store.remove_association(Association(waiting.connection_ids[:1], CLIENT), OTHER)
    assert table.bound.keys() == {*ids(KEY, 3), waiting.connection_ids[1]}
    store.remove_association(first, KEY)
    assert table.bound.keys() == {waiting.connection_ids[1]}


def test_where_all_cannot_move_the_kernel_has_none_at_the_old_address() -> None:
    table = Table(1)
    store = MirroredStore(10, table)
    new = CLIENT._replace(port=6000)
    store.put_association(Association((b"one",), CLIENT), KEY)
    store.put_association(Association((b"one", b"two"), new), KEY)
    assert table.bound == {}
    store.remove_association(Association((b"two",), new), KEY)
    assert table.bound == {b"one": new}


def test_it_looks_anew_while_anybody_is_bound_once_a_second() -> None:
    world = World()
    looked: list[float] = []
    world.accelerator = RelayAccelerator(
        world.table, PORT, 10, refresh=lambda: looked.append(world.now)
    )
    world.accelerator.store.put_association(Association((b"one",), CLIENT), KEY)
    for _ in range(40):
        world.now = world.accelerator.get_timer(world.now) or 0.0
        world.accelerator.handle_timer(world.relay, world.now)
    assert len(looked) > 10
    assert all(0.9 < two - one < 2.1 for one, two in itertools.pairwise(looked))


def test_it_sleeps_while_nobody_is_bound_and_reads_oftener_while_there_is_traffic() -> None:
    world = World()
    accelerator = world.accelerator
    assert accelerator.get_timer(world.now) is None
    client = world.client()
    client.register(KEY, 1)
    due_s = accelerator.get_timer(world.now)
    assert due_s == world.now + ACTIVE_INTERVAL_S
    intervals = []
    for packets in (0, 1):
        world.advance(due_s - world.now)
        if packets:
            world.kernel_forwards(client.address, packets, 100)
        accelerator.handle_timer(world.relay, world.now)
        due_s = accelerator.get_timer(world.now)
        assert due_s is not None
        intervals.append(due_s - world.now)
    assert intervals[0] > 5 * intervals[1] >= 5 * ACTIVE_INTERVAL_S - 1e-9


class Attached(NamedTuple):
    interface: str
    mode: str = "native"
    reason: str = "asked for"


def test_an_interface_that_has_gone_is_not_told_of() -> None:
    table = Table()
    accelerator = RelayAccelerator(table, PORT, 10, [Attached("eth0"), Attached("eth1")])
    for gone, where in (("eth0", "eth1 (native)"), ("eth1", "no interface any more")):
        table.gone.add(gone)
        status = {"datagrams": {}, "xdp": accelerator.status()}
        assert f" on {where}: 0 senders" in relay_status.table(status)


def test_it_is_switched_off_and_on() -> None:
    world = World()
    world.accelerator.start()
    assert (world.table.ports, world.accelerator.status()["on"]) == ({PORT}, True)
    world.accelerator.switch()
    assert (world.table.ports, world.accelerator.status()["on"]) == (set(), False)
    world.accelerator.switch()
    assert (world.table.ports, world.accelerator.status()["on"]) == ({PORT}, True)
