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
    for packet in packets:
        direct = is_direct(packet, scenario)
        index = int((packet.time_s - start_s) / bin_s)
        if direct is not None and 0 <= index < bins and packet.node == scenario.dialer:
            sums[direct][index] += 8 * packet.size_bytes / bin_s
    return Rates(start_s, bin_s, sums[False], sums[True])


def is_direct(packet: Packet, scenario: Scenario) -> bool | None:
    """By which path a packet of the peer connection went; None where it is none of it."""
    if packet.kind != "quic" or packet.flow != peer_flow(scenario) or packet.is_out_of_band:
        return None
    relay = str(scenario.topology.uplinks[scenario.relay].lower_address)
    ends = (packet.source, packet.destination)
    return not any(end is not None and end.host == relay for end in ends)


def peer_flow(scenario: Scenario) -> str:
    """The name of the peers' own flow in the table of packets."""
    return "~".join(sorted((scenario.dialer, scenario.accepter)))
