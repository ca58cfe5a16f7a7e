"""NATs as data, in the words of RFC 4787.

A NAT is two behaviours and what goes with them; how a backend brings them about is its own
affair. Named NATs, with their sources, are in nat_presets.py.
"""

from dataclasses import dataclass
from enum import StrEnum

from quicpipe_lab.errors import ScenarioError

LOWEST_PORT, HIGHEST_PORT = 1024, 65535
MOST_EXTERNAL_ADDRESSES = 64
MOST_MAPPINGS = MOST_EXTERNAL_ADDRESSES * 65536
LONGEST_LIFETIME_S = 30 * 86400.0
"""Kernels count some of a flow's time in ticks of a millisecond, in 32 bits: 49 days."""


class MappingBehavior(StrEnum):
    """When may two flows of one inside endpoint share an external port? (RFC 4787, 4.1)"""

    ENDPOINT_INDEPENDENT = "EIM"
    ADDRESS_DEPENDENT = "ADM"
    ADDRESS_AND_PORT_DEPENDENT = "APDM"


class FilteringBehavior(StrEnum):
    """Whose packets may come in through a mapping? (RFC 4787, 5)"""

    ENDPOINT_INDEPENDENT = "EIF"
    ADDRESS_DEPENDENT = "ADF"
    ADDRESS_AND_PORT_DEPENDENT = "APDF"


class FilterScope(StrEnum):
    """Whose contacts does the filter look at? They differ where an endpoint has several mappings.

    RFC 4787 section 5 speaks of whom the *internal endpoint* has sent to, by whichever mapping;
    conntrack and others keep this for each *mapping*.
    """

    ENDPOINT = "endpoint"
    MAPPING = "mapping"


class PortAssignment(StrEnum):
    """How an external port is chosen for a new mapping (RFC 4787, 4.2).

    ``PRESERVING``: the inside port, or a random one where another mapping has it (REQ-3).
    ``PRESERVING_OVERLOADING``: the inside port even if other inside hosts have it, as long as
    their remote endpoints differ (4.2.1's "port overloading", which REQ-3 forbids).
    ``SEQUENTIAL``: the last one plus ``port_step``.
    ``RANDOM``: any (RFC 6056).
    ``BLOCK``: any of the subscriber's own block of ``port_block_size`` ports (RFC 7422).
    """

    PRESERVING = "preserving"
    PRESERVING_OVERLOADING = "preserving-overloading"
    SEQUENTIAL = "sequential"
    RANDOM = "random"
    BLOCK = "block"


class MappingRefresh(StrEnum):
    """Which packets prolong a mapping? (RFC 4787, 4.3 and REQ-6)"""

    OUTBOUND = "outbound"
    BOTH = "both"


class Hairpinning(StrEnum):
    """What becomes of a datagram from inside to an external address of the same NAT (RFC 4787, 6).

    ``INTERNAL_SOURCE``: it reaches the inside host with its inside source, past the filter.
    ``EXTERNAL_SOURCE``: as REQ-9 wants it, with its external source; it is translated and filtered
    like one that has been outside.
    """

    NONE = "none"
    INTERNAL_SOURCE = "internal-source"
    EXTERNAL_SOURCE = "external-source"


class UnsolicitedReaction(StrEnum):
    """What a datagram from outside meets that no mapping or filter lets in.

    ``PORT_UNREACHABLE``, ``ADMIN_PROHIBITED``: ICMP type 3, codes 3 and 13 (RFC 792, RFC 1812
    5.2.7.1). ``CONNTRACK``: what plain Linux masquerading does. The datagram reaches the router's
    own stack, which answers with port unreachable, and leaves a conntrack entry that occupies the
    port: a mapping that comes later gets another one, and a punch that was right misses.
    """

    DROP = "drop"
    PORT_UNREACHABLE = "port-unreachable"
    ADMIN_PROHIBITED = "admin-prohibited"
    CONNTRACK = "conntrack"


