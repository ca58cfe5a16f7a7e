"""What the lab asks of interfaces that only ethtool's call can say (linux/ethtool.h)."""

import array
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_GET_LINK, _SET_TX_CHECKSUMS = 0x0A, 0x17
_VALUE = struct.Struct("=II")
"""ethtool_value: the command, and what it is about."""
_REQUEST = struct.Struct("16sP")
"""ifreq with a name and a pointer; the kernel copies 40 bytes."""
_REQUEST_BYTES = 40


def send_real_packets(interfaces: list[str]) -> None:
    """Segmented and with right checksums, as on a real link. Raises OSError.

    A veth leaves both to be done later, by nobody: the other end is in the same kernel and does not
    ask. A process between two interfaces would see TCP's and UDP's segments joined, up to 64 KiB,
    and checksums half made. Without checksum offload the kernel makes both itself: a device that
    cannot make checksums cannot segment either (harmonize_features in net/core/dev.c).
    """
    for interface in interfaces:
        _ask(interface, _SET_TX_CHECKSUMS)


def has_carrier(interface: str) -> bool:
    """As the driver has it; the flags that netdevice(7) shows follow only some time later."""
    return bool(_ask(interface, _GET_LINK))


def _ask(interface: str, command: int) -> int:
    """In the network namespace that the process is in; the answer."""
    value = array.array("B", _VALUE.pack(command, 0))
    address, _ = value.buffer_info()
    request = _REQUEST.pack(interface.encode(), address).ljust(_REQUEST_BYTES, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, _SIOCETHTOOL, request)
    _, answer = _VALUE.unpack(value.tobytes())
    return int(answer)
