"""Keeps a lab running in the background, in a process that outlives its caller and its terminal.

It ends when the lab does: by ``quicpipe-lab down``, or with the machine. A caller that dies before
it could say that the lab is up leaves none behind.
"""

import os
from collections.abc import Callable
from typing import NoReturn

from quicpipe_lab.backends.netns.channel import Channel
from quicpipe_lab.backends.netns.failures import describe, raise_described
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.errors import QuicpipeLabError


def keep(lab: Lab, announce: Callable[[int], None]) -> None:
    """Bring it up, and call ``announce`` with its supervisor's process id. Raises as Lab.up does.

    Only where this process has a single thread, as it forks.
    """
    here, there = Channel.pair()
    keeper = os.fork()
    if keeper == 0:
        _become_keeper(lab, Channel(there), there.fileno())
    there.close()
    is_kept = False
    try:
        answer, _ = here.receive()
        raise_described(answer)
        announce(answer["pid"])
        here.send({})
        is_kept = True
    except EOFError:
        raise QuicpipeLabError("the process that was to keep the lab is gone") from None
    finally:
        here.close()
        if not is_kept:
            os.waitpid(keeper, 0)


def _become_keeper(lab: Lab, channel: Channel, number: int) -> NoReturn:
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        os.closerange(3, number)
        os.closerange(number + 1, os.sysconf("SC_OPEN_MAX"))
        try:
            lab.up()
        except Exception as error:
            channel.send(describe(error))
            os._exit(1)
        channel.send({"pid": lab.pid})
        channel.receive()
        channel.close()
        os.chdir("/")  # a folder that is somebody's current one cannot be unmounted
        lab.wait_for_end()
    except EOFError:
        lab.down()  # nobody was told that it is up
    finally:
        os._exit(0)
