"""A TUN device that stays when its maker closes it, and goes with its network namespace."""

import errno
import fcntl
import os
import struct

from quicpipe_lab.errors import BackendUnavailableError

_DEVICE = "/dev/net/tun"
# Documentation/networking/tuntap.rst, and linux/if_tun.h for the numbers.
_TUNSETIFF, _TUNSETPERSIST, _TUNSETIFINDEX = 0x400454CA, 0x400454CB, 0x400454DA
_IFF_TUN, _IFF_NO_PI = 0x0001, 0x1000
_IFREQ = struct.Struct("16sH22x")

_GIVE = f"a container is given it with --device {_DEVICE}"
_REMEDIES = {
    errno.EACCES: f"sudo chmod a+rw {_DEVICE}, as most systems have it",
    errno.EPERM: _GIVE,  # what a container's policy on devices says
    errno.ENOENT: f"sudo modprobe tun; {_GIVE}",
    errno.ENODEV: "sudo modprobe tun",
}
_ELSE = "quicpipe-lab doctor says what this machine can do"
_FORBIDDEN = (
    "a container may with docker run --privileged; elsewhere dmesg names the policy that forbids it"
)


def make(name: str, number: int) -> None:
    """In the caller's network namespace, with this index. Raises BackendUnavailableError."""
    try:
        file = os.open(_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, _ELSE)
        raise BackendUnavailableError(
            f"NAT64 needs a TUN device, and {_DEVICE} cannot be opened: {error.strerror}", remedy
        ) from None
    try:
        fcntl.ioctl(file, _TUNSETIFINDEX, struct.pack("=I", number))
        fcntl.ioctl(file, _TUNSETIFF, _IFREQ.pack(name.encode(), _IFF_TUN | _IFF_NO_PI))
        fcntl.ioctl(file, _TUNSETPERSIST, 1)
    except PermissionError as error:
        raise BackendUnavailableError(
            f"NAT64 needs a TUN device, and none may be made: {error.strerror}", _FORBIDDEN
        ) from None
    finally:
        os.close(file)
