"""Forks children of the supervisor that do one thing of its own: not programs of the lab.

Forked and not executed, for the supervisor has most of what they import.
"""

import os
import signal
import sys
import traceback
from collections.abc import Callable


def fork_child(work: Callable[[], None]) -> None:
    """Have ``work`` done by a child, which ends with it; the supervisor reaps it some time."""
    sys.stdout.flush()
    sys.stderr.flush()
    if os.fork():
        return
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        work()
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)
