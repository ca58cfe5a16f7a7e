"""Where the command begins: Ctrl-C ends it quietly before it can do so in an orderly way, too.

Imports next to nothing: what is imported here cannot be interrupted without a traceback.
"""

import os
import signal

_INTERRUPTED = 128 + signal.SIGINT


def main() -> int:
    """As cli.main, whose imports take most of the time of a start."""
    handler = signal.getsignal(signal.SIGINT)
    # And not ignored, as behind nohup. By default it ends a process: see start.py.
    is_ours = handler in (signal.default_int_handler, signal.SIG_DFL)
    if is_ours:
        signal.signal(signal.SIGINT, _end_at_once)
    from quicpipe_lab import cli

    try:
        if is_ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return cli.main()
    except KeyboardInterrupt:  # before or after the command itself
        return _INTERRUPTED
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python's own end would show a traceback


def _end_at_once(*_: object) -> None:
    """Nothing has been begun or written."""
    os._exit(_INTERRUPTED)
