"""Which connection IDs are bound to which address: the relay's one table.

The names are the original's (server.go): Association, Store, MapStore. What the original leaves
open is closed here: an ID has one owner, the table has a size, and neither a newcomer nor a flood
of them ever displaces what is bound.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Protocol

from quicpipe_lab.model.address import TransportAddress


@dataclass(frozen=True, slots=True)
class Association:
    """Datagrams to any of ``connection_ids`` go to ``address``."""

    connection_ids: tuple[bytes, ...]
    address: TransportAddress


class AssociationNotFoundError(LookupError):
    """The original's ErrAssociationNotFound."""


class AssociationConflictError(Exception):
    """A connection ID belongs to another owner."""


class StoreFullError(Exception):
    """There is no room, and nothing that lives is evicted to make some."""


class Store(Protocol):
    """What the relay asks of its table. ``owner`` is whoever may change or remove a binding."""

    def put_association(self, association: Association, owner: Hashable) -> None:
        """Bind, or bind anew to another address: all of the IDs, or none and an exception."""

    def get_association(self, connection_id: bytes) -> Association:
        """The binding of one ID. Raises AssociationNotFoundError."""

    def remove_association(self, association: Association, owner: Hashable) -> None:
        """Unbind those of the IDs that are bound to this address and belong to ``owner``."""

    def is_bound(self, address: TransportAddress) -> bool:
        """Whether any ID is bound to this address."""

    def __len__(self) -> int:
        """How many IDs are bound."""


@dataclass(frozen=True, slots=True)
class _Binding:
    owner: Hashable
    address: TransportAddress


class MapStore:
    """A Store in memory, about 200 bytes an ID."""

    def __init__(self, max_bindings: int) -> None:
        self.max_bindings = max_bindings
        self._bindings: dict[bytes, _Binding] = {}
        self._ids_at: dict[TransportAddress, int] = {}

    def put_association(self, association: Association, owner: Hashable) -> None:
        connection_ids = dict.fromkeys(association.connection_ids)
        new = 0
        for connection_id in connection_ids:
            binding = self._bindings.get(connection_id)
            if binding is None:
                new += 1
            elif binding.owner != owner:
                raise AssociationConflictError(connection_id.hex())
        if len(self._bindings) + new > self.max_bindings:
            raise StoreFullError(f"{self.max_bindings} connection IDs are bound")
        bound = _Binding(owner, association.address)
        for connection_id in connection_ids:
            before = self._bindings.get(connection_id)
            if before is not None:
                self._count(before.address, -1)
            self._bindings[connection_id] = bound
            self._count(bound.address, +1)

    def get_association(self, connection_id: bytes) -> Association:
        binding = self._bindings.get(connection_id)
        if binding is None:
            raise AssociationNotFoundError(connection_id.hex())
        return Association((connection_id,), binding.address)

    def remove_association(self, association: Association, owner: Hashable) -> None:
        for connection_id in self.held(association, owner):
            del self._bindings[connection_id]
            self._count(association.address, -1)

    def held(self, association: Association, owner: Hashable) -> list[bytes]:
        """Those of the IDs that are bound to this address and belong to ``owner``."""
        wanted = _Binding(owner, association.address)
        connection_ids = dict.fromkeys(association.connection_ids)
        return [one for one in connection_ids if self._bindings.get(one) == wanted]

    def is_bound(self, address: TransportAddress) -> bool:
        return address in self._ids_at

    def __len__(self) -> int:
        return len(self._bindings)

    def _count(self, address: TransportAddress, change: int) -> None:
        count = self._ids_at.get(address, 0) + change
        if count:
            self._ids_at[address] = count
        else:
            del self._ids_at[address]
