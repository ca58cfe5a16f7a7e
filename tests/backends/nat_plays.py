"""RFC 4787's requirements, and others', as packet sequences: for NATs that keep them, and for NATs
that are there to break them. The steps' grammar is in nat_script.py.
"""

from quicpipe_lab.model.nat import (
    AddressPooling,
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
)
from quicpipe_lab.model.nat_presets import PRESETS

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior
PRESERVING, OVERLOADING = PortAssignment.PRESERVING, PortAssignment.PRESERVING_OVERLOADING
BOTH = MappingRefresh.BOTH
INTERNAL, EXTERNAL = Hairpinning.INTERNAL_SOURCE, Hairpinning.EXTERNAL_SOURCE
BY_MAPPING = FilterScope.MAPPING
LINUX = PRESETS["linux-masquerade"]

PLAYS: list[tuple[str, NatBehavior, str]] = [
    # RFC 4787, REQ-1: a NAT MUST have an "Endpoint-Independent Mapping" behaviour.
    ("REQ-1 kept", NatBehavior(EIM), "a>1 X; a>2 X; a>3 X; a>4 X; a2>1 Y; b>1 Z"),
    ("REQ-1 by address", NatBehavior(ADM), "a>1 X; a>2 X; a>3 Y; a>4 Y; a>1 X"),
    ("REQ-1 by endpoint", NatBehavior(APDM), "a>1 W; a>2 X; a>3 Y; a>4 Z; a>2 X"),
    ("REQ-1 plain Linux", LINUX, "a>1 X; a>2 X; a>3 X; a>4 X"),
    # REQ-2: "Arbitrary" pooling takes the addresses in turn, and hairpins have none of their own:
    # the fourth mapping has the first of three addresses again.
    (
        "REQ-2 broken, hairpins as others",
        NatBehavior(
            ADM,
            EIF,
            PRESERVING,
            hairpinning=EXTERNAL,
            external_addresses=3,
            pooling=AddressPooling.ARBITRARY,
        ),
        "a:5000>1 A; b:5001>a@1 B; a2:5002>1 C; a3:5003>1 =",
    ),
    # REQ-3: MUST NOT have "Port overloading"; collisions change neither class (REQ-11).
    ("REQ-3 kept", NatBehavior(EIM, APDF, PRESERVING), "a:5000>1 X; b:5000>4 Y; b>1 Y; a>4 X"),
    ("REQ-3 by endpoint", NatBehavior(APDM, APDF, PRESERVING), "a:5000>1 X; b:5000>4 Y; a>4 Z"),
    (
        "REQ-3 broken",
        NatBehavior(EIM, APDF, OVERLOADING),
        "a:5000>1 X; b:5000>4 X; b>1 Y; a>1 X; 1>a@1 in; 4>b@4 in; 1>b@4 -",
    ),
    ("REQ-3 plain Linux", LINUX, "a:5000>1 X; b:5000>4 X; b>1 Y; b>2 Y"),
    # REQ-3a: RECOMMENDED that a port below 1024 gets one below 1024, and others do not.
    ("REQ-3a plain Linux", LINUX, "a:500>1 =; a2:5000>1 ="),
    (
        "REQ-3a kept",
        NatBehavior(EIM, APDF, PRESERVING, port_range=(1, 65535)),
        "a:500>1 =; a>3 =; a2:5000>1 =",
    ),
    # REQ-5: a mapping MUST NOT expire in less than two minutes; here, to the second.
    ("REQ-5 kept", NatBehavior(), "a>1 X; wait 299.9; 1>a@1 in; wait 0.1; 1>a@1 -; a>1 Y"),
    ("REQ-5 broken", PRESETS["corporate"], "a>1 X; wait 29.9; 1>a@1 in; wait 30; 1>a@1 -"),
    ("REQ-5 by endpoint", NatBehavior(APDM), "a>1 X; wait 200; a>2 Y; wait 100; 1>a@1 -; 2>a@2 in"),
    ("REQ-5 plain Linux, unanswered", LINUX, "a>1 X; wait 29.9; 1>a@1 in; wait 30; 1>a@1 -"),
    (
        "REQ-5 plain Linux, answered",
        LINUX,
        "a>1 X; 1>a@1 in; wait 3; a>1 X; wait 119.9; 1>a@1 in; wait 119.9; 1>a@1 in; wait 120;"
        "1>a@1 -",
    ),
    ("REQ-5 plain Linux, too young", LINUX, "a>1 X; 1>a@1 in; wait 1; a>1 X; wait 30; 1>a@1 -"),
    # REQ-6: "NAT Outbound refresh behavior" of "True".
    ("REQ-6 outbound", NatBehavior(), "a>1 X; wait 200; a>1 X; wait 200; 1>a@1 in; a>1 X"),
    (
        "REQ-6 outbound, any flow",
        NatBehavior(),
        "a>1 X; wait 200; a>2 X; wait 200; 2>a@1 in",
    ),
    ("REQ-6 not inbound", NatBehavior(), "a>1 X; wait 200; 1>a@1 in; wait 100; 1>a@1 -; a>1 Y"),
    (
        "REQ-6 inbound too",
        NatBehavior(refresh=BOTH),
        "a>1 X; wait 200; 1>a@1 in; wait 200; 1>a@1 in; wait 299; a>2 X",
    ),
    (
        "REQ-6 not by strangers that stay outside",
        NatBehavior(refresh=BOTH),
        "a>1 X; wait 200; 2>a@1 -; wait 100; 1>a@1 -",
    ),
    (
        "REQ-6 by strangers that come in",
        NatBehavior(ADM, EIF, refresh=BOTH),
        "a>1 X; wait 200; 4>a@1 in; wait 200; a>2 X",
    ),
    (
        "REQ-6 the filter idles by itself",
        NatBehavior(filtering=APDF),
        "a>1 X; a>2 X; wait 200; a>1 X; wait 100; 2>a@1 -; 1>a@1 in",
    ),
    (
        "REQ-6 what comes in keeps no filter open",
        NatBehavior(filtering=APDF),
        "a>1 X; wait 200; a>2 X; wait 50; 1>a@1 in; wait 70; 1>a@1 -; 2>a@2 in",
    ),
    # REQ-8: EIF for transparency, ADF where more stringent filtering is wanted.
    ("REQ-8 EIF", NatBehavior(filtering=EIF), "a>1 X; 1>a@1 in; 2>a@1 in; 3>a@1 in; 4>a@1 in"),
    ("REQ-8 ADF", NatBehavior(filtering=ADF), "a>1 X; 1>a@1 in; 2>a@1 in; 3>a@1 -; 4>a@1 -"),
    ("REQ-8 APDF", NatBehavior(filtering=APDF), "a>1 X; 1>a@1 in; 2>a@1 -; 3>a@1 -; 4>a@1 -"),
    ("REQ-8 ADF opens", NatBehavior(filtering=ADF), "a>1 X; 4>a@1 -; a>3 X; 4>a@1 in"),
    ("REQ-8 APDF opens", NatBehavior(filtering=APDF), "a>1 X; 4>a@1 -; a>4 X; 4>a@1 in; 3>a@1 -"),
    ("REQ-8 scope endpoint", NatBehavior(APDM, APDF), "a>1 X; a>4 Y; 4>a@1 in; 1>a@4 in; 3>a@1 -"),
    (
        "REQ-8 scope mapping",
        NatBehavior(APDM, APDF, filter_scope=BY_MAPPING),
        "a>1 X; a>4 Y; 4>a@1 -; 1>a@4 -; 4>a@4 in",
    ),
    ("REQ-8 not another's", NatBehavior(APDM, ADF), "a>1 X; a2>4 Y; 4>a@1 -; 1>a2@4 -"),
    # REQ-9: MUST support hairpinning, with external source.
    (
        "REQ-9 kept",
        NatBehavior(filtering=EIF, hairpinning=EXTERNAL),
        "a>1 X; b>1 Y; a>b@1 X; b>a@1 Y; a>a@1 X",
    ),
    (
        "REQ-9 and the filter",
        NatBehavior(hairpinning=EXTERNAL),
        "a>1 X; b>1 Y; a>b@1 -; b>a@1 Y; a>b@1 X",
    ),
    (
        "REQ-9 by endpoint",
        NatBehavior(APDM, ADF, hairpinning=EXTERNAL),
        "a>1 W; b>1 X; a>b@1 -; b>a@1 Y; a>b@1 Z",
    ),
    (
        "REQ-9 internal",
        NatBehavior(hairpinning=INTERNAL),
        "a>1 X; b>1 Y; a>b@1 inside; b>a@1 inside",
    ),
    # The source that stays is then the receiver's own address, which Linux takes for a martian.
    (
        "REQ-9 internal, to itself",
        NatBehavior(filtering=EIF, hairpinning=INTERNAL),
        "a>1 X; a2>1 Y; b>1 Z; a>a@1 -; a>a2@1 -; b>a2@1 inside; b>b@1 -",
    ),
    ("REQ-9 broken", NatBehavior(), "a>1 X; b>1 Y; a>b@1 -; b>a@1 -; a>b@1 -"),
    # REQ-12: ICMP must not end a mapping. RFC 5508, REQ-4: errors reach the inside host.
    ("REQ-12", NatBehavior(), "a>1 X; a>9 refused; a>1 X; 1>a@1 in; a>3 X"),
    ("REQ-12 by endpoint", NatBehavior(APDM), "a>1 X; a>9 refused; a>1 X; 1>a@1 in"),
    ("REQ-12 plain Linux", LINUX, "a>1 X; a>9 refused; a>1 X; 1>a@1 in"),
    (
        "REQ-12 overloading",
        NatBehavior(port_assignment=OVERLOADING),
        "a>9 refused; a>1 X; 1>a@1 in",
    ),
    # RFC 1812, 4.3.2.8: Linux answers six times at once, and then once a second.
    ("ICMP limit", NatBehavior(), "; ".join(["a>9 refused"] * 6 + ["a>9 -", "a>1 X"])),
    ("ICMP limit and time", NatBehavior(), "; ".join(["a>9 refused; wait 1"] * 9)),
    # DESIGN.md, trap 1: what an unsolicited datagram leaves behind, which REQ-11 forbids.
    ("early", NatBehavior(EIM, APDF, PRESERVING), "4>a@= -; a>4 =; a>3 =; 4>a@= in"),
    ("early by endpoint", NatBehavior(APDM, ADF, PRESERVING), "4>a@= -; a>4 =; a>1 X"),
    ("early overloading", NatBehavior(EIM, APDF, OVERLOADING), "4>a@= -; a>4 =; a>1 =; 4>a@= in"),
    # Its entry has the port towards 4; from then on the last choice comes first (conntrack).
    ("early plain Linux", LINUX, "4>a@= -; a>1 =; a>4 X; a>3 X; a>1 =; 4>a@= -; 4>a@3 in"),
    # RFC 6888, REQ-4: a limit for each subscriber, which those that ended do not count for.
    (
        "RFC 6888 REQ-4",
        NatBehavior(mappings_per_subscriber=2),
        "a>1 X; a2>1 Y; a3>1 -; a>2 X; b>1 Z; wait 200; a>1 X; wait 100; a3>1 W; a4>1 -",
    ),
    (
        "RFC 6888 REQ-4 by endpoint",
        NatBehavior(APDM, mappings_per_subscriber=2),
        "a>1 X; a>2 Y; a>3 -; a2>1 -; a>1 X; b>1 Z",
    ),
    # What happens to what is remembered when the power fails: RFC 5382, section 6 has the idea.
    ("reboot", NatBehavior(), "a>1 X; reboot; 1>a@1 -; a>1 Y; 1>a@1 in"),
    ("reboot plain Linux", LINUX, "a>1 X; a>3 X; reboot; 3>a@1 -; a>1 X; 1>a@1 in; 3>a@1 -"),
]
"""A name that begins with the requirement, a NAT, and what happens."""
