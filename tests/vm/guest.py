"""What runs in the virtual machine: links on its kernel's netem, and what becomes of packets.

Writes a line of JSON with observations, behind a mark; test_netem.py judges them.
"""

import json
import os
import socket
import time
import traceback
from typing import Any

from quicpipe_lab.backends.netns.impairment import kernel_has_netem
from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.link import BurstLoss, LinkBehavior
from quicpipe_lab.model.topology import CORE, Host, Link, Topology
from tests.backends.netns.remote import Sockets, port_of, sockets_of

MARK = "OBSERVED "
QUIET_S = 3.0
"""Nothing for so long on an emulated machine: nothing more comes."""

BEHAVIORS = {
    "delay": LinkBehavior(delay_s=0.2),
    "jitter": LinkBehavior(delay_s=0.1, jitter_s=0.1),
    "loss": LinkBehavior(loss=0.3),
    "bursts": LinkBehavior(burst_loss=BurstLoss(enter=0.05, leave=0.25)),
    "both": LinkBehavior(loss=0.2, burst_loss=BurstLoss(0.1, 0.4, 0.9, 0.1)),
    "reorder": LinkBehavior(delay_s=2.0),
    "duplicate": LinkBehavior(duplicate=1.0),
    "corrupt": LinkBehavior(corrupt=1.0),
    "rate": LinkBehavior(rate_bps=8000),
}
COUNTS = {
    "delay": 5,
    "jitter": 200,
    "loss": 1000,
    "bursts": 2000,
    "both": 2000,
    "corrupt": 2000,
    "rate": 21,
}
SO_RCVBUFFORCE = 33
"""From asm-generic/socket.h; the socket module lacks it."""


class Sender:
    """From the core to one of the nodes."""

    def __init__(self, lab: Lab, sockets: Sockets, name: str) -> None:
        self.node = sockets.udp(name)
        self.node.settimeout(QUIET_S)
        self.node.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20)
        self._core = sockets.udp(CORE)
        self._to = str(lab.topology.uplinks[name].lower_address), port_of(self.node)

    def send(self, number: int) -> None:
        """An IP packet of 100 bytes, with a number and the time."""
        head = f"{number} {time.monotonic()} ".encode()
        self._core.sendto(head.ljust(72, b"."), self._to)

    def arrivals(self) -> list[tuple[int, float, float]]:
        """Number, time of sending and of arrival, in this order; -1 for what was changed."""
        found: list[tuple[int, float, float]] = []
        while True:
            try:
                number, sent_s, rest = self.node.recv(2048).split(b" ", 2)
            except TimeoutError:
                return found
            is_whole = not rest.strip(b".")
            found.append((int(number) if is_whole else -1, float(sent_s), time.monotonic()))


def observe(lab: Lab, sockets: Sockets) -> dict[str, Any]:
    """The arrivals of each link, and its counters."""
    observed: dict[str, Any] = {}
    for name in BEHAVIORS:
        sender = Sender(lab, sockets, name)
        if name == "reorder":
            sender.send(0)
            lab.set_link(CORE, name, LinkBehavior(delay_s=2.0, reorder=1.0))
            sender.send(1)
        else:
            for number in range(COUNTS.get(name, 100)):
                sender.send(number)
        observed[name] = sender.arrivals()
    observed["counters"] = {
        target: {"delivered": one.delivered, "dropped": sum(one.dropped.values())}
        for (source, target), one in lab.link_counters().items()
        if source == CORE
    }
    return observed


def main() -> None:
    links = tuple(Link.both_ways((CORE, name), one) for name, one in BEHAVIORS.items())
    topology = Topology("netem", tuple(map(Host, BEHAVIORS)), links)
    with Lab(topology, netem=True) as lab, sockets_of(lab) as sockets:
        observed = observe(lab, sockets)
        try:
            lab.set_link(CORE, "loss", LinkBehavior(mtu_bytes=1280))
        except UnsupportedBehaviorError as error:
            observed["refusal"] = str(error)
    observed["has_netem"] = kernel_has_netem()
    observed["kernel"] = os.uname().release
    print(MARK + json.dumps(observed), flush=True)


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
