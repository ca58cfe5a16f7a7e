"""RFC 4787's nine cells in both scopes, each as a table of who may send to whom."""

import itertools

import pytest

from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    MappingBehavior,
    NatBehavior,
    PortAssignment,
)
from tests.backends.sim.home import Home

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior
CELLS = [
    NatBehavior(mapping, filtering, ports, filter_scope=scope)
    for mapping, filtering, scope, ports in itertools.product(
        MappingBehavior,
        FilteringBehavior,
        FilterScope,
        (PortAssignment.RANDOM, PortAssignment.PRESERVING),
    )
]


def name_of(behavior: NatBehavior) -> str:
    return f"{behavior}-{behavior.filter_scope}-{behavior.port_assignment}"


@pytest.mark.parametrize("behavior", CELLS, ids=name_of)
def test_mapping(behavior: NatBehavior) -> None:
    """RFC 4787, 4.1, and once more: a mapping lasts."""
    home = Home(behavior)
    inside = home.a()
    for _ in range(2):
        seen = [home.external(inside, server) for server in home.points]
        groups = [seen.index(one) for one in seen]
        assert (
            groups == {EIM: [0, 0, 0, 0], ADM: [0, 0, 2, 2], APDM: [0, 1, 2, 3]}[behavior.mapping]
        )


@pytest.mark.parametrize("behavior", CELLS, ids=name_of)
def test_filtering(behavior: NatBehavior) -> None:
    """RFC 4787, 5: one was sent to; who else gets in?"""
    home = Home(behavior)
    inside = home.a()
    to = home.external(inside, home.points[0])
    came = [home.arrives(point, inside, to) for point in home.points]
    wanted = {EIF: [True] * 4, ADF: [True, True, False, False], APDF: [True] + [False] * 3}
    assert came == wanted[behavior.filtering]


@pytest.mark.parametrize("behavior", CELLS, ids=name_of)
def test_scope(behavior: NatBehavior) -> None:
    """Whom the endpoint has sent to by another mapping comes in, if that is the filter's scope."""
    home = Home(behavior)
    inside = home.a()
    to = home.external(inside, home.points[0])
    home.external(inside, home.points[3])
    by_another = (
        behavior.filtering is EIF
        or behavior.mapping is EIM
        or behavior.filter_scope is FilterScope.ENDPOINT
    )
    assert home.arrives(home.points[3], inside, to) is by_another


@pytest.mark.parametrize("behavior", CELLS, ids=name_of)
def test_two_hosts_with_one_port(behavior: NatBehavior) -> None:
    """REQ-3, even where the destinations differ; and each gets its own."""
    home = Home(behavior)
    one, other = home.a(5000), home.b(5000)
    to_one, to_other = (
        home.external(sock, server)
        for sock, server in ((one, home.points[0]), (other, home.points[3]))
    )
    assert to_one != to_other
    assert home.arrives(home.points[0], one, to_one)
    assert home.arrives(home.points[3], other, to_other)


@pytest.mark.parametrize("behavior", CELLS, ids=name_of)
def test_what_is_dropped_leaves_nothing(behavior: NatBehavior) -> None:
    home = Home(behavior)
    inside = home.a(5000)
    stranger = home.points[3]
    stranger.send(b"early", home.outside(5000))
    home.settle()
    assert not inside.came
    assert not stranger.errors
    if behavior.port_assignment is PortAssignment.PRESERVING:
        assert home.external(inside, stranger) == (home.wan, 5000)
