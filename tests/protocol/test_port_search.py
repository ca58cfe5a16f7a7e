"""The plan of a port search by itself: what goes where and when, and its bounds."""

import itertools
import random
from collections.abc import Iterator

import pytest

from quicpipe_lab.analysis.search import OPEN_PORTS, expected_probes, quantile
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.port_search import Knock, Offer, PortSearch, SearchLimits

THERE = TransportAddress("203.0.113.2", 6000)
ELSEWHERE = TransportAddress("203.0.113.2", 6001)
LIMITS = SearchLimits()
WHOLE = Offer(LIMITS.probes, LIMITS.probes / LIMITS.probes_per_s)
HALF = Offer(LIMITS.probes // 2, WHOLE.seconds / 2)


def machine(seed: int = 1) -> PortSearch:
    return PortSearch(LIMITS, random.Random(seed).randbytes)


def run(
    search: PortSearch, now: float, asked: list[float] | None = None
) -> Iterator[tuple[float, Knock]]:
    """Everything that a search sends up to its end; ``asked``: and when it asks where we are."""
    while now < search.ends_s:
        if search.is_to_ask(now) and asked is not None:
            asked.append(now)
        for knock in search.due(now):
            yield now, knock
        now = max(now, search.get_timer())


def begin(search: PortSearch, theirs: Offer = WHOLE, now: float = 100.0) -> None:
    """All that it may, in one search."""
    ours = WHOLE if search.offer(heard=False).probes else Offer(0, 0.0)
    search.begin(THERE, THERE, ours, theirs, 0.1, now)


def test_a_search_keeps_to_its_numbers() -> None:
    search = machine()
    begin(search)
    search.aim(ELSEWHERE, 100.0)
    log = list(run(search, 100.0))
    probes = [(at, one) for at, one in log if one.number]
    ports = [one.address.port for _, one in probes]
    assert len(ports) == len(set(ports)) == LIMITS.probes
    assert min(ports) >= 1024
    assert [one.number for _, one in probes] == list(range(1, LIMITS.probes + 1))
    assert {one.via for _, one in probes} == {0}
    assert {one.address.host for _, one in log} == {THERE.host}
    opened = [one for _, one in log if not one.number]
    assert {one.via for one in opened} == set(range(LIMITS.sockets))
    assert {one.address for one in opened} == {THERE, ELSEWHERE}
    assert len(opened) == 2 * LIMITS.sockets * LIMITS.openings
    assert log[-1][0] - 100.0 < WHOLE.seconds + 5.0


def test_every_port_is_open_before_the_first_knock_and_again_after_the_last() -> None:
    search = machine()
    begin(search)
    log = list(run(search, 100.0))
    probes = [at for at, one in log if one.number]
    openings = [at for at, one in log if not one.number]
    assert openings[LIMITS.sockets - 1] < probes[0]
    assert openings[-LIMITS.sockets] > probes[-1] - LIMITS.sockets / LIMITS.openings_per_s - 0.2


def test_the_pace_is_kept_also_after_the_process_has_slept() -> None:
    search = machine()
    begin(search)
    times = [at for at, one in run(search, 100.0) if one.number]
    for start in range(0, len(times) - 200, 50):
        assert times[start + 200] - times[start] > 0.99
    search = machine()
    begin(search, Offer(0, 0.0))
    assert not list(search.due(100.0))
    assert len(list(search.due(105.0))) < 12


def test_who_has_heard_the_other_does_not_knock_and_who_is_not_knocked_at_opens_nothing() -> None:
    search = machine()
    assert search.offer(heard=True).probes == 0
    assert search.offer(heard=False) == HALF
    search.begin(THERE, THERE, search.offer(heard=True), WHOLE, 0.1, 0.0)
    assert all(one.number == 0 for _, one in run(search, 0.0))
    assert len(search.sockets) == LIMITS.sockets - 1
    begin(search, theirs=Offer(0, 0.0))
    assert not search.sockets
    assert all(one.number for _, one in run(search, 100.0))


def test_the_bounds_are_the_connections_not_the_searchs() -> None:
    search = machine()
    probes, opened, now = 0, 0, 0.0
    for _ in range(20):  # a peer that asks again and again, and always says that it will knock
        search.begin(THERE, THERE, search.offer(heard=False), WHOLE, 0.1, now)
        for _, knock in run(search, now):
            probes += knock.number > 0
            opened += knock.number == 0
        now = search.ends_s
        search.stop()
    assert probes == LIMITS.probes
    assert opened == LIMITS.searches * LIMITS.openings * LIMITS.sockets


def test_a_search_in_vain_leaves_enough_for_the_next() -> None:
    search = machine()
    offered, now = [], 0.0
    while not search.is_spent:
        ours = search.offer(heard=False)
        search.begin(THERE, THERE, ours, WHOLE, 0.1, now)
        offered.append(sum(one.number > 0 for _, one in run(search, now)))
        now = search.ends_s
    assert offered == [LIMITS.probes // 2, LIMITS.probes // 4, LIMITS.probes // 4]


def test_the_last_search_waits_for_what_made_the_others_vain_to_be_over() -> None:
    search, now = machine(), 0.0
    for _ in range(LIMITS.searches - 1):
        assert search.may_begin(now)
        began_s = now
        search.begin(THERE, THERE, search.offer(heard=False), WHOLE, 0.1, now)
        now = search.ends_s
        search.stop()
    assert not search.may_begin(now)
    assert not search.may_begin(began_s + LIMITS.last_after_s - 1)
    assert search.may_begin(began_s + LIMITS.last_after_s)


def test_a_search_asks_where_it_is_sought_for_as_long_as_it_lasts() -> None:
    search = machine()
    assert not search.is_to_ask(1e9)
    begin(search)
    asked: list[float] = []
    assert list(run(search, 100.0, asked))
    steps = [later - one for one, later in itertools.pairwise([100.0, *asked])]
    assert all(LIMITS.refresh_s <= step < LIMITS.refresh_s + 0.01 for step in steps)
    assert len(asked) >= WHOLE.seconds // LIMITS.refresh_s
    search.stop()
    assert not search.is_to_ask(1e9)


@pytest.mark.parametrize("seconds", [1e9, 0.0])
def test_the_peer_does_not_decide_how_long_it_takes(seconds: float) -> None:
    search = machine()
    begin(search, theirs=Offer(10**9, seconds))
    assert search.ends_s - 100.0 < LIMITS.longest_s + 5.0


def test_ports_are_not_opened_for_other_hosts_nor_for_many_addresses() -> None:
    search = machine()
    begin(search)
    search.aim(TransportAddress("203.0.113.9", 53), 100.0)
    for port in range(2000, 3000):
        search.aim(TransportAddress(THERE.host, port), 100.0)
    aims = {one.address for _, one in run(search, 100.0) if not one.number}
    assert {one.host for one in aims} == {THERE.host}
    assert len(aims) == LIMITS.aims


def test_a_hit_ends_the_knocking() -> None:
    search = machine()
    begin(search)
    log = run(search, 100.0)
    at, _ = next(one for one in log if one[1].number == 7)
    search.found(7)
    assert not [one for one in search.due(at + 1.0) if one.number]
    search.found(0)  # the peer was heard of in other ways, too
    assert search.hit == 7


def test_so_many_probes_are_needed_as_chance_says() -> None:
    """2,000 searches for 256 ports at random: the numbers of the study, within three deviations of
    what 2,000 tell."""
    hits = []
    for seed in range(2000):
        open_ports = set(random.Random(-seed - 1).sample(range(1024, 65536), OPEN_PORTS))
        search = machine(seed)
        begin(search, theirs=Offer(0, 0.0))
        hits.append(
            next(
                (one.number for _, one in run(search, 100.0) if one.address.port in open_ports),
                LIMITS.probes + 1,
            )
        )
    assert [expected_probes(share) for share in (0.5, 0.9, 0.99)] == [175, 577, 1148]
    half, ninety = quantile(hits, 0.5), quantile(hits, 0.9)
    assert half is not None
    assert ninety is not None
    assert 158 <= half <= 193
    assert 525 <= ninety <= 632
    assert sum(hit > 1148 for hit in hits) <= 34
    assert sum(hit > LIMITS.probes for hit in hits) <= 4
