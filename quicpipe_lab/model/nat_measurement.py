"""From what was seen at a NAT to RFC 4787's words. Pure: the sockets are in shell/nat_prober.py."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Address
from itertools import pairwise
from typing import NamedTuple

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.firewall import UdpPolicy
from quicpipe_lab.model.nat import (
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    MappingBehavior,
    MappingRefresh,
)

EIM, ADM, APDM = MappingBehavior
EIF, ADF, APDF = FilteringBehavior


class ServerPoint(NamedTuple):
    """One of an RFC 5780 server's four transport addresses: the primary is (0, 0)."""

    address: int
    port: int


POINTS = tuple(ServerPoint(address, port) for address in (0, 1) for port in (0, 1))


class Property(StrEnum):
    """What is measured of a NAT, in the order in which it is told."""

    UDP = "UDP that may leave"
    EXTERNAL_ADDRESS = "external address"
    TRANSLATION = "source translated"
    POOLING = "address pooling"
    MAPPING = "mapping"
    FILTERING = "filtering"
    FILTER_SCOPE = "filter state kept per"
    PORT_ASSIGNMENT = "port assignment"
    PORT_RANGE = "port range"
    PORT_PARITY = "port parity"
    SAME_PORT = "two hosts, one port"
    HAIRPINNING = "hairpinning"
    UNSOLICITED = "unsolicited datagram"
    REJECTION = "answer to what is dropped"
    LIMIT = "mappings per host"
    LIFETIME = "mapping lifetime"
    REFRESH = "refreshed by"


ONE_HOST_HAIRPIN = "seen from one host, which takes no datagrams from its own address"
"""Remarked where internal-source hairpinning would not be noticed."""

INCONSISTENT = "inconsistent"
"""Said where what was seen fits none of RFC 4787's behaviours."""

# Words that are not those of nat.py's enums.
DISTINCT, SHARED = "distinct ports", "shared port"
NO_EFFECT, MOVES_MAPPING = "no effect", "moves the next mapping"
SILENT = "none"
PORT_UNREACHABLE, ADMIN_PROHIBITED = "ICMP port unreachable", "ICMP admin prohibited"
KEPT, NOT_KEPT = "kept", "not kept"
UNTRANSLATED, PREFIX, SHARED_ADDRESS = "no", "prefix", "address and port"


@dataclass
class NatMeasurement:
    """Words by property, and remarks: why a property has no word, or what to know about it.

    ``ports``: inside and external, of fresh sockets in order; ``hosts``: their external addresses.
    ``lifetime_s``: a mapping lived for longer than the first and was gone after the second.
    ``unmeasured``: why there is nothing of all that.
    """

    words: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)
    ports: list[tuple[int, int]] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    lifetime_s: tuple[float, float | None] | None = None
    unmeasured: str = ""


Seen = Mapping[ServerPoint, TransportAddress]
"""Where the datagrams of one inside socket came from, as each point of the server saw it."""

_SAME_MAPPING: Mapping[str, Callable[[ServerPoint], object]] = {
    EIM: lambda _: None,
    ADM: lambda point: point.address,
    APDM: lambda point: point,
}


def mapping_behavior(seen: Seen) -> str:
    """RFC 5780, 4.3: which destinations share an external transport address?

    It needs no more than the RFC's three points, but all four say more.
    """
    if len({point.address for point in seen}) < 2 or len(seen) < 3:
        raise ValueError("mapping behaviours differ at two addresses and two ports only")
    groups = _groups(seen, lambda point: seen[point])
    for behavior, shared_by in _SAME_MAPPING.items():
        if groups == _groups(seen, shared_by):
            return str(behavior)
    return INCONSISTENT


def _groups(points: Seen, key: Callable[[ServerPoint], object]) -> set[frozenset[ServerPoint]]:
    groups: dict[object, list[ServerPoint]] = {}
    for point in points:
        groups.setdefault(key(point), []).append(point)
    return {frozenset(group) for group in groups.values()}


def filtering_behavior(let_in: Mapping[ServerPoint, bool]) -> str:
    """RFC 5780, 4.4: whose datagrams come in where (0, 0) alone has been sent to?"""
    passed = {point for point, came in let_in.items() if came}
    if passed == set(let_in):
        return str(EIF)
    if passed == {point for point in let_in if point.address == 0}:
        return str(ADF)
    return INCONSISTENT if passed else str(APDF)


def filter_scope(mapping: str, filtering: str, came_through_another: bool) -> str | None:
    """RFC 4787, 5 against conntrack: may those who were sent to by one mapping use another?

    None where there is but one mapping, or nothing is filtered.
    """
    if mapping in (EIM, INCONSISTENT) or filtering in (EIF, INCONSISTENT):
        return None
    return (FilterScope.ENDPOINT if came_through_another else FilterScope.MAPPING).value


