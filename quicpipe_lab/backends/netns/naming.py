"""Which names a node knows the others by: the text of its /etc/hosts, and who is where.

A private address means something behind its NAT only, so what a name stands for depends on where
it is looked up. A router is known by the address that faces the one who asks. A host behind
somebody else's NAT has no address at all from here: its NAT's is not its own, and a ping to that
would be answered by the NAT. Such names stand in a comment and are not resolved.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:  # the supervisor, which has no use for it, starts faster without
    from quicpipe_lab.model.topology import Topology

_LOOPBACK = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


class Place(NamedTuple):
    """A node and its link towards the core; the core itself has none.

    ``realm`` is the NAT behind which ``address`` means something, or the core. ``gateway`` is the
    address of the link's other end, which is ``upper``'s. The same for IPv6, where there is any.
    ``standby``: of a host with several links, the others' router, realm, address and gateway.
    ``synthesised``: behind a NAT64, by name, the IPv6 addresses for what has IPv4 only (RFC 6147).
    """

    node: str
    kind: str
    realm: str
    upper: str | None = None
    address: str | None = None
    gateway: str | None = None
    realm_v6: str = ""
    address_v6: str | None = None
    gateway_v6: str | None = None
    synthesised: Mapping[str, str] = {}
    standby: Sequence[tuple[str, str, str, str]] = ()


def places(topology: "Topology") -> list[Place]:
    """Every node, from the core outwards."""
    from quicpipe_lab.model.ipv6 import Ipv6Addresses
    from quicpipe_lab.model.topology import CORE

    ipv6 = Ipv6Addresses(topology)
    found = [Place(CORE, "router", CORE, realm_v6=CORE)]
    for node, uplink in topology.uplinks.items():
        place = Place(
            node,
            type(topology.by_name[node]).__name__.lower(),
            topology.realm(uplink.upper),
            uplink.upper,
            str(uplink.lower_address),
            str(uplink.upper_address),
            standby=[
                (
                    one.upper,
                    topology.realm(one.upper),
                    str(one.lower_address),
                    str(one.upper_address),
                )
                for one in topology.standby.get(node, ())
            ],
        )
        if topology.nat64_above(node) is not None:
            place = place._replace(address=None, gateway=None)
        if (link := ipv6.uplinks.get(node)) is not None:
            place = place._replace(
                realm_v6=ipv6.realm(node),
                address_v6=str(link.lower_address),
                gateway_v6=str(link.upper_address),
            )
        found.append(place)
    routers = {node: topology.nat64_above(node) for node in topology.uplinks}
    return [
        place._replace(synthesised=_synthesised(found, router))
        if (router := routers.get(place.node))
        else place
        for place in found
    ]


def _synthesised(all_places: Sequence[Place], router: str) -> dict[str, str]:
    """What the NAT64 ``router`` knows of IPv4, but for itself: what is sent to its own address is
    not for its translator. And the name that hosts learn the prefix from."""
    from ipaddress import IPv4Address

    from quicpipe_lab.model.nat64 import LAB_PREFIX, WELL_KNOWN_ADDRESSES, WELL_KNOWN_NAME, embed

    ipv4 = {name: IPv4Address(text) for name, text in _known(all_places, router).items()}
    del ipv4[router]
    ipv4[WELL_KNOWN_NAME] = WELL_KNOWN_ADDRESSES[0]
    return {name: str(embed(LAB_PREFIX, address)) for name, address in ipv4.items()}


def addresses(all_places: Sequence[Place]) -> dict[str, list[str]]:
    """Every address of every node, the one towards the core first, IPv6 behind IPv4."""
    found: dict[str, list[str]] = {place.node: [] for place in all_places}
    for view in (all_places, _over_ipv6(all_places)):
        own: dict[str, list[str]] = {place.node: [] for place in all_places}
        for place in view:
            if place.upper is not None and place.address is not None and place.gateway is not None:
                own[place.node].insert(0, place.address)
                own[place.upper].append(place.gateway)
            for upper, _, address, gateway in place.standby:
                own[place.node].append(address)
                own[upper].append(gateway)
        for node in found:
            found[node] += own[node]
    return found


def hosts_file(all_places: Sequence[Place], node: str) -> str:
    """The /etc/hosts of a node."""
    known = [_known(view, node) for view in (all_places, _over_ipv6(all_places))]
    synthesised = dict(next(place.synthesised for place in all_places if place.node == node))
    lines, hidden = [], []
    for place in all_places:
        found = [names[place.node] for names in known if place.node in names]
        instead = synthesised.pop(place.node, None)
        if instead and not found:
            found = [instead]
        lines += [f"{address}\t{place.node}\n" for address in found]
        if found:
            continue
        if place.node == node:
            lines.append(f"127.0.1.1\t{node}\n")  # the core: none of its addresses is the first
        else:
            hidden.append(f"# {place.node} is behind {place.realm}: no address of its own here\n")
    lines += [f"{address}\t{name}\n" for name, address in synthesised.items()]
    return "".join([_LOOPBACK, *lines, *hidden])


def _over_ipv6(all_places: Sequence[Place]) -> list[Place]:
    """The places with their IPv6 in the place of IPv4."""
    return [
        one._replace(realm=one.realm_v6, address=one.address_v6, gateway=one.gateway_v6, standby=())
        for one in all_places
    ]


def _known(all_places: Sequence[Place], node: str) -> dict[str, str]:
    """Names and addresses of whom a node reaches, itself among them."""
    by_name = {place.node: place for place in all_places}
    facing = _facing(by_name, node)
    next_to = {upper: gateway for upper, _, _, gateway in by_name[node].standby}
    known: dict[str, str] = {}
    for place in all_places:
        own = facing.get(place.node, next_to.get(place.node))
        address = place.address if place.node == node else own
        if address is None and (place.realm == node or place.realm in facing):
            address = place.address
        for _, realm, other, _ in place.standby:
            if address is None and (realm == node or realm in facing):
                address = other
        if address is not None:
            known[place.node] = address
    return known


def _facing(by_name: dict[str, Place], node: str) -> dict[str, str]:
    """The routers between a node and the core, and their addresses on this side."""
    found: dict[str, str] = {}
    place = by_name[node]
    while place.upper is not None and place.gateway is not None:
        found[place.upper] = place.gateway
        place = by_name[place.upper]
    return found