class AddressPooling(StrEnum):
    """Which of several external addresses a mapping gets (RFC 4787, 4.1 and REQ-2).

    ``PAIRED``: an inside address always has the same one. ``ARBITRARY``: each mapping the next.
    """

    PAIRED = "paired"
    ARBITRARY = "arbitrary"


class Ipv6Behavior(StrEnum):
    """What the router does with IPv6, in topologies that have it.

    ``ROUTED``: nothing is translated; it filters as the NAT does (RFC 6092). ``NPTV6``: one prefix
    for another, in both directions and without state or filter (RFC 6296). ``NAT66``: plain Linux
    masquerading. ``NONE``: inside hosts have no IPv6. ``NAT64``: they have nothing else; it is
    routed, and IPv4 reached through addresses that stand for it, which are translated (RFC 7915)
    and then by the NAT, as its other fields say (RFC 6146; nat64.py).
    """

    NONE = "none"
    ROUTED = "routed"
    NPTV6 = "nptv6"
    NAT66 = "nat66"
    NAT64 = "nat64"


@dataclass(frozen=True, slots=True)
class NatBehavior:
    """What a NAT does to UDP. Raises ScenarioError where behaviours contradict each other.

    ``mapping_lifetime_s``: seconds without packets that refresh it after which a mapping is gone;
    RFC 4787 REQ-5 asks for 120 or more. ``answered_lifetime_s``: the same for a flow that has
    been answered, where it differs, as in conntrack.
    ``port_range``: first and last external port. ``port_parity``: an even inside port gets an even
    one and an odd one an odd one (4.2.2, REQ-4). ``port_contiguity``: inside ports that follow
    each other get such ones (4.2.3).
    ``mappings_per_subscriber``: how many an inside address may have (RFC 6888, REQ-4).
    """

    mapping: MappingBehavior = MappingBehavior.ENDPOINT_INDEPENDENT
    filtering: FilteringBehavior = FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT
    port_assignment: PortAssignment = PortAssignment.RANDOM
    mapping_lifetime_s: float = 300.0
    filter_scope: FilterScope = FilterScope.ENDPOINT
    port_range: tuple[int, int] = (LOWEST_PORT, HIGHEST_PORT)
    port_step: int = 1
    port_block_size: int | None = None
    port_parity: bool = False
    port_contiguity: bool = False
    refresh: MappingRefresh = MappingRefresh.OUTBOUND
    answered_lifetime_s: float | None = None
    mappings_per_subscriber: int | None = None
    hairpinning: Hairpinning = Hairpinning.NONE
    unsolicited: UnsolicitedReaction = UnsolicitedReaction.DROP
    external_addresses: int = 1
    pooling: AddressPooling = AddressPooling.PAIRED
    ipv6: Ipv6Behavior = Ipv6Behavior.ROUTED

    def __post_init__(self) -> None:
        _check_numbers(self)
        _check_ports(self)
        if self.port_assignment is PortAssignment.PRESERVING_OVERLOADING:
            _check_overloading(self)
        if self.unsolicited is UnsolicitedReaction.CONNTRACK:
            _check_conntrack(self)
        internal = self.hairpinning is Hairpinning.INTERNAL_SOURCE
        if internal and self.ipv6 is Ipv6Behavior.NAT64:
            raise ScenarioError(
                "hairpinning", "RFC 6146 3.8: what a NAT64 turns back it has translated before"
            )

    def __str__(self) -> str:
        return f"{self.mapping}/{self.filtering}"


def check_lifetime(field: str, lifetime_s: float) -> None:
    """Raises ScenarioError for what no router can count. NaN is above nothing."""
    if not 0 < lifetime_s <= LONGEST_LIFETIME_S:
        raise ScenarioError(field, f"is above 0 and at most {LONGEST_LIFETIME_S:.0f} (30 days)")


