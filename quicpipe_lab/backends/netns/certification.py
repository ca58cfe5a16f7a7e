"""Certifies the NATs and firewalls of a running lab: are they what they are declared to be?

One program in the lab looks at all of them (shell/nat_program.py). It is started when a
Certification is made, and awaited only when its verdict is: the lab can get ready meanwhile.
"""

import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping

from quicpipe_lab.backends.ending import ending
from quicpipe_lab.backends.netns.lab import Lab, Process
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.firewall import UdpPolicy
from quicpipe_lab.model.nat_certificate import Certificate
from quicpipe_lab.model.nat_measurement import NatMeasurement
from quicpipe_lab.model.topology import CORE, Topology
from quicpipe_lab.model.vantage import SERVICES, Prospect, Vantage, routers_above
from quicpipe_lab.shell.nat_lifetime import WARM_UP_S
from quicpipe_lab.shell.nat_program import Job, View, measurements_from_json
from quicpipe_lab.shell.nat_timing import ROUND_TRIPS, timing_for
from quicpipe_lab.shell.stun_client import Timing

_FIRST_FD = 10
_NATS_AT_ONCE = 100
"""A program gets two files for each NAT, and the kernel passes no more than 253 at a time."""
_DEADLINE_S = 60.0
_POLL_S = 0.05
_LONGEST_IDLE = 1.5
"""How long the tests of a lifetime take, in lifetimes, and some."""

Measurements = dict[Vantage, NatMeasurement]
Wait = Callable[[Process, float], object]
"""Until a program has ended, for so many seconds at most."""


class Certification:
    """Of all NATs of a lab. ``lifetime``: wait for mappings to end, which takes their lifetime.
    ``within_s``: what is known to take longer is left unmeasured."""

    def __init__(self, lab: Lab, *, lifetime: bool = False, within_s: float = math.inf) -> None:
        self._lab = lab
        self._within_s = within_s
        self._lifetime = lifetime
        self._prospect = Prospect(lab.topology)
        self._batches = _batches(self._prospect.wanted())
        self._running = self._start_next()

    def finish(self, wait: Wait = Process.wait) -> list[Certificate]:
        """The verdict on each NAT, over each family. Raises QuicpipeLabError where a program
        failed, and what ``wait`` does, where it took too long."""
        measured: Measurements = {}
        while self._running is not None:
            measured |= self._running.finish(wait)
            self._running = self._start_next()
        return self._prospect.certificates(measured)

    def close(self) -> None:
        """Give up on what still runs; twice is fine."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def _start_next(self) -> "_Program | None":
        batch = next(self._batches, None)
        if batch is None:
            return None
        timings = {
            one: timing_for(self._lab.topology, one, self._prospect.lifetime_s(one), self._within_s)
            for one in batch
        }
        return _Program(self._lab, self._prospect, timings, self._lifetime)


def _batches(vantages: list[Vantage]) -> Iterator[list[Vantage]]:
    return (vantages[at : at + _NATS_AT_ONCE] for at in range(0, len(vantages), _NATS_AT_ONCE))


class _Program:
    """One run of ``quicpipe-lab _nat-probe``."""

    def __init__(
        self,
        lab: Lab,
        prospect: Prospect,
        timings: Mapping[Vantage, Timing | str],
        lifetime: bool,
    ) -> None:
        self._names = {f"{one.first}+{one.second}+{one.family}": one for one in timings}
        nodes = {CORE: _FIRST_FD}
        for host in (host for one in timings for host in one[:2] if host is not None):
            nodes.setdefault(lab.topology.by_link[host].lower, _FIRST_FD + len(nodes))
        views = {
            name: _view(lab.topology, prospect, vantage, nodes, timings[vantage], lifetime)
            for name, vantage in self._names.items()
        }
        families = dict.fromkeys(one.family for one in timings)
        services = [SERVICES[family] for family in families]
        job = Job(nodes[CORE], services, views)
        longest_s = max((view.lifetime_s or 0.0 for view in views.values()), default=0.0)
        trips_s = [one.slowest_s for one in timings.values() if isinstance(one, Timing)]
        longest_s = _LONGEST_IDLE * longest_s + ROUND_TRIPS * sum(trips_s)
        self._deadline_s = time.monotonic() + _DEADLINE_S + longest_s
        namespaces = lab.namespaces()
        self._complaints = os.memfd_create("nat-probe")
        self._output = os.memfd_create("nat-probe")  # nobody has to read on meanwhile
        self._files = [self._complaints, self._output]
        try:
            self._process: Process = lab.spawn(
                CORE,
                ["quicpipe-lab", "_nat-probe", job.dumps()],
                stdout=self._output,
                stderr=self._complaints,
                extra_fds={number: namespaces[node] for node, number in nodes.items()},
            )
        except BaseException:
            self._close_files()
            raise

    def finish(self, wait: Wait) -> Measurements:
        """What it has to say in the end."""
        try:
            wait(self._process, max(_POLL_S, self._deadline_s - time.monotonic()))
            text = _text_of(self._output)
            if (status := self._process.wait(0.0)) != 0:
                said = _text_of(self._complaints)
                raise QuicpipeLabError(
                    f"the NATs could not be probed: the prober ended {ending(status, said)}"
                )
        finally:
            self.close()
        measured = measurements_from_json(text)
        return {vantage: measured[name] for name, vantage in self._names.items()}

    def close(self) -> None:
        """End it, where it still runs, and give back the files. Idempotent."""
        if self._files:
            self._process.send_signal(signal.SIGKILL)
            self._process.close()
        self._close_files()

    def _close_files(self) -> None:
        for fd in self._files:
            os.close(fd)
        self._files = []


def _text_of(file: int) -> str:
    return os.pread(file, os.fstat(file).st_size, 0).decode("utf-8", "replace")


def _view(
    topology: Topology,
    prospect: Prospect,
    vantage: Vantage,
    nodes: dict[str, int],
    timing: Timing | str,
    lifetime: bool,
) -> View:
    first, second, family = vantage
    links = topology.by_link
    answered = any(one.answered_lifetime_s is not None for one in prospect.chain(vantage))
    return View(
        f"{routers_above(topology, first)[-1].name}+{family}",
        nodes[links[first].lower],
        prospect.inside_address(first, family),
        timing,
        None if second is None else nodes[links[second].lower],
        "" if second is None else prospect.inside_address(second, family),
        prospect.lifetime_s(vantage) if lifetime else None,
        WARM_UP_S if answered else 0.0,
        prospect.udp_policy(vantage) is not UdpPolicy.OPEN,
        family is Family.IPV4 and topology.nat64_above(first) is not None,
        any(links[one].lower in topology.standby for one in (first, second) if one is not None),
    )
