"""Makes the other end of a node's link fit for an XDP program on the node's own end.

A veth interface takes frames that its peer sends back with XDP_TX only while it has an XDP program
itself, unless the peer's runs behind the driver (generic mode). And such frames leave with the
checksums that they came with: where the other end sends them half made, to be finished by nobody,
they stay so. Hence real checksums from there, and a program that lets everything pass.

The program is attached by a child of the supervisor, which then ends. What keeps it attached is a
descriptor that the lab's caller gets, and has until the lab ends.
"""

import os
import socket

from quicpipe_lab.backends.netns import ethtool
from quicpipe_lab.backends.netns.channel import Channel
from quicpipe_lab.backends.netns.children import fork_child
from quicpipe_lab.backends.netns.failures import describe
from quicpipe_lab.backends.netns.namespaces import enter


def start(namespace: int, interface: str, native: bool, answer_to: int) -> None:
    """Returns at once. What comes of it goes to a control socket, with the descriptor."""
    fork_child(lambda: _prepare(namespace, interface, native, answer_to))


def _prepare(namespace: int, interface: str, native: bool, answer_to: int) -> None:
    # Compilers write to standard error of their own accord.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    answer = Channel(socket.socket(fileno=answer_to))
    try:
        enter(namespace)
        ethtool.send_real_packets([interface])
        links = [_attach(interface)] if native else []
    except Exception as error:
        answer.send(describe(error))
    else:
        answer.send_yes(links)


def _attach(interface: str) -> int:
    from quicpipe_lab.resources import folder
    from quicpipe_lab.shell.xdp import Mode, Program

    program = Program(folder("xdp") / "quicpipe_pass.c", "quicpipe_pass")
    program.attach(interface, Mode.NATIVE)
    return program.link_fd(interface)
