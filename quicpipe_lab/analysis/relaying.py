"""How the relay forwarded the peers' packets: by its process or by its filter, and how fast.

What the filter sends back never reaches the relay's own interface where captures look; both ways
are seen at the other end of its link, and timed there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from quicpipe_lab.analysis.packets import Packet
from quicpipe_lab.analysis.throughput import peer_flow
from quicpipe_lab.model.interface import interface_name
from quicpipe_lab.model.scenario import Scenario

USERSPACE, FILTER = "userspace", "filter"


@dataclass
class Relaying:
    """By who did it: when each packet came back, and how long it had been away."""

    at_s: dict[str, list[float]] = field(default_factory=dict)
    latency_s: dict[str, list[float]] = field(default_factory=dict)


def relaying(packets: Sequence[Packet], scenario: Scenario) -> Relaying:
    """Of the peers' own flow."""
    relay, flow = scenario.relay, peer_flow(scenario)
    router = scenario.topology.uplinks[relay].upper
    interface = interface_name(scenario.topology, router, relay)
    seen_inside = {one.journey for one in packets if one.node == relay and one.flow == flow}
    gone_s: dict[int, float] = {}
    found = Relaying()
    for packet in packets:
        if (packet.node, packet.interface, packet.flow) != (router, interface, flow):
            continue
        if packet.direction == "out":
            gone_s[packet.journey] = packet.time_s
        elif (left_s := gone_s.pop(packet.journey, None)) is not None:
            who = USERSPACE if packet.journey in seen_inside else FILTER
            found.at_s.setdefault(who, []).append(packet.time_s)
            found.latency_s.setdefault(who, []).append(packet.time_s - left_s)
    return found
