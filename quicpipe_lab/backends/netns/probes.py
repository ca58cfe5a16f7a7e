"""What a lab needs of a machine, each thing tried for real: the doctor's other half.

``python -m quicpipe_lab.backends.netns.probes`` tries each in a process of its own, all at the same
time, and prints a line of JSON for each. The processes make namespaces for themselves and end;
whoever started the program is never moved.
"""

import ctypes
import errno
import fcntl
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from quicpipe_lab.backends.netns import isolation, syscalls, tun
from quicpipe_lab.backends.netns.blueprint import Chain, Set, Table
from quicpipe_lab.backends.netns.nat64 import find_translator
from quicpipe_lab.backends.netns.nft import add_table, commit
from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError
from quicpipe_lab.resources import folder
from quicpipe_lab.shell.packet_ring import PacketRing
from quicpipe_lab.shell.xdp import Mode, Program, find_headers, import_bcc
from quicpipe_lab.shell.xdp_filter import Filter

_DEADLINE_S = 20.0
"""For each probe. Far more than any takes: compiling is the longest, at 0.3 s."""

_NOBODY = 65534
_PR_SET_DUMPABLE = 4
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_IFREQ = struct.Struct("16sH22x")
_INTERFACE = "probe"
_PRIVILEGED = "in a container, start it with: docker run --privileged"


class Probe(NamedTuple):
    """``attempt`` says what it found, or raises; ``remedy`` then says what to do about it, unless
    the exception does."""

    tried: str
    attempt: Callable[[], str]
    remedy: Callable[[], str | None]


def main() -> None:
    """Try all."""
    syscalls.set_parent_death_signal(signal.SIGKILL)
    running = [(name, probe, *_start(probe)) for name, probe in PROBES.items()]
    deadline = time.monotonic() + _DEADLINE_S
    for name, probe, pid, answer in running:
        found = _await(answer, deadline)
        if found is None:
            os.kill(pid, signal.SIGKILL)
            found = {"ok": False, "detail": "gave no answer", "remedy": None}
        os.waitpid(pid, 0)
        if "mistake" in found:
            sys.exit(f"{name}: {found['mistake']}")
        print(json.dumps({"name": name, "tried": probe.tried, **found}))


def _start(probe: Probe) -> tuple[int, int]:
    """The probe's process, and where its answer will be."""
    answer, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, answer
    try:
        syscalls.set_parent_death_signal(signal.SIGKILL)
        # bcc's compiler and libbpf write to standard error of their own accord.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(writer, json.dumps(outcome(probe)).encode())
    finally:
        os._exit(0)


def outcome(probe: Probe) -> dict[str, Any]:
    """The answer of a probe, as JSON takes it: ok, detail and remedy, or our own mistake."""
    try:
        return {"ok": True, "detail": probe.attempt(), "remedy": None}
    except BackendUnavailableError as error:
        return {"ok": False, "detail": error.problem, "remedy": error.remedy}
    except (QuicpipeLabError, OSError) as error:
        detail = error.strerror if isinstance(error, OSError) else str(error)
        return {"ok": False, "detail": detail, "remedy": probe.remedy()}
    except Exception as error:
        # A mistake of ours must not pass for a lack of the machine's.
        return {"mistake": f"{type(error).__name__}: {error}"}


def _await(answer: int, deadline: float) -> dict[str, Any] | None:
    left_s = max(0.0, deadline - time.monotonic())
    text = os.read(answer, 65536) if select.select([answer], [], [], left_s)[0] else b""
    os.close(answer)
    return json.loads(text) if text else None


# --- The probes


def _network_namespaces() -> str:
    how = _enter_network_namespace()
    try:
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    except OSError as error:
        raise BackendUnavailableError(
            f"/proc/sys cannot be written ({error.strerror})", _PRIVILEGED
        ) from None
    first = os.open("/proc/self/ns/net", os.O_RDONLY)
    syscalls.unshare(syscalls.CLONE_NEWNET)
    _make_veth_pair(first)
    return how


def _user_namespaces() -> str:
    if os.geteuid() == 0:
        _become_nobody()
    user = os.geteuid()
    isolation.enter_user_namespace(syscalls.CLONE_NEWNET)
    _set_loopback_up()
    return f"user {user} became root of its own"


def _nftables() -> str:
    _enter_network_namespace()
    # Not the lab's own rules: a mistake in them must not pass for a machine's lack.
    ports = Set("ports", ["inet_service"], ["ipv4_addr"], timeout_s=60)
    chain = Chain("postrouting", "nat", "postrouting", 100, [["masquerade"]])
    commit(add_table(Table("probe", [ports], [chain])))
    return "NAT chains, masquerading and maps that the kernel fills"


def _netem() -> str:
    _enter_network_namespace()
    try:
        with IPRoute() as ip:
            ip.tc("add", "netem", index=1, delay=1000)
    except NetlinkError as error:
        raise QuicpipeLabError(f"no sch_netem in this kernel: {os.strerror(error.code)}") from None
    return "the kernel can delay and lose packets"


def _af_packet() -> str:
    _enter_network_namespace()
    PacketRing().close()
    return "every interface of a node can be captured"


