"""From a Blueprint to the bytes that build it: what namespaces.py then carries out.

Plain lists and tuples, so that ``marshal`` takes them. The caller keeps them for its next lab of
the same plan, whose supervisor then needs neither this module nor pyroute2, which take longer to
import than the lab takes to build.
"""

import json
from collections.abc import Iterator
from socket import NETLINK_ROUTE

from quicpipe_lab.backends.netns import netlink, nft, rtnetlink
from quicpipe_lab.backends.netns.blueprint import WIRES, End, Space, Wire, blueprint_from_json
from quicpipe_lab.backends.netns.namespaces import FIRST_FILE, EncodedSpace
from quicpipe_lab.backends.netns.netlink import Datagram, Request

DOWN, UP = 0, 1
"""Places in Wire.netem."""


def encode_blueprint(text: str) -> list[EncodedSpace]:
    """``text`` is the Blueprint's JSON."""
    blueprint = blueprint_from_json(json.loads(text))
    files = {space.node: FIRST_FILE + place for place, space in enumerate(blueprint.spaces)}
    uplinks: dict[str, list[Wire]] = {}
    tables: dict[str, Datagram] = {}
    encoded: list[EncodedSpace] = []
    for space in blueprint.spaces:
        above = sorted(uplinks.get(space.node, []), key=lambda wire: wire.lower.number)
        datagrams = _links(space, above, files)
        for wire in space.wires:
            uplinks.setdefault(wire.lower_node, []).append(wire)
        if space.node == WIRES:
            ends = [end for wires in uplinks.values() for wire in wires for end in wire.through]
            datagrams += netlink.datagrams(NETLINK_ROUTE, list(map(rtnetlink.end_up, ends)))
        for table in space.tables:
            # Most NATs of a lab have the same rules, and rules take longest to encode.
            if str(table) not in tables:
                tables[str(table)] = nft.add_table(table)
            datagrams.append(tables[str(table)])
        real = list(_real_senders(space, above))
        tun = None if space.tun is None else (space.tun.interface, space.tun.number)
        encoded.append((space.node, space.sysctls, datagrams, space.conntrack_sysctls, real, tun))
    return encoded


def _real_senders(space: Space, above: list[Wire]) -> Iterator[str]:
    """The interfaces on links that behave: what they send has to be real packets."""
    for uplink in above:
        if uplink.through or uplink.netem:
            yield uplink.lower.interface
    for wire in space.wires:
        if wire.through or wire.netem:
            yield wire.upper.interface


def _links(space: Space, above: list[Wire], files: dict[str, int]) -> list[Datagram]:
    """The wires upwards are there already: the nodes above made them."""
    requests: list[Request] = [rtnetlink.loopback_up()]
    requests += map(rtnetlink.loopback_address, space.addresses)
    for uplink in above:
        requests.append(rtnetlink.end_up(uplink.lower))
        requests += _ipv4(uplink.lower, uplink.upper, uplink.prefix_length)
        if uplink.upper.address and uplink.is_default:
            requests.append(rtnetlink.default_route(uplink.upper.address))
        if uplink.table:
            gateway, own = uplink.upper.address, uplink.lower.address
            requests += rtnetlink.route_by_source(own, gateway, uplink.table)
        requests += _netem(uplink, uplink.lower, UP)
    for wire in space.wires:
        requests += [*_veth_pairs(wire, files), *_netem(wire, wire.upper, DOWN)]
        requests += _ipv4(wire.upper, wire.lower, wire.prefix_length)
    requests += [rtnetlink.route(network, gateway) for network, gateway in space.routes]
    if space.ipv6 is not None:
        requests += rtnetlink.ipv6(space.ipv6)
    if space.tun is not None:
        requests += rtnetlink.tun(space.tun)
    if space.hairpin is not None:
        requests += rtnetlink.hairpin(space.hairpin, files[space.node])
    return netlink.datagrams(NETLINK_ROUTE, requests)


def _ipv4(here: End, there: End, prefix_length: int) -> list[Request]:
    if not here.address:
        return []
    return [rtnetlink.address(here, prefix_length), rtnetlink.neighbour(here, there)]


def _veth_pairs(wire: Wire, files: dict[str, int]) -> list[Request]:
    lower_file = files[wire.lower_node]
    if not wire.through:
        return [rtnetlink.veth_pair(wire.upper, wire.lower, lower_file)]
    first, second = wire.through
    return [
        rtnetlink.veth_pair(wire.upper, first, files[WIRES]),
        rtnetlink.veth_pair(second, wire.lower, lower_file, files[WIRES]),
    ]


def _netem(wire: Wire, end: End, direction: int) -> list[Request]:
    if not wire.netem:
        return []
    # Here, for it brings the link model along.
    from quicpipe_lab.backends.netns.netem import set_netem
    from quicpipe_lab.model.link import LinkBehavior

    behavior, seed = wire.netem[direction]
    return [set_netem(end.number, end.interface, LinkBehavior.from_data(behavior), seed)]
