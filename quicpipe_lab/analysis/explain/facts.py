"""What was seen in a run, as far as its end depends on it: from files to facts, without judging."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import ip_address
from typing import NamedTuple

from quicpipe_lab.analysis.run_files import Run
from quicpipe_lab.model.address import Family, TransportAddress
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.nat import Ipv6Behavior, NatBehavior, UnsolicitedReaction
from quicpipe_lab.model.prediction import chain_above, seen_from_outside
from quicpipe_lab.model.topology import Firewall, Nat
from quicpipe_lab.traffic.frame import OUT_OF_BAND, CapturedFrame
from quicpipe_lab.traffic.journeys import Sighting, follow
from quicpipe_lab.traffic.outages import Outage, outages
from quicpipe_lab.traffic.quic import is_punch
from quicpipe_lab.traffic.routers import (
    Drop,
    Passage,
    Translation,
    drops,
    passages,
    translations,
)


class Fate(NamedTuple):
    """What became of one datagram. ``last``: where it was seen last, with the addresses that it
    had there; ``drop`` is None where it arrived."""

    first: Sighting
    last: Sighting
    drop: Drop | None
    is_punch: bool

    @property
    def source(self) -> TransportAddress:
        """As whoever saw it last saw it."""
        assert self.last.datagram is not None
        return self.last.datagram.source

    @property
    def destination(self) -> TransportAddress:
        """Likewise."""
        assert self.last.datagram is not None
        return self.last.datagram.destination

    @property
    def asked_for(self) -> TransportAddress:
        """Where its sender sent it."""
        assert self.first.datagram is not None
        return self.first.datagram.destination

    @property
    def was_translated(self) -> bool:
        """Whether it got out of its sender's own network under another source."""
        assert self.first.datagram is not None
        return self.first.datagram.source != self.source

    @property
    def arrived(self) -> bool:
        """Whether it came to a host that could read it."""
        return self.drop is None and self.last.frame.direction == "in"


@dataclass(frozen=True)
class Peer:
    """One of the two. ``chain`` are the routers above it by name, the nearest first, and
    ``behavior`` what they come down to; ``translators`` are those of them that change
    addresses; ``mapper`` and ``filterer`` give that behaviour its mapping and its filtering.
    ``observed`` is where the relay saw it."""

    name: str
    chain: tuple[str, ...]
    behavior: NatBehavior
    translators: tuple[str, ...]
    mapper: str
    filterer: str
    observed: TransportAddress | None

    @property
    def is_open(self) -> bool:
        """Whether nothing is between it and the core."""
        return not self.chain


