"""Builds what a Blueprint says, namespace by namespace, from the core outwards.

The process enters a namespace, opens its sockets there, does all that is to be done in it and
goes on to the next. A namespace lives as long as the file that stands for it is open.
"""

import errno
import os
from pathlib import Path
from socket import NETLINK_ROUTE

from quicpipe_lab.backends.netns import rtnetlink, syscalls
from quicpipe_lab.backends.netns.blueprint import Blueprint, Space, Wire
from quicpipe_lab.backends.netns.netlink import Netlink, Request
from quicpipe_lab.backends.netns.nft import add_table, commit
from quicpipe_lab.errors import BackendUnavailableError

_OWN = "/proc/self/ns/net"


def build(blueprint: Blueprint) -> dict[str, int]:
    """Every node's namespace as an open file. Raises QuicpipeLabError.

    The first node gets the namespace that the process is in, and there the process is at the end.
    """
    files: dict[str, int] = {}
    for space in blueprint.spaces:
        if files:
            syscalls.unshare(syscalls.CLONE_NEWNET)
        files[space.node] = os.open(_OWN, os.O_RDONLY)
        _write_sysctls(space.sysctls)
    uplinks: dict[str, Wire] = {}
    encoded: dict[str, list[Request]] = {}
    for space in blueprint.spaces:
        enter(files[space.node])
        with Netlink(NETLINK_ROUTE) as netlink:
            netlink.carry_out(_requests(space, uplinks.get(space.node), files))
        uplinks |= {wire.lower_node: wire for wire in space.wires}
        for table in space.tables:
            # Most NATs of a lab have the same rules, and rules take longest to encode.
            text = str(table)
            if text not in encoded:
                encoded[text] = add_table(table)
            commit(encoded[text])
        _write_sysctls(space.conntrack_sysctls)
    enter(files[blueprint.spaces[0].node])
    return files


def enter(file: int) -> None:
    """Move the process into a network namespace."""
    syscalls.setns(file, syscalls.CLONE_NEWNET)


def _requests(space: Space, uplink: Wire | None, files: dict[str, int]) -> list[Request]:
    """The wire upwards is there already: the node above made it."""
    requests = [rtnetlink.loopback_up()]
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
    return requests


def _write_sysctls(sysctls: list[list[str]]) -> None:
    """/proc/sys/net shows the settings of the namespace that the reader is in."""
    for name, value in sysctls:
        path = Path("/proc/sys") / name
        try:
            path.write_text(value)
        except FileNotFoundError:
            # A kernel without IPv6 has nothing to switch off; any other absence matters.
            if not name.startswith("net/ipv6/"):
                raise
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            raise BackendUnavailableError(
                f"{path} cannot be written ({error.strerror})",
                "in a container, start it with --privileged",
            ) from None
