"""From a NAT's behaviour to nftables rules: readable, and pure.

Outbound, translation has two stages. ``postrouting`` translates from what was recorded and lets
the kernel choose where nothing was; ``record`` then writes down what it chose. What a mapping is
recorded under (the key of ``egress``) is RFC 4787's mapping behaviour.

Inbound, a datagram of a flow that was begun inside (``peers``) goes to conntrack, which knows it.
Any other is filtered, and translated without conntrack, in ``inbound``. Two reasons:
- a datagram that is dropped must leave nothing behind: a conntrack entry for it would occupy a
  port, and the next mapping would get another one;
- a datagram that is let in must not tie the answer to the port it came through: the answer is an
  outbound packet like any other, and gets the port that the mapping behaviour says.

The filter's state is kept for each inside endpoint, as RFC 4787 section 5 words it, and not for
each mapping. Every timer is refreshed by outbound packets alone (REQ-6), as the sets are updated
nowhere but in ``record``.
"""

from dataclasses import fields

from quicpipe_lab.backends.netns.blueprint import Chain, Set, Table
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    MappingBehavior,
    NatBehavior,
    PortAssignment,
)

# Netfilter's priorities: before conntrack, source NAT, and right behind it.
_RAW, _FILTER, _SOURCE_NAT, _AFTER_NAT = -300, 0, 100, 150

_SELECTOR_TYPES = {
    "ip saddr": "ipv4_addr",
    "ip daddr": "ipv4_addr",
    "udp sport": "inet_service",
    "udp dport": "inet_service",
    "ct original ip saddr": "ipv4_addr",
    "ct original proto-src": "inet_service",
}

# The inside endpoint of an outbound packet, before and after its source was translated.
_INSIDE = ["ip saddr", "udp sport"]
_INSIDE_RECORDED = ["ct original ip saddr", "ct original proto-src"]

_MAPPED_BY = {
    MappingBehavior.ENDPOINT_INDEPENDENT: [],
    MappingBehavior.ADDRESS_DEPENDENT: ["ip daddr"],
    MappingBehavior.ADDRESS_AND_PORT_DEPENDENT: ["ip daddr", "udp dport"],
}
_FILTERED_BY = {
    FilteringBehavior.ENDPOINT_INDEPENDENT: [],
    FilteringBehavior.ADDRESS_DEPENDENT: ["ip daddr"],
    FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT: ["ip daddr", "udp dport"],
}
_REVERSED = {"ip daddr": "ip saddr", "udp dport": "udp sport"}


def nat_table(behavior: NatBehavior, wan: str) -> Table:
    """The rules of a NAT whose outside interface is ``wan``. Raises UnsupportedBehaviorError."""
    _refuse(behavior)
    lifetime_s = _whole_seconds(behavior.mapping_lifetime_s)
    return Table(
        "nat",
        _sets(behavior, lifetime_s),
        [
            Chain("inbound", "filter", "prerouting", _RAW, _inbound(behavior, wan)),
            Chain("input", "filter", "input", _FILTER, _input()),
            Chain("postrouting", "nat", "postrouting", _SOURCE_NAT, _postrouting(behavior, wan)),
            Chain("record", "filter", "postrouting", _AFTER_NAT, _record(behavior, wan)),
        ],
    )


def _refuse(behavior: NatBehavior) -> None:
    """What is declared and not made."""
    known = NatBehavior(
        behavior.mapping,
        behavior.filtering,
        PortAssignment.PRESERVING,
        behavior.mapping_lifetime_s,
    )
    for field in fields(NatBehavior):
        value = getattr(behavior, field.name)
        if field.name == "port_assignment" and value is PortAssignment.RANDOM:
            continue
        if value != getattr(known, field.name):
            raise UnsupportedBehaviorError(
                f"{field.name} = {value}: the netns backend does not have it"
            )


def conntrack_sysctls(behavior: NatBehavior) -> list[list[str]]:
    """Conntrack forgets a flow when the mapping ends: path under /proc/sys and value.

    Both timeouts, as conntrack has one of its own for flows that were never answered.
    """
    lifetime = str(_whole_seconds(behavior.mapping_lifetime_s))
    return [
        [f"net/netfilter/nf_conntrack_{name}", lifetime]
        for name in ("udp_timeout", "udp_timeout_stream")
    ]


def _whole_seconds(lifetime_s: float) -> int:
    if lifetime_s < 1 or lifetime_s != int(lifetime_s):
        raise UnsupportedBehaviorError(
            f"mapping_lifetime_s of {lifetime_s:g}: the kernel's conntrack counts whole seconds,"
            " from 1 up"
        )
    return int(lifetime_s)


