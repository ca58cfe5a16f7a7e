"""Linux's own: the system calls that Python 3.11 does not wrap, and the files of /proc.

Everything raises OSError.

``os.unshare`` and ``os.setns`` exist from Python 3.12 on, ``mount`` and ``prctl`` nowhere, so all
four go through ctypes.
"""

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x2, 0x4, 0x8
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000

_MNT_DETACH = 2
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    """Leave the namespaces of the given kinds for fresh ones (CLONE_NEWPID: the children do)."""
    _check(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Enter the namespace that ``fd`` refers to."""
    _check(_libc.setns(fd, kind), "setns")


def mount(source: str, target: str, filesystem: str, flags: int, options: str = "") -> None:
    """Mount, or change how an existing mount propagates."""
    _check(
        _libc.mount(
            source.encode(),
            target.encode(),
            filesystem.encode(),
            ctypes.c_ulong(flags),
            options.encode(),
        ),
        f"mount {target}",
    )


def unmount(target: str) -> None:
    """Take away what was mounted last on ``target``, also where it is in use."""
    _check(_libc.umount2(target.encode(), _MNT_DETACH), f"unmount {target}")


def set_parent_death_signal(signum: int) -> None:
    """Have the kernel send this signal to the calling process when its parent thread ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signum), 0, 0, 0), "prctl")


def write_file(path: str, text: str) -> None:
    """Write a file of /proc in one piece. Not through pathlib, which costs 3 ms to import."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def read_file(path: str) -> str:
    """Read a small file of /proc."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 65536).decode()
    finally:
        os.close(fd)


def _check(status: int, what: str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
