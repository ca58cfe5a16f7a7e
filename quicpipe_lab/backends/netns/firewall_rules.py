"""From a firewall's behaviour to nftables rules: readable, and pure.

UDP's state is a set of ours, so that filtering and refresh are what the behaviour says; that of
TCP and ICMP is conntrack's. Nothing is decided where NATs do it: the two kinds never meet in one
router, but a firewall's rules stand in ``forward``, so that cuts come first.
"""

from quicpipe_lab.backends.netns.blueprint import Chain, Set, Table
from quicpipe_lab.backends.netns.keys import FILTERED_BY, REVERSED, concatenate, types_of
from quicpipe_lab.backends.netns.rules import REACTIONS, whole_seconds
from quicpipe_lab.model.firewall import FirewallBehavior, UdpPolicy
from quicpipe_lab.model.nat import MappingRefresh

_FORWARD = 10  # behind the cuts


def firewall_table(behavior: FirewallBehavior, wan: str, family: str = "ip") -> Table:
    """``family`` is ``ip`` or ``ip6``. Raises UnsupportedBehaviorError."""
    lifetime_s = whole_seconds(behavior.state_lifetime_s, "state_lifetime_s")
    filtered_by = FILTERED_BY[behavior.filtering]
    contact_out = ["ip saddr", "udp sport", *filtered_by]
    contact_in = ["ip daddr", "udp dport", *(REVERSED[one] for one in filtered_by)]
    if family == "ip6":
        contact_out = [one.replace("ip ", "ip6 ") for one in contact_out]
        contact_in = [one.replace("ip ", "ip6 ") for one in contact_in]
    out, into = f'oifname "{wan}"', f'iifname "{wan}"'
    rules = _forbidden(behavior, out)
    rules.append([out, "meta l4proto udp", f"update @contacted {{ {concatenate(contact_out)} }}"])
    known = [into, "meta l4proto udp", f"{concatenate(contact_in)} @contacted"]
    if behavior.refresh is MappingRefresh.BOTH:
        known.append(f"update @contacted {{ {concatenate(contact_in)} }}")
    rules += [
        [*known, "accept"],
        [into, "meta l4proto udp", _reaction(behavior, family)],
        [into, "ct state established,related", "accept"],
        [into, "drop"],
    ]
    return Table(
        "firewall",
        [Set("contacted", types_of(contact_out), [], lifetime_s)],
        [Chain("forward", "filter", "forward", _FORWARD, rules)],
        family,
    )


def _reaction(behavior: FirewallBehavior, family: str) -> str:
    return REACTIONS[behavior.unsolicited].replace(
        "icmp ", "icmpv6 " if family == "ip6" else "icmp "
    )


def _forbidden(behavior: FirewallBehavior, out: str) -> list[list[str]]:
    if behavior.udp is UdpPolicy.OPEN:
        return []
    allowed = ["udp dport != 443"] if behavior.udp is UdpPolicy.ONLY_443 else []
    return [[out, "meta l4proto udp", *allowed, "drop"]]
