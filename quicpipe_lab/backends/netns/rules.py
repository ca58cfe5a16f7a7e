"""From a NAT's behaviour to nftables rules: readable, and pure.

Outbound, translation has two stages. ``postrouting`` (port_rules.py) translates from what was
recorded and chooses where nothing was; ``record`` then writes down what was chosen. What a mapping
is recorded under (the key of ``egress``) is RFC 4787's mapping behaviour.

Inbound, a datagram is filtered and translated without conntrack. Three reasons:
- a datagram that is dropped must leave nothing behind: a conntrack entry for it would occupy a
  port, and the next mapping would get another one;
- a datagram that is let in must not tie the answer to the port it came through: the answer is an
  outbound packet like any other, and gets the port that the mapping behaviour says;
- conntrack refreshes a flow by packets in both directions, and RFC 4787 REQ-6 may want one only.

So the sets hold the truth, and conntrack's flows are a cache of it for outbound packets.
"""

from typing import NamedTuple

from quicpipe_lab.backends.nat_support import require_support
from quicpipe_lab.backends.netns import masquerade_rules, port_rules
from quicpipe_lab.backends.netns.blueprint import Chain, Set, Table
from quicpipe_lab.backends.netns.keys import Keys, concatenate, types_of
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.interface import HAIRPIN_IN, HAIRPIN_OUT
from quicpipe_lab.model.nat import (
    Hairpinning,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)

# Netfilter's priorities: before conntrack, source NAT, and right behind it.
_RAW, _FILTER, _SOURCE_NAT, _AFTER_NAT = -300, 0, 100, 150


class NatPlace(NamedTuple):
    """Where a NAT stands. ``addresses`` are the external ones, that of its uplink first;
    ``subscribers`` the inside ones, as the NAT sees them."""

    wan: str
    addresses: list[str]
    subscribers: list[str]


def nat_table(behavior: NatBehavior, place: NatPlace) -> Table:
    """Raises UnsupportedBehaviorError."""
    _refuse(behavior)
    if behavior.unsolicited is UnsolicitedReaction.CONNTRACK:
        return masquerade_rules.plain_table(place.wan)
    lifetime_s = whole_seconds(behavior.mapping_lifetime_s, "mapping_lifetime_s")
    if behavior.port_assignment is PortAssignment.PRESERVING_OVERLOADING:
        return masquerade_rules.overloading_table(behavior, place.wan, lifetime_s)
    keys = Keys(behavior)
    outward = [place.wan]
    inward = [place.wan]
    if behavior.hairpinning is Hairpinning.EXTERNAL_SOURCE:
        outward.append(HAIRPIN_OUT)
        inward.append(HAIRPIN_IN)
    inbound = [rule for one in inward for rule in _inbound(behavior, keys, place, one)]
    if behavior.hairpinning is Hairpinning.INTERNAL_SOURCE:
        inbound += _hairpin_inside(keys, place)
    record = [rule for one in outward for rule in _record(behavior, keys, place, one)]
    postrouting, helpers = port_rules.postrouting(
        behavior, keys, outward, place.addresses, place.subscribers
    )
    return Table(
        "nat",
        _sets(behavior, keys, place, lifetime_s),
        [
            Chain("inbound", "filter", "prerouting", _RAW, inbound),
            Chain("input", "filter", "input", _FILTER, _input()),
            # An ICMP error about a datagram that came in without conntrack bears an inside address.
            Chain("forward", "filter", "forward", _FILTER, _no_invalid(place.wan)),
            Chain("postrouting", "nat", "postrouting", _SOURCE_NAT, postrouting),
            *helpers,
            Chain("record", "filter", "postrouting", _AFTER_NAT, record),
        ],
    )


def conntrack_sysctls(behavior: NatBehavior) -> list[list[str]]:
    """Conntrack forgets a flow when the mapping ends: path under /proc/sys and value.

    It has two timeouts: for flows that were never answered, and for those that were.
    """
    lifetime_s = answered_s = whole_seconds(behavior.mapping_lifetime_s, "mapping_lifetime_s")
    if behavior.answered_lifetime_s is not None:
        answered_s = whole_seconds(behavior.answered_lifetime_s, "answered_lifetime_s")
    return [
        ["net/netfilter/nf_conntrack_udp_timeout", str(lifetime_s)],
        ["net/netfilter/nf_conntrack_udp_timeout_stream", str(answered_s)],
    ]


def _refuse(behavior: NatBehavior) -> None:
    if behavior.port_contiguity:
        raise UnsupportedBehaviorError(
            "port_contiguity (RFC 4787, 4.2.3): nftables cannot reserve the ports beside one"
        )
    require_support(behavior)


def whole_seconds(lifetime_s: float, field: str) -> int:
    """Raises UnsupportedBehaviorError."""
    if lifetime_s < 1 or lifetime_s != int(lifetime_s):
        raise UnsupportedBehaviorError(
            f"{field} of {lifetime_s:g}: the kernel's conntrack counts whole seconds, from 1 up"
        )
    return int(lifetime_s)


def _sets(behavior: NatBehavior, keys: Keys, place: NatPlace, lifetime_s: int) -> list[Set]:
    """By external endpoint, but ``egress``; ``contacted`` as the filter's scope says."""
    external = types_of(keys.external_out)
    sets = [
        Set("ports", external, [], lifetime_s),
        Set("inside_address", external, ["ipv4_addr"], lifetime_s),
        Set("inside_port", external, ["inet_service"], lifetime_s),
        Set("egress", types_of(keys.mapping), types_of(keys.translated), lifetime_s),
    ]
    if keys.contact_out:
        sets.append(Set("contacted", types_of(keys.contact_out), [], lifetime_s))
    for name, selector in keys.remembered_remote.items():
        sets.append(Set(name, external, types_of([selector]), lifetime_s))
    if behavior.mappings_per_subscriber is not None:
        size = behavior.mappings_per_subscriber
        names = map(_limit_name, range(len(place.subscribers)))
        sets += [Set(name, types_of(keys.mapping), [], lifetime_s, size) for name in names]
    return sets


