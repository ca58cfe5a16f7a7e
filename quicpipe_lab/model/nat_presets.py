"""Named NATs, each with the source of its behaviours.

What a source leaves open is as in ``NatBehavior()``. Vendors' numbers are those of their
documentation in 2025, and of defaults where they can be set.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)

# A table of sessions, as firewalls and clouds keep it: each flow has a mapping of its own, is
# known by its five-tuple alone, and lives on traffic in either direction.
_SESSIONS = NatBehavior(
    mapping=MappingBehavior.ADDRESS_AND_PORT_DEPENDENT,
    filtering=FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT,
    filter_scope=FilterScope.MAPPING,
    refresh=MappingRefresh.BOTH,
)

# AWS, "NAT gateway basics": an idle timeout of 350 s, up to 55,000 flows to each destination from
# ports 1024 to 65535; nothing comes in that does not answer.
_AWS = replace(_SESSIONS, mapping_lifetime_s=350.0)

PRESETS: Mapping[str, NatBehavior] = MappingProxyType(
    {
        # The common home router: EIM, as RFC 4787 REQ-1 demands, and the strictest filter. Ford,
        # Srisuresh and Kegel (USENIX 2005) found 82 % of NATs to support UDP hole punching.
        "home": NatBehavior(),
        # RFC 3489's "full cone".
        "full-cone": NatBehavior(filtering=FilteringBehavior.ENDPOINT_INDEPENDENT),
        # RFC 3489's "restricted cone".
        "restricted-cone": NatBehavior(filtering=FilteringBehavior.ADDRESS_DEPENDENT),
        # RFC 3489's "symmetric": a new external port for every destination.
        "symmetric": NatBehavior(mapping=MappingBehavior.ADDRESS_AND_PORT_DEPENDENT),
        # Palo Alto Networks, PAN-OS "Persistent NAT for DIPP": dynamic IP and port translation is
        # symmetric unless that is enabled. UDP sessions time out after 30 s (PAN-OS, "Session
        # settings").
        "corporate": replace(_SESSIONS, mapping_lifetime_s=30.0),
        # RFC 6888: all of RFC 4787 (REQ-1), so EIM and hairpinning with external source (its REQ-1
        # and REQ-9) and two minutes or more (its REQ-5), EIF (REQ-7), and a limit for each
        # subscriber (REQ-4), which here is a block of ports as in RFC 7422.
        "cgnat": NatBehavior(
            filtering=FilteringBehavior.ENDPOINT_INDEPENDENT,
            port_assignment=PortAssignment.BLOCK,
            port_block_size=1024,
            hairpinning=Hairpinning.EXTERNAL_SOURCE,
        ),
        "cloud": _AWS,
        "cloud-aws": _AWS,
        # Microsoft, "Azure NAT Gateway resource": ports at random from 64,512 an address, UDP idle
        # timeout of 4 minutes, refreshed by traffic of the flow; only answers come in.
        "cloud-azure": replace(_SESSIONS, mapping_lifetime_s=240.0),
        # Google, "Cloud NAT: IP addresses and ports" and "Tune NAT configuration": 64 ports
        # reserved for each VM, UDP mappings idle out after 30 s; with endpoint-independent mapping.
        "cloud-gcp": NatBehavior(
            port_assignment=PortAssignment.BLOCK,
            port_block_size=64,
            mapping_lifetime_s=30.0,
            refresh=MappingRefresh.BOTH,
        ),
        # Richter et al., "A Multi-perspective Analysis of Carrier-Grade NAT Deployment" (IMC 2016),
        # section 6: symmetric NATs are far more common with mobile carriers than with others, and
        # UDP mappings there live for a minute or so.
        "mobile": replace(_SESSIONS, mapping_lifetime_s=60.0),
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
