"""What a lab's capture says about programs that are not ours: who reached whom, and what was not
passed on. Here nothing is known of the programs but the datagrams that they sent."""

from collections import defaultdict
from collections.abc import Iterable, Iterator

from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.nat64 import LAB_PREFIX, embed
from quicpipe_lab.model.topology import Topology
from quicpipe_lab.traffic.frame import CapturedFrame, Datagram, datagram_of
from quicpipe_lab.traffic.journeys import Sighting
from quicpipe_lab.traffic.notes import why_dropped
from quicpipe_lab.traffic.routers import Drop, drops, passages, translations


def direct_datagrams(
    frames: Iterable[CapturedFrame], topology: Topology, sender: str, receiver: str
) -> int:
    """How many UDP datagrams of ``sender``'s came to ``receiver`` with nobody but routers between.

    Told by the address that they came from, as the receiver would: what a relay sends on comes
    from the relay. Not by payloads, which two programs may both send.
    """
    known = _seen_as(topology, sender)
    return sum(
        datagram.source.host in known
        for frame in frames
        if frame.node == receiver and frame.direction == "in"
        if (datagram := datagram_of(frame.data)) is not None
    )


def dropped(frames: Iterable[CapturedFrame], topology: Topology) -> list[str]:
    """What routers did not pass on, and why: a line for all alike, in order of time."""
    sightings = list(_follow(sorted(frames, key=lambda frame: frame.time_ns)))
    ways = passages(sightings)
    alike: dict[tuple[object, ...], list[Drop]] = {}
    for one in drops(sightings, ways, translations(sightings, ways, topology), topology):
        key = one.node, one.cause, one.source, one.destination
        alike.setdefault(key, []).append(one)
    return [_line(group) for group in alike.values()]


def _follow(frames: Iterable[CapturedFrame]) -> Iterator[Sighting]:
    """As traffic.journeys.follow, for UDP of which many datagrams may be alike: each is followed
    from one end of a link to the other, and through a router as one of its addresses stays."""
    on_link: defaultdict[object, list[Sighting]] = defaultdict(list)
    in_node: defaultdict[object, list[Sighting]] = defaultdict(list)
    count = 0
    for frame in frames:
        datagram = datagram_of(frame.data)
        if datagram is None:
            continue
        # Interfaces bear the name of the node at the other end of their link.
        if frame.direction == "in":
            waiting = on_link[datagram.payload, frame.interface, frame.node]
        else:
            waiting = in_node[datagram.payload, frame.node]
        before = _continued(waiting, datagram)
        if before is None:
            seen, count = Sighting(frame, datagram, count, 0), count + 1
        else:
            waiting.remove(before)
            seen = Sighting(frame, datagram, before.journey, before.hop + 1)
        if frame.direction == "in":
            in_node[datagram.payload, frame.node].append(seen)
        else:
            on_link[datagram.payload, frame.node, frame.interface].append(seen)
        yield seen


def _continued(waiting: Iterable[Sighting], after: Datagram) -> Sighting | None:
    """The first of these, all with the same payload at the same place, that this may be. A router
    changes one end; only a relay, or a NAT that hairpins, both, and keeps an address of its own."""
    crossed = None
    for one in waiting:
        before = one.datagram
        assert before is not None
        if before.source == after.source or before.destination == after.destination:
            return one
        if crossed is None and before.destination.host == after.source.host:
            crossed = one
    return crossed


def _line(group: list[Drop]) -> str:
    first = group[0]
    count = f"{len(group)} datagram" + ("s" if len(group) > 1 else "")
    return f"{count} from {first.source} to {first.destination}: {why_dropped(first)}"


def _seen_as(topology: Topology, node: str) -> set[str]:
    """Every address that others may see a node's packets come from."""
    hosts = {link.lower_address for link in topology.links_of(node)}
    for link in topology.links_of(node):
        for nat in topology.nats_above(link.name):
            hosts.update(topology.external_addresses[nat.name])
    # Whoever has IPv6 only sees the same addresses within others.
    seen = {str(host) for host in hosts} | {str(embed(LAB_PREFIX, host)) for host in hosts}
    if topology.dual_stack:
        addresses = Ipv6Addresses(topology)
        seen |= {str(addresses.seen_as(node)), str(addresses.uplinks[node].lower_address)}
    return seen
