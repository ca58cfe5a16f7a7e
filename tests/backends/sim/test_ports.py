"""Which port a mapping gets: RFC 4787 4.2, RFC 7422; and what is refused by name."""

import pytest

from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.nat import (
    AddressPooling,
    MappingBehavior,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)
from quicpipe_lab.model.nat_presets import PRESETS
from tests.backends.sim.home import Home

SEQUENTIAL, RANDOM = PortAssignment.SEQUENTIAL, PortAssignment.RANDOM
PRESERVING, BLOCK = PortAssignment.PRESERVING, PortAssignment.BLOCK
OVERLOADING = PortAssignment.PRESERVING_OVERLOADING
APDM = MappingBehavior.ADDRESS_AND_PORT_DEPENDENT
EIGHT = (40000, 40007)


def ports_of(home: Home, count: int) -> list[int | None]:
    """Of fresh sockets of both hosts in turn; None where none was left."""
    found = []
    for number in range(count):
        endpoint = home.seen(home.b() if number % 2 else home.a(), home.points[0])
        found.append(endpoint and endpoint.port)
    return found


@pytest.mark.parametrize("step", [1, 2, 3, 4, 64])
def test_sequential(step: int) -> None:
    home = Home(NatBehavior(port_assignment=SEQUENTIAL, port_step=step, port_range=(5001, 9000)))
    assert ports_of(home, 6) == [5001 + step * number for number in range(6)]


def test_sequential_by_destination() -> None:
    home = Home(NatBehavior(APDM, port_assignment=SEQUENTIAL))
    inside = home.a()
    seen = [home.external(inside, point).port for point in home.points * 2]
    assert seen == [1024, 1025, 1026, 1027] * 2


def test_sequential_passes_over_ports_in_use_and_begins_again() -> None:
    home = Home(NatBehavior(port_assignment=SEQUENTIAL, port_range=(40000, 40003)))
    kept = [home.a() for _ in range(4)]
    assert [home.external(one, home.points[0]).port for one in kept] == list(range(40000, 40004))
    home.wait(200)
    home.external(kept[1], home.points[0])
    home.wait(100)
    assert ports_of(home, 4) == [40000, 40002, 40003, None]


def test_a_reboot_begins_again() -> None:
    home = Home(NatBehavior(port_assignment=SEQUENTIAL))
    assert ports_of(home, 2) == [1024, 1025]
    home.nat.reboot()
    assert ports_of(home, 2) == [1024, 1025]


def test_range_to_its_last_port() -> None:
    """A draw may miss the last free one; the next packet draws again."""
    home = Home(NatBehavior(port_range=EIGHT))
    used = set[int | None]()
    while len(used - {None}) < 8:
        used |= set(ports_of(home, 1))
    assert used - {None} == set(range(EIGHT[0], EIGHT[1] + 1))
    assert ports_of(home, 3) == [None] * 3


def test_preserving_within_a_range() -> None:
    home = Home(NatBehavior(port_assignment=PRESERVING, port_range=(20000, 20999)))
    server = home.points[0]
    assert home.external(home.a(20123), server).port == 20123
    inside = home.b(20123), home.a(21000), home.a(500)
    others = [home.external(one, server).port for one in inside]
    assert all(20000 <= port <= 20999 for port in others)
    assert len({20123, *others}) == 4


def test_preserving_at_several_addresses() -> None:
    """Both hosts keep their ports, each at its own address."""
    home = Home(NatBehavior(port_assignment=PRESERVING, external_addresses=2))
    seen = [home.external(make(5000), home.points[0]) for make in (home.a, home.b)]
    assert seen == [(home.addresses[0], 5000), (home.addresses[1], 5000)]


def test_blocks_at_several_addresses() -> None:
    """RFC 7422: addresses are filled side by side, so both hosts have the first block."""
    behavior = NatBehavior(port_assignment=BLOCK, port_block_size=128, external_addresses=3)
    for number in ports_of(Home(behavior), 40):
        assert number is not None
        assert 1024 <= number < 1152


def test_a_block_is_used_up() -> None:
    home = Home(NatBehavior(port_assignment=BLOCK, port_block_size=2))
    mine = [home.seen(home.a(), home.points[0]) for _ in range(50)]
    assert {one.port for one in mine if one} == {1024, 1025}
    assert home.external(home.b(), home.points[0]).port in (1026, 1027)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_ports_are_the_seeds(seed: int) -> None:
    first, again, other = (
        ports_of(Home(NatBehavior(), seed=one), 8) for one in (seed, seed, seed + 1)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("behavior", "said"),
    [
        (NatBehavior(port_contiguity=True), "RFC 4787, 4.2.3"),
        (NatBehavior(port_assignment=BLOCK, port_block_size=40000), "RFC 7422"),
        (NatBehavior(answered_lifetime_s=120.0), "answered_lifetime_s"),
        (
            NatBehavior(port_assignment=OVERLOADING, mappings_per_subscriber=5),
            "mappings_per_subscriber with overloaded ports",
        ),
        (
            NatBehavior(
                port_assignment=OVERLOADING, unsolicited=UnsolicitedReaction.PORT_UNREACHABLE
            ),
            "unsolicited with overloaded ports",
        ),
    ],
)
def test_what_is_not_simulated_is_refused_by_name(behavior: NatBehavior, said: str) -> None:
    with pytest.raises(UnsupportedBehaviorError, match=said):
        Home(behavior)


def test_tables_are_data() -> None:
    home = Home(NatBehavior(APDM))
    inside, server = home.a(), home.points[0]
    external = home.external(inside, server)
    home.wait(10)
    (mapping,) = home.nat.table(home.clock.now).mappings
    assert (mapping.inside, mapping.external, mapping.remote) == (
        inside.address,
        external,
        server.address,
    )
    assert (mapping.born_s, mapping.refreshed_s, mapping.expires_s) == (0.0, 0.0, 300.0)
    home.external(inside, server)
    (mapping,) = home.nat.table(home.clock.now).mappings
    (state,) = home.nat.table(home.clock.now).filters
    assert (mapping.born_s, mapping.expires_s, state.expires_s) == (0.0, 310.0, 310.0)
    assert (state.local, state.remote) == (inside.address, server.address)
    assert home.nat.table(309.9).mappings
    assert not home.nat.table(310.0).mappings
    assert not home.nat.table(310.0).filters


def test_linux_table() -> None:
    home = Home(PRESETS["linux-masquerade"])
    inside, server = home.a(), home.points[0]
    home.external(inside, server)
    home.arrives(server, inside, home.outside(inside.address.port))
    home.wait(10)
    home.external(inside, server)
    (mapping,) = home.nat.table(home.clock.now).mappings
    assert (mapping.born_s, mapping.refreshed_s, mapping.expires_s) == (0.0, 10.0, 130.0)
    assert mapping.remote == server.address


def test_arbitrary_pooling_takes_turns() -> None:
    home = Home(
        NatBehavior(
            external_addresses=2, pooling=AddressPooling.ARBITRARY, port_assignment=SEQUENTIAL
        )
    )
    seen = [home.external(home.a(), home.points[0]) for _ in range(4)]
    assert seen == [(home.addresses[n % 2], 1024 + n // 2) for n in range(4)]