def _ipv6() -> str:
    _enter_network_namespace()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        Path("/proc/sys/net/ipv6/conf/lo/disable_ipv6").write_text("0")
        _set_loopback_up()
        sock.bind(("::1", 0))
    return "::1 answers in a new namespace"


def _nat64() -> str:
    find_translator()
    _enter_network_namespace()
    tun.make(_INTERFACE, 100)
    return "homes that have IPv6 only reach IPv4 by NAT64"


def _bcc() -> str:
    bcc = import_bcc()
    return f"version {bcc.__version__} in {Path(str(bcc.__file__)).parent}"


def _kernel_headers() -> str:
    headers, running = find_headers(), os.uname().release
    where = ", ".join(str(folder.resolve()) for folder in headers.folders) or "found by bcc itself"
    whose = "the running kernel's" if headers.release == running else f"those of {headers.release}"
    return f"{whose} ({where})"


def _xdp_native() -> str:
    """With the relay's own filter, which asks more of a kernel than a program that does nothing."""
    _enter_network_namespace()
    _make_veth_pair(os.open("/proc/self/ns/net", os.O_RDONLY))
    with Filter.open(capacity=16) as relaying:
        relaying.attach(_INTERFACE, Mode.NATIVE)
    return "compiled, loaded, attached and detached: relay --xdp works here"


def _xdp_generic() -> str:
    _enter_network_namespace()
    _make_veth_pair(os.open("/proc/self/ns/net", os.O_RDONLY))
    program = Program(folder("xdp") / "quicpipe_pass.c", "quicpipe_pass")
    program.attach(_INTERFACE, Mode.GENERIC)
    program.detach(_INTERFACE)
    return "compiled, loaded, attached and detached"


# --- What they have in common


def _enter_network_namespace() -> str:
    """As the lab does it: as root if possible, else as root of a user namespace."""
    try:
        syscalls.unshare(syscalls.CLONE_NEWNET)
        return "as root"
    except PermissionError:
        isolation.enter_user_namespace(syscalls.CLONE_NEWNET)
        return "without root, in a user namespace"
    except OSError as error:
        too_many = error.errno == errno.ENOSPC
        raise BackendUnavailableError(
            f"no network namespace can be made ({error.strerror})",
            "sudo sysctl -w user.max_net_namespaces=15000" if too_many else _PRIVILEGED,
        ) from None


def _become_nobody() -> None:
    try:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    except OSError:
        return  # root of a namespace that has no other user: tried as it is, then
    # Having changed its user, a process may not write its own /proc files otherwise.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)


def _make_veth_pair(peer_namespace: int) -> None:
    peer = {"ifname": f"{_INTERFACE}-peer", "net_ns_fd": peer_namespace}
    try:
        with IPRoute() as ip:
            ip.link("add", ifname=_INTERFACE, kind="veth", peer=peer)
    except NetlinkError as error:
        raise QuicpipeLabError(f"no veth pair: {os.strerror(error.code)}") from None


def _set_loopback_up() -> None:
    """Without pyroute2, of which nobody may not read what is still to be imported."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCSIFFLAGS, _IFREQ.pack(b"lo", _IFF_UP))


def _privileges() -> str:
    return "run it as root: sudo quicpipe-lab" if os.geteuid() != 0 else _PRIVILEGED


def _module(name: str) -> Callable[[], str | None]:
    """How to get a kernel module: load it, or install it (Ubuntu keeps rarer ones apart)."""

    def remedy() -> str | None:
        release = os.uname().release
        if any(Path("/lib/modules", release).rglob(f"{name}.ko*")):
            return f"sudo modprobe {name}"
        if "ubuntu" in os.uname().version.lower():
            return f"sudo apt-get install -y linux-modules-extra-{release}"
        return None

    return remedy


PROBES = {
    "network-namespaces": Probe(
        "two of them, forwarding in one, a veth pair from one to the other",
        _network_namespaces,
        _module("veth"),
    ),
    "user-namespaces": Probe(
        "an unprivileged user makes one and sets up an interface in it",
        _user_namespaces,
        isolation.remedy,
    ),
    "nftables": Probe("a table with a NAT chain and a dynamic map", _nftables, _module("nft_masq")),
    "netem": Probe("a netem queueing discipline in a namespace", _netem, _module("sch_netem")),
    "af-packet": Probe("a packet ring in a namespace", _af_packet, _module("af_packet")),
    "ipv6": Probe("a socket bound to ::1 in a namespace", _ipv6, _module("ipv6")),
    "nat64": Probe("a TUN device in a namespace, and the program tayga", _nat64, _privileges),
    "bcc": Probe("importing it", _bcc, lambda: None),
    "kernel-headers": Probe("looking where they are installed", _kernel_headers, lambda: None),
    "xdp-native": Probe(
        "the relay's filter in a veth interface's driver", _xdp_native, _privileges
    ),
    "xdp-generic": Probe(
        "quicpipe_pass.c behind a veth interface's driver", _xdp_generic, _privileges
    ),
}
"""Every capability by name, in the order of the report."""


if __name__ == "__main__":
    main()
