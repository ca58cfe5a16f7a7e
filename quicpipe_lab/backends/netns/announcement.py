"""How a lab makes itself known to other terminals (registry.py is their side).

It listens on a Unix socket in the abstract namespace: the kernel takes its name away with the last
process of the lab, however that ended, so that no stale entry can be left; and it gives a name to
one lab only.
"""

import errno
import os
import socket

from quicpipe_lab.errors import QuicpipeLabError

PREFIX = "quicpipe-lab/"


def reserve_name(name: str) -> socket.socket:
    """A socket with the lab's name, that is yet to listen. Raises QuicpipeLabError.

    To be made before the host's network is left, as abstract names belong to a network namespace.
    Whoever makes it listen is taken for the lab.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        sock.bind(f"\0{PREFIX}{os.getuid()}/{name}")
    except OSError as error:
        sock.close()
        if error.errno != errno.EADDRINUSE:
            raise
        raise QuicpipeLabError(
            f"a lab named {name!r} is running already: give another name, or end that one"
            f" with: quicpipe-lab down {name}"
        ) from None
    return sock
