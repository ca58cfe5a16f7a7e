"""What a program sees of the machine: the name, hosts and interfaces of its node, not the host's.

Every program has a mount namespace and a UTS namespace of its own. Files of /etc are covered by
others that exist in memory only: nothing is written to a disk, and with the last process of the
program all of it is gone. The rest of the file system is the host's.
"""

import contextlib
import os
import socket
from collections.abc import Sequence
from pathlib import Path

from quicpipe_lab.backends.netns import syscalls
from quicpipe_lab.backends.netns.naming import Place, hosts_file

_STAGE = "/tmp"
"""Any folder that every system has: something is mounted here until the program starts."""
_NETWORK_OF_SYSFS = ("class/net", "devices/virtual/net")
_NSSWITCH = "/etc/nsswitch.conf"
_NSCD = "/run/nscd"
_RESOLV_CONF = "# No name server: a lab has no way out. The names of its nodes are in /etc/hosts.\n"


class Surroundings:
    """Of every node of a lab. Made and asked by the supervisor, entered by its children."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places
        self._nsswitch = _nsswitch()
        self._files: dict[str, dict[str, str]] = {}

    def prepare(self, node: str) -> None:
        """Write the node's files, once for all its programs."""
        if node not in self._files:
            files = {
                "/etc/hosts": hosts_file(self._places, node),
                "/etc/resolv.conf": _RESOLV_CONF,
                "/etc/hostname": f"{node}\n",
            }
            if self._nsswitch:
                files[_NSSWITCH] = self._nsswitch
            self._files[node] = files

    def enter(self, node: str) -> None:
        """Move this process there; it is in the node's network namespace already.

        Raises OSError.
        """
        syscalls.unshare(syscalls.CLONE_NEWNS | syscalls.CLONE_NEWUTS)
        socket.sethostname(node)
        _cover(self._files[node])
        # The host's name service cache answers over a Unix socket, whatever the network.
        if Path(_NSCD).exists():
            syscalls.mount("quicpipe-lab", _NSCD, "tmpfs", 0, "mode=755")
        # A container may hide parts of its own /sys, and then gives nobody a new one.
        with contextlib.suppress(OSError):
            _show_interfaces()


def _cover(files: dict[str, str]) -> None:
    """The files need a file system to be bound from; it stays as long as they are bound."""
    syscalls.mount(
        "quicpipe-lab", _STAGE, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755"
    )
    try:
        for path, text in files.items():
            staged = f"{_STAGE}/{path.rpartition('/')[2]}"
            fd = os.open(staged, os.O_WRONLY | os.O_CREAT, 0o644)
            os.fchmod(fd, 0o644)  # whatever the umask
            os.write(fd, text.encode())
            os.close(fd)
            # Where the host has no such file there is nothing to cover.
            with contextlib.suppress(FileNotFoundError):
                syscalls.mount(staged, path, "none", syscalls.MS_BIND)
    finally:
        syscalls.unmount(_STAGE)


def _show_interfaces() -> None:
    """The node's network devices in /sys. What else is there, and mounted there, stays."""
    syscalls.mount("none", _STAGE, "sysfs", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    try:
        for part in _NETWORK_OF_SYSFS:
            syscalls.mount(f"{_STAGE}/{part}", f"/sys/{part}", "none", syscalls.MS_BIND)
    finally:
        syscalls.unmount(_STAGE)


def _nsswitch() -> str | None:
    """The host's, but names are looked up in files and with DNS only.

    Others ask daemons of the host (systemd-resolved, avahi), which know the host's network.
    """
    try:
        lines = Path(_NSSWITCH).read_text(encoding="utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError):
        return None
    return "".join("hosts: files dns\n" if one.startswith("hosts:") else one for one in lines)
