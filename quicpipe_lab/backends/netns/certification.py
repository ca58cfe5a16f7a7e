"""Certifies the NATs and firewalls of a running lab: are they what they are declared to be?

One program in the lab looks at all of them (shell/nat_program.py). It is started when a
Certification is made, and awaited only when its verdict is: the lab can get ready meanwhile.
"""

import os
import time
from collections.abc import Iterator

from quicpipe_lab.backends.netns.lab import Lab, Process
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.firewall import UdpPolicy
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.nat_certificate import (
    MAPPINGS_NEEDED,
    Certificate,
    certify,
    certify_blocked,
    uncertified,
)
from quicpipe_lab.model.nat_declaration import lifetime_of, mapping_limit
from quicpipe_lab.model.nat_measurement import NatMeasurement
from quicpipe_lab.model.topology import CORE, SERVICE_ADDRESSES, Firewall, Host, Nat, Topology
from quicpipe_lab.shell.nat_lifetime import WARM_UP_S
from quicpipe_lab.shell.nat_program import Job, View, measurements_from_json

_FIRST_FD = 10
_NATS_AT_ONCE = 100
"""A program gets two files for each NAT, and the kernel passes no more than 253 at a time."""
_DEADLINE_S = 60.0
_POLL_S = 0.05
_LONGEST_IDLE = 1.5
"""How long the tests of a lifetime take, in lifetimes, and some."""

Hosts = tuple[str, str | None]
Router = Nat | Firewall


class Certification:
    """Of all NATs of a lab. ``lifetime``: wait for mappings to end, which takes their lifetime."""

    def __init__(self, lab: Lab, *, lifetime: bool = False) -> None:
        self._lab = lab
        self._lifetime = lifetime
        self._hosts = vantage_points(lab.topology)
        pairs = [one for one in self._hosts.values() if _can_be_probed(lab.topology, one[0])]
        self._batches = _batches(list(dict.fromkeys(pairs)))
        self._running = self._start_next()

    def finish(self) -> list[Certificate]:
        """The verdict on each NAT. Raises QuicpipeLabError where a program failed."""
        measured: dict[Hosts, NatMeasurement] = {}
        while self._running is not None:
            measured |= self._running.finish()
            self._running = self._start_next()
        return [self._certificate(one, measured) for one in _routers(self._lab.topology)]

    def close(self) -> None:
        """Give up on what still runs; twice is fine."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def _start_next(self) -> "_Program | None":
        batch = next(self._batches, None)
        return None if batch is None else _Program(self._lab, batch, self._lifetime)

    def _certificate(self, router: Router, measured: dict[Hosts, NatMeasurement]) -> Certificate:
        hosts = self._hosts.get(router.name)
        topology = self._lab.topology
        if hosts is None:  # nobody can be misled by it
            return uncertified(router.name, None, [], [])
        host, _ = hosts
        names = [one.name for one in _routers_above(topology, host)]
        if hosts not in measured:
            return uncertified(router.name, host, names, _behaviors(topology, host))
        policy = _udp_policy(topology, host)
        if policy is not UdpPolicy.OPEN:
            return certify_blocked(router.name, host, names, policy, measured[hosts])
        external = _external_addresses(topology, host)
        return certify(
            router.name, host, names, _behaviors(topology, host), external, measured[hosts]
        )


def vantage_points(topology: Topology) -> dict[str, Hosts]:
    """For each NAT and firewall the host behind it with the fewest others above, and a second one.

    The second has the same kinds of them above it, if not the same ones.
    """
    found: dict[str, Hosts] = {}
    hosts = [node.name for node in topology.nodes if isinstance(node, Host)]
    above = {host: _routers_above(topology, host) for host in hosts}
    for router in _routers(topology):
        behind = sorted((one for one in hosts if router in above[one]), key=lambda h: len(above[h]))
        if behind:
            first, *others = behind
            kinds = [one.behavior for one in above[first]]
            alike = (one for one in others if [r.behavior for r in above[one]] == kinds)
            found[router.name] = first, next(alike, None)
    return found


def _can_be_probed(topology: Topology, host: str) -> bool:
    """Not where the tests would use up the mappings that the lab's programs need."""
    limit = mapping_limit(_behaviors(topology, host))
    return limit is None or limit >= MAPPINGS_NEEDED


def _routers(topology: Topology) -> list[Router]:
    return [node for node in topology.nodes if isinstance(node, Nat | Firewall)]


def _routers_above(topology: Topology, host: str) -> list[Router]:
    """The nearest first."""
    above = (topology.by_name.get(name) for name in topology.path_to_core(host)[1:])
    return [node for node in above if isinstance(node, Nat | Firewall)]


