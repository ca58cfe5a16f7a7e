"""The rtnetlink messages that the lab needs, through pyroute2's encoders."""

import socket
from typing import Any

from quicpipe_lab.backends.netns.blueprint import End, Hairpin, Ipv6, Tun
from quicpipe_lab.backends.netns.encoders import (
    NLM_F_INSTEAD,
    NLM_F_NEW,
    encode,
    ifaddrmsg,
    ifinfmsg,
    load,
    ndmsg,
    rtmsg,
    rtnl,
)
from quicpipe_lab.backends.netns.netlink import Request

_LOOPBACK_INDEX = 1
_MAIN_TABLE, _LOCAL_TABLE, _HAIRPIN_TABLE = 254, 255, 100
# The order in which the rules for routing are asked; the kernel has the local table at 0.
_HAIRPIN_FIRST, _LOCAL_NEXT, _BY_SOURCE = 10, 20, 30
_NEW_RULE, _DELETE_RULE = 32, 33  # RTM_NEWRULE and RTM_DELRULE
_TO_TABLE = 1  # FR_ACT_TO_TBL
_NO_DETECTION = 2  # IFA_F_NODAD


def loopback_up() -> Request:
    """Also gives the loopback interface its addresses."""
    return _up(_LOOPBACK_INDEX, "lo")


def end_up(end: End) -> Request:
    """In the end's own namespace."""
    return _up(end.number, end.interface)


def _up(index: int, interface: str) -> Request:
    message = ifinfmsg.ifinfmsg()
    message.update({"index": index, "flags": ifinfmsg.IFF_UP, "change": ifinfmsg.IFF_UP})
    return encode(message, rtnl.RTM_NEWLINK, 0, f"interface {interface!r}")


def veth_pair(here: End, there: End, space: int, from_space: int | None = None) -> Request:
    """``here`` in this namespace, up; ``there`` in that of the file ``space``.

    The other end stays down: the kernel makes it first, and does not let an end up without other.
    With ``from_space``, ``here`` is in that file's namespace instead.
    """
    peer = {**_link(there), "flags": 0}
    peer["attrs"].append(("IFLA_NET_NS_FD", space))
    link = _link(here)
    if from_space is not None:
        link["attrs"].append(("IFLA_NET_NS_FD", from_space))
    link["attrs"].append(
        (
            "IFLA_LINKINFO",
            {
                "attrs": [
                    ("IFLA_INFO_KIND", "veth"),
                    ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]}),
                ]
            },
        )
    )
    message = ifinfmsg.ifinfmsg()
    message.setvalue(link)
    purpose = f"veth pair {here.interface!r} to {there.interface!r}"
    return encode(message, rtnl.RTM_NEWLINK, NLM_F_NEW, purpose)


def _link(end: End) -> dict[str, Any]:
    return {
        "index": end.number,
        "flags": ifinfmsg.IFF_UP,
        "change": ifinfmsg.IFF_UP,
        "attrs": [("IFLA_IFNAME", end.interface), ("IFLA_ADDRESS", end.mac)],
    }


def address(end: End, prefix_length: int) -> Request:
    """Brings the route to the link's network with it."""
    return _address(end.number, end.address, prefix_length)


def loopback_address(address: str) -> Request:
    """The kernel takes what is sent to it through any interface."""
    return _address(_LOOPBACK_INDEX, address, 32)


def _address(index: int, address: str, prefix_length: int) -> Request:
    message = ifaddrmsg.ifaddrmsg()
    message.setvalue(
        {
            "family": socket.AF_INET,
            "prefixlen": prefix_length,
            "index": index,
            "attrs": [("IFA_LOCAL", address), ("IFA_ADDRESS", address)],
        }
    )
    return encode(message, rtnl.RTM_NEWADDR, NLM_F_NEW, f"address {address}")


def neighbour(end: End, other: End) -> Request:
    """The other end's MAC address for good: no first packet waits for ARP, or is lost to it."""
    return _neighbour(socket.AF_INET, end.number, other.address, other.mac)


def _neighbour(family: int, number: int, address: str, mac: str) -> Request:
    message = ndmsg.ndmsg()
    message.setvalue(
        {
            "family": family,
            "ifindex": number,
            "state": ndmsg.NUD_PERMANENT,
            "attrs": [("NDA_DST", address), ("NDA_LLADDR", mac)],
        }
    )
    return encode(message, rtnl.RTM_NEWNEIGH, NLM_F_NEW, f"neighbour {address}")


def default_route(gateway: str, *, replaces: bool = False) -> Request:
    """The gateway is on a link that has its address already. ``replaces``: it is another one's."""
    purpose, flags = f"default route through {gateway}", NLM_F_INSTEAD if replaces else NLM_F_NEW
    attributes = [("RTA_GATEWAY", gateway)]
    return _route(0, "universe", _MAIN_TABLE, attributes, purpose, flags=flags)


