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

_SOURCE = struct.Struct("=III")
_COUNTERS = struct.Struct("=QQQ")
_BINDING_BYTES = ctypes.sizeof(Binding)
_FLOW_BYTES, _SENDER_BYTES = ctypes.sizeof(Flow), ctypes.sizeof(Sender)
_NUMBER = struct.Struct("=I")
_LAST_TAG = 0xFFFFFFFF
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
    """What was forwarded from one address that has bindings. ``tag``: another one where it has lost
    all of them in between, and counting began anew."""

    address: TransportAddress
    packets: int
    bytes: int
    last_seen_s: float
    tag: int


def memory_bytes(capacity: int, cpus: int | None = None) -> int:
    """About what the maps take in the kernel for so many bindings (of so many possible CPUs)."""
    record = _FLOW_BYTES + _SENDER_BYTES
    cpus = cpus or bpf.possible_cpus()
    return capacity * (258 + record * cpus) + (1 << 16) * cpus + (1 << 21)


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
        self._capacity = capacity
        self._fresh = 0
        self._returned: deque[int] = deque()

    def take(self, count: int) -> tuple[list[int], list[int]]:
        """So many slots, or as many as there are; and those of them that were in use before."""
        first = self._fresh
        self._fresh = min(first + count, self._capacity)
        slots = list(range(first, self._fresh))
        wanted = min(count - len(slots), len(self._returned))
        used = [self._returned.popleft() for _ in range(wanted)]
        return slots + used, used

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
        """One record, or as many as lie in a row from here."""
        self.write_at(slot, 0, record)

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
        self._last_tag = 0
        self._record = struct.Struct(f"=20sI{connection_id_length}s").pack
        # Numbers and bytes, and no object for each binding: there may be millions.
        self._bound: dict[bytes, int] = {}
        self._addresses: dict[int, TransportAddress] = {}
        self._senders: dict[TransportAddress, _Sender] = {}

    def __len__(self) -> int:
        return len(self._bound)

    def __contains__(self, connection_id: bytes) -> bool:
        return connection_id in self._bound

    def bind(self, bindings: Iterable[tuple[bytes, TransportAddress]]) -> None:
        """Bind all of them, also to another address than before, or none and FilterFullError."""
        wanted = dict(bindings)
        before = {one: self._bound[one] for one in wanted.keys() & self._bound.keys()}
        self._check(wanted, len(wanted) - len(before))
        if not wanted:
            return
        # Slots first: whoever has one may have a sender's, too.
        slots = self._take_slots(len(wanted), before)
        first_tag = self._take_tags(len(wanted))
        records = []
        for tag, slot, (connection_id, address) in zip(
            itertools.count(first_tag), slots, wanted.items(), strict=False
        ):
            sender = self._senders.get(address) or self._add_sender(address)
            sender.bindings += 1
            records.append(self._record(sender.packed, tag, connection_id))
            self._addresses[slot] = address
        self._write_records(slots, records)
        self._bound.update(zip(wanted, slots, strict=True))
        values = bytearray(array.array("I", slots).tobytes())
        bpf.update_batch(self._slots_fd, bytearray().join(wanted), values, len(wanted))
        for slot in before.values():
            self._give_back(slot)

    def unbind(self, connection_id: bytes) -> bool:
        """Whether it was bound."""
        if (slot := self._bound.pop(connection_id, None)) is None:
            return False
        bpf.delete(self._slots_fd, connection_id)
        self._give_back(slot)
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
            BindingCounters(connection_id, self._addresses[slot], *self._flows.counters(slot))
            for connection_id, slot in self._bound.items()
        ]

    def senders(self) -> list[SenderCounters]:
        """All addresses with bindings, in no order."""
        return [
            SenderCounters(address, *self._sender_records.counters(sender.slot), sender.tag)
            for address, sender in self._senders.items()
        ]

    def close(self) -> None:
        self._records.close()
        self._flows.close()
        self._sender_records.close()

    # Parts

    def _check(self, wanted: dict[bytes, TransportAddress], new: int) -> None:
        """Before anything changes."""
        for connection_id in wanted:
            if len(connection_id) != self._id_length:
                raise LocalProtocolError(
                    f"a connection ID of {len(connection_id)} bytes, not {self._id_length}"
                )
        for address in set(wanted.values()) - self._senders.keys():
            pack_address(address)
        if len(self._bound) + new > self.capacity:
            raise FilterFullError(f"the filter holds {self.capacity} connection IDs")

    def _take_tags(self, count: int) -> int:
        """The first of so many."""
        if self._last_tag + count > _LAST_TAG:
            self._last_tag = 0
        self._last_tag += count
        return self._last_tag - count + 1

    def _take_slots(self, count: int, replaced: dict[bytes, int]) -> list[int]:
        """Empty ones. What is bound anew moves to another slot, so that nobody finds a record that
        is half the old and half the new; where there are not enough, some of ``replaced`` are
        unbound before, and their packets go by userspace for a moment."""
        slots, used = self._free.take(count)
        while len(slots) < count:
            connection_id, slot = replaced.popitem()
            bpf.delete(self._slots_fd, connection_id)
            self._give_back(slot)
            more, _ = self._free.take(1)
            slots += more
            used += more
        for slot in used:  # a guess may still lead here: to nothing, until all is written
            self._records.write(slot, bytes(_BINDING_BYTES))
            self._flows.write(slot, bytes(_FLOW_BYTES))
        return slots

    def _write_records(self, slots: list[int], records: list[bytes]) -> None:
        if slots == list(range(slots[0], slots[0] + len(slots))):  # as unused ones are
            row = b"".join([one.ljust(_BINDING_BYTES, b"\0") for one in records])
            self._records.write(slots[0], row)
            return
        for slot, record in zip(slots, records, strict=True):
            self._records.write(slot, record)

    def _give_back(self, slot: int) -> None:
        """A slot by which nobody finds its binding any more, but for guesses."""
        self._records.write_at(slot, int(Binding.tag.offset), bytes(_NUMBER.size))
        self._free.give_back(slot)
        self._drop_from_sender(self._addresses.pop(slot))

    def _add_sender(self, address: TransportAddress) -> _Sender:
        (slot,), _ = self._sender_free.take(1)
        sender = _Sender(pack_address(address), slot, self._take_tags(1))
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
