"""Random packet sequences through random NATs, played in any network and told in the same words.

A sequence is drawn with its NAT from a seed. A *ground* is where it is played: the simulator, or a
lab on the kernel. What came of each datagram is told without port numbers, which are drawn: whom it
came to, and whether its source is an endpoint that was seen before, and which.
"""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from quicpipe_lab.backends.netns.rules import NatPlace, nat_table
from quicpipe_lab.errors import ScenarioError, UnsupportedBehaviorError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat import (
    AddressPooling,
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)
from tests.backends.nat_behaviors import PLAIN_LINUX
from tests.backends.sim.home import Home, Socket

INSIDE = (("a", 5000), ("a", 5001), ("b", 5000), ("b", 5001))
"""Hosts and ports of the inside sockets: few, so that the NAT cannot give each its own."""
_PORTS = {port for _, port in INSIDE}
POINTS = 4
"""Sockets outside: two ports of one host, and two of another."""
_PRESERVING = PortAssignment.PRESERVING, PortAssignment.PRESERVING_OVERLOADING
LONG_S, SHORT_S = 300.0, 1.0
STEPS = 30
PAUSES = 4
LASTS_S = 1.9
SLACK_S = 0.1
"""The kernel looks at its clock later than we at ours; and its own has ticks."""


class Step(NamedTuple):
    """``out``: inside socket ``one`` sends to point ``other``. ``in``, ``turn``: point or inside
    socket ``one`` sends to the endpoint that was the ``other``-th to be seen, going round.
    ``early``: point ``one`` sends to the NAT's first address, by the port of the inside ``other``.
    """

    at_s: float
    what: str
    one: int
    other: int


Outcome = tuple[str, int, str] | None
"""Where a datagram came to, "inside" or "point" and its number, and from where, in words."""


class Ground(Protocol):
    """Sockets are by "inside" or "point", and number."""

    addresses: list[str]

    def address(self, kind: str, number: int, /) -> TransportAddress: ...
    def send(self, kind: str, number: int, data: bytes, to: TransportAddress, /) -> None: ...
    def came(self, wanted: bool, /) -> Iterable[tuple[str, int, bytes, TransportAddress]]:
        """What has come since the last time; ``wanted``: something is to."""
        ...


@dataclass
class Player:
    """Of one sequence, step by step; ``outcomes`` are what came of it so far."""

    ground: Ground
    is_preserving: bool
    outcomes: list[Outcome] = field(default_factory=list)
    _endpoints: list[TransportAddress] = field(default_factory=list)

    def take(self, step: Step, wanted: bool = False) -> None:
        """Play one step."""
        number = len(self.outcomes)
        self.outcomes.append(None)
        to = self._target(step)
        if to is not None:
            kind = "inside" if step.what in ("out", "turn") else "point"
            self.ground.send(kind, step.one, b"%d" % number, to)
            self.listen(wanted)

    def listen(self, wanted: bool = False) -> None:
        """Take what has come, also of earlier datagrams."""
        for kind, number, data, source in self.ground.came(wanted):
            assert self.outcomes[int(data)] is None, "a datagram came twice"
            self.outcomes[int(data)] = kind, number, self._word(source)

    def _target(self, step: Step) -> TransportAddress | None:
        if step.what == "out":
            return self.ground.address("point", step.other)
        if step.what == "early":
            inside = self.ground.address("inside", step.other)
            return TransportAddress(self.ground.addresses[0], inside.port)
        return self._endpoints[step.other % len(self._endpoints)] if self._endpoints else None

    def _word(self, source: TransportAddress) -> str:
        for kind, count in (("inside", len(INSIDE)), ("point", POINTS)):
            for number in range(count):
                if source == self.ground.address(kind, number):
                    return f"{kind} {number}"
        if source not in self._endpoints:
            self._endpoints.append(source)
        known = f"endpoint {self._endpoints.index(source)}"
        # Of ports that are drawn, any may be the inside one.
        port = source.port if self.is_preserving and source.port in _PORTS else "another"
        return f"{known}, address {self.ground.addresses.index(source.host)}, port {port}"


def behavior_of(seed: int) -> NatBehavior:
    """One that both backends have."""
    draw = random.Random(f"{seed}/behavior")
    while True:
        try:
            behavior = _behavior(draw)
            nat_table(behavior, NatPlace("wan", ["198.18.0.1"] * 4, ["10.0.0.2", "10.0.1.2"]))
        except (ScenarioError, UnsupportedBehaviorError):
            continue
        return behavior


