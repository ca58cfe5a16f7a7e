"""Builds namespaces, one after the other, out of messages that encoding.py has encoded.

The process enters a namespace, opens its sockets there, does all that is to be done in it and
goes on to the next. A namespace lives as long as the file that stands for it is open.
"""

import errno
import os

from quicpipe_lab.backends.netns import syscalls
from quicpipe_lab.backends.netns.netlink import Datagram, carry_out
from quicpipe_lab.errors import BackendUnavailableError

FIRST_FILE = 64
"""The core's namespace is open under this number, the others under those that follow, as encoded
messages refer to a namespace by its number."""

Sysctls = list[list[str]]
"""Paths under /proc/sys and values."""

EncodedSpace = tuple[str, Sysctls, list[Datagram], Sysctls, list[str], tuple[str, int] | None]
"""A node, and what is to be done in its namespace: settings that must be there before there are
interfaces, links and rules, settings that are there only once rules are, the interfaces that
have to send real packets (ethtool.py), and a TUN device to be made (tun.py)."""

_OWN = "/proc/self/ns/net"


def build(spaces: list[EncodedSpace]) -> dict[str, int]:
    """Every node's namespace as an open file. Raises QuicpipeLabError.

    The first node gets the namespace that the process is in, and there the process is at the end.
    """
    files: dict[str, int] = {}
    for node, sysctls, *_ in spaces:
        if files:
            syscalls.unshare(syscalls.CLONE_NEWNET)
        files[node] = _open_own(FIRST_FILE + len(files))
        _write_sysctls(sysctls)
    for node, _, datagrams, late_sysctls, real_senders, tun_device in spaces:
        enter(files[node])
        if tun_device is not None:
            from quicpipe_lab.backends.netns import tun

            tun.make(*tun_device)
        carry_out(datagrams)
        _write_sysctls(late_sysctls)
        if real_senders:
            from quicpipe_lab.backends.netns import ethtool

            ethtool.send_real_packets(real_senders)
    enter(files[spaces[0][0]])
    return files


def enter(file: int) -> None:
    """Move the process into a network namespace."""
    syscalls.setns(file, syscalls.CLONE_NEWNET)


def _open_own(number: int) -> int:
    file = os.open(_OWN, os.O_RDONLY)
    try:
        os.dup2(file, number, inheritable=False)
    except OSError as error:
        if error.errno != errno.EBADF:  # what dup2 says of numbers above the limit
            raise
        raise BackendUnavailableError(
            "no more open files are allowed, and a lab needs one for each node",
            "raise the limit: ulimit -Hn 65536",
        ) from None
    os.close(file)
    return number


def _write_sysctls(sysctls: Sysctls) -> None:
    """/proc/sys/net shows the settings of the namespace that the reader is in."""
    for name, value in sysctls:
        path = f"/proc/sys/{name}"
        try:
            syscalls.write_file(path, value)
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
