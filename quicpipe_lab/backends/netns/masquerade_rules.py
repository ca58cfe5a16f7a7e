"""NATs that leave it to conntrack: plain Linux masquerading, and port overloading.

Conntrack keeps the inside port as long as no other flow has the same external endpoint *and* the
same remote one, and else takes another: RFC 4787 4.2.1's port overloading.
"""

from quicpipe_lab.backends.netns.blueprint import Chain, Set, Table
from quicpipe_lab.model.nat import (
    MappingRefresh,
    NatBehavior,
)

_RAW, _FILTER, _SOURCE_NAT, _AFTER_NAT = -300, 0, 100, 150


def plain_table(wan: str) -> Table:
    """What most people type, and no more: ``nft add rule nat postrouting oifname wan masquerade``.

    An unsolicited datagram goes to the NAT's own stack, is answered with port unreachable, and
    its conntrack entry occupies the port for a while: that is how these NATs are.
    """
    rules = [[f'oifname "{wan}"', "masquerade"]]
    return Table("nat", [], [Chain("postrouting", "nat", "postrouting", _SOURCE_NAT, rules)])


def overloading_table(behavior: NatBehavior, wan: str, lifetime_s: int) -> Table:
    """The same without that: what no inside host has asked for is dropped before conntrack."""
    udp_in = [f'iifname "{wan}"', "meta l4proto udp"]
    udp_out = [f'oifname "{wan}"', "meta l4proto udp"]
    flow_in, flow_out = "udp dport . ip saddr . udp sport", "udp sport . ip daddr . udp dport"
    inbound = [[*udp_in, f"{flow_in} != @peers", "drop"]]
    if behavior.refresh is MappingRefresh.BOTH:
        inbound.append([*udp_in, f"update @peers {{ {flow_in} }}"])
    types = ["inet_service", "ipv4_addr", "inet_service"]
    return Table(
        "nat",
        [Set("peers", types, [], lifetime_s)],
        [
            Chain("inbound", "filter", "prerouting", _RAW, inbound),
            Chain(
                "input",
                "filter",
                "input",
                _FILTER,
                [['iifname != "lo"', "meta l4proto udp", "ct state new", "drop"]],
            ),
            Chain(
                "postrouting",
                "nat",
                "postrouting",
                _SOURCE_NAT,
                [[f'oifname "{wan}"', "masquerade"]],
            ),
            Chain(
                "record",
                "filter",
                "postrouting",
                _AFTER_NAT,
                [[*udp_out, f"update @peers {{ {flow_out} }}"]],
            ),
        ],
    )