def _behaviors(topology: Topology, host: str) -> list[NatBehavior]:
    return [
        one.behavior if isinstance(one, Nat) else one.behavior.as_nat()
        for one in _routers_above(topology, host)
    ]


def _udp_policy(topology: Topology, host: str) -> UdpPolicy:
    """The strictest on the way."""
    firewalls = (one for one in _routers_above(topology, host) if isinstance(one, Firewall))
    policies = [UdpPolicy.OPEN, *(one.behavior.udp for one in firewalls)]
    return max(policies, key=list(UdpPolicy).index)


def _external_addresses(topology: Topology, host: str) -> list[str]:
    """The outermost NAT's, or the host's own where there is none."""
    nats = topology.nats_above(host)
    if not nats:
        return [str(topology.uplinks[host].lower_address)]
    return [str(address) for address in topology.external_addresses[nats[-1].name]]


def _batches(hosts: list[Hosts]) -> Iterator[list[Hosts]]:
    return (hosts[at : at + _NATS_AT_ONCE] for at in range(0, len(hosts), _NATS_AT_ONCE))


class _Program:
    """One run of ``quicpipe-lab _nat-probe``."""

    def __init__(self, lab: Lab, batch: list[Hosts], lifetime: bool) -> None:
        self._names = {f"{first}+{second}": (first, second) for first, second in batch}
        nodes = {CORE: _FIRST_FD}
        for host in (one for pair in batch for one in pair if one is not None):
            nodes.setdefault(host, _FIRST_FD + len(nodes))
        views = {
            name: _view(lab.topology, hosts, nodes, lifetime) for name, hosts in self._names.items()
        }
        first, second = map(str, SERVICE_ADDRESSES)
        job = Job(nodes[CORE], (first, second), views, _kind_of_links(lab.topology))
        longest_s = max((view.lifetime_s or 0.0 for view in views.values()), default=0.0)
        self._deadline_s = time.monotonic() + _DEADLINE_S + _LONGEST_IDLE * longest_s
        namespaces = lab.namespaces()
        self._complaints = os.memfd_create("nat-probe")
        self._output, output_writer = os.pipe()
        self._files = [self._complaints, self._output]
        try:
            self._process: Process = lab.spawn(
                CORE,
                ["quicpipe-lab", "_nat-probe", job.dumps()],
                stdout=output_writer,
                stderr=self._complaints,
                extra_fds={number: namespaces[node] for node, number in nodes.items()},
            )
        except BaseException:
            self.close()
            raise
        finally:
            os.close(output_writer)

    def finish(self) -> dict[Hosts, NatMeasurement]:
        """Wait for what it has to say."""
        try:
            with os.fdopen(os.dup(self._output), encoding="utf-8") as reader:
                text = reader.read()
            status = self._process.wait(max(_POLL_S, self._deadline_s - time.monotonic()))
            if status != 0:
                raise QuicpipeLabError(f"the NATs could not be probed: {self._complaint()}")
        finally:
            self.close()
        measured = measurements_from_json(text)
        return {hosts: measured[name] for name, hosts in self._names.items()}

    def _complaint(self) -> str:
        text = os.pread(self._complaints, 65536, 0).decode("utf-8", "replace").strip()
        return text.splitlines()[-1].removeprefix("quicpipe-lab: ") if text else "nothing was said"

    def close(self) -> None:
        """Give back the files; it ends when it finds nobody to tell. Idempotent."""
        for fd in self._files:
            os.close(fd)
        self._files = []


def _kind_of_links(topology: Topology) -> str:
    """In Job's words. Jitter is no reordering: see LinkBehavior."""
    if all(link.is_plain for link in topology.links):
        return "plain"
    directions = [
        one for link in topology.links for one in (link.towards_lower, link.towards_upper) if one
    ]
    if any(one.mean_loss or one.reorder or one.corrupt for one in directions):
        return "lossy"
    return "delayed"


def _view(topology: Topology, hosts: Hosts, nodes: dict[str, int], lifetime: bool) -> View:
    first, second = hosts
    behaviors = _behaviors(topology, first)
    answered = any(one.answered_lifetime_s is not None for one in behaviors)
    return View(
        _routers_above(topology, first)[-1].name,
        nodes[first],
        str(topology.uplinks[first].lower_address),
        None if second is None else nodes[second],
        "" if second is None else str(topology.uplinks[second].lower_address),
        min(map(lifetime_of, behaviors)) if lifetime else None,
        WARM_UP_S if answered else 0.0,
        _udp_policy(topology, first) is not UdpPolicy.OPEN,
    )
