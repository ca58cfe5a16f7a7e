"""The same packet, recognised at every hop, whatever NATs and the relay did to its addresses.

What nobody changes on the way is the UDP payload: QUIC's packets and punch datagrams are never
twice the same. Where something is (a repeated STUN question, a frame that a link duplicated), a
journey ends when the packet comes by a place a second time, and the next one begins.
"""

from collections.abc import Iterable
from typing import NamedTuple

from quicpipe_lab.traffic.frame import CapturedFrame, Datagram, datagram_of, identity_of


class Sighting(NamedTuple):
    """A frame at an interface. ``journey`` and ``hop`` count from 0; ``datagram`` is None where
    it is not UDP."""

    frame: CapturedFrame
    datagram: Datagram | None
    journey: int
    hop: int


def follow(frames: Iterable[CapturedFrame]) -> list[Sighting]:
    """Frames in order of time, each with its journey."""
    under_way: dict[bytes, tuple[int, list[tuple[str, str, str]]]] = {}
    found: list[Sighting] = []
    count = 0
    latest: bytes | None = None
    datagram: Datagram | None = None
    for frame in frames:
        if frame.data is not latest:  # in virtual time both ends of a link see the same object
            latest, datagram = frame.data, datagram_of(frame.data)
        key = identity_of(frame.data) if datagram is None else datagram.payload
        place = frame[1:4]
        journey = under_way.get(key)
        if journey is None or place in journey[1]:
            journey = under_way[key] = count, []
            count += 1
        number, places = journey
        found.append(Sighting(frame, datagram, number, len(places)))
        places.append(place)
    return found
