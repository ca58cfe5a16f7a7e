"""Runs ``quicpipe-lab`` as if on a machine that is not Linux: ``elsewhere.py ARGUMENTS ...``, or
Python: ``elsewhere.py -c CODE``.

What only Linux has is not there, nor what Windows has not: packages, modules and names of modules.
(To call itself win32 it would need Python's own modules of there.) What is not needed for a
simulation must not be asked for either.
"""

import os
import select
import signal
import socket
import sys
import sysconfig
from importlib.abc import MetaPathFinder

MISSING = {"bcc", "ctypes.util", "fcntl", "pyroute2", "pty", "resource", "termios", "tty"}
LINUX_ONLY = {
    os: (
        "memfd_create",
        "pidfd_open",
        "setns",
        "unshare",
        "splice",
        "eventfd",
        "sched_setaffinity",
        *("fork", "geteuid", "getuid", "killpg", "openpty", "setsid", "mkfifo", "O_CLOEXEC"),
    ),
    signal: (
        *("pidfd_send_signal", "sigtimedwait", "pthread_sigmask"),
        *("SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"),
    ),
    socket: ("AF_PACKET", "AF_NETLINK", "AF_UNIX", "SO_PEERCRED", "SO_BINDTODEVICE"),
    select: ("epoll",),
}


class _Refusing(MetaPathFinder):
    def find_spec(self, name: str, path: object, target: object = None) -> None:
        del path, target
        if name in MISSING or name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r} on this machine", name=name)


for module, names in LINUX_ONLY.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sysconfig.get_config_vars()  # kept: of another system there is no file of them here
sys.meta_path.insert(0, _Refusing())
sys.platform = "darwin"

if __name__ == "__main__":  # and not in worker processes, which are elsewhere as well
    if sys.argv[1] == "-c":
        exec(sys.argv[2])
        sys.exit()

    from quicpipe_lab import cli

    sys.exit(cli.main(sys.argv[1:]))
