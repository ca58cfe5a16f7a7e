"""The same random packet sequences through the simulator's NATs and the kernel's.

The seeds that are always played are few; QUICPIPE_LAB_NAT_SEEDS=FIRST-LAST plays others.
"""

import heapq
import os
import select
import socket
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.model.address import TransportAddress
from tests.backends.nat_random import (
    INSIDE,
    Outcome,
    Player,
    Step,
    behavior_of,
    is_preserving,
    possible,
    simulated,
    steps_of,
)
from tests.backends.netns.nat_scene import POLL_S, Home, homes
from tests.backends.netns.remote import DEADLINE_S, Sockets, port_of, sockets_of

pytestmark = pytest.mark.netns

FIRST, LAST = map(int, os.environ.get("QUICPIPE_LAB_NAT_SEEDS", "1-16").split("-"))
AT_A_TIME = 8
"""Homes of a lab; their sequences are played at the same time."""


class KernelGround:
    """A home of a lab."""

    def __init__(self, sockets: Sockets, home: Home) -> None:
        self.addresses = home.addresses
        own = {"a": (home.a, home.a_address), "b": (home.b, home.b_address)}
        self.sockets: dict[socket.socket, tuple[str, int]] = {}
        self._at: dict[tuple[str, int], tuple[socket.socket, TransportAddress]] = {}
        for number, (host, port) in enumerate(INSIDE):
            make, address = own[host]
            self._add("inside", number, make(port), address)
        for number, host in enumerate(("one", "one", "two", "two")):
            at = home.at(home.one if host == "one" else home.two)[0]
            self._add("point", number, sockets.udp(host), at)

    def _add(self, kind: str, number: int, sock: socket.socket, host: str) -> None:
        self.sockets[sock] = kind, number
        self._at[kind, number] = sock, TransportAddress(host, port_of(sock))

    def address(self, kind: str, number: int) -> TransportAddress:
        """Of a socket."""
        return self._at[kind, number][1]

    def send(self, kind: str, number: int, data: bytes, to: TransportAddress) -> None:
        """From a socket."""
        self._at[kind, number][0].sendto(data, to)

    def came(self, wanted: bool) -> Iterator[tuple[str, int, bytes, TransportAddress]]:
        """What is not to come is not waited for: it is noticed whenever it does."""
        timeout_s = DEADLINE_S if wanted else 0.0
        while ready := select.select(self.sockets, [], [], timeout_s)[0]:
            timeout_s = 0.0
            for sock in ready:
                data, (host, port) = sock.recvfrom(100)
                yield *self.sockets[sock], data, TransportAddress(host, port)


@contextmanager
def on_one_cpu() -> Iterator[None]:
    """On which veth pairs overtake nothing."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def played(players: dict[int, Player], expected: dict[int, list[Outcome]]) -> dict[int, list[Step]]:
    """All at the same time; the steps as they were, at the times at which they were taken."""
    plan = heapq.merge(*([(step, seed) for step in steps_of(seed)] for seed in players))
    taken: dict[int, list[Step]] = {seed: [] for seed in players}
    began_s = time.monotonic()
    for step, seed in plan:
        player, number = players[seed], len(taken[seed])
        listen(players.values(), began_s + step.at_s)
        taken[seed].append(step._replace(at_s=time.monotonic() - began_s))
        player.take(step, wanted=expected[seed][number] is not None)
    listen(players.values(), time.monotonic() + POLL_S)
    return taken


def listen(players: Collection[Player], until_s: float) -> None:
    """While time passes, whatever comes too late or should not come at all is heard."""
    sockets = [sock for one in players for sock in cast(KernelGround, one.ground).sockets]
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select(sockets, [], [], left_s)[0]:
            for player in players:
                player.listen()


@pytest.mark.parametrize("first", range(FIRST, LAST + 1, AT_A_TIME))
def test_both_do_the_same(first: int) -> None:
    seeds = range(first, min(first + AT_A_TIME, LAST + 1))
    topology = homes({str(seed): behavior_of(seed) for seed in seeds})
    expected = {seed: simulated(behavior_of(seed), seed, steps_of(seed)) for seed in seeds}
    with Lab(topology) as lab, sockets_of(lab) as sockets:
        players = {
            seed: Player(
                KernelGround(sockets, Home(sockets, topology, str(seed))),
                is_preserving(behavior_of(seed)),
            )
            for seed in seeds
        }
        with on_one_cpu():
            taken = played(players, expected)
    for seed, player in players.items():
        allowed = possible(behavior_of(seed), seed, taken[seed])
        assert player.outcomes in allowed, difference(seed, taken[seed], player, allowed[0])


def difference(seed: int, steps: list[Step], player: Player, allowed: list[Outcome]) -> str:
    """The NAT, and the sequence up to the first step in which kernel and simulator part."""
    lines = [f"seed {seed}: {behavior_of(seed)!r}"]
    for step, kernels, simulators in zip(steps, player.outcomes, allowed, strict=True):
        lines.append(f"{step}: {kernels}")
        if kernels != simulators:
            lines.append(f"and in the simulator: {simulators}")
            break
    return "\n".join(lines)