def _check_numbers(nat: NatBehavior) -> None:
    lifetimes = {"mapping_lifetime_s": nat.mapping_lifetime_s}
    if nat.answered_lifetime_s is not None:
        lifetimes["answered_lifetime_s"] = nat.answered_lifetime_s
    for field, value in lifetimes.items():
        check_lifetime(field, value)
    limit = nat.mappings_per_subscriber
    if limit is not None and not 1 <= limit <= MOST_MAPPINGS:
        raise ScenarioError("mappings_per_subscriber", f"is 1 to {MOST_MAPPINGS}")
    if not 1 <= nat.external_addresses <= MOST_EXTERNAL_ADDRESSES:
        raise ScenarioError("external_addresses", f"is 1 to {MOST_EXTERNAL_ADDRESSES}")


def _check_ports(nat: NatBehavior) -> None:
    first, last = nat.port_range
    if not 1 <= first <= last <= HIGHEST_PORT:
        raise ScenarioError("port_range", f"is [first, last] within 1 to {HIGHEST_PORT}")
    size = last - first + 1
    assignment = nat.port_assignment
    if nat.port_step < 1 or nat.port_step > size:
        raise ScenarioError("port_step", f"is 1 to the {size} ports of port_range")
    if nat.port_step != 1 and assignment is not PortAssignment.SEQUENTIAL:
        raise ScenarioError("port_step", f"is of sequential ports only, not of {assignment} ones")
    if (nat.port_block_size is not None) != (assignment is PortAssignment.BLOCK):
        raise ScenarioError("port_block_size", "belongs to port_assignment 'block' (RFC 7422)")
    if (
        assignment is PortAssignment.BLOCK
        and nat.external_addresses > 1
        and nat.pooling is AddressPooling.ARBITRARY
    ):
        raise ScenarioError("pooling", "RFC 7422: a subscriber's block is of one address: paired")
    if nat.port_block_size is not None and not 1 <= nat.port_block_size <= size:
        raise ScenarioError("port_block_size", f"is 1 to the {size} ports of port_range")
    if nat.port_parity and nat.port_step % 2:
        if assignment is PortAssignment.SEQUENTIAL:
            raise ScenarioError(
                "port_parity", "RFC 4787 REQ-4: an odd port_step turns even ports into odd ones"
            )
        if size < 2 or nat.port_block_size == 1:
            raise ScenarioError("port_parity", "RFC 4787 REQ-4: needs an even and an odd port")


def _check_overloading(nat: NatBehavior) -> None:
    """RFC 4787, 4.2.1: who shares a port can be told apart by the remote endpoint alone."""
    if nat.mapping is not MappingBehavior.ENDPOINT_INDEPENDENT:
        raise ScenarioError(
            "mapping", "RFC 4787 4.2.1: port overloading gives every destination the same port: EIM"
        )
    if nat.filtering is not FilteringBehavior.ADDRESS_AND_PORT_DEPENDENT:
        raise ScenarioError(
            "filtering",
            "RFC 4787 4.2.1: hosts that share a port are told apart by the remote endpoint: APDF",
        )
    if nat.hairpinning is not Hairpinning.NONE:
        raise ScenarioError(
            "hairpinning",
            "RFC 4787 4.2.1 and REQ-9: an overloaded port names no single inside host",
        )


def _check_conntrack(nat: NatBehavior) -> None:
    """Plain masquerading has no other choice in any of these."""
    wanted = {
        "port_assignment": PortAssignment.PRESERVING_OVERLOADING,
        "refresh": MappingRefresh.BOTH,
        "filter_scope": FilterScope.MAPPING,
        "port_parity": False,
        "external_addresses": 1,
        "mappings_per_subscriber": None,
    }
    for field, value in wanted.items():
        if getattr(nat, field) != value:
            raise ScenarioError(
                field, f"plain Linux (unsolicited = 'conntrack') has {str(value).lower()!r} here"
            )
