"""What is expected of a pair of NATs; tests/protocol and the matrix show that it comes true."""

import itertools

from quicpipe_lab.model.expectation import can_go_direct, is_a_race
from quicpipe_lab.model.nat import FilteringBehavior, MappingBehavior, NatBehavior
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


def test_plain_conntrack_makes_a_race_of_what_could_go_direct() -> None:
    plain, home, symmetric = (PRESETS[n] for n in ("linux-masquerade", "home", "symmetric"))
    assert is_a_race(plain, home)
    assert not is_a_race(plain, symmetric)  # hopeless anyway
    assert not is_a_race(home, home)
