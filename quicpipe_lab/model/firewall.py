"""Firewalls as data: routers that keep state as a NAT does, and translate nothing."""

from dataclasses import dataclass
from enum import StrEnum

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
    check_lifetime,
)


class UdpPolicy(StrEnum):
    """Which UDP may leave. What may not is dropped, and nobody is told.

    ``ONLY_443``: HTTP/3's port (RFC 9114, 3.1.2) and no other, as many company networks have it.
    """

    OPEN = "open"
    ONLY_443 = "only-443"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class FirewallBehavior:
    """What a firewall does. Raises ScenarioError.

    Inside hosts may begin anything but the UDP that ``udp`` forbids; outside ones nothing. Of UDP,
    ``filtering`` says who may answer (RFC 4787, 5), ``state_lifetime_s`` for how many seconds after
    the last packet that refreshes it, and ``refresh`` which packets do. ``unsolicited`` is what
    meets all other UDP; TCP and ICMP are dropped.
    """

    filtering: FilteringBehavior = FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT
    udp: UdpPolicy = UdpPolicy.OPEN
    state_lifetime_s: float = 300.0
    refresh: MappingRefresh = MappingRefresh.BOTH
    unsolicited: UnsolicitedReaction = UnsolicitedReaction.DROP

    def __post_init__(self) -> None:
        check_lifetime("state_lifetime_s", self.state_lifetime_s)
        if self.unsolicited is UnsolicitedReaction.CONNTRACK:
            raise ScenarioError("unsolicited", "'conntrack' is a NAT's: a firewall has no ports")

    def as_nat(self) -> NatBehavior:
        """The NAT that a peer cannot tell from it: every mapping is the inside endpoint itself."""
        return NatBehavior(
            filtering=self.filtering,
            port_assignment=PortAssignment.PRESERVING,
            mapping_lifetime_s=self.state_lifetime_s,
            refresh=self.refresh,
            unsolicited=self.unsolicited,
        )
