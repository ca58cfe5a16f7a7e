"""MapStore: one owner an ID, all or nothing, bounded, nothing evicted."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.store import (
    Association,
    AssociationConflictError,
    AssociationNotFoundError,
    MapStore,
    StoreFullError,
)

HERE, THERE = TransportAddress("192.0.2.1", 1), TransportAddress("192.0.2.1", 2)


def test_put_get_remove() -> None:
    store = MapStore(10)
    store.put_association(Association((b"a", b"b"), HERE), "me")
    assert store.get_association(b"b") == Association((b"b",), HERE)
    assert store.is_bound(HERE)
    store.remove_association(Association((b"a", b"b", b"c"), HERE), "me")
    assert not store.is_bound(HERE)
    with pytest.raises(AssociationNotFoundError):
        store.get_association(b"a")


def test_another_owner_is_refused_and_nothing_changes() -> None:
    store = MapStore(10)
    store.put_association(Association((b"a",), HERE), "me")
    with pytest.raises(AssociationConflictError):
        store.put_association(Association((b"b", b"a"), THERE), "you")
    assert len(store) == 1
    store.remove_association(Association((b"a",), HERE), "you")
    assert store.get_association(b"a").address == HERE


class Model(RuleBasedStateMachine):
    """Against two plain dictionaries."""

    ids = st.lists(st.sampled_from([b"1", b"2", b"3", b"4", b"5", b"6"]), max_size=4).map(tuple)
    owners = st.sampled_from(["x", "y"])
    places = st.sampled_from([HERE, THERE])

    def __init__(self) -> None:
        super().__init__()
        self.store = MapStore(5)
        self.owner: dict[bytes, str] = {}
        self.place: dict[bytes, TransportAddress] = {}

    @rule(ids=ids, owner=owners, place=places)
    def put(self, ids: tuple[bytes, ...], owner: str, place: TransportAddress) -> None:
        expected: type[Exception] | None = None
        if any(self.owner.get(one, owner) != owner for one in ids):
            expected = AssociationConflictError
        elif len({*self.owner, *ids}) > 5:
            expected = StoreFullError
        if expected is not None:
            with pytest.raises(expected):
                self.store.put_association(Association(ids, place), owner)
            return
        self.store.put_association(Association(ids, place), owner)
        self.owner |= dict.fromkeys(ids, owner)
        self.place |= dict.fromkeys(ids, place)

    @rule(ids=ids, owner=owners, place=places)
    def remove(self, ids: tuple[bytes, ...], owner: str, place: TransportAddress) -> None:
        self.store.remove_association(Association(ids, place), owner)
        for one in ids:
            if self.owner.get(one) == owner and self.place[one] == place:
                del self.owner[one], self.place[one]

    @invariant()
    def agrees(self) -> None:
        assert len(self.store) == len(self.place)
        for one, place in self.place.items():
            assert self.store.get_association(one).address == place
        for place in (HERE, THERE):
            assert self.store.is_bound(place) == (place in self.place.values())


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=50, stateful_step_count=15, deadline=None)
