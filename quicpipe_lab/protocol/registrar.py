"""Who holds which key at the relay, and for how long (NAT-TRAVERSAL rules of the relay, 1 to 5).

A *lease* is one key's registration. It belongs to the HTTP/3 connection (the client) that made it,
is bound to that connection's address while this is validated, and outlives the connection for as
long as its address goes on sending, and ``linger_s`` more. The key is a secret between client and
relay: who presents it again may take the lease over once its connection is gone, or from the same
address at any time. While the connection lives, anybody else gets 409.

A lease holds a window of its key's IDs. A client that asks for later ones gives back those before
its ``first``, so that a peer connection may use up any number of IDs and hold few.
"""

import heapq
import itertools
from collections import deque
from collections.abc import Hashable

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import LAST_INDEX, ConnectionIdGenerator
from quicpipe_lab.protocol.forwarding import Forwarder
from quicpipe_lab.protocol.relay_events import Bound, Expired, Registered, RelayEvent, Unbound
from quicpipe_lab.protocol.relay_limits import HostCounts, RelayLimits, Share, host_key
from quicpipe_lab.protocol.store import Association, AssociationConflictError, StoreFullError
from quicpipe_lab.protocol.wire import Registration, RequestError


class _Lease:
    """``connection_ids`` are those from index ``first`` on. ``address`` is None while they are
    bound to none. ``client`` is None once that is gone."""

    __slots__ = (
        "address",
        "client",
        "connection_ids",
        "first",
        "ids",
        "is_expiring",
        "key",
        "left_s",
        "share",
    )

    def __init__(self, key: bytes, ids: ConnectionIdGenerator) -> None:
        self.key = key
        self.ids = ids
        self.first = 1
        self.connection_ids: tuple[bytes, ...] = ()
        self.address: TransportAddress | None = None
        self.client: Hashable | None = None
        self.left_s = 0.0
        self.share = Share()
        self.is_expiring = False
        """Whether it is among those that are looked at when their time may be over: once, however
        often clients come and leave."""

    def window(self, num: int, first: int) -> tuple[int, tuple[bytes, ...], int, int]:
        """What a registration leaves: the first index, the IDs that stay, and from which index
        to before which there are new ones."""
        first = max(first, self.first)
        end = self.first + len(self.connection_ids)
        kept = self.connection_ids[first - self.first :]
        return first, kept, max(first, end), max(num + 1, end)


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
        # Leases that wait for a validated address are counted as well: their room stays theirs.
        self._hosts = HostCounts(limits.ids_per_host)
        self.events: deque[RelayEvent] = deque()

    def register(
        self, registration: Registration, client: Hashable, address: TransportAddress, now: float
    ) -> None:
        """Bind the IDs ``first`` to ``num`` of the key to the client's validated address. To ask
        for fewer takes nothing away, and what was given back stays so: requests may overtake.

        Raises RequestError: 403 for an address that nothing may be sent to, 409 where another
        holds the key, 429 beyond a quota, 503 where the relay is full; then nothing has changed.
        """
        key, num, first = registration
        if address in self._forwarder.own_addresses:
            raise RequestError(403, "that is the relay's own address")
        lease = self._leases.get(key)
        if lease is None:
            lease = _Lease(key, ConnectionIdGenerator(key, relay_leg=False, length=self._id_length))
        self._check_holder(lease, client, address)
        first, kept, start, stop = lease.window(num, first)
        host = self._check_quota(lease, client, address, len(kept), stop - start)
        if num > LAST_INDEX:
            raise RequestError(400, f"a key has {LAST_INDEX} connection IDs")

        added = tuple(map(lease.ids.at, range(start, stop)))
        connection_ids = kept + added
        try:
            self._forwarder.bind(Association(connection_ids, address), lease, now)
        except StoreFullError:
            raise RequestError(503, "the relay is full") from None
        except AssociationConflictError:
            raise RequestError(409, "another client holds one of these connection IDs") from None
        self._hosts.set(lease.share, host, len(connection_ids))
        self._hand_over(lease, client)
        stays = lease.address == address
        gone = lease.connection_ids[: first - lease.first] if stays else lease.connection_ids
        self._unbind(lease, gone)
        lease.first, lease.connection_ids, lease.address = first, connection_ids, address
        fresh = added if stays else connection_ids
        if fresh:
            self.events.append(Bound(fresh, address))
        self.events.append(Registered(address, len(connection_ids), stop - start))

    def move(self, client: Hashable, address: TransportAddress | None, now: float) -> None:
        """The client's validated address is another one now, or (None) no validated one.

        To be called at every sign of life: where an ID is another's by now, which only IDs of a
        few bytes can be, none is bound until that one is free.
        """
        for lease in self._by_client.get(client, {}).values():
            if lease.address == address:
                continue
            self._unbind(lease, lease.connection_ids)
            lease.address = None
            if address is None or address in self._forwarder.own_addresses:
                continue
            try:
                self._forwarder.bind(Association(lease.connection_ids, address), lease, now)
            except (AssociationConflictError, StoreFullError):
                continue
            host = self._hosts.payer(lease.share, host_key(address.host), lease.share.count)
            self._hosts.set(lease.share, host, lease.share.count)
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
            lease.is_expiring = False
            if lease.client is not None:
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
            self._unbind(lease, lease.connection_ids)
            self._hosts.set(lease.share, None, 0)
            del self._leases[lease.key]
            if address is not None:
                self.events.append(Expired(len(lease.connection_ids), address))

    # Parts

    def _check_holder(self, lease: _Lease, client: Hashable, address: TransportAddress) -> None:
        if lease.client is None or lease.client == client or lease.address == address:
            return
        raise RequestError(409, "another client holds this key")

    def _check_quota(
        self, lease: _Lease, client: Hashable, address: TransportAddress, kept: int, new: int
    ) -> int:
        """The host that all of the lease's IDs would count for."""
        limits, count = self._limits, kept + new
        if new > limits.ids_per_call:
            raise RequestError(429, f"at most {limits.ids_per_call} new connection IDs a call")
        held = self._by_client.get(client, {})
        others = sum(len(one.connection_ids) for one in held.values() if one is not lease)
        if others + count > limits.ids_per_owner:
            raise RequestError(429, f"at most {limits.ids_per_owner} connection IDs a client")
        host = self._hosts.payer(lease.share, host_key(address.host), count)
        if host is None:
            raise RequestError(429, f"at most {limits.ids_per_host} connection IDs a host")
        if self._hosts.total - lease.share.count + count > limits.bindings:
            raise RequestError(503, "the relay is full")
        return host

    def _hand_over(self, lease: _Lease, client: Hashable) -> None:
        if lease.client is not None:
            self._by_client.get(lease.client, {}).pop(lease.key, None)
        lease.client = client
        self._leases[lease.key] = lease
        self._by_client.setdefault(client, {})[lease.key] = lease

    def _unbind(self, lease: _Lease, connection_ids: tuple[bytes, ...]) -> None:
        """Those of the IDs that are bound to the lease's address are so no more."""
        if lease.address is None or not connection_ids:
            return
        self._forwarder.unbind(Association(connection_ids, lease.address), lease)
        self.events.append(Unbound(connection_ids, lease.address))

    def _expire_later(self, lease: _Lease, at_s: float) -> None:
        if not lease.is_expiring:
            lease.is_expiring = True
            heapq.heappush(self._expiring, (at_s, next(self._order), lease))
