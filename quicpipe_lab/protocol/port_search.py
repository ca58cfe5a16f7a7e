"""Port search: one peer opens many ports of its NAT, the other knocks at random ones.

Where a peer's filter is APDF and the other's mapping is not endpoint-independent, punching fails:
the filter must be opened for a port that nobody knows. But that port need not be one: the *hard*
side, with the mapping, opens 256, by a datagram from as many sockets to where the *easy* side is
known to be. Of 64,512 ports one in 252 is then open, and the easy side finds one by a few hundred
probes from its one socket, which also open its own filter for what it hits. (Ford, Srisuresh and
Kegel 2005, 5.1, name the idea; D. Anderson, "How NAT traversal works", 2020, has the numbers:
175 probes for 50 %, 577 for 90 %, 1148 for 99 %.)

Neither side knows for sure which of them is hard. But who has heard the other in a round of
punching knows where it is, and need not look for it: so a side knocks that has heard nothing, and a
side opens ports whose peer is going to knock; sometimes both do both. This file decides what is
sent when; ``DirectPath`` sends it, as punch datagrams of 26 bytes, and hears the answers.

Bounds (RFC 9000, 21.5.6), on top of both users having asked for it: one external address, the
peer's; ``SearchLimits`` in numbers and in time, for the connection's whole life.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat import LOWEST_PORT
from quicpipe_lab.protocol.quic import RandomBytes

_MOST_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class SearchLimits:
    """How far a search may go.

    ``sockets`` are opened in all, the endpoint's own among them. ``probes`` is for the connection's
    whole life: 2,048 without repetition miss 256 ports in one of 3,800 cases. ``probes_per_s``: 200
    datagrams take 86 kbit/s. The ports are opened at ``openings_per_s``, for at most ``aims``
    addresses of the peer's, ``openings`` times each, from a search's begin to its end, for
    datagrams get lost, and knocks come before what they would have met. ``searches``: a
    connection's most, of which the last comes ``last_after_s`` after the one before it at the
    earliest: whatever made that one vain may be over by then. ``refresh_s``: how often a side asks
    whether it is still where it is sought.
    """

    sockets: int = 256
    probes: int = 2048
    probes_per_s: float = 200.0
    openings_per_s: float = 500.0
    openings: int = 4
    aims: int = 3
    searches: int = 3
    last_after_s: float = 60.0
    answer_s: float = 5.0
    linger_s: float = 2.0
    longest_s: float = 60.0
    refresh_s: float = 2.0


class Knock(NamedTuple):
    """One datagram: by which socket, to where. ``number`` counts the probes, from 1; 0 is none,
    but opens a port."""

    via: int
    address: TransportAddress
    number: int = 0


class Offer(NamedTuple):
    """What a side means to do: so many probes, for so long."""

    probes: int
    seconds: float


@dataclass(slots=True)
class _Opening:
    """The ports' way to one address: the next socket, and how often all have been opened."""

    address: TransportAddress
    began_s: float
    next_s: float
    via: int = 0
    times: int = 0


