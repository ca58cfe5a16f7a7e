"""The XDP filter as the relay's accelerator: userspace's bindings, known to the kernel as well.

The store is the one truth. Whatever is bound in it is put into the filter's maps at once, so before
the client hears of it, and taken out of them before it is unbound here. What the filter does not
know or is not sure of, it leaves to userspace; so it may be full, late or gone, and nothing is lost
but speed. When it meets an ID that it does not know, it says so, and gets it if the store has it.

The other way come signs of life and what each sender has sent, for the machine's expiry and its
limits. The filter has no limits of its own: what a sender has sent too much is noticed here, and
its packets then come up to userspace until it has fallen behind its rate again.
"""

import itertools
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.store import Association, AssociationNotFoundError, MapStore
from quicpipe_lab.shell.relay_status import named

ACTIVE_INTERVAL_S = 0.1
"""How often the kernel's counters are read while it forwards."""
IDLE_INTERVAL_S = 1.0
_COST_FACTOR = 20
"""Reading them may take one part in so many of the time."""

_FILLED_AT_ONCE = 64

Binding = tuple[bytes, TransportAddress]


class Rejected(Protocol):
    """What the filter says of an ID that it does not know."""

    @property
    def connection_id(self) -> bytes: ...


class SenderCounters(Protocol):
    """What a source has sent through the filter since it was bound there."""

    @property
    def address(self) -> TransportAddress: ...
    @property
    def packets(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def last_seen_s(self) -> float: ...
    @property
    def tag(self) -> int: ...


class KernelTable(Protocol):
    """What is asked of the filter; see Filter in xdp_filter.py."""

    def add_redirects(self, bindings: Iterable[Binding]) -> None: ...
    def remove_redirect(self, connection_id: bytes) -> None: ...
    def read_rejected(self) -> Sequence[Rejected]: ...
    def rejected_fd(self) -> int: ...
    def senders(self) -> Sequence[SenderCounters]: ...
    def set_source_passing(self, address: TransportAddress, is_passing: bool) -> None: ...
    def counters(self) -> Mapping[Any, int]: ...
    def attach_port(self, port: int) -> None: ...
    def detach_port(self, port: int) -> None: ...
    def is_attached(self, interface: str) -> bool: ...


class Attachment(Protocol):
    """Where the filter runs, how, and why not better."""

    @property
    def interface(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def reason(self) -> str: ...


class MirroredStore(MapStore):
    """A MapStore whose bindings the kernel knows too, and never longer."""

    def __init__(self, max_bindings: int, table: KernelTable) -> None:
        super().__init__(max_bindings)
        self._table = table
        self.unmirrored = 0
        """Bindings that the kernel did not take at once; userspace forwards for them."""
        self._waiting: dict[bytes, None] = {}
        """Those that it does not have yet, the first of them first."""

    def put_association(self, association: Association, owner: Hashable) -> None:
        address = association.address
        changed = [one for one in association.connection_ids if self._address_of(one) != address]
        super().put_association(association, owner)
        self._mirror([(connection_id, address) for connection_id in changed])

    def remove_association(self, association: Association, owner: Hashable) -> None:
        for connection_id in self.held(association, owner):
            self._table.remove_redirect(connection_id)
            self._waiting.pop(connection_id, None)
        super().remove_association(association, owner)
        self._fill()

    def restore(self, connection_id: bytes) -> bool:
        """Tell the kernel of an ID again, if it is bound."""
        address = self._address_of(connection_id)
        return address is not None and self._mirror([(connection_id, address)])

    def _address_of(self, connection_id: bytes) -> TransportAddress | None:
        try:
            return self.get_association(connection_id).address
        except AssociationNotFoundError:
            return None

    def _mirror(self, bindings: list[Binding]) -> bool:
        try:
            self._table.add_redirects(bindings)
        except QuicpipeLabError:  # it is full
            for connection_id, _ in bindings:  # also of those that it has at another address
                self._table.remove_redirect(connection_id)
                self._waiting[connection_id] = None
            self.unmirrored += len(bindings)
            return False
        for connection_id, _ in bindings:
            self._waiting.pop(connection_id, None)
        return True

    def _fill(self) -> None:
        """Give the room that has become free to those who wait for it."""
        for connection_id in list(itertools.islice(self._waiting, _FILLED_AT_ONCE)):
            try:
                self._table.add_redirects(
                    [(connection_id, self.get_association(connection_id).address)]
                )
            except QuicpipeLabError:
                return
            del self._waiting[connection_id]


class RelayAccelerator:
    """Between a relay at ``port`` and a filter. ``max_bindings`` are the store's."""

    def __init__(
        self,
        table: KernelTable,
        port: int,
        max_bindings: int,
        attachments: Sequence[Attachment] = (),
        refresh: Callable[[], None] = lambda: None,
    ) -> None:
        """``refresh``: what is to be looked at anew from time to time, while anybody is bound."""
        self.store = MirroredStore(max_bindings, table)
        self._port = port
        self._attachments = attachments
        self._is_on = False
        self.restored = 0
        """IDs that the kernel asked for and got."""
        self._filter = table
        self._sent: dict[int, tuple[int, int]] = {}
        """By tag: an address that was unbound and bound again begins anew."""
        self._passing: set[TransportAddress] = set()
        self._next_s: float | None = None
        self._refresh = refresh
        self._refreshed_s = 0.0

    def fileno(self) -> int:
        """Readable when ``take_rejected`` has something to do."""
        return self._filter.rejected_fd()

    def take_rejected(self) -> None:
        """Tell the kernel of the IDs that it asked for and that are bound."""
        for rejected in self._filter.read_rejected():
            self.restored += self.store.restore(rejected.connection_id)

    def get_timer(self, now: float) -> float | None:
        """When handle_timer is to be called; None while nobody is bound who could send."""
        if not len(self.store):
            self._next_s = None
        elif self._next_s is None:
            self._next_s = now + ACTIVE_INTERVAL_S
        return self._next_s

    def handle_timer(self, relay: Relay, now: float) -> None:
        """Account for what the kernel has forwarded, if it is time to."""
        if self._next_s is None or self._next_s > now:
            return
        if now - self._refreshed_s >= IDLE_INTERVAL_S:
            self._refreshed_s = now
            self._refresh()
        began_s = time.perf_counter()
        is_active = self.account(relay, now)
        took_s = time.perf_counter() - began_s
        interval_s = ACTIVE_INTERVAL_S if is_active or self._passing else IDLE_INTERVAL_S
        self._next_s = now + max(interval_s, _COST_FACTOR * took_s)

    def account(self, relay: Relay, now: float) -> bool:
        """Account for what the kernel has forwarded, now; whether that was anything."""
        before, self._sent = self._sent, {}
        is_active = False
        for source in self._filter.senders():
            address = source.address
            self._sent[source.tag] = sent = source.packets, source.bytes
            packets, size_bytes = before.get(source.tag, (0, 0))
            sender = relay.sender(address)
            if sent[0] == packets or sender is None:
                continue
            is_active = True
            if not sender.account(sent[0] - packets, sent[1] - size_bytes, source.last_seen_s):
                self._set_passing(address, True)
        for address in list(self._passing):
            sender = relay.sender(address)
            if sender is None or sender.is_rested(now):
                self._set_passing(address, False)
        return is_active

    def start(self) -> None:
        """From now on the kernel forwards what it can."""
        self._filter.attach_port(self._port)
        self._is_on = True

    def switch(self) -> None:
        """Off, so that everything goes through userspace, or on again; loses nothing.

        The program stays attached: an interface may lose what it holds when one comes or goes.
        """
        if self._is_on:
            self._filter.detach_port(self._port)
            self._is_on = False
        else:
            self.start()

    def status(self) -> dict[str, Any]:
        """For events: where it runs, and what has become of datagrams there, by reason."""
        return {
            "on": self._is_on,
            "interfaces": [
                {"interface": one.interface, "mode": str(one.mode), "reason": one.reason}
                for one in self._attachments
                if self._filter.is_attached(one.interface)
            ],
            "datagrams": named(self._filter.counters()),
            "senders": len(self._sent),
            "restored": self.restored,
            "unmirrored": self.store.unmirrored,
        }

    def _set_passing(self, address: TransportAddress, passing: bool) -> None:
        # Told again where we know it already: an address that was unbound and bound again in
        # between is one that the filter holds nothing against.
        self._filter.set_source_passing(address, passing)
        if passing:
            self._passing.add(address)
        else:
            self._passing.discard(address)
