"""What a NAT can be declared to be, and none is on any backend."""

from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.nat import (
    HIGHEST_PORT,
    LOWEST_PORT,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)

_OVERLOADED = {
    "unsolicited": UnsolicitedReaction.DROP,
    "port_range": (LOWEST_PORT, HIGHEST_PORT),
    "port_parity": False,
    "external_addresses": 1,
    "mappings_per_subscriber": None,
}
"""Anything else takes mappings of one's own; conntrack, which shares the ports, knows flows."""


def require_support(behavior: NatBehavior) -> None:
    """Raises UnsupportedBehaviorError."""
    if behavior.unsolicited is UnsolicitedReaction.CONNTRACK:
        return
    if behavior.answered_lifetime_s is not None:
        raise UnsupportedBehaviorError(
            "answered_lifetime_s: only plain Linux (unsolicited = 'conntrack') keeps flows that"
            " were answered longer than others"
        )
    if behavior.port_assignment is not PortAssignment.PRESERVING_OVERLOADING:
        return
    for field, value in _OVERLOADED.items():
        if getattr(behavior, field) != value:
            raise UnsupportedBehaviorError(
                f"{field} with overloaded ports (RFC 4787, 4.2.1): conntrack, which shares the"
                " ports, does not have it"
            )