def _sets(behavior: NatBehavior, lifetime_s: int) -> list[Set]:
    """``ports``, ``inside_address`` and ``inside_port`` by external port; the others see above."""
    mapped_by, filtered_by = _MAPPED_BY[behavior.mapping], _FILTERED_BY[behavior.filtering]
    sets = [
        Set("ports", ["inet_service"], [], lifetime_s),
        Set("inside_address", ["inet_service"], ["ipv4_addr"], lifetime_s),
        Set("inside_port", ["inet_service"], ["inet_service"], lifetime_s),
        Set("peers", _types(["udp sport", "ip daddr", "udp dport"]), [], lifetime_s),
        Set("egress", _types(_INSIDE + mapped_by), _types(_INSIDE), lifetime_s),
    ]
    if filtered_by:
        sets.append(Set("contacted", _types(_INSIDE + filtered_by), [], lifetime_s))
    return sets


def _inbound(behavior: NatBehavior, wan: str) -> list[list[str]]:
    udp_in = [f'iifname "{wan}"', "meta l4proto udp"]
    rules = [
        [*udp_in, "udp dport . ip saddr . udp sport @peers", "accept"],
        [*udp_in, "udp dport != @ports", "drop"],
        [*udp_in, "notrack"],
        # The address first: the port is the key of both maps.
        [*udp_in, "ip daddr set udp dport map @inside_address"],
        [*udp_in, "udp dport set udp dport map @inside_port"],
    ]
    if filtered_by := _FILTERED_BY[behavior.filtering]:
        key = _concatenate(["ip daddr", "udp dport", *(_REVERSED[one] for one in filtered_by)])
        rules.append([*udp_in, f"{key} != @contacted", "drop"])
    return rules


def _input() -> list[list[str]]:
    """Nothing unsolicited reaches the NAT's own stack, which would answer with ICMP.

    That includes datagrams from inside to the NAT's outside address: it does not hairpin.
    """
    return [['iifname != "lo"', "meta l4proto udp", "ct state new,untracked", "drop"]]


def _postrouting(behavior: NatBehavior, wan: str) -> list[list[str]]:
    out = f'oifname "{wan}"'
    udp_out = [out, "meta l4proto udp"]
    key = _concatenate(_INSIDE + _MAPPED_BY[behavior.mapping])
    rules = [[*udp_out, f"snat to {key} map @egress"]]
    if behavior.port_assignment is PortAssignment.PRESERVING:
        # Another mapping has the port: conntrack alone would share it as long as the
        # destinations differ, which REQ-3 forbids (port overloading).
        rules.append([*udp_out, "udp sport @ports", "masquerade fully-random"])
    else:
        rules.append([*udp_out, "masquerade fully-random"])
    rules.append([out, "masquerade"])
    return rules


def _record(behavior: NatBehavior, wan: str) -> list[list[str]]:
    out = f'oifname "{wan}"'
    udp_out = [out, "meta l4proto udp"]
    filtered_by = _FILTERED_BY[behavior.filtering]
    key = _concatenate(_INSIDE_RECORDED + _MAPPED_BY[behavior.mapping])
    rules = [
        # An ICMP error about a datagram that came in without conntrack bears an inside address.
        [out, "ct state invalid", "drop"],
        # The kernel's choice for a new mapping hit another mapping's port (see REQ-3 above).
        # Rare; the dropped packet leaves no conntrack entry, and the next one draws again.
        [*udp_out, f"{key} != @egress", "udp sport @ports", "drop"],
        # First, so that it is the first to expire: ``inbound`` asks it before the other two.
        [*udp_out, "update @ports { udp sport }"],
        [*udp_out, "update @inside_address { udp sport : ct original ip saddr }"],
        [*udp_out, "update @inside_port { udp sport : ct original proto-src }"],
        [*udp_out, "update @peers { udp sport . ip daddr . udp dport }"],
        [*udp_out, f"update @egress {{ {key} : {_concatenate(_INSIDE)} }}"],
    ]
    if filtered_by:
        contacted = _concatenate(_INSIDE_RECORDED + filtered_by)
        rules.append([*udp_out, f"update @contacted {{ {contacted} }}"])
    return rules


def _concatenate(selectors: list[str]) -> str:
    return " . ".join(selectors)


def _types(selectors: list[str]) -> list[str]:
    return [_SELECTOR_TYPES[selector] for selector in selectors]
