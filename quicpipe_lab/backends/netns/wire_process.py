"""Starts the wire's process (wire.py), as a child of the supervisor.

It is forked and not executed: the supervisor has most of what it imports.
"""

import os
import signal
import sys
import traceback

from quicpipe_lab.backends.netns.namespaces import enter

_CONTROL_FD = 3
_MAX_FD = 1 << 30


def start(namespace: int, control: int) -> None:
    """``control`` is one end of a control socket. It ends with the lab, or with the socket."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork() == 0:
        try:
            _become_wire(namespace, control)
        except SystemExit:
            pass
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)


def _become_wire(namespace: int, control: int) -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    os.setsid()
    enter(namespace)
    os.dup2(control, _CONTROL_FD)
    os.closerange(_CONTROL_FD + 1, _MAX_FD)
    from quicpipe_lab.backends.netns.wire import run

    run(_CONTROL_FD)
