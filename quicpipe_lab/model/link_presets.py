"""Kinds of links by name, each with where its numbers come from.

They are typical and not extreme, for one subscriber's line in its ordinary state. A preset holds
the access alone: a path's delay is that of all links on it. Where a source gives round trips, half
of it is each direction's. ``down`` is away from the core, ``up`` towards it.

Of the sources, those were read again in November 2026 of which words are quoted. The others'
numbers are from memory of them, and queues are our own choice where it does not say whose.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from quicpipe_lab.model.link import BurstLoss, LinkBehavior, LinkPreset

_FIBRE = LinkBehavior(
    delay_s=0.002,
    jitter_s=0.0005,
    loss=0.00001,
    rate_bps=100e6,
    queue_bytes=625_000,
)
"""GPON, a line of 100 Mbit/s each way.

Delay and jitter: 20 km of fibre are 0.1 ms (ITU-T G.984.1 gives that reach); upstream, slots are
granted in cycles of 125 us (G.984.3), of which schedulers take several. The FCC's Measuring
Broadband America reports find fibre the quickest of the fixed accesses. Queue: 50 ms at the rate.
"""

_DSL_DOWN = LinkBehavior(
    delay_s=0.010,
    jitter_s=0.001,
    loss=0.0005,
    rate_bps=16e6,
    queue_bytes=128 * 1024,
)
_DSL_UP = replace(_DSL_DOWN, rate_bps=1e6)
"""ADSL2+ (ITU-T G.992.5), a line of 16 and 1 Mbit/s.

Delay: Dischinger et al., "Characterizing Residential Broadband Networks" (IMC 2007; its abstract
names what was measured, not the values), find 10 to 20 ms and more of round trip for the last hop
of DSL, from interleaving, with little jitter and small rates of loss. Queue: 128 KiB, one of the
frequent sizes that Kreibich et al., "Netalyzr" (IMC 2010), found; upstream it is a second of delay
once it is full, as they and Dischinger saw.
"""

_CABLE_DOWN = LinkBehavior(
    delay_s=0.005,
    jitter_s=0.001,
    loss=0.0001,
    rate_bps=100e6,
    queue_bytes=625_000,
)
_CABLE_UP = replace(_CABLE_DOWN, jitter_s=0.003, rate_bps=10e6, queue_bytes=125_000)
"""DOCSIS 3.0, a line of 100 and 10 Mbit/s.

Delay: "typical latency performance of around 10 milliseconds (ms) on the Access Network link", of
DOCSIS 3.1 (White et al., "Low Latency DOCSIS: Technology Overview", draft-white-tsvwg-lld-00,
2019): that is both directions. Upstream, a modem asks before it sends and waits some ms for the
grant. Queue: 50 ms downstream; 100 ms upstream, as DOCSIS 3.0 lets operators set it (buffer
control; RFC 8034 says why).
"""

_WIFI = LinkBehavior(
    delay_s=0.004,
    jitter_s=0.003,
    burst_loss=BurstLoss(enter=0.001, leave=0.2),
    rate_bps=50e6,
    queue_bytes=256 * 1024,
)
"""A busy 802.11n network, one station's share of it.

Delay: Pei et al., "WiFi can be the weakest link of round trip network latency in the wild"
(INFOCOM 2016), find more than 20 ms in half of the cases on a loaded campus; Sui et al.,
"Characterizing and Improving WiFi Latency" (MobiSys 2016), medians of few ms on enterprise
networks: nearer to the latter. Loss: what retransmission on the air leaves over comes in bursts, as
fading and interference do; mean five packets, half a percent in all. Queue: Hoiland-Jorgensen et
al., "Ending the Anomaly" (USENIX ATC 2017), on queues of hundreds of packets in drivers.
"""

_LTE_DOWN = LinkBehavior(
    delay_s=0.025,
    jitter_s=0.010,
    loss=0.0005,
    rate_bps=13e6,
    queue_bytes=512 * 1024,
)
_LTE_UP = replace(_LTE_DOWN, delay_s=0.035, rate_bps=6e6, queue_bytes=256 * 1024)
"""LTE, as Huang et al., "A Close Examination of Performance and Power Characteristics of 4G LTE
Networks" (MobiSys 2012), measured it: "a median value of 13Mbps and 6Mbps, respectively" (the
abstract), and round trips of 70 ms with a server (from memory); upstream takes longer, as a
terminal asks for a grant first (3GPP TR 36.912, annex B).

