"""Named NATs, each with the source of its behaviours.

What a source leaves open is as in ``NatBehavior()``. Vendors' numbers are those of their
documentation, looked up in November 2026, and of defaults where they can be set. Where the text
itself could not be had, it is said.
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

# docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-troubleshooting.html: "If a connection that's
# using a NAT gateway is idle for 350 seconds or more, the connection times out";
# nat-gateway-basics: "up to 55,000 simultaneous connections to each unique destination" from an
# address. That its ports are random and that nothing unasked-for comes in, those pages do not say.
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
        # Palo Alto Networks. docs.paloaltonetworks.com/ngfw/help/12-1/device/device-setup-session/
        # session-timeouts: "UDP: Maximum length of time, in seconds, that a UDP session remains
        # open without a UDP response (...; default is 30)". Dynamic IP and port translation (DIPP)
        # gives each session a port of its own unless "persistent NAT for DIPP" is enabled ("Create
        # a Source NAT Rule with Persistent DIPP"), which is optional.
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
        # learn.microsoft.com/azure/nat-gateway/nat-gateway-resource: "64,512 SNAT ports are
        # available per public IP address", chosen "at random"; "UDP idle timeout timers are 4
        # minutes and are not configurable. Traffic on the flow will reset the idle timeout timer".
        # (The same page says that UDP keepalives are needed on both sides; taken as advice, not as
        # behaviour.)
        "cloud-azure": replace(_SESSIONS, mapping_lifetime_s=240.0),
        # Google Cloud NAT, static port allocation. Compute API, RouterNat: udpIdleTimeoutSec
        # "Defaults to 30s if not set"; minPortsPerVm "Defaults to 64 for static port allocation";
        # endpoint-independent mapping only where enableEndpointIndependentMapping is set, "API's
        # default value which is FALSE" (registry.terraform.io, google provider, compute_router_nat
        # and its version 5 upgrade guide). A machine's ports are shared by its flows, one each
        # here; the real one uses a port again for another destination.
        "cloud-gcp": replace(
            _SESSIONS,
            port_assignment=PortAssignment.BLOCK,
            port_block_size=64,
            mapping_lifetime_s=30.0,
        ),
        # Richter et al., "A Multi-perspective Analysis of Carrier-Grade NAT Deployment" (IMC 2016,
        # arXiv:1605.05606), section 6: symmetric NATs are far more common with mobile carriers than
        # with others, and UDP mappings there live for a minute or so. The figures are from memory:
        # only the abstract could be had.
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
