"""From a Blueprint to the bytes that build it: what namespaces.py then carries out.

Plain lists and tuples, so that ``marshal`` takes them. The caller keeps them for its next lab of
the same plan, whose supervisor then needs neither this module nor pyroute2, which take longer to
import than the lab takes to build.
"""

import json
from socket import NETLINK_ROUTE

from quicpipe_lab.backends.netns import nft, rtnetlink
from quicpipe_lab.backends.netns.blueprint import Space, Wire, blueprint_from_json
from quicpipe_lab.backends.netns.namespaces import FIRST_FILE, EncodedSpace
from quicpipe_lab.backends.netns.netlink import Datagram, Request, datagrams


def encode_blueprint(text: str) -> list[EncodedSpace]:
    """``text`` is the Blueprint's JSON."""
    blueprint = blueprint_from_json(json.loads(text))
    files = {space.node: FIRST_FILE + place for place, space in enumerate(blueprint.spaces)}
    uplinks: dict[str, Wire] = {}
    tables: dict[str, Datagram] = {}
    encoded: list[EncodedSpace] = []
    for space in blueprint.spaces:
        datagrams = _links(space, uplinks.get(space.node), files)
        uplinks |= {wire.lower_node: wire for wire in space.wires}
        for table in space.tables:
            # Most NATs of a lab have the same rules, and rules take longest to encode.
            if str(table) not in tables:
                tables[str(table)] = nft.add_table(table)
            datagrams.append(tables[str(table)])
        encoded.append((space.node, space.sysctls, datagrams, space.conntrack_sysctls))
    return encoded


def _links(space: Space, uplink: Wire | None, files: dict[str, int]) -> list[Datagram]:
    """The wire upwards is there already: the node above made it."""
    requests: list[Request] = [rtnetlink.loopback_up()]
    requests += map(rtnetlink.loopback_address, space.addresses)
    if uplink is not None:
        requests += [
            rtnetlink.lower_end_up(uplink),
            rtnetlink.address(uplink.lower, uplink.prefix_length),
            rtnetlink.neighbour(uplink.lower, uplink.upper),
            rtnetlink.default_route(uplink.upper.address),
        ]
    for wire in space.wires:
        requests += [
            rtnetlink.veth_pair(wire, files[wire.lower_node]),
            rtnetlink.address(wire.upper, wire.prefix_length),
            rtnetlink.neighbour(wire.upper, wire.lower),
        ]
    return datagrams(NETLINK_ROUTE, requests)
