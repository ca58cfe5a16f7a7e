"""What the lab knows about single packets, as comments that Wireshark shows beside them."""

from collections.abc import Iterator, Sequence

from quicpipe_lab.model.topology import CORE, Host, Relay, Topology
from quicpipe_lab.traffic.journeys import Sighting
from quicpipe_lab.traffic.outages import Outage
from quicpipe_lab.traffic.quic import PUNCHES, is_punch
from quicpipe_lab.traffic.routers import (
    Drop,
    DropCause,
    Passage,
    Translation,
    drops,
    passages,
    translations,
)


def notes(
    sightings: Sequence[Sighting], topology: Topology, off: Sequence[Outage] = ()
) -> dict[int, str]:
    """Comments by index of sighting. ``off``: who was switched off meanwhile."""
    ways = passages(sightings)
    translated = translations(sightings, ways, topology)
    found: dict[int, list[str]] = {}
    for index, (_, datagram, _, _) in enumerate(sightings):
        if datagram is not None and is_punch(datagram.payload):
            found.setdefault(index, []).append(_punch(datagram.payload))
    for one in translated:
        found.setdefault(one.seen, []).append(_translation(one))
    for index, text in _relayed(sightings, ways, topology):
        found.setdefault(index, []).append(text)
    for drop in drops(sightings, ways, translated, topology, off):
        found.setdefault(drop.seen, []).append(why_dropped(drop))
    for index, text in _outages(sightings, topology, off):
        found.setdefault(index, []).append(text)
    return {index: "; ".join(texts) for index, texts in found.items()}


def why_dropped(drop: Drop) -> str:
    """A drop in words."""
    where, port = drop.node, drop.destination.port
    if (text := _why_rebooted(drop)) is not None:
        return f"dropped by {where}: {text}"
    match drop.cause:
        case DropCause.NO_MAPPING:
            return f"dropped by {where}: port {port} belongs to none of its mappings"
        case DropCause.FILTERED if drop.mapping and drop.source in drop.mapping.remotes:
            inside = drop.mapping.inside
            return (
                f"dropped by {where}: filtered, though {inside} has sent from port {port} to"
                f" {drop.source}: it does not remember that any more"
            )
        case DropCause.FILTERED if drop.mapping is not None:
            remotes = ", ".join(map(str, drop.mapping.remotes)) or "nobody"
            return (
                f"dropped by {where}: filtered, for {drop.mapping.inside} has sent from port"
                f" {port} to {remotes} and not to {drop.source}"
            )
        case DropCause.EXPIRED:
            idle_s = drop.idle_s or 0.0
            return f"dropped by {where}: the mapping of port {port} ended, idle for {idle_s:.1f} s"
        case DropCause.NO_HAIRPIN:
            return f"dropped by {where}: it does not hairpin"
        case DropCause.BLOCKED:
            return f"dropped by {where}: may not leave"
        case DropCause.UNSOLICITED:
            return f"dropped by {where}: nobody inside has asked for it"
        case DropCause.NO_ROUTE:
            return f"dropped by {where}: no route to {drop.destination.host}"
        case DropCause.NOT_PASSED_ON:
            return f"dropped by {where}: the way on is cut, or nobody has the address"
    return "not seen any more after this"


def _why_rebooted(drop: Drop) -> str | None:
    """Where it is for a reboot that a router does not pass it on."""
    ago = f"{drop.rebooted_s or 0.0:.1f} s before"
    match drop.cause:
        case DropCause.OFF:
            return "it is being rebooted"
        case DropCause.FORGOTTEN:
            port = drop.destination.port
            return f"it forgot the mapping of port {port} when it was rebooted, {ago}"
        case DropCause.UNSOLICITED if drop.rebooted_s is not None:
            return f"nobody inside has asked for it since it was rebooted, {ago}"
    return None


def _translation(one: Translation) -> str:
    if one.outbound:
        return f"{one.nat} translated the source {one.inside} to {one.external}"
    return f"{one.nat} translated the destination {one.external} to {one.inside}"


def _punch(payload: bytes) -> str:
    name = {"punch": "punch", "punch-answer": "answer to a punch"}[PUNCHES[payload[0]]]
    return f"{name} from the {'dialer' if payload[1] else 'accepter'}"


def _outages(
    sightings: Sequence[Sighting], topology: Topology, off: Sequence[Outage]
) -> Iterator[tuple[int, str]]:
    """What came to a relay that was not there, and the first that a node sees afterwards."""
    for node, since_ns, until_ns in off:
        is_relay = isinstance(topology.by_name.get(node), Host)
        for index, (frame, datagram, _, _) in enumerate(sightings):
            if frame.node != node or frame.time_ns < since_ns:
                continue
            if frame.time_ns >= until_ns:
                what = "the relay was restarted" if is_relay else f"{node} was rebooted"
                yield index, f"{what} before this: it knows nothing of what was"
                break
            if is_relay and datagram is not None and frame.direction == "in":
                yield index, "nobody takes it: the relay is being restarted"


def _relayed(
    sightings: Sequence[Sighting], ways: Sequence[Passage], topology: Topology
) -> list[tuple[int, str]]:
    """What the relay's process sent on, and what its filter did.

    The filter works below the place where the relay's own interface is captured: what it sends
    back is seen at the other end of the link alone, there and back again.
    """
    relays = {node.name for node in topology.nodes if isinstance(node, Relay)}
    found = [
        (way.left, "relayed in userspace")
        for way in ways
        if way.left is not None and way.node in relays
    ]
    gone: dict[int, int] = {}
    for index, (frame, _, journey, _) in enumerate(sightings):
        if frame.node in relays:
            gone.pop(journey, None)
        elif frame.node == CORE and frame.interface in relays:
            if frame.direction == "out":
                gone[journey] = index
            elif journey in gone:
                found.append((index, "relayed by the filter"))
    return found
