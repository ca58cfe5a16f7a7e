"""Who holds which key at the relay, and for how long (NAT-TRAVERSAL rules of the relay, 1 to 5).

A *lease* is one key's registration. It belongs to the HTTP/3 connection (the client) that made it,
is bound to that connection's address while this is validated, and outlives the connection for as
long as its address goes on sending, and ``linger_s`` more. The key is a secret between client and
relay: who presents it again may take the lease over once its connection is gone, or from the same
address at any time. While the connection lives, anybody else gets 409.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Hashable

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.protocol.forwarding import Forwarder
from quicpipe_lab.protocol.relay_events import Bound, Expired, Registered, RelayEvent, Unbound
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.store import Association, AssociationConflictError, StoreFullError
from quicpipe_lab.protocol.wire import Registration, RequestError


class _Lease:
    """``address`` is None while it is bound to none. ``client`` is None once that is gone."""

    __slots__ = ("address", "client", "connection_ids", "ids", "key", "left_s")

    def __init__(self, key: bytes, ids: ConnectionIdGenerator) -> None:
        self.key = key
        self.ids = ids
        self.connection_ids: tuple[bytes, ...] = ()
        self.address: TransportAddress | None = None
        self.client: Hashable | None = None
        self.left_s = 0.0


class Registrar:
    """The machine. A client is any hashable value that stands for one HTTP/3 connection."""

    def __init__(self, forwarder: Forwarder, limits: RelayLimits, id_length: int) -> None:
        self._forwarder = forwarder
        self._limits = limits
        self._id_length = id_length
        self._leases: dict[bytes, _Lease] = {}
        self._by_client: dict[Hashable, dict[bytes, _Lease]] = {}
        self._expiring: list[tuple[float, int, _Lease]] = []
        self._order = itertools.count()
        self.events: deque[RelayEvent] = deque()

    def register(
        self, registration: Registration, client: Hashable, address: TransportAddress, now: float
    ) -> None:
        """Bind the first ``num`` IDs of the key to the client's validated address.

        Raises RequestError: 403 for an address that nothing may be sent to, 409 where another
        holds the key, 429 beyond a quota, 503 where the store is full; then nothing has changed.
        """
        key, num = registration
        if address in self._forwarder.own_addresses:
            raise RequestError(403, "that is the relay's own address")
        lease = self._leases.get(key)
        if lease is None:
            lease = _Lease(key, ConnectionIdGenerator(key, relay_leg=False, length=self._id_length))
        self._check_holder(lease, client, address)
        new = max(0, num - len(lease.connection_ids))
        self._check_quota(lease, client, new)

        added = tuple(lease.ids.next() for _ in range(new))
        connection_ids = lease.connection_ids + added
        try:
            self._forwarder.bind(Association(connection_ids, address), lease, now)
        except (AssociationConflictError, StoreFullError) as error:
            lease.ids.issued -= new
            if isinstance(error, StoreFullError):
                raise RequestError(503, "the relay is full") from None
            raise RequestError(409, "another client holds one of these connection IDs") from None
        self._hand_over(lease, client)
        moved = lease.address is not None and lease.address != address
        if lease.address is not None and moved:
            self.events.append(Unbound(lease.connection_ids, lease.address))
        fresh = added if lease.address == address else connection_ids
        lease.connection_ids, lease.address = connection_ids, address
        if fresh:
            self.events.append(Bound(fresh, address))
        self.events.append(Registered(address, len(connection_ids), new))

    def move(self, client: Hashable, address: TransportAddress | None, now: float) -> None:
        """The client's validated address is another one now, or (None) no validated one."""
        for lease in self._by_client.get(client, {}).values():
            if lease.address == address:
                continue
            self._unbind(lease)
            if address is not None and address not in self._forwarder.own_addresses:
                self._forwarder.bind(Association(lease.connection_ids, address), lease, now)
                lease.address = address
                self.events.append(Bound(lease.connection_ids, address))

    def leave(self, client: Hashable, now: float) -> None:
        """The client's HTTP/3 connection is over."""
        for lease in self._by_client.pop(client, {}).values():
            lease.client = None
            lease.left_s = now
            self._expire_later(lease, now + self._limits.linger_s)

    def get_timer(self) -> float | None:
        """When a lease may be over."""
        return self._expiring[0][0] if self._expiring else None

    def handle_timer(self, now: float) -> None:
        """End the leases whose time is over."""
        while self._expiring and self._expiring[0][0] <= now:
            _, _, lease = heapq.heappop(self._expiring)
            if lease.client is not None or self._leases.get(lease.key) is not lease:
                continue
            # Only what the address itself sends is a sign of life. Were what is sent *to* it one
            # as well, its peer could hold it bound for ever, whoever has that address by then.
            seen_s = None
            if lease.address is not None:
                seen_s = self._forwarder.last_seen_s(lease.address)
            over_s = max(lease.left_s, seen_s or lease.left_s) + self._limits.linger_s
            if over_s > now:
                self._expire_later(lease, over_s)
                continue
            address = lease.address
            self._unbind(lease)
            del self._leases[lease.key]
            if address is not None:
                self.events.append(Expired(len(lease.connection_ids), address))

    # Parts

    def _check_holder(self, lease: _Lease, client: Hashable, address: TransportAddress) -> None:
        if lease.client is None or lease.client == client or lease.address == address:
            return
        raise RequestError(409, "another client holds this key")

    def _check_quota(self, lease: _Lease, client: Hashable, new: int) -> None:
        limits = self._limits
        if new > limits.ids_per_call:
            raise RequestError(429, f"at most {limits.ids_per_call} new connection IDs a call")
        held = self._by_client.get(client, {})
        others = sum(len(one.connection_ids) for one in held.values() if one is not lease)
        if others + len(lease.connection_ids) + new > limits.ids_per_owner:
            raise RequestError(429, f"at most {limits.ids_per_owner} connection IDs a client")

    def _hand_over(self, lease: _Lease, client: Hashable) -> None:
        if lease.client is not None:
            self._by_client.get(lease.client, {}).pop(lease.key, None)
        lease.client = client
        self._leases[lease.key] = lease
        self._by_client.setdefault(client, {})[lease.key] = lease

    def _unbind(self, lease: _Lease) -> None:
        if lease.address is None:
            return
        self._forwarder.unbind(Association(lease.connection_ids, lease.address), lease)
        self.events.append(Unbound(lease.connection_ids, lease.address))
        lease.address = None

    def _expire_later(self, lease: _Lease, at_s: float) -> None:
        heapq.heappush(self._expiring, (at_s, next(self._order), lease))
