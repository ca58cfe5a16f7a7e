"""In which order Wireshark must meet a lab's packets, so that it decrypts all of them at every hop.

Wireshark knows a QUIC connection by its IDs, wherever it is seen, but the TLS session beneath by
the pair of addresses (``packet-quic.c`` and ``packet-tls.c``, 4.0: ``find_conversation_pinfo``).
Behind a NAT the ClientHello comes first between other addresses than the ServerHello, and to each
of the two sessions one half is missing. So for each connection one pair of addresses is chosen,
that between which the server's answer is first seen. There the ClientHello, and the first packet
with application data, have to be met before any other copy of theirs: these two frames are moved
forwards in the file, by the time that they took on their way. All frames keep their true times.

The first packet of a peer connection crossed no interface. It gets a frame between the same two
addresses, directly before the answer: not earlier, because the accepter's relay connection is
between them, too, and must have got its keys by then.
"""

from bisect import insort
from collections.abc import Iterable, Sequence

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.traffic.frame import OUT_OF_BAND, CapturedFrame, Datagram, datagram_of, frame_with
from quicpipe_lab.traffic.journeys import Sighting
from quicpipe_lab.traffic.quic import QuicPacket, quic_packets

Pair = frozenset[TransportAddress]


class _Connection:
    """Indices of frames: the first with the client's Initial and with application data anywhere,
    and the first of each between the chosen addresses."""

    def __init__(self) -> None:
        self.pair: Pair | None = None
        self.hello: int | None = None
        self.hello_of_pair: int | None = None
        self.data: int | None = None
        self.data_of_pair: int | None = None

    def note(self, index: int, is_hello: bool, has_data: bool, pair: Pair) -> None:
        """A frame of the connection."""
        if is_hello:
            self.hello = index if self.hello is None else self.hello
            if pair == self.pair and self.hello_of_pair is None:
                self.hello_of_pair = index
        if has_data:
            self.data = index if self.data is None else self.data
            if pair == self.pair:
                self.data_of_pair = index

    @property
    def moves(self) -> Iterable[tuple[int, int]]:
        """Which frame is to stand before which."""
        for moved, before in ((self.hello_of_pair, self.hello), (self.data_of_pair, self.data)):
            if moved is not None and before is not None and moved != before:
                yield moved, before


def reading_order(sightings: Sequence[Sighting]) -> list[int]:
    """The indices of frames in order of time, in the order in which to write them."""
    places = {index: (index, 1) for index in range(len(sightings))}
    for connection in _connections(sightings):
        for moved, before in connection.moves:
            places[moved] = before, 0
    return sorted(places, key=places.__getitem__)


def with_out_of_band(
    sightings: Sequence[Sighting], carried: Iterable[CapturedFrame]
) -> list[Sighting]:
    """All frames in order of time, and among them what was carried out of band.

    Each of ``carried`` gets the time and the addresses that its answer calls for; where nobody
    answered it keeps its own.
    """
    found = list(sightings)
    for number, frame in enumerate(carried, 1 + max((one.journey for one in found), default=-1)):
        datagram = datagram_of(frame.data)
        answer = datagram and _answer_to(sightings, datagram.payload)
        if datagram and answer and answer.datagram:
            seen = answer.datagram
            data = frame_with(seen.destination, seen.source, datagram.payload)
            frame = frame._replace(time_ns=answer.frame.time_ns - 1, data=data, true_bytes=0)
        insort(
            found,
            Sighting(frame, datagram_of(frame.data), number, 0),
            key=lambda one: one.frame.time_ns,
        )
    return found


def out_of_band_frame(
    time_ns: int, packet: bytes, source: TransportAddress, destination: TransportAddress
) -> CapturedFrame:
    """A frame for what no interface has seen."""
    data = frame_with(source, destination, packet)
    return CapturedFrame(time_ns, OUT_OF_BAND, "", "in", data, "carried out of band")


def _answer_to(sightings: Sequence[Sighting], initial: bytes) -> Sighting | None:
    packets = quic_packets(initial)
    if not packets:
        return None
    wanted = packets[0].source
    for sighting in sightings:
        datagram = sighting.datagram
        if datagram and datagram.payload[:1] >= b"\x80" and wanted in datagram.payload[:32]:
            first = quic_packets(datagram.payload)[:1]
            if first and first[0].destination == wanted:
                return sighting
    return None


def _connections(sightings: Sequence[Sighting]) -> list[_Connection]:
    of_client: dict[bytes, _Connection] = {}
    """By the ID that the client gave itself, to which the server's first packets go."""
    of_any: dict[bytes, _Connection] = {}
    headers: dict[int, list[QuicPacket]] = {}
    for index, (_, datagram, _, _) in enumerate(sightings):
        if datagram is None or datagram.payload[:1] < b"\x80":
            continue
        headers[index] = packets = quic_packets(datagram.payload)
        for kind, destination, source in packets[:1]:
            answered = of_client.get(destination)
            if answered is not None:
                of_any[source] = answered
                if answered.pair is None:
                    answered.pair = _pair(datagram)
            elif kind == "initial" and source not in of_client:
                of_client[source] = of_any[source] = of_any[destination] = _Connection()
    for index, (_, datagram, _, _) in enumerate(sightings):
        if datagram is None:
            continue
        packets = headers.get(index, [])
        destination = packets[0].destination if packets else datagram.payload[1:13]
        connection = of_any.get(destination)
        # Most frames are of connections of which all is known.
        if connection is not None and connection.data_of_pair is None:
            is_hello = bool(packets) and packets[0].source in of_client
            has_data = not packets or packets[-1].kind == "1-rtt"
            connection.note(index, is_hello, has_data, _pair(datagram))
    return list(of_client.values())


def _pair(datagram: Datagram) -> Pair:
    return frozenset((datagram.source, datagram.destination))
