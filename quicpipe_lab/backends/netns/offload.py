"""Has an interface send real packets: segmented and with right checksums, as on a real link.

A veth leaves both to be done later, by nobody: the other end is in the same kernel and does not
ask. A process between two interfaces would see TCP's and UDP's segments joined, up to 64 KiB, and
checksums half made. Without checksum offload the kernel makes both itself: a device that cannot
make checksums cannot segment either (harmonize_features in net/core/dev.c).
"""

import array
import fcntl
import socket
import struct

_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_VALUE = struct.Struct("=II")
"""ethtool_value: the command, and 0 for off."""
_REQUEST = struct.Struct("16sP")
"""ifreq with a name and a pointer; the kernel copies 40 bytes."""
_REQUEST_BYTES = 40


def turn_off(interfaces: list[str]) -> None:
    """In the network namespace that the process is in. Raises OSError."""
    value = array.array("B", _VALUE.pack(_ETHTOOL_STXCSUM, 0))
    address, _ = value.buffer_info()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for interface in interfaces:
            request = _REQUEST.pack(interface.encode(), address)
            fcntl.ioctl(sock, _SIOCETHTOOL, request.ljust(_REQUEST_BYTES, b"\0"))