class Facts:
    """Of one run; frames may be none, where it was not captured."""

    def __init__(self, run: Run, frames: Iterable[CapturedFrame], epoch_unix_s: float) -> None:
        self.run = run
        self.epoch_ns = round(epoch_unix_s * 1e9)
        self.topology = run.scenario.topology
        wires = (frame for frame in frames if frame.node != OUT_OF_BAND)
        self.sightings = follow(sorted(wires, key=lambda frame: frame.time_ns))
        self.dialer = self._peer(run.scenario.dialer)
        self.accepter = self._peer(run.scenario.accepter)

    @property
    def is_captured(self) -> bool:
        """Whether there are packets to look at."""
        return bool(self.sightings)

    @cached_property
    def translations(self) -> list[Translation]:
        """By every NAT, in order of time."""
        return translations(self.sightings, self._ways, self.topology)

    @cached_property
    def drops(self) -> list[Drop]:
        """All UDP that ended on its way."""
        return drops(self.sightings, self._ways, self.translations, self.topology, self.off)

    @cached_property
    def off(self) -> list[Outage]:
        """Who was switched off meanwhile."""
        return outages(self.run.events, self.run.scenario.relay, self.epoch_ns / 1e9)

    @cached_property
    def _ways(self) -> list[Passage]:
        return passages(self.sightings)

    @cached_property
    def fates(self) -> list[Fate]:
        """Of every datagram, in the order in which they were sent."""
        ends: dict[int, tuple[Sighting, Sighting, int]] = {}
        for index, sighting in enumerate(self.sightings):
            if sighting.datagram is not None:
                first = ends[sighting.journey][0] if sighting.journey in ends else sighting
                ends[sighting.journey] = first, sighting, index
        dropped = {drop.seen: drop for drop in self.drops}
        return [
            Fate(
                first,
                last,
                dropped.get(index),
                first.datagram is not None and is_punch(first.datagram.payload),
            )
            for first, last, index in ends.values()
        ]

    def sent(self, sender: str, *, punches: bool | None = None) -> list[Fate]:
        """What a node sent; all, only punches, or all but punches."""
        return [
            fate
            for fate in self.fates
            if fate.first.frame.node == sender and punches in (None, fate.is_punch)
        ]

    def to_relay(self, sender: str) -> list[Fate]:
        """What it sent to the relay's own address."""
        relay = self.relay_address
        return [
            fate
            for fate in self.sent(sender, punches=False)
            if relay is not None
            and fate.first.datagram
            and fate.first.datagram.destination == relay
        ]

    @cached_property
    def relay_address(self) -> TransportAddress | None:
        """As it said itself."""
        ready = self.run.named("ready", self.run.scenario.relay)
        if not ready or "address" not in ready[0].data:
            return None
        return parse_address(str(ready[0].data["address"]))

    def other(self, peer: Peer) -> Peer:
        """The one that it talks with."""
        return self.accepter if peer is self.dialer else self.dialer

    def punches(self, sender: Peer) -> list[Fate]:
        """Its punches and answers."""
        return self.sent(sender.name, punches=True)

    def port_towards_peer(self, sender: Peer) -> int | None:
        """The external port that most of its punches to the other's outside had."""
        target = self.other(sender).observed
        outside = [fate for fate in self.punches(sender) if fate.was_translated] or (
            [] if sender.translators else self.punches(sender)
        )
        straight = [one for one in outside if one.asked_for == target] or outside
        ports = Counter(fate.source.port for fate in straight)
        return ports.most_common(1)[0][0] if ports else None

    def masquerading(self, peer: Peer) -> str | None:
        """The nearest of its NATs that is plain Linux masquerading, if one is."""
        by_ipv6 = self.run.scenario.family is Family.IPV6
        for name in peer.translators:
            node = self.topology.by_name[name]
            if isinstance(node, Nat) and (
                node.behavior.ipv6 is Ipv6Behavior.NAT66
                if by_ipv6
                else node.behavior.unsolicited is UnsolicitedReaction.CONNTRACK
            ):
                return name
        return None

    def first(self, name: str, *nodes: str) -> Event | None:
        """The first event of a name."""
        return next(iter(self.run.named(name, *nodes)), None)

    def time_s(self, sighting: Sighting) -> float:
        """On the run's clock."""
        return (sighting.frame.time_ns - self.epoch_ns) / 1e9

    def _translates(self, node: Nat | Firewall) -> bool:
        if self.run.scenario.family is Family.IPV6:
            return Ipv6Addresses(self.topology).translates(node.name)
        return isinstance(node, Nat)

    def _peer(self, name: str) -> Peer:
        nodes = [self.topology.by_name[one] for one in self.topology.path_to_core(name)[1:-1]]
        routers = [node for node in nodes if isinstance(node, Nat | Firewall)]
        family = self.run.scenario.family
        chain = chain_above(self.topology, name, family)
        behavior = seen_from_outside(chain)
        names = [node.name for node in routers]
        told = self.run.named("relay-registered", name)
        observed = told[-1].data.get("observed") if told else None
        mappers = [
            one for one, kind in zip(names, chain, strict=True) if kind.mapping is behavior.mapping
        ]
        filterers = [
            one
            for one, kind in zip(names, chain, strict=True)
            if kind.filtering is behavior.filtering
        ]
        return Peer(
            name,
            tuple(names),
            behavior,
            tuple(node.name for node in routers if self._translates(node)),
            mappers[0] if mappers else "",
            filterers[-1] if filterers else "",
            parse_address(observed) if isinstance(observed, str) else None,
        )


def parse_address(text: str) -> TransportAddress | None:
    """The inverse of ``str(TransportAddress)``; None for anything else."""
    host, _, port = text.rpartition(":")
    try:
        return TransportAddress(str(ip_address(host.strip("[]"))), int(port))
    except ValueError:
        return None