def _behavior(draw: random.Random) -> NatBehavior:
    ports = draw.choice(list(PortAssignment))
    if ports is PortAssignment.PRESERVING_OVERLOADING:
        # Nothing ends: conntrack sweeps up flows that have ended when it comes to it, and until
        # then takes an inside endpoint's last port from them.
        if draw.random() < 0.5:
            return PLAIN_LINUX
        scope, refresh = draw.choice(list(FilterScope)), draw.choice(list(MappingRefresh))
        return NatBehavior(port_assignment=ports, filter_scope=scope, refresh=refresh)
    lifetime_s = draw.choice((LONG_S, SHORT_S, SHORT_S))
    # A mapping that has ended counts for up to a second more there.
    limit = draw.choice((None, 1, 2, 4)) if lifetime_s == LONG_S else None
    return NatBehavior(
        draw.choice(list(MappingBehavior)),
        draw.choice(list(FilteringBehavior)),
        ports,
        lifetime_s,
        draw.choice(list(FilterScope)),
        # So many that none is drawn a second time by chance, when its mapping has ended.
        draw.choice(((1024, 65535), (1, 65535), (4000, 60999))),
        draw.choice((1, 2, 8)) if ports is PortAssignment.SEQUENTIAL else 1,
        draw.choice((16384, 20000)) if ports is PortAssignment.BLOCK else None,
        port_parity=draw.random() < 0.3,
        refresh=draw.choice(list(MappingRefresh)),
        mappings_per_subscriber=limit,
        hairpinning=draw.choice(list(Hairpinning)),
        unsolicited=draw.choice(list(UnsolicitedReaction)),
        external_addresses=draw.randint(1, 3),
        pooling=draw.choice(list(AddressPooling)),
    )


def steps_of(seed: int) -> list[Step]:
    """In order of time; pauses are few, and so long that a short life may end in one or two."""
    draw = random.Random(f"{seed}/steps")
    kinds = draw.choices(("out", "in", "turn", "early"), (6, 5, 2, 1), k=STEPS)
    pauses = sorted(draw.sample(range(STEPS), PAUSES))
    ends_s = sorted(draw.uniform(0, LASTS_S) for _ in pauses)
    at_s, steps = 0.0, []
    for number, what in enumerate(kinds):
        if number in pauses:
            at_s = ends_s[pauses.index(number)]
        one, other = draw.randrange(4), draw.randrange(4 if what in ("out", "early") else 12)
        steps.append(Step(at_s, what, one, other))
    return steps


def is_preserving(behavior: NatBehavior) -> bool:
    """Whether an external port may be the inside one for another reason than chance."""
    return behavior.port_assignment in _PRESERVING


class SimGround:
    """A home in virtual time."""

    def __init__(self, behavior: NatBehavior, seed: int) -> None:
        self.home = Home(behavior, seed)
        self.addresses = self.home.addresses
        inside = [Socket(self.home.network, host, port) for host, port in INSIDE]
        self._sockets = {"inside": inside, "point": self.home.points}

    def address(self, kind: str, number: int) -> TransportAddress:
        """Of a socket."""
        return self._sockets[kind][number].address

    def send(self, kind: str, number: int, data: bytes, to: TransportAddress) -> None:
        """From a socket."""
        self._sockets[kind][number].send(data, to)

    def came(self, _: bool) -> Iterator[tuple[str, int, bytes, TransportAddress]]:
        """Nothing takes time here."""
        self.home.settle()
        for kind, sockets in self._sockets.items():
            for number, one in enumerate(sockets):
                came, one.came = one.came, []
                yield from ((kind, number, data, source) for data, source in came)


def simulated(behavior: NatBehavior, seed: int, steps: list[Step]) -> list[Outcome]:
    """What comes of a sequence in the simulator."""
    ground = SimGround(behavior, seed)
    player = Player(ground, is_preserving(behavior))
    for step in steps:
        ground.home.clock.run(step.at_s)
        player.take(step)
    return player.outcomes


def possible(behavior: NatBehavior, seed: int, steps: list[Step]) -> list[list[Outcome]]:
    """The same where it might be a little later, or earlier, than we think that it is."""
    lives_s = (behavior.mapping_lifetime_s + slack_s for slack_s in (0.0, -SLACK_S, SLACK_S))
    return [simulated(replace(behavior, mapping_lifetime_s=one), seed, steps) for one in lives_s]