Loss and queue: the same group's "An In-depth Study of LTE" (SIGCOMM 2013) finds next to no loss,
for the radio retransmits, and queues deep enough for hundreds of ms.
"""

_5G_DOWN = LinkBehavior(
    delay_s=0.010,
    jitter_s=0.004,
    loss=0.0002,
    rate_bps=100e6,
    queue_bytes=1_250_000,
)
_5G_UP = replace(_5G_DOWN, rate_bps=50e6, queue_bytes=625_000)
"""5G below 6 GHz. Rates: ITU-R M.2410, 4.3, user experienced data rate of 100 and 50 Mbit/s.

Delay: M.2410, 4.7.1, allows the radio 4 ms; Xu et al., "Understanding Operational 5G" (SIGCOMM
2020), measured round trips of about 20 ms with servers nearby. Queue: 100 ms at the rate.
"""

_GEO_DOWN = LinkBehavior(
    delay_s=0.300,
    jitter_s=0.010,
    loss=0.0005,
    rate_bps=50e6,
    queue_bytes=1_250_000,
)
_GEO_UP = replace(_GEO_DOWN, jitter_s=0.020, rate_bps=10e6, queue_bytes=500_000)
"""A satellite 36,000 km up, a line of 50 and 10 Mbit/s.

Delay: the way up and down alone takes 239.6 to 279.0 ms (RFC 2488, section 2; ITU-T G.114 counts
260 ms); with the access of the return channel, measured round trips are about 600 ms (Michel et
al., "A First Look at Starlink Performance", IMC 2022, for comparison). Rates: those with which Kuhn
et al., "QUIC: Opportunities and Threats in SATCOM" (ASMS 2020), work. Loss: forward error
correction leaves little. Queue: 200 and 400 ms at the rate.
"""

_LEO_DOWN = LinkBehavior(
    delay_s=0.022,
    jitter_s=0.006,
    burst_loss=BurstLoss(enter=0.0005, leave=0.1),
    rate_bps=150e6,
    queue_bytes=1_500_000,
)
_LEO_UP = replace(_LEO_DOWN, rate_bps=17e6, queue_bytes=300_000)
"""Starlink, as Michel et al., "A First Look at Starlink Performance" (IMC 2022), measured it from
Belgium: round trips of 50 ms in the median with 40 and 60 ms as quartiles, across a continent, of
which some ms are not the access's; 100 to 250 Mbit/s down and 17 Mbit/s up in the median.

Loss: Kassem et al., "A browser-side view of Starlink connectivity" (IMC 2022), find
it in bursts with the hand-overs between satellites; half a percent in all, ten packets a burst.
"""

_TRANSATLANTIC = LinkBehavior(delay_s=0.037, jitter_s=0.0005, loss=0.0001)
"""London to New York over a backbone: as much rate as anybody asks for.

Verizon's IP latency statistics give about 74 ms of round trip a month, and its service level
agreement at most 90 ms and 0.5 % of loss; measured loss is far below that.
"""

PRESETS: Mapping[str, LinkPreset] = MappingProxyType(
    {
        "fibre": LinkPreset(_FIBRE, _FIBRE),
        "dsl": LinkPreset(_DSL_DOWN, _DSL_UP),
        "cable": LinkPreset(_CABLE_DOWN, _CABLE_UP),
        "wifi": LinkPreset(_WIFI, _WIFI),
        "lte": LinkPreset(_LTE_DOWN, _LTE_UP),
        "5g": LinkPreset(_5G_DOWN, _5G_UP),
        "geo-satellite": LinkPreset(_GEO_DOWN, _GEO_UP),
        "leo-satellite": LinkPreset(_LEO_DOWN, _LEO_UP),
        "transatlantic": LinkPreset(_TRANSATLANTIC, _TRANSATLANTIC),
    }
)