class PortSearch:
    """One side's part of a connection's searches. Times are the owner's."""

    def __init__(self, limits: SearchLimits, random: RandomBytes) -> None:
        self.limits = limits
        self.searches = 0
        """How many have begun."""
        self.probed = 0
        """How many probes the connection's searches have sent."""
        self.sent = self.opened = 0
        """Probes of this search, and datagrams that opened ports."""
        self.hit: int | None = None
        """Which of this search's probes was answered, if one was."""
        self.began_s: float | None = None
        """When this search began; None where none has, or the peer has yet to agree."""
        self.ends_s = 0.0
        self._last_began_s = -math.inf
        self._random = random
        self._drawn: set[int] = set()
        self._target = TransportAddress("", 0)
        self._allowed = 0
        self._probe_at = self._reopen_s = 0.0
        self._ask_at = math.inf
        self._openings: list[_Opening] = []

    @property
    def left(self) -> int:
        """How many searches there may yet be."""
        return max(0, self.limits.searches - self.searches)

    @property
    def is_spent(self) -> bool:
        """Whether there have been as many searches as there may be."""
        return not self.left

    def may_begin(self, now: float) -> bool:
        """Whether it is time for one, if there is any left."""
        return self.left > 1 or now - self._last_began_s >= self.limits.last_after_s

    def offer(self, *, heard: bool) -> Offer:
        """What this side would do. ``heard``: whether it knows already where the peer is.

        Half of what is left, and all of it in the last search: where the way to the peer was
        cut off in one, or a NAT rebooted, it took a connection's chance else, for good."""
        if heard or self.is_spent:
            return Offer(0, 0.0)
        left = self.limits.probes - self.probed
        probes = left if self.left == 1 else left // 2
        return Offer(probes, probes / self.limits.probes_per_s)

    def begin(
        self,
        target: TransportAddress,
        aim: TransportAddress,
        ours: Offer,
        theirs: Offer,
        rtt_s: float,
        now: float,
    ) -> None:
        """``target``: whose ports are knocked at. ``aim``: what ours are opened for."""
        self.searches += 1
        self.sent = self.opened = 0
        self.hit = None
        self._target = target
        self._allowed = ours.probes
        opens = theirs.probes > 0 and self.searches <= self.limits.searches
        self._openings = [_Opening(aim, now, now)] if opens else []
        # Not before the other side's ports are open; its search may begin a way through later.
        first = self.limits.sockets / self.limits.openings_per_s + rtt_s
        self._probe_at = now + first
        lasts_s = min(max(ours.seconds, theirs.seconds), self.limits.longest_s)
        self._reopen_s = lasts_s / max(1, self.limits.openings - 1)
        self._ask_at = now + self.limits.refresh_s
        self.began_s = self._last_began_s = now
        self.ends_s = now + first + lasts_s + self.limits.linger_s + rtt_s

    def await_answer(self, now: float) -> None:
        """The peer was asked; it answers in time, or there is no search."""
        self.stop()
        self.sent = self.opened = 0
        self.ends_s = now + self.limits.answer_s

    def stop(self) -> None:
        """Send nothing more, and need no further sockets."""
        self._openings, self._allowed, self.began_s = [], 0, None
        self._ask_at = math.inf

    def aim(self, address: TransportAddress, now: float) -> None:
        """The peer was heard from here: open the ports for this address too."""
        known = any(one.address == address for one in self._openings)
        same_host = address.host == self._target.host
        if self._openings and not known and same_host and len(self._openings) < self.limits.aims:
            self._openings.append(_Opening(address, now, now))

    def redirect(self, address: TransportAddress, now: float) -> None:
        """The peer says that it is seen here now: what was first aimed at is where it was. A pass
        that this cuts short counts as one, so that no more is sent than else."""
        known = any(one.address == address for one in self._openings)
        if self._openings and not known and address.host == self._target.host:
            first = self._openings[0]
            first.times += first.via > 0
            first.address, first.via, first.next_s = address, 0, now

    def found(self, number: int) -> None:
        """A probe was answered: knock no more."""
        self._allowed = 0
        self.hit = self.hit or number or None

    @property
    def sockets(self) -> range:
        """The further sockets that this search needs."""
        return range(1, self.limits.sockets) if self._openings else range(0)

    def due(self, now: float) -> Iterator[Knock]:
        """What goes out at ``now``."""
        for one in self._openings:
            while one.next_s <= now and self._is_due(one):
                yield Knock(one.via, one.address)
                self.opened += 1
                one.via += 1
                one.next_s += 1 / self.limits.openings_per_s
                if one.via == self.limits.sockets:
                    one.via, one.times = 0, one.times + 1
                    one.next_s = one.began_s + one.times * self._reopen_s
        step_s = 1 / self.limits.probes_per_s
        while self._probe_at <= now and self.sent < self._allowed:
            self.sent += 1
            self.probed += 1
            yield Knock(0, TransportAddress(self._target.host, self._draw()), self.sent)
            # After a pause of the process it may catch up on a few, and no more.
            self._probe_at = max(self._probe_at, now - _MOST_AT_ONCE * step_s) + step_s

    def is_to_ask(self, now: float) -> bool:
        """Whether to ask now where we are seen: a NAT that has forgotten us in mid-search makes all
        in vain that goes to where we were."""
        if now < self._ask_at:
            return False
        self._ask_at = now + self.limits.refresh_s
        return True

    def get_timer(self) -> float:
        """When something is due, or the search is over."""
        times = [one.next_s for one in self._openings if self._is_due(one)]
        if self.sent < self._allowed:
            times.append(self._probe_at)
        return min([*times, self._ask_at, self.ends_s])

    def _is_due(self, opening: _Opening) -> bool:
        return opening.times < self.limits.openings

    def _draw(self) -> int:
        """A port that was not drawn before; far more are left than were ever drawn."""
        while True:
            port = int.from_bytes(self._random(2), "big")
            if port >= LOWEST_PORT and port not in self._drawn:
                self._drawn.add(port)
                return port
