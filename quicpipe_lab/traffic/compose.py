"""From a lab's frames to those of a capture file: comments, what went out of band, the order."""

from collections.abc import Iterable, Iterator, Sequence

from quicpipe_lab.model.topology import Topology
from quicpipe_lab.traffic.frame import CapturedFrame
from quicpipe_lab.traffic.journeys import follow
from quicpipe_lab.traffic.notes import notes
from quicpipe_lab.traffic.outages import Outage
from quicpipe_lab.traffic.wireshark import reading_order, with_out_of_band


def _one_after_the_other(frames: Iterable[CapturedFrame]) -> Iterator[CapturedFrame]:
    """No two at the same nanosecond, as in virtual time: in the file their order is another, and
    whoever reads it has nothing but the times to restore it by."""
    latest_ns = -1
    for frame in frames:
        if frame.time_ns <= latest_ns:
            frame = CapturedFrame(latest_ns + 1, *frame[1:])  # without the cost of _replace
        latest_ns = frame.time_ns
        yield frame


def compose(
    frames: Iterable[CapturedFrame],
    carried: Sequence[CapturedFrame] = (),
    topology: Topology | None = None,
    off: Sequence[Outage] = (),
) -> list[CapturedFrame]:
    """``frames`` in order of time, and ``carried`` out of band, as they are to be written.

    With a topology, each gets a comment where there is something to say; without, they keep theirs.
    ``off``: who was switched off meanwhile.
    """
    sightings = follow(_one_after_the_other(frames))
    if topology is not None:
        for index, text in notes(sightings, topology, off).items():
            one = sightings[index]
            sightings[index] = one._replace(frame=one.frame._replace(comment=text))
    sightings = with_out_of_band(sightings, carried)
    return [sightings[index].frame for index in reading_order(sightings)]