def route_by_source(own: str, gateway: str, table: int) -> list[Request]:
    """What is sent from an address of this node's goes to ``gateway``, by a table of its own."""
    purpose = f"route from {own} through {gateway}"
    matched: list[tuple[str, Any]] = [("FRA_SRC", own), ("FRA_PRIORITY", _BY_SOURCE)]
    return [
        _route(0, "universe", table, [("RTA_GATEWAY", gateway)], purpose),
        _rule(_NEW_RULE, matched, table),
    ]


def route(network: str, gateway: str) -> Request:
    """``network`` in CIDR form; the gateway is on a link that has its address already."""
    address, _, length = network.partition("/")
    attributes = [("RTA_DST", address), ("RTA_GATEWAY", gateway)]
    return _route(int(length), "universe", _MAIN_TABLE, attributes, f"route to {network}")


def _route(
    length: int,
    scope: str,
    table: int,
    attributes: list[tuple[str, Any]],
    purpose: str,
    family: int = socket.AF_INET,
    flags: int = NLM_F_NEW,
) -> Request:
    message = rtmsg.rtmsg()
    message.setvalue(
        {
            "family": family,
            "dst_len": length,
            "table": table,
            "proto": rtnl.rt_proto["static"],
            "scope": rtnl.rt_scope[scope],
            "type": rtnl.rt_type["unicast"],
            "attrs": attributes,
        }
    )
    return encode(message, rtnl.RTM_NEWROUTE, flags, purpose)


def ipv6(own: Ipv6) -> list[Request]:
    """Addresses are used at once: nobody asks whether another has them (RFC 4862, 5.4)."""
    requests = []
    for number, text, length in own.addresses:
        message = ifaddrmsg.ifaddrmsg()
        message.setvalue(
            {
                "family": socket.AF_INET6,
                "prefixlen": int(length),
                "index": int(number),
                "flags": _NO_DETECTION,
                "attrs": [("IFA_LOCAL", text), ("IFA_ADDRESS", text)],
            }
        )
        requests.append(encode(message, rtnl.RTM_NEWADDR, NLM_F_NEW, f"address {text}"))
    for number, text, mac in own.neighbours:
        requests.append(_neighbour(socket.AF_INET6, int(number), text, mac))
    routes = [*own.routes, *([["::/0", own.gateway]] if own.gateway else [])]
    for network, gateway in routes:
        address, _, length = network.partition("/")
        attributes = [("RTA_GATEWAY", gateway)] + ([("RTA_DST", address)] if length != "0" else [])
        purpose = f"route to {network}"
        requests.append(
            _route(int(length), "universe", _MAIN_TABLE, attributes, purpose, socket.AF_INET6)
        )
    return requests


def tun(tun: Tun) -> list[Request]:
    """The device is there already."""
    requests = [_up(tun.number, tun.interface)]
    for networks, family in ((tun.networks, socket.AF_INET), (tun.networks_v6, socket.AF_INET6)):
        for network in networks:
            address, _, length = network.partition("/")
            attributes = [("RTA_DST", address), ("RTA_OIF", tun.number)]
            scope = "link" if family == socket.AF_INET else "universe"
            purpose = f"route to {network}"
            requests.append(_route(int(length), scope, _MAIN_TABLE, attributes, purpose, family))
    return requests


def hairpin(hairpin: Hairpin, space: int) -> list[Request]:
    """UDP from inside to the router's own outside addresses leaves it, and comes back.

    The router has these addresses, so a table must be asked before the local one. ``space`` is the
    file of the router's namespace.
    """
    out, back = hairpin.out, hairpin.back
    purpose = "route into the hairpin"
    requests = [
        veth_pair(out, back, space),
        end_up(back),
        _route(0, "link", _HAIRPIN_TABLE, [("RTA_OIF", out.number)], purpose),
        _rule(_NEW_RULE, [("FRA_PRIORITY", _LOCAL_NEXT)], _LOCAL_TABLE),
        _rule(_DELETE_RULE, [("FRA_PRIORITY", 0)], _LOCAL_TABLE),
    ]
    for address in hairpin.addresses:
        requests.append(neighbour(out, back._replace(address=address)))
        for interface in hairpin.inside:
            matched: list[tuple[str, Any]] = [("FRA_DST", address), ("FRA_IIFNAME", interface)]
            matched += [("FRA_IP_PROTO", socket.IPPROTO_UDP), ("FRA_PRIORITY", _HAIRPIN_FIRST)]
            requests.append(_rule(_NEW_RULE, matched, _HAIRPIN_TABLE))
    return requests


def _rule(kind: int, attributes: list[tuple[str, Any]], table: int) -> Request:
    (fibmsg,) = load("pyroute2.netlink.rtnl.fibmsg")  # few labs need it
    message = fibmsg.fibmsg()
    matched = {name for name, _ in attributes}
    message.setvalue(
        {
            "family": socket.AF_INET,
            "dst_len": 32 if "FRA_DST" in matched else 0,
            "src_len": 32 if "FRA_SRC" in matched else 0,
            "table": table,
            "action": _TO_TABLE,
            "attrs": attributes,
        }
    )
    flags = NLM_F_NEW if kind == _NEW_RULE else 0
    return encode(message, kind, flags, f"rule for routing table {table}")
