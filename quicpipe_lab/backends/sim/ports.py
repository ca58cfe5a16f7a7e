"""Which external address and port a new mapping gets (RFC 4787, 4.2; RFC 7422)."""

import random
from collections.abc import Callable, Iterator, Sequence

from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat import AddressPooling, NatBehavior, PortAssignment

ATTEMPTS = 32
"""How often a port is drawn for one packet; the packet is then dropped, and the next one tries
anew. The netns backend's NATs are the same in this."""

IsFree = Callable[[TransportAddress], bool]


class Ports:
    """The ports of one external address, for those who may have them."""

    def __init__(
        self, behavior: NatBehavior, host: str, first: int, last: int, draw: random.Random
    ) -> None:
        self._behavior = behavior
        self._host = host
        self._range = first, last
        self._random = draw
        self._next = {0: 0, 1: 0}
        """Of sequences: where each goes on. There are two where parity is kept."""

    def choose(self, inside_port: int, is_free: IsFree) -> TransportAddress | None:
        """None where no port was found."""
        first, last = self._range
        if (
            self._behavior.port_assignment is PortAssignment.PRESERVING
            and first <= inside_port <= last
        ):
            same = TransportAddress(self._host, inside_port)
            if is_free(same):
                return same
        for port in self._draws(inside_port):
            drawn = TransportAddress(self._host, port)
            if is_free(drawn):
                return drawn
        return None

    def _draws(self, inside_port: int) -> Iterator[int]:
        """Ports that lie so many apart, in their order or in none."""
        first, last = self._range
        step, sequence = self._behavior.port_step, 0
        if self._behavior.port_parity:
            sequence = inside_port % 2
            first += (first + sequence) % 2
            step = step if step > 1 else 2
        count = (last - first) // step + 1
        for _ in range(ATTEMPTS):
            if self._behavior.port_assignment is PortAssignment.SEQUENTIAL:
                place = self._next[sequence]
                self._next[sequence] = (place + 1) % count
            else:
                place = self._random.randrange(count)
            yield first + place * step


class Pool:
    """All of a NAT's external addresses and ports.

    ``hosts``: the addresses, that of the uplink first. ``subscribers``: the inside ones, as the NAT
    sees them. Raises UnsupportedBehaviorError where there are not enough blocks for them.
    """

    def __init__(
        self,
        behavior: NatBehavior,
        hosts: Sequence[str],
        subscribers: Sequence[str],
        draw: random.Random,
    ) -> None:
        self._places = {host: index for index, host in enumerate(subscribers)}
        self._turn = -1
        self._ports: list[Ports] = []
        """Of each subscriber where they have blocks, else of each address."""
        self._is_by_subscriber = behavior.port_assignment is PortAssignment.BLOCK
        self._is_arbitrary = behavior.pooling is AddressPooling.ARBITRARY
        if self._is_by_subscriber:
            for host, index in self._places.items():
                bounds = _block(behavior, len(hosts), index, host)
                self._ports.append(Ports(behavior, hosts[index % len(hosts)], *bounds, draw))
        else:
            self._ports = [Ports(behavior, host, *behavior.port_range, draw) for host in hosts]

    def choose(self, inside: TransportAddress, is_free: IsFree) -> TransportAddress | None:
        """For a new mapping of an inside endpoint; None where there is none."""
        ports = self._ports_for(inside.host)
        return None if ports is None else ports.choose(inside.port, is_free)

    def _ports_for(self, host: str) -> Ports | None:
        if not self._is_by_subscriber:
            if len(self._ports) == 1:
                return self._ports[0]
            if self._is_arbitrary:
                self._turn = (self._turn + 1) % len(self._ports)
                return self._ports[self._turn]
        place = self._places.get(host)
        return None if place is None else self._ports[place % len(self._ports)]


def _block(behavior: NatBehavior, hosts: int, index: int, subscriber: str) -> tuple[int, int]:
    """RFC 7422: the subscriber's place says which address and block it has, with nothing logged."""
    size = behavior.port_block_size or 0
    first = behavior.port_range[0] + index // hosts * size
    if first + size - 1 > behavior.port_range[1]:
        raise UnsupportedBehaviorError(
            f"port_block_size of {size}: no block is left for subscriber {subscriber}"
            " (RFC 7422 gives each one of its own)"
        )
    return first, first + size - 1
