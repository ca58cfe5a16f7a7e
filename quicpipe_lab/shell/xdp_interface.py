"""What the XDP filter asks of an interface before it runs on it."""

import ctypes
import fcntl
import socket
import struct
from pathlib import Path

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.shell.xdp_layout import Layer2

_SIOCGIFFLAGS, _SIOCGIFNETMASK, _SIOCGIFMTU = 0x8913, 0x891B, 0x8921
_SIOCETHTOOL, _ETHTOOL_GDRVINFO = 0x8946, 0x03
_IFF_POINTOPOINT = 0x10
_IPV6_ADDRESSES = Path("/proc/thread-self/net/if_inet6")
_SETTINGS = Path("/proc/sys/net")
_IPV6_SCOPE_GLOBAL = 0


def index_and_mtu(interface: str) -> tuple[int, int]:
    """Raises QuicpipeLabError, as everything here, where there is no such interface."""
    try:
        index = socket.if_nametoindex(interface)
        (mtu,) = struct.unpack_from("=i", _ask(interface, _SIOCGIFMTU))
    except OSError as error:
        raise QuicpipeLabError(f"no interface {interface!r}: {error.strerror}") from None
    return index, mtu


def may_lose_what_it_sends(interface: str) -> bool:
    """Whether what a program sends back in the driver may be lost, though the driver takes it.

    So it is with veth: its other end drops such frames unless it has a program as well, and lies in
    another namespace, a container's host mostly, where we cannot look.
    """
    asked = ctypes.create_string_buffer(struct.pack("=I32s", _ETHTOOL_GDRVINFO, b""), 196)
    request = struct.pack("=16sQ16x", interface.encode(), ctypes.addressof(asked))
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            fcntl.ioctl(asking, _SIOCETHTOOL, request)
    except OSError:  # a driver without a name: none that we know to lose anything
        return False
    _, driver = struct.unpack_from("=I32s", asked.raw)
    return bytes(driver).rstrip(b"\0") == b"veth"


def layer2_of(interface: str) -> Layer2:
    """SWAP where the interface's addresses leave room for one neighbour only, else ROUTED."""
    try:
        (flags,) = struct.unpack_from("=H", _ask(interface, _SIOCGIFFLAGS))
    except OSError as error:
        raise QuicpipeLabError(f"no interface {interface!r}: {error.strerror}") from None
    if flags & _IFF_POINTOPOINT:
        return Layer2.SWAP
    host_bits = [*_ipv4_host_bits(interface), *_ipv6_host_bits(interface)]
    is_narrow = bool(host_bits) and max(host_bits) <= 2
    return Layer2.SWAP if is_narrow else Layer2.ROUTED


def forbidden_to_forward(interface: str) -> list[str]:
    """The settings without which the kernel tells no routes for an interface's addresses."""
    versions = {"ipv4": _ipv4_host_bits(interface), "ipv6": _ipv6_host_bits(interface)}
    return [
        f"net.{version}.conf.{interface}.forwarding"
        for version, addresses in versions.items()
        if addresses and not _is_set(f"{version}/conf/{interface}/forwarding")
    ]


def if_inet6() -> list[str]:
    """The kernel's table of IPv6 addresses, see proc(5): address, index, prefix, scope, flags and
    name in each line."""
    return _IPV6_ADDRESSES.read_text().splitlines() if _IPV6_ADDRESSES.exists() else []


def _is_set(setting: str) -> bool:
    return (_SETTINGS / setting).read_text().strip() != "0"


def _ipv4_host_bits(interface: str) -> list[int]:
    """Bits that the network of the interface's first address leaves to hosts; [] without one."""
    try:
        mask = _ask(interface, _SIOCGIFNETMASK)[4:8]
    except OSError:
        return []
    return [32 - int.from_bytes(mask, "big").bit_count()]


def _ipv6_host_bits(interface: str) -> list[int]:
    """The same for all its global addresses."""
    found = []
    for line in if_inet6():
        _, _, prefix, scope, _, name = line.split()
        if name == interface and int(scope, 16) == _IPV6_SCOPE_GLOBAL:
            found.append(128 - int(prefix, 16))
    return found


def _ask(interface: str, question: int) -> bytes:
    """The answer, from behind the interface's name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        answer = fcntl.ioctl(asking, question, struct.pack("=16s24x", interface.encode()))
    return answer[16:]
