"""A capture as a table: one row a packet and interface, the same packet recognised at every hop.

``table`` takes the frames as ``shell.pcapng.read`` gives them. Rows are plain tuples with names;
``pandas.DataFrame(rows)`` makes a frame with the same columns of them.

    rows = table(capture.frames, run.clock.epoch_unix_s)
    lost = [row for row in rows if row.flow == "alice~bob" and "dropped" in (row.comment or "")]
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.traffic.frame import OUT_OF_BAND, CapturedFrame, Direction, protocol_of
from quicpipe_lab.traffic.journeys import Sighting, follow
from quicpipe_lab.traffic.quic import PUNCHES, kind_of, quic_packets


class Packet(NamedTuple):
    """A packet at an interface.

    ``time_s`` is on the run's clock. ``interface`` bears the name of the node at the other end of
    its link; it is empty for what was carried out of band. ``kind``: quic, punch, stun, udp, or
    what else the frame carries. ``form`` and ``type`` are those of the first QUIC packet in a
    datagram, ``types`` those of all; ``type`` also says which kind of punch it is. Connection IDs
    are hexadecimal; a short header shows the destination's alone.

    ``journey``: the same number at every hop, whatever NATs and the relay did to the addresses;
    ``hop`` counts from 0 within it. ``flow``: who talks with whom, as ``alice~bob`` in the order of
    the alphabet; with ``?`` where it never arrived and nobody else's packet tells.
    ``comment``: what the lab knows about it.
    """

    time_s: float
    node: str
    interface: str
    direction: Direction
    kind: str
    source: TransportAddress | None
    destination: TransportAddress | None
    size_bytes: int
    ttl: int | None
    form: str | None
    type: str | None
    types: tuple[str, ...]
    dcid: str | None
    scid: str | None
    flow: str
    journey: int
    hop: int
    comment: str | None
    time_ns: int

    @property
    def is_out_of_band(self) -> bool:
        """Whether it crossed no interface."""
        return self.node == OUT_OF_BAND


def table(frames: Iterable[CapturedFrame], epoch_unix_s: float = 0.0) -> list[Packet]:
    """The rows in order of time. ``epoch_unix_s``: the Unix time at which the run's clock was 0."""
    sightings = follow(sorted(frames, key=lambda frame: frame.time_ns))
    flows = _flows(sightings)
    epoch_ns = round(epoch_unix_s * 1e9)
    return [_row(sighting, flows[sighting.journey], epoch_ns) for sighting in sightings]


def _row(sighting: Sighting, flow: str, epoch_ns: int) -> Packet:
    frame, datagram, journey, hop = sighting
    source = destination = ttl = form = dcid = scid = None
    first: str | None = None
    types: tuple[str, ...] = ()
    if datagram is None:
        kind, size = protocol_of(frame.data), frame.true_bytes or len(frame.data)
    else:
        source, destination, ttl, payload = datagram
        kind, size = kind_of(payload), len(payload)
        packets = quic_packets(payload) if kind == "quic" else []
        if packets:
            first, form = packets[0].kind, "long" if packets[0].is_long else "short"
            types = tuple(packet.kind for packet in packets)
            dcid = packets[0].destination.hex()
            scid = packets[0].source.hex() if packets[0].is_long else None
        elif kind == "punch":
            first = PUNCHES[payload[0]]
    return Packet(
        (frame.time_ns - epoch_ns) / 1e9,
        frame.node,
        frame.interface,
        frame.direction,
        kind,
        source,
        destination,
        size,
        ttl,
        form,
        first,
        types,
        dcid,
        scid,
        flow,
        journey,
        hop,
        frame.comment,
        frame.time_ns,
    )


# Who talks with whom


def _flows(sightings: Sequence[Sighting]) -> list[str]:
    """By journey. Who sent a packet that was dropped is seen; whom to, other packets must tell:
    those that arrived with the same connection ID, or those that came from its destination."""
    journeys: list[tuple[Sighting, Sighting]] = []
    for sighting in sightings:
        if sighting.journey == len(journeys):
            journeys.append((sighting, sighting))
        else:
            journeys[sighting.journey] = journeys[sighting.journey][0], sighting
    hosts = {start.frame.node for start, _ in journeys if start.frame.direction == "out"}
    by_id: dict[bytes, set[str]] = {}
    for start, end in journeys:
        if start.datagram and _arrived(start, end, hosts) and (key := _id(start.datagram.payload)):
            by_id.setdefault(key, set()).update((start.frame.node, end.frame.node))
    by_address: dict[TransportAddress, set[str]] = {}
    for _, datagram, journey, _ in sightings:
        if datagram is not None:
            node = journeys[journey][0].frame.node
            by_address.setdefault(datagram.source, set()).add(node)
    return [
        "~".join(sorted(_ends(start, end, hosts, by_id, by_address))) for start, end in journeys
    ]


def _ends(
    start: Sighting,
    end: Sighting,
    hosts: set[str],
    by_id: dict[bytes, set[str]],
    by_address: dict[TransportAddress, set[str]],
) -> set[str]:
    node = start.frame.node
    if start.datagram is None or end.datagram is None or _arrived(start, end, hosts):
        return {node, end.frame.node}
    if node == OUT_OF_BAND:
        return by_id.get(quic_packets(start.datagram.payload)[0].source, {node, "?"})
    pair = by_id.get(_id(start.datagram.payload))
    if pair is not None and node in pair:
        return pair
    others = by_address.get(end.datagram.destination, set()) - {node}
    return {node, *others} if len(others) == 1 else {node, "?"}


def _arrived(start: Sighting, end: Sighting, hosts: set[str]) -> bool:
    return end.frame.node in hosts and end.frame.node != start.frame.node


def _id(payload: bytes) -> bytes:
    """The destination connection ID of a QUIC datagram, else nothing."""
    if kind_of(payload) != "quic":
        return b""
    if payload[0] & 0x80:
        return payload[6 : 6 + payload[5]] if len(payload) > 6 else b""
    return payload[1:13]
