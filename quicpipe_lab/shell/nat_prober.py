"""The tests of RFC 5780, section 4, and our own, on sockets of any kind: what a NAT is seen to do.

Every test has sockets of its own, as a test leaves state behind in the NAT that spoils the next
(RFC 5780, 4.5). So they may run side by side, and do. What was seen is put into words in
model/nat_measurement.py.
"""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from quicpipe_lab.model import nat_measurement as words
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat_measurement import (
    POINTS,
    NatMeasurement,
    Property,
    ServerPoint,
)
from quicpipe_lab.shell.prober_means import REAL, CannotBindError, MakeSocket, Means, Pool, Task
from quicpipe_lab.shell.stun import BindingRequest
from quicpipe_lab.shell.stun_client import (
    NoAnswerError,
    RefusedError,
    StunClient,
    Timing,
)

FRESH_PORTS = 6
"""Sockets for the port assignment: enough to tell chance from rule."""
_THREADS = 9
_PORTS_TRIED = 16
"""Each is taken with a chance of a few in ten thousand."""

PRIMARY, SAME_ADDRESS, SAME_PORT, OTHER = POINTS
STRANGERS = (SAME_ADDRESS, SAME_PORT, OTHER)

NO_ANSWER = "no answer"
_ONE_ADDRESS = "the server has no second address (no OTHER-ADDRESS in its answer)"
_NOTHING_TRANSLATES = "it is the host's own address: nothing translates"
_ONE_HOST = "takes a second host behind the NAT"

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """A host behind the NAT: its own address, and its sockets."""

    inside_host: str
    make: MakeSocket


