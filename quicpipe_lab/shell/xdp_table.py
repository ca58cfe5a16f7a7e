"""The XDP filter's bindings and senders, on the program's side.

Each binding and each sender has a slot in an array of records that every CPU has for itself: at
``cpu * capacity + slot``. The arrays are mapped into this process, so counters are read without a
system call, at any time. A slot that was given back is used again last of all, and tags tell its
users apart (xdp/quicpipe_shared.h).

The order of changes is what makes them safe while packets come: a sender is known before its
bindings are, and forgotten after them; a record is written before it can be found, and not changed
as long as it can.
"""

import array
import ctypes
import itertools
import mmap
import struct
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from quicpipe_lab.errors import LocalProtocolError, QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import CONNECTION_ID_LENGTH
from quicpipe_lab.shell import bpf
from quicpipe_lab.shell.xdp import Program
from quicpipe_lab.shell.xdp_layout import Binding, Flow, Sender, pack_address

_TO_AND_TAG = struct.Struct("=20sI")
_SOURCE = struct.Struct("=III")
_COUNTERS = struct.Struct("=QQQ")
_BINDING_BYTES = ctypes.sizeof(Binding)
_FLOW_BYTES, _SENDER_BYTES = ctypes.sizeof(Flow), ctypes.sizeof(Sender)
_NUMBER = struct.Struct("=I")
_SECOND_NS = 1e9


class FilterFullError(QuicpipeLabError):
    """No room for more bindings: these stay with userspace."""


class Counters(NamedTuple):
    """What was forwarded in the kernel. ``last_seen_s``: by CLOCK_MONOTONIC, to 10 ms; 0 never."""

    packets: int
    bytes: int
    last_seen_s: float


class BindingCounters(NamedTuple):
    """What was forwarded to one connection ID."""

    connection_id: bytes
    address: TransportAddress
    packets: int
    bytes: int
    last_seen_s: float


class SenderCounters(NamedTuple):
    """What was forwarded from one address that has bindings."""

    address: TransportAddress
    packets: int
    bytes: int
    last_seen_s: float


def memory_bytes(capacity: int, cpus: int | None = None) -> int:
    """About what the maps take in the kernel for so many bindings (of so many possible CPUs)."""
    record = _FLOW_BYTES + _SENDER_BYTES
    cpus = cpus or bpf.possible_cpus()
    return capacity * (248 + record * cpus) + (1 << 16) * cpus + (1 << 21)


class _Sender:
    """An address with bindings."""

    __slots__ = ("bindings", "is_passing", "packed", "slot", "tag")

    def __init__(self, packed: bytes, slot: int, tag: int) -> None:
        self.packed = packed
        self.slot = slot
        self.tag = tag
        self.bindings = 0
        self.is_passing = False


class _Slots:
    """Numbers below ``capacity``: unused ones first, then those given back, oldest first."""

    def __init__(self, capacity: int) -> None:
        self._fresh = iter(range(capacity))
        self._returned: deque[int] = deque()

    def take(self) -> tuple[int, bool]:
        """A slot, and whether it was in use before. Raises IndexError where none is left."""
        for slot in self._fresh:
            return slot, False
        return self._returned.popleft(), True

    def give_back(self, slot: int) -> None:
        self._returned.append(slot)


