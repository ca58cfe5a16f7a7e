"""Named NATs, each with the source of its behaviours."""

from collections.abc import Mapping
from types import MappingProxyType

from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)

PRESETS: Mapping[str, NatBehavior] = MappingProxyType(
    {
        # The common home router: Linux conntrack without port collisions (NAT-TRAVERSAL.md 2).
        "home": NatBehavior(),
        # RFC 3489's "full cone".
        "full-cone": NatBehavior(filtering=FilteringBehavior.ENDPOINT_INDEPENDENT),
        # RFC 3489's "restricted cone".
        "restricted-cone": NatBehavior(filtering=FilteringBehavior.ADDRESS_DEPENDENT),
        # RFC 3489's "symmetric": a new external port for every destination.
        "symmetric": NatBehavior(mapping=MappingBehavior.ADDRESS_AND_PORT_DEPENDENT),
        # ``nft add rule nat postrouting oifname wan masquerade`` and nothing else. The timeouts are
        # conntrack's (Documentation/networking/nf_conntrack-sysctl.rst: nf_conntrack_udp_timeout,
        # nf_conntrack_udp_timeout_stream); the second holds once a flow has been answered and is
        # more than 2 s old.
        "linux-masquerade": NatBehavior(
            port_assignment=PortAssignment.PRESERVING_OVERLOADING,
            mapping_lifetime_s=30.0,
            answered_lifetime_s=120.0,
            filter_scope=FilterScope.MAPPING,
            refresh=MappingRefresh.BOTH,
            unsolicited=UnsolicitedReaction.CONNTRACK,
        ),
    }
)