def _inbound(behavior: NatBehavior, keys: Keys, place: NatPlace, interface: str) -> list[list[str]]:
    udp_in = [f'iifname "{interface}"', "meta l4proto udp"]
    reaction = REACTIONS[behavior.unsolicited]
    rules = [[*udp_in, f"{concatenate(keys.external_in)} != @ports", reaction]]
    if keys.contact_in:
        rules.append([*udp_in, f"{concatenate(keys.contact_in)} != @contacted", reaction])
    if behavior.refresh is MappingRefresh.BOTH:
        rules += [[*udp_in, *statements] for statements in _refresh(behavior, keys, place)]
    rules.append([*udp_in, "notrack"])
    return rules + [[*udp_in, rewriting] for rewriting in keys.rewriting]


REACTIONS = {
    UnsolicitedReaction.DROP: "drop",
    UnsolicitedReaction.PORT_UNREACHABLE: "reject with icmp port-unreachable",
    UnsolicitedReaction.ADMIN_PROHIBITED: "reject with icmp admin-prohibited",
}


def _refresh(behavior: NatBehavior, keys: Keys, place: NatPlace) -> list[list[str]]:
    """What ``record`` does, from what is known of a datagram that the filter let in."""
    external = concatenate(keys.external_in)
    mapping = concatenate(keys.mapping_in)
    updates = [
        [f"update @ports {{ {external} }}"],
        [f"update @inside_address {{ {external} : ({external} map @inside_address) }}"],
        [f"update @inside_port {{ {external} : ({external} map @inside_port) }}"],
        [f"update @egress {{ {mapping} : ip daddr . udp dport }}"],
    ]
    if keys.contact_in:
        updates.append([f"update @contacted {{ {concatenate(keys.contact_in)} }}"])
    updates += [
        [f"update @{name} {{ {external} : ({external} map @{name}) }}"]
        for name in keys.remembered_remote
    ]
    if behavior.mappings_per_subscriber is not None:
        updates += [
            [f"{mapping} @{name}", f"update @{name} {{ {mapping} }}"]
            for name in map(_limit_name, range(len(place.subscribers)))
        ]
    return updates


def _hairpin_inside(keys: Keys, place: NatPlace) -> list[list[str]]:
    """The destination is translated and nothing else."""
    rules = []
    for address in place.addresses:
        # The address is the same in all the rules, and is rewritten by the last of them.
        hairpin = [f'iifname != "{place.wan}"', "meta l4proto udp", f"ip daddr {address}"]
        known = [*hairpin, f"{concatenate(keys.external_in)} @ports"]
        rules += [[*known, "notrack"], [*known, keys.rewriting_at_once]]
    return rules


def _input() -> list[list[str]]:
    """Nothing from inside reaches the NAT's own stack, which would answer with ICMP.

    What comes from outside and is for the NAT itself has passed ``inbound``, and is untracked.
    """
    return [['iifname != "lo"', "meta l4proto udp", "ct state new", "drop"]]


def _no_invalid(wan: str) -> list[list[str]]:
    return [[f'oifname "{wan}"', "ct state invalid", "drop"]]


def _record(behavior: NatBehavior, keys: Keys, place: NatPlace, interface: str) -> list[list[str]]:
    udp_out = [f'oifname "{interface}"', "meta l4proto udp"]
    external, mapping = concatenate(keys.external_out), concatenate(keys.mapping_recorded)
    rules = [
        # The choice for a new mapping hit another mapping's port, which REQ-3 forbids to share.
        # Rare; the dropped packet leaves no conntrack entry, and the next one draws again.
        [*udp_out, f"{mapping} != @egress", f"{external} @ports", "drop"],
    ]
    if behavior.mappings_per_subscriber is not None:
        rules += [[*udp_out, *one] for one in _limits(keys, place)]
    updates = [
        # First, so that it is the first to expire: ``inbound`` asks it before the others.
        f"update @ports {{ {external} }}",
        f"update @inside_address {{ {external} : ct original ip saddr }}",
        f"update @inside_port {{ {external} : ct original proto-src }}",
        f"update @egress {{ {mapping} : {concatenate(keys.translated)} }}",
    ]
    if keys.contact_out:
        updates.append(f"update @contacted {{ {concatenate(keys.contact_out)} }}")
    for name, selector in keys.remembered_remote.items():
        updates.append(f"update @{name} {{ {external} : {selector} }}")
    return rules + [[*udp_out, update] for update in updates]


def _limits(keys: Keys, place: NatPlace) -> list[list[str]]:
    """RFC 6888, REQ-4. A set takes no more elements than its size; one that ended may count for
    a second more, until the kernel has swept it out."""
    mapping = concatenate(keys.mapping_recorded)
    rules = []
    for index, subscriber in enumerate(place.subscribers):
        of_subscriber = f"ct original ip saddr {subscriber}"
        name = _limit_name(index)
        rules += [
            [of_subscriber, f"update @{name} {{ {mapping} }}"],
            [of_subscriber, f"{mapping} != @{name}", "drop"],
        ]
    return rules


def _limit_name(index: int) -> str:
    return f"mappings_{index}"
