"""How much of the peer connection a peer's interface carried, by path and time."""

from collections.abc import Sequence
from typing import NamedTuple

from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.model.scenario import Scenario


class Rates(NamedTuple):
    """Bits of UDP payload a second, both directions together, in each bin of ``bin_s``."""

    start_s: float
    bin_s: float
    relayed_bps: list[float]
    direct_bps: list[float]


def rates(
    packets: Sequence[Packet], scenario: Scenario, start_s: float, end_s: float, bins: int = 120
) -> Rates:
    """As the dialer's interfaces saw it."""
    bin_s = max(end_s - start_s, 1e-3) / bins
    sums = {False: [0.0] * bins, True: [0.0] * bins}
    path_of = PathOf(scenario)
    for packet in packets:
        index = int((packet.time_s - start_s) / bin_s)
        if packet.node != scenario.dialer or not 0 <= index < bins:
            continue
        direct = path_of(packet)
        if direct is not None:
            sums[direct][index] += 8 * packet.size_bytes / bin_s
    return Rates(start_s, bin_s, sums[False], sums[True])


class PathOf:
    """By which path a packet of the peer connection went: True direct, False through the relay."""

    def __init__(self, scenario: Scenario) -> None:
        self._flow = peer_flow(scenario)
        self._relay = frozenset(scenario.relay_hosts)

    def __call__(self, packet: Packet) -> bool | None:
        """None where the packet is none of that connection."""
        if packet.kind != "quic" or packet.flow != self._flow or packet.is_out_of_band:
            return None
        ends = (packet.source, packet.destination)
        return not any(end is not None and end.host in self._relay for end in ends)


def peer_flow(scenario: Scenario) -> str:
    """The name of the peers' own flow in the table of packets."""
    return "~".join(sorted((scenario.dialer, scenario.accepter)))
