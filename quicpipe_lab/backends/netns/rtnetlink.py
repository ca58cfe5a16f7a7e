"""The rtnetlink messages that the lab needs, through pyroute2's encoders."""

import socket
from typing import Any

from quicpipe_lab.backends.netns.blueprint import End
from quicpipe_lab.backends.netns.encoders import (
    NLM_F_NEW,
    encode,
    ifaddrmsg,
    ifinfmsg,
    ndmsg,
    rtmsg,
    rtnl,
)
from quicpipe_lab.backends.netns.netlink import Request

_LOOPBACK_INDEX = 1
_MAIN_TABLE = 254


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
    message = ndmsg.ndmsg()
    message.setvalue(
        {
            "family": socket.AF_INET,
            "ifindex": end.number,
            "state": ndmsg.NUD_PERMANENT,
            "attrs": [("NDA_DST", other.address), ("NDA_LLADDR", other.mac)],
        }
    )
    return encode(message, rtnl.RTM_NEWNEIGH, NLM_F_NEW, f"neighbour {other.address}")


def default_route(gateway: str) -> Request:
    """The gateway is on a link that has its address already."""
    message = rtmsg.rtmsg()
    message.setvalue(
        {
            "family": socket.AF_INET,
            "table": _MAIN_TABLE,
            "proto": rtnl.rt_proto["static"],
            "scope": rtnl.rt_scope["universe"],
            "type": rtnl.rt_type["unicast"],
            "attrs": [("RTA_GATEWAY", gateway)],
        }
    )
    return encode(message, rtnl.RTM_NEWROUTE, NLM_F_NEW, f"default route through {gateway}")