class NatProber:
    """``server`` has all four points, or the primary alone. One measurement for each instance."""

    def __init__(
        self,
        server: Mapping[ServerPoint, TransportAddress],
        timing: Timing,
        place: Place,
        second: Place | None = None,
        means: Means = REAL,
    ) -> None:
        self._server = server
        self._place = place
        self._second = second
        self._timing = timing
        self._means = means
        self._clients: list[StunClient] = []
        self.result = NatMeasurement()

    def close(self) -> None:
        """Close all sockets.

        Not before: an answer that comes late would have its host answer with an ICMP error, which
        looks like the NAT's.
        """
        while self._clients:
            self._clients.pop().close()

    def measure(self) -> NatMeasurement:
        """Raises NoAnswerError where the primary is silent."""
        try:
            self.measure_ports()
            return self.measure_behaviors()
        finally:
            self.close()

    def measure_ports(self) -> None:
        """Apart from all else: mappings in between would look like gaps in a sequence."""
        fresh = [self._fresh_mapping() for _ in range(FRESH_PORTS)]
        self.result.ports = [(inside, one.port) for inside, one in fresh]
        self.result.hosts = list(dict.fromkeys(one.host for _, one in fresh))
        self._say(Property.EXTERNAL_ADDRESS, " and ".join(self.result.hosts))
        if ":" in self._place.inside_host:
            word = words.translation(self._place.inside_host, self.result.hosts)
            self._say(Property.TRANSLATION, word)
        self._say(Property.PORT_ASSIGNMENT, words.port_assignment(self.result.ports))
        if self._nothing_translates:
            self._remark(Property.EXTERNAL_ADDRESS, _NOTHING_TRANSLATES)

    def measure_behaviors(self) -> NatMeasurement:
        """After the ports."""
        preserving = self.result.words[Property.PORT_ASSIGNMENT] == "preserving"
        with self._means.pool(_THREADS) as threads:
            if set(self._server) == set(POINTS):
                self._measure_behaviors(threads, preserving)
            else:
                for missing in (Property.MAPPING, Property.FILTERING, Property.UNSOLICITED):
                    self._remark(missing, _ONE_ADDRESS)
                self._conclude_hairpin(threads.submit(self._hairpin))
        return self.result

    def _measure_behaviors(self, threads: Pool, preserving: bool) -> None:
        seen = threads.submit(self._seen)
        visits = {point: threads.submit(self._visit, point) for point in STRANGERS}
        through_another = threads.submit(self._comes_through_another)
        hairpin = threads.submit(self._hairpin)
        early = threads.submit(self._early_datagram)
        pair = threads.submit(self._pair) if self._second else None

        mapping = self._conclude(Property.MAPPING, seen.result, _mapping_behavior)
        filtering = self._conclude(
            Property.FILTERING,
            lambda: {point: visit.result().came for point, visit in visits.items()},
            words.filtering_behavior,
        )
        self._conclude(
            Property.FILTER_SCOPE,
            through_another.result,
            lambda came: words.filter_scope(mapping, filtering, came),
        )
        self._conclude_hairpin(hairpin)
        if pair:
            self._conclude(Property.SAME_PORT, pair.result, lambda both: words.same_port(*both))
        else:
            self._remark(Property.SAME_PORT, _ONE_HOST)
        self._conclude(
            Property.UNSOLICITED,
            lambda: any(visit.result().moved(mapping) for visit in visits.values()),
            _effect,
        )
        if preserving:
            self._conclude_early(early)

    # Conclusions

    @property
    def _nothing_translates(self) -> bool:
        return self.result.hosts == [self._place.inside_host]

    def _say(self, what: Property, word: str | None) -> None:
        if word is not None:
            self.result.words[what] = word

    def _remark(self, what: Property, remark: str) -> None:
        self.result.remarks[what] = remark

    def _conclude(
        self, what: Property, see: Callable[[], T], judge: Callable[[T], str | None]
    ) -> str:
        """The word of a property; what the server could not do for it becomes a remark."""
        try:
            word = judge(see())
        except RefusedError as error:
            self._remark(what, str(error))
            return words.INCONSISTENT
        except NoAnswerError as error:
            self._remark(what, str(error))
            word = NO_ANSWER
        self._say(what, word)
        return word or ""

    def _conclude_hairpin(self, future: "Task[_Hairpin]") -> None:
        if self._nothing_translates:
            self._remark(Property.HAIRPINNING, _NOTHING_TRANSLATES)
            return
        self._conclude(Property.HAIRPINNING, future.result, lambda seen: words.hairpinning(*seen))
        if self._second is None:
            self._remark(Property.HAIRPINNING, words.ONE_HOST_HAIRPIN)

    def _conclude_early(self, future: "Task[bool]") -> None:
        """Where ports are preserved, the next mapping can be foretold, and so be disturbed."""
        try:
            if future.result():
                self._say(Property.UNSOLICITED, words.MOVES_MAPPING)
        except (RefusedError, NoAnswerError) as error:
            self._remark(Property.UNSOLICITED, f"before a mapping: {error}")

    # Tests

    def _client(self, place: Place | None = None, port: int = 0) -> StunClient:
        client = StunClient((place or self._place).make(port), self._timing, self._means)
        self._clients.append(client)
        return client

    def _mapped(self, client: StunClient, point: ServerPoint) -> TransportAddress:
        return client.ask(self._server[point]).mapped

    def _fresh_mapping(self) -> tuple[int, TransportAddress]:
        client = self._client()
        return client.port, self._mapped(client, PRIMARY)

    def _seen(self) -> list[words.Seen]:
        """RFC 5780, 4.3, and the fourth point; twice, for a mapping must last."""
        client = self._client()
        return [{point: self._mapped(client, point) for point in POINTS} for _ in range(2)]

    def _visit(self, stranger: ServerPoint) -> "_Visit":
        """RFC 5780, 4.4: a datagram from where nothing has been sent to; and what it leaves."""
        client = self._client()
        before = self._mapped(client, PRIMARY)
        came = client.provoke(
            self._server[PRIMARY],
            change_address=bool(stranger.address),
            change_port=bool(stranger.port),
        )
        return _Visit(came, before, self._mapped(client, stranger), self._mapped(client, PRIMARY))

    def _comes_through_another(self) -> bool:
        """From a point that was sent to, but to the mapping towards the primary."""
        client = self._client()
        self._mapped(client, PRIMARY)
        self._mapped(client, OTHER)
        return client.provoke(self._server[PRIMARY], change_address=True, change_port=True)

    def _early_datagram(self) -> bool:
        """Whether a datagram to a port that will be mapped, were it not for that, prevents it.

        Trap: an unsolicited datagram to the NAT's own stack makes a conntrack entry, which
        occupies what the next mapping would have got.
        """
        client, asker = self._client(), self._client()
        self._mapped(asker, PRIMARY)
        asker.provoke(
            self._server[PRIMARY],
            change_address=True,
            change_port=True,
            response_port=client.port,
            target=client,
        )
        return self._mapped(client, OTHER).port != client.port

    def _hairpin(self) -> "_Hairpin":
        """Where a datagram to another socket's mapping came from; the sender's mapping, and host.

        Both send, and one again: by then either's filter has been opened from inside. All
        that again, as it may have been lost.
        """
        second = self._second or self._place
        one, other = self._client(), self._client(second)
        to_one, to_other = self._mapped(one, PRIMARY), self._mapped(other, PRIMARY)
        knocks = [BindingRequest(self._means.transaction()) for _ in range(3)]
        for _ in range(self._timing.rounds):
            for _ in range(self._timing.copies):
                one.send(knocks[0], to_other)
                other.send(knocks[1], to_one)
                one.send(knocks[2], to_other)
            for client in (one, other):  # behind the knocks
                self._mapped(client, PRIMARY)
            one.settle(knocks[1].transaction)
            other.settle(knocks[2].transaction)
            if (source := one.requests.get(knocks[1].transaction)) is not None:
                return source, to_other, second.inside_host
            if (source := other.requests.get(knocks[2].transaction)) is not None:
                return source, to_one, self._place.inside_host
        return None, to_one, self._place.inside_host

    def _pair(self) -> tuple[words.Seen, words.Seen]:
        """Two hosts, one source port, and first to different destinations.

        A NAT that overloads ports gives both the same then; with the destinations in common it
        cannot.
        """
        first, second = self._two_with_one_port()
        seen = {PRIMARY: self._mapped(first, PRIMARY)}, {OTHER: self._mapped(second, OTHER)}
        for one, client in zip(seen, (first, second), strict=True):
            one |= {point: self._mapped(client, point) for point in POINTS if point not in one}
        return seen

    def _two_with_one_port(self) -> tuple[StunClient, StunClient]:
        """The second host may have used the port that the first one draws, for another test."""
        for _ in range(_PORTS_TRIED):
            first = self._client()
            with suppress(CannotBindError):
                return first, self._client(self._second, first.port)
        raise NoAnswerError("the two hosts have no port in common that is free")


@dataclass(frozen=True, slots=True)
class _Visit:
    """``came``: the stranger's datagram. The others: mappings, ``after`` as ``before`` it."""

    came: bool
    before: TransportAddress
    to_stranger: TransportAddress
    after: TransportAddress

    def moved(self, mapping: str) -> bool:
        """Whether the stranger's datagram changed a mapping."""
        if self.after != self.before:
            return True
        return mapping == words.EIM and self.to_stranger != self.before


_Hairpin = tuple[TransportAddress | None, TransportAddress, str]


def _mapping_behavior(rounds: list[words.Seen]) -> str:
    first, second = rounds
    return words.mapping_behavior(first) if first == second else words.INCONSISTENT


def _effect(moved: bool) -> str:
    return words.MOVES_MAPPING if moved else words.NO_EFFECT
