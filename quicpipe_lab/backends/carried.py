"""What travelled out of band, for the capture, which would otherwise lack a packet."""

from quicpipe_lab.backends.journal import Journal
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.traffic.frame import CapturedFrame
from quicpipe_lab.traffic.wireshark import out_of_band_frame

RELAY_PORT = 443
"""HTTP/3's own port, which even strict firewalls let out."""


def carried(scenario: Scenario, journal: Journal) -> list[CapturedFrame]:
    """The dialer's first packet, as if from the relay to the accepter."""
    ready = journal.last(scenario.dialer, "initial-ready")
    arrived = journal.last("lab", "oob-arrived")
    if ready is None or arrived is None:
        return []
    uplinks = scenario.topology.uplinks
    relay, accepter = (
        TransportAddress(str(uplinks[node].lower_address), port)
        for node, port in ((scenario.relay, RELAY_PORT), (scenario.accepter, 0))
    )
    time_ns = int((journal.record.clock.epoch_unix_s + arrived.t_s) * 1e9)
    packet = bytes.fromhex(ready.data["packet"])
    return [out_of_band_frame(time_ns, packet, relay, accepter)]
