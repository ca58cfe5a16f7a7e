"""A relay whose filter never rests: ``restless_relay.py WHAT MODE CERTIFICATES EVENTS HOST PORT``.

Every few milliseconds, in the middle of its work and from within its own loop, it does the next of
what its first argument names: ``bindings`` takes one out of the kernel's maps, so that userspace
forwards for it until the kernel asks; ``port`` switches the kernel's part off or on; ``interface``
detaches the program from the interface or attaches it. With ``limits`` it rests, and allows each
sender ``LIMIT_PER_S``.
"""

import itertools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.shell import relay_program
from quicpipe_lab.shell.relay_accelerator import RelayAccelerator
from quicpipe_lab.shell.relay_program import RelayOptions, run_relay
from quicpipe_lab.shell.xdp import Mode
from quicpipe_lab.shell.xdp_filter import Filter
from tests.bench._relay_load import RECEIVER_KEY

INTERVAL_S = 0.002
INTERFACE = "core"
LIMIT_PER_S = 1_500
RECEIVER_IDS, NUM_IDS = ConnectionIdGenerator(RECEIVER_KEY, relay_leg=False), 4
"""The sender's stays: without it the kernel takes the sender for nobody."""


class Restless(RelayAccelerator):
    """Does one thing at a time, for ever."""

    def __init__(self, table: Filter, *arguments: Any) -> None:
        super().__init__(table, *arguments)
        self._table = table
        self._turns = itertools.count()

    def get_timer(self, now: float) -> float | None:
        return now + INTERVAL_S

    def handle_timer(self, relay: Relay, now: float) -> None:
        self.account(relay, now)
        turn = next(self._turns)
        if WHAT == "bindings":
            self._table.remove_redirect(RECEIVER_IDS.at(1 + turn % NUM_IDS))
        elif WHAT == "port":
            self.switch()
        elif turn % 2:
            self._table.attach(INTERFACE, MODE)
        else:
            self._table.detach(INTERFACE)


def main() -> None:
    limits = RelayLimits()
    if WHAT == "limits":
        limits = replace(limits, packets_per_s=LIMIT_PER_S)
    else:
        relay_program.RelayAccelerator = Restless  # type: ignore[attr-defined, assignment]
    options = RelayOptions(
        certificate_directory=Path(certificates),
        host=host,
        port=int(port),
        events=events,
        xdp=(INTERFACE,),
        xdp_mode=MODE,
        limits=limits,
    )
    run_relay(options)


if __name__ == "__main__":
    WHAT, mode, certificates, events, host, port = sys.argv[1:]
    MODE = Mode(mode)
    main()
