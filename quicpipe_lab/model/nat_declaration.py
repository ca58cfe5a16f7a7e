"""What a host behind NATs is to see of them, in the words of nat_measurement.py. Pure.

Behind several NATs, of mapping and filtering the stricter holds. Where the rest of what they do
does not add up to one word, the property is left open, with a remark that says so.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from quicpipe_lab.model import nat_measurement as words
from quicpipe_lab.model.firewall import UdpPolicy
from quicpipe_lab.model.nat import (
    HIGHEST_PORT,
    LOWEST_PORT,
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    Ipv6Behavior,
    MappingBehavior,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)
from quicpipe_lab.model.nat_measurement import Property

Chain = Sequence[NatBehavior]
"""The NATs above a host, the nearest first."""

_EIM = MappingBehavior.ENDPOINT_INDEPENDENT
_EIF, _ADF, _APDF = FilteringBehavior

_DIFFER = "the NATs on the way differ in this"
_PRESERVING = (PortAssignment.PRESERVING, PortAssignment.PRESERVING_OVERLOADING)
_REJECTIONS = {
    UnsolicitedReaction.DROP: words.SILENT,
    UnsolicitedReaction.PORT_UNREACHABLE: words.PORT_UNREACHABLE,
    UnsolicitedReaction.ADMIN_PROHIBITED: words.ADMIN_PROHIBITED,
    UnsolicitedReaction.CONNTRACK: words.PORT_UNREACHABLE,
}


@dataclass
class Declaration:
    """Words by property; or remarks: why there is none.

    ``port_range``: all external ports lie in it; ``port_block_size``: all those of one inside host
    lie in one block of so many, counted from the range's first.
    """

    words: dict[Property, str] = field(default_factory=dict)
    remarks: dict[Property, str] = field(default_factory=dict)
    lifetime_s: float = 0.0
    port_range: tuple[int, int] = (LOWEST_PORT, HIGHEST_PORT)
    port_block_size: int | None = None


def declare(chain: Chain, external_hosts: Sequence[str]) -> Declaration:
    """``external_hosts``: the outermost NAT's addresses."""
    assert chain
    mapping = max((one.mapping for one in chain), key=list(MappingBehavior).index)
    filtering = max((one.filtering for one in chain), key=list(FilteringBehavior).index)
    declaration = Declaration(
        {Property.MAPPING: mapping.value, Property.FILTERING: filtering.value},
        lifetime_s=min(lifetime_of(one) for one in chain),
    )
    _declare_scope(declaration, chain, mapping, filtering)
    _declare_ports(declaration, chain, mapping)
    _declare_addresses(declaration, chain[-1], external_hosts)
    _declare_hairpinning(declaration, chain)
    _declare_reaction(declaration, chain)
    if (limit := mapping_limit(chain)) is not None:
        declaration.words[Property.LIMIT] = str(limit)
        declaration.remarks[Property.LIMIT] = "not measured: the mappings are the lab's to use"
    _declare_equal(declaration, Property.REFRESH, [one.refresh.value for one in chain])
    return declaration


def declare_ipv6(
    chain: Chain, external_hosts: Sequence[str], kinds: Collection[Ipv6Behavior]
) -> Declaration:
    """``chain``: as over_ipv6 gives it; ``kinds``: what the routers on the way do to IPv6."""
    declaration = declare(chain, external_hosts)
    word = words.UNTRANSLATED
    if Ipv6Behavior.NAT66 in kinds:
        word = words.SHARED_ADDRESS
    elif Ipv6Behavior.NPTV6 in kinds:
        word = words.PREFIX
    declaration.words[Property.TRANSLATION] = word
    return declaration


def declare_blocked(policy: UdpPolicy) -> Declaration:
    """Behind a firewall that lets no question to the usual port through, there is but this."""
    return Declaration({Property.UDP: policy.value})


def mapping_limit(chain: Chain) -> int | None:
    """How many mappings a host may have at a time, if there is a limit."""
    limits = [one.mappings_per_subscriber for one in chain]
    return min((one for one in limits if one is not None), default=None)


class Room(NamedTuple):
    """How many mappings a host can have at a time, and which property of a NAT says so."""

    mappings: int
    property: Property
    declared: str


def room(chain: Chain) -> Room | None:
    """The least on the way; None where nothing but the number of ports there are bounds it."""
    rooms = []
    for one in chain:
        first, last = one.port_range
        if one.mappings_per_subscriber is not None:
            limit = one.mappings_per_subscriber
            rooms.append(Room(limit, Property.LIMIT, str(limit)))
        if (first, last) != (LOWEST_PORT, HIGHEST_PORT):
            declared = words.port_range(one.port_range)
            rooms.append(Room(last - first + 1, Property.PORT_RANGE, declared))
        if one.port_block_size is not None:
            size = one.port_block_size
            rooms.append(Room(size, Property.PORT_ASSIGNMENT, words.block(size)))
    return min(rooms, default=None)


