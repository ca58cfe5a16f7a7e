"""Two homes and a relay on slow links with a small MTU."""

from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.scenario import Outcome, Scenario, Transfer, WaitFor
from quicpipe_lab.model.topology import Host, Link, Nat, Relay, Topology

PACKET_BYTES = 1228
"""The longest packet of ours over IPv4: no link of theirs needs more."""
SLOWEST_BPS = 1e6


def narrow(mtu_bytes: int = PACKET_BYTES, delay_s: float = 0.0) -> Scenario:
    """They move data from the start. ``delay_s``: of the slowest link."""
    slowest = LinkBehavior(delay_s=delay_s, rate_bps=SLOWEST_BPS, mtu_bytes=mtu_bytes)
    topology = Topology(
        "narrow",
        (
            Nat("nat-a", NatBehavior()),
            Nat("nat-b", NatBehavior()),
            Host("alice"),
            Host("bob"),
            Relay("relay"),
        ),
        (
            Link.both_ways(("core", "nat-a"), slowest),
            Link.both_ways(("core", "nat-b"), LinkBehavior(rate_bps=2e6, mtu_bytes=mtu_bytes)),
            Link.both_ways(("core", "relay"), LinkBehavior(rate_bps=3e6, mtu_bytes=mtu_bytes)),
            Link(("nat-a", "alice")),
            Link(("nat-b", "bob")),
        ),
    )
    return Scenario(
        "narrow",
        topology,
        dialer="alice",
        accepter="bob",
        relay="relay",
        expect=Outcome.DIRECT,
        steps=(Transfer(100_000), WaitFor(path=Outcome.DIRECT), Transfer(20_000)),
    )
