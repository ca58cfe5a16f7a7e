"""A small world in virtual time for tests of the machines: hosts, NATs and one-way delays.

NATs are tailscale's natlab idea: two behaviours, each a look-up key (RFC 4787, 4.1 and 5).
"""

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    MappingBehavior,
    NatBehavior,
)
from quicpipe_lab.protocol.machine import Machine, Searcher

TICK_S = 1e-6
"""Timers fire this much late: float rounding in loss detection otherwise re-arms one instant."""

MAX_FIRES_A_MS = 50
"""A machine whose timer fires more often has a stuck timer."""


@dataclass
class TestNat:
    """One NAT in front of one or more hosts."""

    __test__ = False
    behavior: NatBehavior
    host: str
    seed: int = 0
    mappings: dict[Any, TransportAddress] = field(default_factory=dict)
    inside: dict[TransportAddress, TransportAddress] = field(default_factory=dict)
    permitted: set[Any] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.host}/{self.seed}")

    def outbound(self, source: TransportAddress, to: TransportAddress) -> TransportAddress:
        key = {
            MappingBehavior.ENDPOINT_INDEPENDENT: (source,),
            MappingBehavior.ADDRESS_DEPENDENT: (source, to.host),
            MappingBehavior.ADDRESS_AND_PORT_DEPENDENT: (source, to),
        }[self.behavior.mapping]
        if key not in self.mappings:
            external = self._draw()
            while external in self.inside:  # RFC 4787, REQ-3
                external = self._draw()
            self.mappings[key] = external
            self.inside[external] = source
        external = self.mappings[key]
        keeper = self._keeper(source, external)
        self.permitted |= {(keeper,), (keeper, to.host), (keeper, to)}
        return external

    def _draw(self) -> TransportAddress:
        return TransportAddress(self.host, self._random.randrange(1024, 65536))

    def inbound(self, source: TransportAddress, to: TransportAddress) -> TransportAddress | None:
        inside = self.inside.get(to)
        if inside is None:
            return None
        keeper = self._keeper(inside, to)
        wanted = {
            FilteringBehavior.ENDPOINT_INDEPENDENT: (keeper,),
            FilteringBehavior.ADDRESS_DEPENDENT: (keeper, source.host),
            FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT: (keeper, source),
        }[self.behavior.filtering]
        return inside if wanted in self.permitted else None

    def _keeper(self, inside: TransportAddress, external: TransportAddress) -> TransportAddress:
        """What the filter's state is kept for."""
        return inside if self.behavior.filter_scope is FilterScope.ENDPOINT else external


@dataclass
class Site:
    """A machine at an address, perhaps behind a NAT. Its extra socket i is i ports above."""

    name: str
    machine: Machine
    address: TransportAddress
    nat: TestNat | None = None
    searcher: Searcher | None = field(init=False)
    """The machine, if it is one."""

    def __post_init__(self) -> None:
        # Once: to ask a class whether it has all methods of a protocol takes as long as a datagram.
        self.searcher = self.machine if isinstance(self.machine, Searcher) else None

    def address_of(self, via: int) -> TransportAddress:
        return TransportAddress(self.address.host, self.address.port + via)

    def socket_at(self, address: TransportAddress) -> int | None:
        """The socket that is open there."""
        via = address.port - self.address.port
        is_open = via == 0 or via in getattr(self.machine, "extra_sockets", ())
        return via if is_open and address.host == self.address.host else None


class World:
    """Moves datagrams and time. ``delay_s(a, b)`` by site names; ``drop`` may veto a datagram."""

    def __init__(self, delay_s: Callable[[str, str], float]) -> None:
        self.now = 1000.0
        self.sites: dict[str, Site] = {}
        self.delay_s = delay_s
        self.drop: Callable[[str, str, bytes], bool] = lambda *_: False
        self.sent: Counter[tuple[str, str]] = Counter()
        """Datagrams by sender's name and the host that they were for."""
        self.log: list[tuple[float, str, str, bytes]] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._timers: dict[str, float] = {}
        self._fires: dict[str, deque[float]] = {}

    def add(self, site: Site) -> None:
        self.sites[site.name] = site

    def reboot(self, name: str) -> None:
        """The site's NAT forgets all, and draws other ports from now on."""
        nat = self.sites[name].nat
        assert nat is not None
        self.sites[name].nat = TestNat(nat.behavior, nat.host, nat.seed + 1)

    def at(self, delay_s: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay_s, next(self._order), action))

    def pump(self, name: str) -> None:
        """Send what a machine has to send, and arm its timer."""
        site = self.sites[name]
        for data, to in site.machine.datagrams_to_send(self.now):
            self._send(site, 0, data, TransportAddress(*to))
        if site.searcher is not None:
            for via, data, to in site.searcher.extra_datagrams_to_send():
                if via in site.searcher.extra_sockets:
                    self._send(site, via, data, TransportAddress(*to))
        timer = site.machine.get_timer()
        if timer is not None:
            due = max(timer, self.now) + TICK_S
            if self._timers.get(name) != due:
                self._timers[name] = due
                self.at(due - self.now, lambda: self._fire(name, due))

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Let time pass; True as soon as ``until`` holds."""
        end = self.now + seconds
        while not until():
            if not self._heap or self._heap[0][0] > end:
                self.now = end
                return until()
            self.now, _, action = heapq.heappop(self._heap)
            action()
        return True

    def _fire(self, name: str, due: float) -> None:
        if self._timers.get(name) != due:
            return
        del self._timers[name]
        fires = self._fires.setdefault(name, deque(maxlen=MAX_FIRES_A_MS))
        if len(fires) == MAX_FIRES_A_MS and self.now - fires[0] < 0.001:
            raise AssertionError(f"{name}'s timer is stuck at {self.now}")
        fires.append(self.now)
        self.sites[name].machine.handle_timer(self.now)
        self.pump(name)

    def _send(self, site: Site, via: int, data: bytes, to: TransportAddress) -> None:
        self.sent[site.name, to.host] += 1
        source = site.address_of(via)
        if site.nat is not None:
            source = site.nat.outbound(source, to)
        for other in self.sites.values():
            if to.host == (other.nat.host if other.nat else other.address.host):
                self._deliver(site, other, data, source, to)

    def _deliver(
        self, site: Site, other: Site, data: bytes, source: TransportAddress, to: TransportAddress
    ) -> None:
        if self.drop(site.name, other.name, data):
            return

        def arrive() -> None:
            inside = to if other.nat is None else other.nat.inbound(source, to)
            via = None if inside is None else other.socket_at(inside)
            if via is None:
                return
            self.log.append((self.now, site.name, other.name, data))
            if via and other.searcher is not None:
                other.searcher.receive_datagram(data, source, self.now, via)
            else:
                other.machine.receive_datagram(data, source, self.now)
            self.pump(other.name)

        self.at(self.delay_s(site.name, other.name), arrive)
