"""A stranger out in the internet: what he has seen of a run, and what he sends.

He sees what comes to the relay, sends in anybody's name, and has two addresses: one of his own, and
one of somebody who asked for nothing. The core router has both, where nobody listens.
"""

import random
from collections import deque
from collections.abc import Iterator

from quicpipe_lab.backends.sim.node import FrameSeen
from quicpipe_lab.backends.sim.packet import Udp
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.ipv6 import SERVICE_ADDRESSES_V6
from quicpipe_lab.model.scenario import Hostility, Scenario
from quicpipe_lab.model.topology import SERVICE_ADDRESSES

_KEPT = 8
"""Datagrams of each address that he keeps: the first ones, and as many of the latest."""
_GARBAGE = 12
_MOST_BYTES = 1200
_PORTS = 1024, 65535
_STRANGER, _VICTIM = range(2)
_OWN = frozenset(map(str, (*SERVICE_ADDRESSES, *SERVICE_ADDRESSES_V6)))


class Stranger:
    """The same for the same run: what he draws depends on the scenario's seed."""

    def __init__(self, scenario: Scenario) -> None:
        self._relay_node = scenario.relay
        self._draw = random.Random(f"{scenario.seed}/stranger")
        self._first: dict[TransportAddress, list[Udp]] = {}
        self._latest: dict[TransportAddress, deque[Udp]] = {}

    @staticmethod
    def is_in(scenario: Scenario) -> bool:
        """Whether there is one at all."""
        return scenario.attack is not None

    def see(self, frame: FrameSeen) -> None:
        """A frame at an interface of any node."""
        packet = frame.packet
        if frame.node != self._relay_node or frame.direction != "in":
            return
        if isinstance(packet, Udp) and not packet.flipped_bits and packet.source.host not in _OWN:
            first = self._first.setdefault(packet.source, [])
            if len(first) < _KEPT:
                first.append(packet)
            else:
                self._latest.setdefault(packet.source, deque(maxlen=_KEPT)).append(packet)

    def burst(self, kind: Hostility) -> list[Udp]:
        """Nothing, where he has seen nothing yet."""
        match kind:
            case Hostility.SPOOF:
                return [
                    self._from(one, _VICTIM) for seen in self._first.values() for one in seen[:1]
                ]
            case Hostility.REPLAY:
                return [Udp(one.source, one.destination, one.data) for one in self._seen()]
            case Hostility.COPY:
                return [self._from(one, _STRANGER) for one in self._seen()]
            case Hostility.GARBAGE:
                return list(self._garbage())

    def _seen(self) -> Iterator[Udp]:
        for source, first in self._first.items():
            yield from first
            yield from self._latest.get(source, ())

    def _from(self, packet: Udp, which: int) -> Udp:
        """The same to the same, in the name of one of the two."""
        return Udp(self._own(which, packet), packet.destination, packet.data)

    def _own(self, which: int, packet: Udp) -> TransportAddress:
        hosts = SERVICE_ADDRESSES_V6 if ":" in packet.destination.host else SERVICE_ADDRESSES
        return TransportAddress(str(hosts[which]), self._draw.randint(*_PORTS))

    def _garbage(self) -> Iterator[Udp]:
        """To the relay, or to a peer as if it were from the relay or from the stranger; with the
        first byte of anything that somebody may look at."""
        draw, seen = self._draw, [first[0] for first in self._first.values()]
        for _ in range(_GARBAGE if seen else 0):
            one = draw.choice(seen)
            data = draw.randbytes(draw.randint(1, _MOST_BYTES))
            own = self._own(_STRANGER, one)
            yield draw.choice(
                (
                    Udp(own, one.destination, data),
                    Udp(one.source, one.destination, data),
                    Udp(own, one.source, data),
                    Udp(one.destination, one.source, data),
                )
            )