class _Records:
    """A mapped array of records, one for each slot and, unless ``cpus`` is 1, each CPU."""

    def __init__(self, map_fd: int, capacity: int, cpus: int, record_bytes: int) -> None:
        self._bytes = record_bytes
        # Of every CPU the first record's place; an mmap is of whole pages.
        self._starts = [cpu * capacity * record_bytes for cpu in range(cpus)]
        size = capacity * cpus * record_bytes
        self._memory = mmap.mmap(map_fd, -(-size // mmap.PAGESIZE) * mmap.PAGESIZE)

    def write(self, slot: int, record: bytes) -> None:
        at = slot * self._bytes
        for start in self._starts:
            self._memory[start + at : start + at + len(record)] = record

    def write_at(self, slot: int, offset: int, data: bytes) -> None:
        """A part of the record, ``offset`` bytes into it."""
        at = slot * self._bytes + offset
        for start in self._starts:
            self._memory[start + at : start + at + len(data)] = data

    def counters(self, slot: int) -> Counters:
        """Over all CPUs."""
        at = slot * self._bytes
        packets = size_bytes = last_seen_ns = 0
        for start in self._starts:
            one = _COUNTERS.unpack_from(self._memory, start + at)
            packets += one[0]
            size_bytes += one[1]
            last_seen_ns = max(last_seen_ns, one[2])
        return Counters(packets, size_bytes, last_seen_ns / _SECOND_NS)

    def close(self) -> None:
        self._memory.close()


class BindingTable:
    """Which ID is bound where, in the filter's maps. Fails closed: see FilterFullError."""

    def __init__(
        self, program: Program, capacity: int, connection_id_length: int = CONNECTION_ID_LENGTH
    ) -> None:
        cpus = bpf.possible_cpus()
        self.capacity = capacity
        self._id_length = connection_id_length
        self._slots_fd = program.map_fd("slots")
        self._sources_fd = program.map_fd("sources")
        self._records = _Records(program.map_fd("bindings"), capacity, 1, _BINDING_BYTES)
        self._flows = _Records(program.map_fd("flows"), capacity, cpus, _FLOW_BYTES)
        self._sender_records = _Records(program.map_fd("senders"), capacity, cpus, _SENDER_BYTES)
        self._free = _Slots(capacity)
        self._sender_free = _Slots(capacity)
        self._tags = itertools.count(1)
        self._bound: dict[bytes, tuple[int, TransportAddress]] = {}
        self._senders: dict[TransportAddress, _Sender] = {}

    def __len__(self) -> int:
        return len(self._bound)

    def __contains__(self, connection_id: bytes) -> bool:
        return connection_id in self._bound

    def bind(self, bindings: Iterable[tuple[bytes, TransportAddress]]) -> None:
        """Bind all of them, also to another address than before, or none and FilterFullError."""
        wanted = dict(bindings)
        self._check_room(wanted)
        # Before anything changes: what is no address is refused here.
        packed = {one: pack_address(one) for one in set(wanted.values()) - self._senders.keys()}
        if not wanted:
            return
        before = {one: self._bound[one] for one in wanted if one in self._bound}
        numbers = array.array("I")
        for connection_id, address in wanted.items():
            slot = self._take_slot(before)  # first: a sender has one, too, whoever has a slot
            sender = self._senders.get(address) or self._add_sender(address, packed)
            sender.bindings += 1
            record = _TO_AND_TAG.pack(sender.packed, self._next_tag()) + connection_id
            self._records.write(slot, record)
            self._bound[connection_id] = slot, address
            numbers.append(slot)
        keys = bytearray().join(wanted)
        bpf.update_batch(self._slots_fd, keys, bytearray(numbers.tobytes()), len(wanted))
        for slot, address in before.values():
            self._give_back(slot, address)

    def unbind(self, connection_id: bytes) -> bool:
        """Whether it was bound."""
        if (bound := self._bound.pop(connection_id, None)) is None:
            return False
        bpf.delete(self._slots_fd, connection_id)
        self._give_back(*bound)
        return True

    def set_passing(self, address: TransportAddress, is_passing: bool) -> bool:
        """Whether there is such a sender; its packets go to userspace, or no longer."""
        sender = self._senders.get(address)
        if sender is not None and sender.is_passing is not is_passing:
            sender.is_passing = is_passing
            self._write_source(sender)
        return sender is not None

    def bindings(self) -> list[BindingCounters]:
        """All bindings, in no order."""
        return [
            BindingCounters(connection_id, address, *self._flows.counters(slot))
            for connection_id, (slot, address) in self._bound.items()
        ]

    def senders(self) -> list[SenderCounters]:
        """All addresses with bindings, in no order."""
        return [
            SenderCounters(address, *self._sender_records.counters(sender.slot))
            for address, sender in self._senders.items()
        ]

    def close(self) -> None:
        self._records.close()
        self._flows.close()
        self._sender_records.close()

    # Parts

    def _check_room(self, wanted: Iterable[bytes]) -> None:
        new = 0
        for connection_id in wanted:
            if len(connection_id) != self._id_length:
                raise LocalProtocolError(
                    f"a connection ID of {len(connection_id)} bytes, not {self._id_length}"
                )
            new += connection_id not in self._bound
        if len(self._bound) + new > self.capacity:
            raise FilterFullError(f"the filter holds {self.capacity} connection IDs")

    def _next_tag(self) -> int:
        return next(self._tags) % 0xFFFFFFFF + 1

    def _take_slot(self, replaced: dict[bytes, tuple[int, TransportAddress]]) -> int:
        """An empty one. What is bound anew moves to another slot, so that nobody finds a record
        that is half the old and half the new; where there is none left, it is unbound before, and
        its packets go by userspace for a moment."""
        try:
            slot, was_used = self._free.take()
        except IndexError:
            connection_id, bound = replaced.popitem()
            bpf.delete(self._slots_fd, connection_id)
            self._give_back(*bound)
            slot, was_used = self._free.take()
        if was_used:
            self._flows.write(slot, bytes(_FLOW_BYTES))
        return slot

    def _give_back(self, slot: int, address: TransportAddress) -> None:
        """A slot by which nobody finds its binding any more, but for guesses."""
        self._records.write_at(slot, int(Binding.tag.offset), bytes(_NUMBER.size))
        self._free.give_back(slot)
        self._drop_from_sender(address)

    def _add_sender(
        self, address: TransportAddress, packed: dict[TransportAddress, bytes]
    ) -> _Sender:
        slot, _ = self._sender_free.take()
        sender = _Sender(packed.get(address) or pack_address(address), slot, self._next_tag())
        record = bytes(_COUNTERS.size) + sender.packed
        self._sender_records.write(slot, record.ljust(_SENDER_BYTES, b"\0"))
        self._senders[address] = sender
        self._write_source(sender)
        return sender

    def _write_source(self, sender: _Sender) -> None:
        """What the filter finds when it looks the sender up, and whether it needs to."""
        value = _SOURCE.pack(sender.slot, sender.tag, sender.is_passing)
        bpf.update(self._sources_fd, sender.packed, value)
        self._write_tag(sender, 0 if sender.is_passing else sender.tag)

    def _write_tag(self, sender: _Sender, tag: int) -> None:
        offset = int(Sender.tag.offset)
        self._sender_records.write_at(sender.slot, offset, _NUMBER.pack(tag))

    def _drop_from_sender(self, address: TransportAddress) -> None:
        sender = self._senders[address]
        sender.bindings -= 1
        if sender.bindings == 0:
            del self._senders[address]
            bpf.delete(self._sources_fd, sender.packed)
            self._write_tag(sender, 0)
            self._sender_free.give_back(sender.slot)