def lifetime_of(behavior: NatBehavior) -> float:
    """Of a mapping that has been used in both directions."""
    return behavior.answered_lifetime_s or behavior.mapping_lifetime_s


def filter_scope_of(chain: Chain) -> FilterScope:
    """Of all of them as one."""
    per_mapping = any(
        # Outside another NAT, that one's mappings are the inside endpoints.
        one.filtering is not _EIF
        and (
            (one.filter_scope is FilterScope.MAPPING and one.mapping is not _EIM)
            or any(inner.mapping is not _EIM for inner in chain[:place])
        )
        for place, one in enumerate(chain)
    )
    return FilterScope.MAPPING if per_mapping else FilterScope.ENDPOINT


def _declare_scope(declaration: Declaration, chain: Chain, mapping: str, filtering: str) -> None:
    per_endpoint = filter_scope_of(chain) is FilterScope.ENDPOINT
    if word := words.filter_scope(mapping, filtering, per_endpoint):
        declaration.words[Property.FILTER_SCOPE] = word


def _declare_ports(declaration: Declaration, chain: Chain, mapping: str) -> None:
    # A NAT that preserves ports leaves it to the one before it.
    decisive = next(
        (one for one in reversed(chain) if one.port_assignment not in _PRESERVING), chain[-1]
    )
    assignment = decisive.port_assignment
    word = "preserving" if assignment in _PRESERVING else assignment.value
    if assignment is PortAssignment.SEQUENTIAL:
        word = words.sequential(decisive.port_step)
    elif assignment is PortAssignment.BLOCK and decisive.port_block_size is not None:
        word = words.block(decisive.port_block_size)
        declaration.port_block_size = decisive.port_block_size
    declaration.words[Property.PORT_ASSIGNMENT] = word
    declaration.port_range = chain[-1].port_range
    if declaration.port_range != (LOWEST_PORT, HIGHEST_PORT):
        declaration.words[Property.PORT_RANGE] = words.port_range(chain[-1].port_range)
    if all(one.port_parity for one in chain):
        declaration.words[Property.PORT_PARITY] = words.KEPT
    overloading = [one.port_assignment is PortAssignment.PRESERVING_OVERLOADING for one in chain]
    if all(overloading):
        declaration.words[Property.SAME_PORT] = words.SHARED
    elif any(overloading):
        declaration.remarks[Property.SAME_PORT] = _DIFFER
    else:
        declaration.words[Property.SAME_PORT] = f"{words.DISTINCT}, {mapping}"


def _declare_addresses(
    declaration: Declaration, outermost: NatBehavior, hosts: Sequence[str]
) -> None:
    declaration.words[Property.EXTERNAL_ADDRESS] = " or ".join(hosts)
    if len(hosts) > 1:
        declaration.words[Property.POOLING] = outermost.pooling.value


def _declare_hairpinning(declaration: Declaration, chain: Chain) -> None:
    if len(chain) == 1 and chain[0].hairpinning is Hairpinning.EXTERNAL_SOURCE:
        nat = chain[0]
        per_endpoint = nat.filter_scope is FilterScope.ENDPOINT
        # The sender's port is one that the receiver cannot know, and so not open its filter for.
        seen = (
            nat.mapping is _EIM or nat.filtering is _EIF or (nat.filtering is _ADF and per_endpoint)
        )
        if not seen:
            declaration.remarks[Property.HAIRPINNING] = f"cannot be seen through {nat}"
            return
    kinds = {one.hairpinning for one in chain}
    if len(chain) > 1 and kinds != {Hairpinning.NONE}:
        declaration.remarks[Property.HAIRPINNING] = "not told apart behind several NATs"
    else:
        declaration.words[Property.HAIRPINNING] = chain[0].hairpinning.value


def _declare_reaction(declaration: Declaration, chain: Chain) -> None:
    moves = [one.unsolicited is UnsolicitedReaction.CONNTRACK for one in chain]
    effects = [words.MOVES_MAPPING if one else words.NO_EFFECT for one in moves]
    _declare_equal(declaration, Property.UNSOLICITED, effects)
    rejections = [_REJECTIONS[one.unsolicited] for one in chain]
    _declare_equal(declaration, Property.REJECTION, rejections)


def _declare_equal(declaration: Declaration, what: Property, each: list[str]) -> None:
    if len(set(each)) == 1:
        declaration.words[what] = each[0]
    else:
        declaration.remarks[what] = _DIFFER
