"""What is expected of a pair of NATs; tests/protocol and the matrix show that it comes true."""

import itertools
from dataclasses import replace

from quicpipe_lab.model.expectation import can_go_direct, is_a_race
from quicpipe_lab.model.nat import FilteringBehavior, FilterScope, MappingBehavior, NatBehavior
from quicpipe_lab.model.nat_presets import PRESETS

CELLS = [NatBehavior(m, f) for m in MappingBehavior for f in FilteringBehavior]


def test_it_does_not_matter_who_dials() -> None:
    for one, other in itertools.product([*CELLS, *PRESETS.values()], repeat=2):
        assert can_go_direct(one, other) == can_go_direct(other, one)
        assert is_a_race(one, other) == is_a_race(other, one)


def test_an_apdf_filter_must_face_an_eim_mapping() -> None:
    for one, other in itertools.product(CELLS, repeat=2):
        blocked = any(
            a.filtering is FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT
            and b.mapping is not MappingBehavior.ENDPOINT_INDEPENDENT
            for a, b in ((one, other), (other, one))
        )
        assert can_go_direct(one, other) != blocked


def count(scope: FilterScope, *, search: bool) -> int:
    cells = [replace(cell, filter_scope=scope) for cell in CELLS]
    pairs = itertools.product(cells, repeat=2)
    return sum(can_go_direct(one, other, search=search) for one, other in pairs)


def test_what_a_port_search_adds() -> None:
    """24 of the 32 cells, as in the study, and one more where filters are kept per endpoint;
    where they are kept per mapping, three of the four that this costs come back."""
    assert count(FilterScope.ENDPOINT, search=False) == 49
    assert count(FilterScope.ENDPOINT, search=True) == 49 + 24 + 1
    assert count(FilterScope.MAPPING, search=False) == 45
    assert count(FilterScope.MAPPING, search=True) == 45 + 24 + 3


def test_a_search_loses_nothing_and_does_not_mind_who_dials() -> None:
    for one, other in itertools.product([*CELLS, *PRESETS.values()], repeat=2):
        found = can_go_direct(one, other, search=True)
        assert found == can_go_direct(other, one, search=True)
        assert found or not can_go_direct(one, other)


def test_where_both_ports_would_have_to_be_guessed_it_takes_luck() -> None:
    apdm = MappingBehavior.ADDRESS_AND_PORT_DEPENDENT
    for one, other in itertools.product(CELLS, repeat=2):
        if one.mapping is other.mapping is apdm and not can_go_direct(one, other):
            assert not can_go_direct(one, other, search=True)
            assert is_a_race(one, other, search=True)  # but luck may have it otherwise
            assert not is_a_race(one, other)
        elif can_go_direct(one, other, search=True):
            assert not is_a_race(one, other, search=True)


def test_plain_conntrack_makes_a_race_of_what_could_go_direct() -> None:
    plain, home, symmetric = (PRESETS[n] for n in ("linux-masquerade", "home", "symmetric"))
    assert is_a_race(plain, home)
    assert not is_a_race(plain, symmetric)  # hopeless anyway
    assert not is_a_race(home, home)
