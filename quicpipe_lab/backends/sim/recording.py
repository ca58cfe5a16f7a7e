"""The capture of a simulated run: what was seen at every interface, as the file it becomes."""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from quicpipe_lab.backends.sim.frames import ethernet_frame, mac_address
from quicpipe_lab.backends.sim.network import FrameSeen
from quicpipe_lab.backends.sim.packet import Packet
from quicpipe_lab.cycle_search import no_cycle_search
from quicpipe_lab.model.interface import interface_names, neighbours
from quicpipe_lab.model.result import CaptureStats
from quicpipe_lab.model.topology import CORE, Topology
from quicpipe_lab.traffic.compose import compose
from quicpipe_lab.traffic.frame import CapturedFrame
from quicpipe_lab.traffic.outages import Outage


class Recording:
    """Give ``see`` to a Network. ``epoch_s``: the Unix time at which its clock stands at 0."""

    def __init__(self, topology: Topology, epoch_s: int) -> None:
        self._topology = topology
        self._epoch_ns = epoch_s * 1_000_000_000
        self._seen: list[FrameSeen] = []
        self.see = self._seen.append
        self._names = {
            node: interface_names(neighbours(topology, node)) for node in (CORE, *topology.by_name)
        }
        self._ends = cache(self._look_up_ends)

    def write(
        self,
        out: Path,
        carried: Sequence[CapturedFrame],
        secrets: bytes,
        off: Sequence[Outage] = (),
    ) -> CaptureStats:
        """Turn what was recorded into a pcapng file: see shell/capture.py."""
        from quicpipe_lab.shell import pcapng

        interfaces = [
            f"{node}/{name}" for node, names in self._names.items() for name in names.values()
        ]
        with no_cycle_search():
            frames = compose(self._frames(), carried, self._topology, off)
            pcapng.write(out, frames, interfaces, secrets)
        return CaptureStats(len(self._seen))

    def _frames(self) -> Iterator[CapturedFrame]:
        """A packet that leaves one interface is the same object when it arrives at the other."""
        made: tuple[Packet | None, bytes] = None, b""
        for time_s, node, interface, direction, packet in self._seen:
            if made[0] is not packet:
                made = packet, ethernet_frame(packet, *self._ends(node, interface, direction))
            time_ns = self._epoch_ns + round(time_s * 1e9)
            yield CapturedFrame(time_ns, node, interface, direction, made[1])

    def _look_up_ends(self, node: str, interface: str, direction: str) -> tuple[bytes, bytes]:
        """Source and destination."""
        here = mac_address(node, interface)
        neighbour = next(
            (one for one, name in self._names[node].items() if name == interface), None
        )
        if neighbour is None:  # a loopback, or the end of a hairpin
            return here, here
        there = mac_address(neighbour, self._names[neighbour][node])
        return (here, there) if direction == "out" else (there, here)
