"""The relay's decision about a datagram that is not for itself: forward it, or why not.

The userspace loop, the machine and (as its twin in C) the XDP filter all decide by this. A
decision has two halves: ``resolve``, which depends on bindings alone and may be remembered for as
long as ``generation`` stays the same, and ``Flow.charge``, which counts and keeps to the limits
and happens for every datagram or batch of them.
"""

from collections.abc import Container, Hashable
from enum import IntEnum
from typing import NamedTuple

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.store import Association, AssociationNotFoundError, Store


class Reason(IntEnum):
    """What became of a datagram."""

    FORWARDED = 0
    TO_RELAY = 1
    """It belongs to an HTTP/3 connection with the relay, or began one."""
    NOT_QUIC = 2
    """Too short, or without QUIC's fixed bit (RFC 9000, 17.2 and 17.3)."""
    PUNCH = 3
    """One peer's punch datagram for the other: the relay is nobody's peer."""
    UNBOUND = 4
    """Nothing is known of its destination ID."""
    SOURCE_NOT_BOUND = 5
    """The relay is closed: only who is registered sends through it."""
    LOOP = 6
    """It would come back to its sender or to the relay itself."""
    RATE_LIMITED = 7
    NOT_INITIAL = 8
    """Addressed to the relay, but it neither belongs to a connection nor can begin one."""
    BUSY = 9
    """It would begin an HTTP/3 connection, and there are as many as are allowed; or so many that
    its sender was asked to show its address first."""


class Verdict(NamedTuple):
    """``destination`` is None for every reason but FORWARDED."""

    reason: Reason
    destination: TransportAddress | None = None


class Sender:
    """An address with live bindings: what it has sent through us, and how much more it may."""

    __slots__ = (
        "_bytes_left",
        "_limits",
        "_packets_left",
        "address",
        "bytes",
        "last_seen_s",
        "packets",
    )

    def __init__(self, address: TransportAddress, limits: RelayLimits, now: float) -> None:
        self.address = address
        self.packets = 0
        self.bytes = 0
        self.last_seen_s = now
        self._limits = limits
        self._packets_left = limits.packets_per_s * limits.burst_s
        self._bytes_left = limits.bytes_per_s * limits.burst_s

    def admit(self, packets: int, size_bytes: int, now: float) -> bool:
        """Whether so much more may pass now; counts it.

        Two token buckets that are filled and asked together, as this happens for every batch.
        Like TokenBucket they admit a batch as a whole, and take what is too much as a debt.
        """
        self._refill(now)
        admitted = self._packets_left > 0 and self._bytes_left > 0
        if admitted:
            self._take(packets, size_bytes)
        return admitted

    def account(self, packets: int, size_bytes: int, now: float) -> bool:
        """So much has been forwarded already, by somebody else, the last of it at ``now``.

        Whether that was within the rates; what was too much is a debt, so that the average holds.
        """
        self._refill(max(now, self.last_seen_s))
        self._take(packets, size_bytes)
        return self._packets_left > 0 and self._bytes_left > 0

    def is_rested(self, now: float) -> bool:
        """Whether it has sent so much less than it may that a whole burst could pass."""
        limits, elapsed_s = self._limits, now - self.last_seen_s
        return (
            self._packets_left + elapsed_s * limits.packets_per_s
            >= limits.packets_per_s * limits.burst_s
            and self._bytes_left + elapsed_s * limits.bytes_per_s
            >= limits.bytes_per_s * limits.burst_s
        )

    def _refill(self, now: float) -> None:
        limits, elapsed_s = self._limits, now - self.last_seen_s
        self.last_seen_s = now
        packets_left = self._packets_left + elapsed_s * limits.packets_per_s
        bytes_left = self._bytes_left + elapsed_s * limits.bytes_per_s
        self._packets_left = min(packets_left, limits.packets_per_s * limits.burst_s)
        self._bytes_left = min(bytes_left, limits.bytes_per_s * limits.burst_s)

    def _take(self, packets: int, size_bytes: int) -> None:
        self._packets_left -= packets
        self._bytes_left -= size_bytes
        self.packets += packets
        self.bytes += size_bytes


class Flow:
    """From one sender to one destination. Valid until the forwarder's generation changes."""

    __slots__ = ("_counters", "destination", "sender")

    def __init__(
        self, sender: Sender, destination: TransportAddress, counters: dict[Reason, int]
    ) -> None:
        self.sender = sender
        self.destination = destination
        self._counters = counters

    def charge(self, packets: int, size_bytes: int, now: float) -> bool:
        """Whether so many datagrams with so many bytes together may be forwarded now."""
        admitted = self.sender.admit(packets, size_bytes, now)
        self._counters[Reason.FORWARDED if admitted else Reason.RATE_LIMITED] += packets
        return admitted


class Forwarder:
    """The store with the decision over it.

    ``own_addresses``: the relay's; nothing is ever sent there.
    """

    def __init__(
        self, store: Store, own_addresses: Container[TransportAddress], limits: RelayLimits
    ) -> None:
        self.store = store
        self.own_addresses = own_addresses
        self.counters: dict[Reason, int] = dict.fromkeys(Reason, 0)
        self.generation = 0
        """Changes whenever any binding does: what was resolved before is void."""
        self._limits = limits
        self._senders: dict[TransportAddress, Sender] = {}

    def bind(self, association: Association, owner: Hashable, now: float) -> None:
        """As Store.put_association."""
        self.store.put_association(association, owner)
        address = association.address
        if address not in self._senders:
            self._senders[address] = Sender(address, self._limits, now)
        self.generation += 1

    def unbind(self, association: Association, owner: Hashable) -> None:
        """As Store.remove_association."""
        self.store.remove_association(association, owner)
        if not self.store.is_bound(association.address):
            self._senders.pop(association.address, None)
        self.generation += 1

    def sender(self, address: TransportAddress) -> Sender | None:
        """None for an address without live bindings."""
        return self._senders.get(address)

    def last_seen_s(self, address: TransportAddress) -> float | None:
        """When the address last sent through us; None where it has no live binding."""
        sender = self._senders.get(address)
        return None if sender is None else sender.last_seen_s

    def senders(self) -> list[Sender]:
        """Every address with live bindings."""
        return list(self._senders.values())

    def resolve(self, destination_id: bytes, source: TransportAddress) -> Flow | Reason:
        """The part of the decision that depends on bindings alone. Changes and counts nothing."""
        try:
            destination = self.store.get_association(destination_id).address
        except AssociationNotFoundError:
            return Reason.UNBOUND
        sender = self._senders.get(source)
        if sender is None:
            return Reason.SOURCE_NOT_BOUND
        if destination == source or destination in self.own_addresses:
            return Reason.LOOP
        return Flow(sender, destination, self.counters)

    def route(
        self, destination_id: bytes, source: TransportAddress, size_bytes: int, now: float
    ) -> Verdict:
        """The whole decision about one datagram, counted."""
        flow = self.resolve(destination_id, source)
        if isinstance(flow, Reason):
            self.counters[flow] += 1
            return Verdict(flow)
        if not flow.charge(1, size_bytes, now):
            return Verdict(Reason.RATE_LIMITED)
        return Verdict(Reason.FORWARDED, flow.destination)
