"""Checks NATs in a lab made for nothing else: those of presets, or of a topology."""

from quicpipe_lab.backends.netns.certification import Certification
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.topology import Topology


def check_nats(topology: Topology, *, lifetime: bool = False) -> list[Certificate]:
    """Build the lab, look at every NAT, take it down. Raises what Lab raises.

    ``lifetime``: wait for idle mappings to end as well, which takes as long as they live.
    """
    with Lab(topology) as lab:
        return Certification(lab, lifetime=lifetime).finish()
