"""How a lab makes itself known to other terminals (registry.py is their side).

It listens on a Unix socket in the abstract namespace: the kernel takes its name away with the last
process of the lab, however that ended, so that no stale entry can be left. Whoever connects is
told, once, what the lab is.
"""

import os
import socket

PREFIX = "quicpipe-lab/"


def reserve_name() -> socket.socket:
    """A socket with a name of its own, that is yet to listen.

    To be made before the host's network is left, as abstract names belong to a network namespace.
    Whoever makes it listen is taken for the lab.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(f"\0{PREFIX}{os.getuid()}/{os.getpid()}-{os.urandom(4).hex()}")
    return sock


def answer(listener: socket.socket, topology: str, started_s: float, files: dict[str, int]) -> None:
    """Tell one who has connected. ``files`` are the namespaces as files of this process."""
    import json  # here, because the module is imported before the lab is built

    connection, _ = listener.accept()
    with connection:
        connection.setblocking(False)
        try:
            connection.sendall(json.dumps([topology, started_s, files]).encode())
        except OSError:
            return  # gone, or does not read: no reason for the lab to wait
