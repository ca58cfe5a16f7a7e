"""Starts the wire's process (wire.py), as a child of the supervisor."""

import os

from quicpipe_lab.backends.netns.children import fork_child
from quicpipe_lab.backends.netns.namespaces import enter

_CONTROL_FD = 3
_MAX_FD = 1 << 30


def start(namespace: int, control: int) -> None:
    """``control`` is one end of a control socket. It ends with the lab, or with the socket."""
    fork_child(lambda: _become_wire(namespace, control))


def _become_wire(namespace: int, control: int) -> None:
    enter(namespace)
    os.dup2(control, _CONTROL_FD)
    os.closerange(_CONTROL_FD + 1, _MAX_FD)
    from quicpipe_lab.backends.netns.wire import run

    run(_CONTROL_FD)
