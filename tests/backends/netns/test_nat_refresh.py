"""What prolongs a mapping (RFC 4787, 4.3 and REQ-6): lifetimes of a second, on the real kernel."""

import socket
import time
from collections.abc import Callable

import pytest

from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
)
from tests.backends.netns.nat_scene import POLL_S, Home, homes
from tests.backends.netns.remote import Sockets, take_all

pytestmark = pytest.mark.netns

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior
LIFETIME_S = 1.0
LONG_S = 2.2 * LIFETIME_S
BOTH, OUTBOUND = MappingRefresh.BOTH, MappingRefresh.OUTBOUND

CELLS = {
    f"{mapping}-{filtering}-{scope}".lower(): NatBehavior(
        mapping,
        filtering,
        mapping_lifetime_s=LIFETIME_S,
        filter_scope=scope,
        refresh=BOTH,
        mappings_per_subscriber=20,
    )
    for mapping, filtering, scope in (
        (EIM, APDF, FilterScope.ENDPOINT),
        (ADM, EIF, FilterScope.ENDPOINT),
        (APDM, ADF, FilterScope.ENDPOINT),
        (APDM, APDF, FilterScope.MAPPING),
    )
}
BEHAVIORS = {
    **CELLS,
    "overloading": NatBehavior(
        port_assignment=PortAssignment.PRESERVING_OVERLOADING,
        mapping_lifetime_s=LIFETIME_S,
        refresh=BOTH,
    ),
    "outbound": NatBehavior(mapping_lifetime_s=LIFETIME_S),
    "overloading-outbound": NatBehavior(
        port_assignment=PortAssignment.PRESERVING_OVERLOADING, mapping_lifetime_s=LIFETIME_S
    ),
    "pool": NatBehavior(ADM, mapping_lifetime_s=LIFETIME_S, refresh=BOTH, external_addresses=2),
}
TOPOLOGY = homes(BEHAVIORS)


def passes(server: socket.socket, inside: socket.socket, to: tuple[str, int]) -> bool:
    """Whether a datagram comes in, in this moment; one that does not is waited for shortly."""
    server.sendto(b"in", to)
    timeout_s = inside.gettimeout()
    inside.settimeout(POLL_S)
    try:
        return inside.recv(2048) == b"in"
    except TimeoutError:
        return False
    finally:
        inside.settimeout(timeout_s)


def repeat(action: Callable[[], bool], idle: socket.socket, seconds: float) -> int:
    """Do something every few moments until it is False or time is up; how often it was True."""
    end_s = time.monotonic() + seconds
    timeout_s = idle.gettimeout()
    times = 0
    while time.monotonic() < end_s and action():
        times += 1
        idle.settimeout(POLL_S)
        with pytest.raises(TimeoutError):
            idle.recv(2048)
        idle.settimeout(timeout_s)
    idle.settimeout(timeout_s)
    return times


@pytest.mark.parametrize("name", [*CELLS, "overloading", "pool"])
def test_inbound_packets_keep_a_mapping(sockets: Sockets, name: str) -> None:
    """It stays open for well over its lifetime, and is the same one afterwards."""
    home = Home(sockets, TOPOLOGY, name)
    inside = home.a()
    external = home.external(inside, home.one)
    times = repeat(lambda: passes(home.one, inside, external), home.two, LONG_S)
    assert passes(home.one, inside, external)
    assert times > 10
    assert home.external(inside, home.one) == external


@pytest.mark.parametrize("name", ["outbound", "overloading-outbound"])
def test_inbound_packets_do_not_keep_a_mapping(sockets: Sockets, name: str) -> None:
    home = Home(sockets, TOPOLOGY, name)
    inside = home.a()
    began_s = time.monotonic()
    external = home.external(inside, home.one)
    repeat(lambda: passes(home.one, inside, external), home.two, LONG_S)
    assert LIFETIME_S * 0.9 <= time.monotonic() - began_s < LONG_S


def test_strangers_keep_a_mapping_that_lets_them_in(sockets: Sockets) -> None:
    """And with it whom the mapping is for: it is found from inside again."""
    home = Home(sockets, TOPOLOGY, "adm-eif-endpoint")
    inside = home.a()
    external = home.external(inside, home.one)
    repeat(lambda: passes(home.two, inside, external), home.one, LONG_S)
    assert home.external(inside, home.one) == external


def test_strangers_that_are_not_let_in_do_not_keep_a_mapping(sockets: Sockets) -> None:
    """REQ-6: else anybody could keep a mapping open from outside."""
    home = Home(sockets, TOPOLOGY, "eim-apdf-endpoint")
    inside = home.a()
    external = home.external(inside, home.one)

    def knocks() -> bool:
        home.two.sendto(b"knock", external)
        return True

    repeat(knocks, inside, 1.3 * LIFETIME_S)
    assert take_all(inside) == []
    assert not passes(home.one, inside, external)


def test_a_mapping_that_ended_frees_its_place(sockets: Sockets) -> None:
    """The limit of mappings counts those that live. The kernel sweeps once a second."""
    home = Home(sockets, TOPOLOGY, "eim-apdf-endpoint")
    limit = BEHAVIORS[home.name].mappings_per_subscriber or 0
    witness = home.b()
    home.external(witness, home.one)
    inside = [home.a() for _ in range(limit + 3)]
    out = [home.gets_out(one, home.one, witness) for one in inside]
    assert out.count(False) >= 3
    refused = inside[out.index(False)]
    repeat(lambda: not home.gets_out(refused, home.one, witness), home.two, 5 * LIFETIME_S)
    assert home.gets_out(refused, home.one, witness)