def translation(inside_host: str, hosts: Sequence[str]) -> str:
    """Of IPv6: what becomes of a source on its way out.

    A router that exchanges prefixes alone leaves the interface identifier as it is, and with it
    whom a packet is from (RFC 6296, 3.5 for prefixes of /48 and shorter).
    """
    if list(hosts) == [inside_host]:
        return UNTRANSLATED
    identifiers = {int(IPv6Address(one)) & _INTERFACE_IDENTIFIER for one in (inside_host, *hosts)}
    return PREFIX if len(identifiers) == 1 else SHARED_ADDRESS


_INTERFACE_IDENTIFIER = (1 << 64) - 1
_LONGEST_STEP = 64


def port_assignment(ports: Sequence[tuple[int, int]]) -> str:
    """RFC 4787, 4.2: from inside and external ports of fresh sockets, in order.

    One exception is allowed for: a port that another flow had, or a draw that hit by chance.
    """
    kept = sum(inside == external for inside, external in ports)
    if kept >= len(ports) - 1:
        return "preserving"
    steps = [after[1] - before[1] for before, after in pairwise(ports)]
    step = max(set(steps), key=steps.count)
    if 0 < abs(step) <= _LONGEST_STEP and steps.count(step) >= len(steps) - 1:
        return sequential(step)
    return "random" if kept <= 1 else INCONSISTENT


def sequential(step: int) -> str:
    """The word."""
    return f"sequential, step {step}"


def block(size: int) -> str:
    """The word."""
    return f"random in a block of {size}"


def port_range(bounds: tuple[int, int]) -> str:
    """The word."""
    return f"{bounds[0]} to {bounds[1]}"


def same_port(first: Seen, second: Seen) -> str:
    """RFC 4787, REQ-3: two inside hosts with one source port must not share an external one.

    Under a collision each must map as it does alone.
    """
    if set(first.values()) & set(second.values()):
        return SHARED
    behaviors = [mapping_behavior(first), mapping_behavior(second)]
    return f"{DISTINCT}, {' and '.join(dict.fromkeys(behaviors))}"


def hairpinning(
    source: TransportAddress | None, external: TransportAddress, inside_host: str
) -> str:
    """RFC 4787, 6: a datagram to a mapping of the same NAT came from ``source``, or not at all."""
    if source is None:
        return Hairpinning.NONE.value
    if source.host == external.host:
        return Hairpinning.EXTERNAL_SOURCE.value
    return Hairpinning.INTERNAL_SOURCE.value if source.host == inside_host else f"from {source}"


_ICMP_WORDS = {
    (3, 3): PORT_UNREACHABLE,  # RFC 792
    (3, 13): ADMIN_PROHIBITED,  # RFC 1812, 5.2.7.1
    (1, 4): PORT_UNREACHABLE,  # ICMPv6: RFC 4443, 3.1
    (1, 1): ADMIN_PROHIBITED,
}


def rejection(errors: Collection[tuple[int, int]]) -> str:
    """What a NAT says to what it drops: ICMP types and codes, or nothing."""
    said = [_ICMP_WORDS.get(one, f"ICMP {one[0]}/{one[1]}") for one in sorted(errors)]
    return " and ".join(said) or SILENT


def udp_policy(answered: Mapping[int, bool]) -> str:
    """From whether servers on these ports answered: which UDP gets out at all."""
    if all(answered.values()):
        return UdpPolicy.OPEN.value
    ports = [str(port) for port, came in answered.items() if came]
    return f"only-{'-'.join(ports)}" if ports else UdpPolicy.BLOCKED.value


def refresh(by_outbound: bool, by_inbound: bool) -> str:
    """RFC 4787, REQ-6: which packets keep a mapping alive."""
    return {
        (True, False): MappingRefresh.OUTBOUND.value,
        (False, True): "inbound",
        (True, True): MappingRefresh.BOTH.value,
        (False, False): "neither direction",
    }[by_outbound, by_inbound]


def lifetime_bracket(
    idle: Sequence[tuple[float, float, bool]],
) -> tuple[float, float | None]:
    """From (idle for at least, idle for at most, still there): alive after, gone after.

    Raises ValueError where a longer idle mapping was there and a shorter idle one was not.
    """
    alive = max((least for least, _, there in idle if there), default=0.0)
    gone = min((most for _, most, there in idle if not there), default=None)
    if gone is not None and gone <= alive:
        raise ValueError(f"alive after {alive:.3f} s, and gone after {gone:.3f} s")
    return alive, gone
