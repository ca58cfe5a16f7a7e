"""A scenario: a topology, who plays which role, what is done and what should come of it.

It describes and never executes; a backend walks ``steps`` in order.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from quicpipe_lab.errors import ScenarioError
from quicpipe_lab.model.address import Family
from quicpipe_lab.model.event import PEER_EVENTS
from quicpipe_lab.model.ipv6 import Ipv6Addresses
from quicpipe_lab.model.spelling import did_you_mean
from quicpipe_lab.model.topology import CORE, Firewall, Host, Nat, Topology
from quicpipe_lab.model.whole import whole

MAX_TRANSFER_BYTES = 2**27
"""A transfer's bytes are made beforehand and kept, for each to be compared."""
LONGEST_RUN_S = 60 * 86400.0
"""Of virtual time, mostly: twice the longest lifetime of a NAT's mapping."""
SEEDS = -(2**63), 2**63 - 1
"""As TOML has integers."""


class Outcome(StrEnum):
    """How a scenario can end: by which path data flowed at its end."""

    DIRECT = "direct"
    RELAYED = "relayed"
    FAILED = "failed"


class Xdp(StrEnum):
    """Whether the relay forwards in the kernel (see shell/xdp.py), and where its filter runs.

    ``ON`` is in the interface's driver, or behind it where that cannot be.
    """

    OFF = "off"
    ON = "on"
    GENERIC = "generic"


_Choice = TypeVar("_Choice", bound=StrEnum)


def _choice(field: str, kind: type[_Choice], given: str) -> _Choice:
    """Python callers write plain strings too. Raises ScenarioError."""
    try:
        return kind(given)
    except ValueError:
        raise ScenarioError(field, f"{given!r} is none of {', '.join(kind)}") from None


@dataclass(frozen=True, slots=True)
class Transfer:
    """The dialer sends ``size_bytes``, the accepter echoes them; every byte is compared.

    With ``wait`` false the next step begins while the bytes are still flowing.
    """

    size_bytes: int
    wait: bool = True


@dataclass(frozen=True, slots=True)
class WaitFor:
    """Go on when one thing has happened; exactly one of the five is given.

    ``path``: both peers use it. ``echoed_bytes``: so many of the running transfer are back.
    ``transfer``: the running transfer is complete. ``event``: the dialer reported it, once or
    more, since the run began. ``settled``: both peers use the direct path, or the dialer has
    given up its first round of punching, and the port searches that may follow.
    """

    path: Outcome | None = None
    echoed_bytes: int | None = None
    transfer: bool = False
    event: str | None = None
    settled: bool = False
    within_s: float = 15.0

    def __post_init__(self) -> None:
        if self.path is not None:
            object.__setattr__(self, "path", _choice("path", Outcome, self.path))


def in_use(path: Outcome) -> str:
    """What a run waits for with ``path``; one that does so in vain says it in its failure."""
    return f"both peers to use the {path} path"


@dataclass(frozen=True, slots=True)
class Cut:
    """Nothing passes any more between two nodes, at the router where their ways part.

    All their other traffic goes on: ``("alice", "bob")`` cuts the direct path and leaves both
    their ways to the relay; ``("core", "relay")`` cuts the relay off.
    """

    between: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Restore:
    """Undo the Cut of the same two nodes."""

    between: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Idle:
    """Nothing is asked of anybody for so long; timers, keepalives and lifetimes go on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reboot:
    """A NAT or firewall forgets all that it knows, as one does that was switched off and on."""

    node: str


@dataclass(frozen=True, slots=True)
class Switch:
    """A host with several links uses that to the router ``to`` from now on, as a phone that leaves
    its Wi-Fi: what has no source address of its own goes that way. The others stay up."""

    node: str
    to: str


@dataclass(frozen=True, slots=True)
class RestartRelay:
    """The relay's program is killed and started anew: same address and certificate, no memory."""


class Hostility(StrEnum):
    """What a stranger sends. ``SPOOF``: the beginnings of others' connections with the relay, in
    the name of an address that wants none. ``REPLAY``: what came to the relay, again from where it
    came. ``COPY``: the same, from an address of his own. ``GARBAGE``: to relay and peers, in
    anybody's name.
    """

    SPOOF = "spoof"
    REPLAY = "replay"
    COPY = "copy"
    GARBAGE = "garbage"


@dataclass(frozen=True, slots=True)
class Attack:
    """A stranger out in the internet, who has seen all that came to the relay, sends a burst of
    what is not his to send. Only the simulator has one."""

    kind: Hostility

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", _choice("kind", Hostility, self.kind))

    def __str__(self) -> str:
        return f"attack ({self.kind})"


Step = Transfer | WaitFor | Cut | Restore | Idle | Reboot | Switch | RestartRelay | Attack


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Done ``at_s`` after the last of the three programs was started, whatever the steps are at;
    nothing more after the last.

    ``for_s``: a cut is restored so much later; None: never.
    """

    at_s: float
    step: Cut | Reboot | Switch | RestartRelay | Attack
    for_s: float | None = None


@dataclass(frozen=True)
class Scenario:
    """Raises ScenarioError where its parts do not fit together.

    ``oob_delay_s``: how long the out-of-band channel takes from dialer to accepter.
    ``deadline_s``: the whole run is given up after so many seconds, 60 days at most.
    ``connect_within_s``: once the dialer's packet has arrived, the peers have so long to connect
    through the relay.
    ``meanwhile``: what is done beside the steps.
    ``direct_after_bytes``: the peers look for a direct path once so many bytes of their connection
    have gone through the relay; 0 is at once.
    ``search``: both peers take part in port searches (protocol/port_search.py).
    ``family``: IPv6 takes a topology that is dual-stack where the three hosts are.
    """

    name: str
    topology: Topology
    dialer: str
    accepter: str
    relay: str
    expect: Outcome
    steps: tuple[Step, ...]
    summary: str = ""
    oob_delay_s: float = 0.05
    seed: int = 1
    deadline_s: float = 60.0
    direct_after_bytes: int = 0
    family: Family = Family.IPV4
    xdp: Xdp = Xdp.OFF
    search: bool = False
    connect_within_s: float = 15.0
    meanwhile: tuple[Meanwhile, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "expect", _choice("expect", Outcome, self.expect))
        object.__setattr__(self, "xdp", _choice("xdp", Xdp, self.xdp))
        self._check_roles()
        self._check_family()
        for field, bounds in (("direct_after_bytes", (0,)), ("seed", SEEDS)):
            object.__setattr__(self, field, whole(field, getattr(self, field), *bounds))
        _check_seconds("oob_delay_s", self.oob_delay_s)
        _check_seconds("deadline_s", self.deadline_s)
        _check_seconds("connect_within_s", self.connect_within_s)
        self._check_transfers()
        self._check_cuts()
        self._check_others()
        self._check_meanwhile()
        self._check_switches()

    def _check_roles(self) -> None:
        for role in ("dialer", "accepter", "relay"):
            name = getattr(self, role)
            node = self.topology.by_name.get(name)
            if node is None:
                known = did_you_mean(name, _hosts(self.topology))
                raise ScenarioError(f"roles.{role}", f"the topology has no node {name!r}{known}")
            if isinstance(node, Nat) or not isinstance(node, Host):
                raise ScenarioError(f"roles.{role}", f"{name!r} is a NAT and runs no programs")
        if len({self.dialer, self.accepter, self.relay}) < 3:
            raise ScenarioError("roles", "dialer, accepter and relay are three different hosts")

    def _check_family(self) -> None:
        try:
            object.__setattr__(self, "family", Family(self.family))
        except ValueError:
            known = ", ".join(Family)
            raise ScenarioError("family", f"{self.family!r} is none of {known}") from None
        if self.family is Family.IPV6:
            have = Ipv6Addresses(self.topology).uplinks
            without = [one for one in (self.dialer, self.accepter, self.relay) if one not in have]
            if without and not self.topology.dual_stack:
                raise ScenarioError("family", "ipv6 needs a topology with dual_stack = true")
            if without:
                raise ScenarioError("family", f"{without[0]!r} has no IPv6")

    @property
    def attack(self) -> Attack | None:
        """The first that a stranger makes."""
        steps = (*self.steps, *(one.step for one in self.meanwhile))
        return next((one for one in steps if isinstance(one, Attack)), None)

    def family_of(self, node: str) -> Family:
        """What a host speaks to the relay."""
        if self.family is not Family.ANY:
            return self.family
        have = Ipv6Addresses(self.topology).uplinks
        return Family.IPV6 if node in have and self.relay in have else Family.IPV4

    def relay_host(self, seen_from: str) -> str:
        """The address that a host reaches the relay at."""
        return self._relay_over(self.family_of(seen_from))

    @property
    def relay_hosts(self) -> tuple[str, ...]:
        """All addresses that the relay answers at; its own programs' choice comes first."""
        families = {self.family_of(one) for one in (self.relay, self.dialer, self.accepter)}
        return tuple(self._relay_over(one) for one in sorted(families, reverse=True))

    def _relay_over(self, family: Family) -> str:
        if family is Family.IPV6:
            return str(Ipv6Addresses(self.topology).uplinks[self.relay].lower_address)
        return str(self.topology.uplinks[self.relay].lower_address)

    def _check_transfers(self) -> None:
        running: Transfer | None = None
        started = 0
        for index, step in enumerate(self.steps):
            where = f"step[{index}]"
            match step:
                case Transfer(size_bytes=size, wait=wait):
                    if size <= 0:
                        raise ScenarioError(f"{where}.size_bytes", "must be above 0")
                    if size > MAX_TRANSFER_BYTES:
                        raise ScenarioError(
                            f"{where}.size_bytes", f"must be at most {MAX_TRANSFER_BYTES}"
                        )
                    if running:
                        raise ScenarioError(where, "the transfer before it was never waited for")
                    running, started = None if wait else step, index
                case WaitFor():
                    self._check_wait(where, step, running)
                    running = None if step.transfer else running
        if running:
            raise ScenarioError(f"step[{started}]", "this transfer is never waited for")

    def _check_cuts(self) -> None:
        cuts: set[frozenset[str]] = set()
        for index, step in enumerate(self.steps):
            where = f"step[{index}]"
            match step:
                case Cut(between=between):
                    self._check_between(where, between)
                    cuts.add(frozenset(between))
                case Restore(between=between):
                    if frozenset(between) not in cuts:
                        raise ScenarioError(f"{where}.between", "restores what was not cut")
                    cuts.remove(frozenset(between))

    def _check_others(self) -> None:
        for index, step in enumerate(self.steps):
            where = f"step[{index}]"
            match step:
                case Idle(seconds=seconds):
                    if not seconds > 0:
                        raise ScenarioError(f"{where}.seconds", "must be above 0")
                    if seconds >= self.deadline_s:
                        raise ScenarioError(
                            f"{where}.seconds", f"the scenario's deadline_s is {self.deadline_s:g}"
                        )
                case Reboot():
                    self._check_reboot(where, step)

    def _check_reboot(self, where: str, step: Reboot) -> None:
        if not isinstance(self.topology.by_name.get(step.node), Nat | Firewall):
            raise ScenarioError(f"{where}.node", f"there is no NAT or firewall {step.node!r}")

    def _check_meanwhile(self) -> None:
        """Each pair of nodes is cut by the steps, or once beside them: a restoration undoes one."""
        cuts = {frozenset(one.between) for one in self.steps if isinstance(one, Cut)}
        for index, one in enumerate(self.meanwhile):
            where = f"meanwhile[{index}]"
            for name, value in (("at_s", one.at_s), ("for_s", one.for_s)):
                if value is not None:
                    _check_seconds(f"{where}.{name}", value)
            match one.step:
                case Cut(between=between):
                    self._check_between(where, between)
                    if frozenset(between) in cuts:
                        raise ScenarioError(f"{where}.between", "something else cuts these two")
                    cuts.add(frozenset(between))
                case Reboot():
                    self._check_reboot(where, one.step)
                case Switch() | RestartRelay() | Attack():
                    pass
                case _:
                    known = "cut, reboot, switch, restart-relay or attack"
                    raise ScenarioError(f"{where}.do", f"is {known}")
            if one.for_s is not None and not isinstance(one.step, Cut):
                raise ScenarioError(f"{where}.for_s", "is for a cut")

    def _check_switches(self) -> None:
        """Of each host by the steps, or beside them: then it is known which link is in use."""
        in_use: dict[str, str] = {}
        for index, step in enumerate(self.steps):
            if isinstance(step, Switch):
                self._check_switch(f"step[{index}]", step, in_use)
        by_steps = set(in_use)
        beside = sorted(enumerate(self.meanwhile), key=lambda one: one[1].at_s)
        for index, one in beside:
            if isinstance(one.step, Switch):
                if one.step.node in by_steps:
                    raise ScenarioError(
                        f"meanwhile[{index}].node", f"steps switch {one.step.node!r} already"
                    )
                self._check_switch(f"meanwhile[{index}]", one.step, in_use)

    def _check_switch(self, where: str, step: Switch, in_use: dict[str, str]) -> None:
        node, to, topology = step.node, step.to, self.topology
        if node not in topology.by_name:
            known = did_you_mean(node, topology.by_name)
            raise ScenarioError(f"{where}.node", f"there is no node {node!r}{known}")
        if node not in topology.standby:
            raise ScenarioError(f"{where}.node", f"{node!r} is no host with several links")
        routers = [link.upper for link in topology.links_of(node)]
        if to not in routers:
            known = did_you_mean(to, routers) or f", but to {' and '.join(map(repr, routers))}"
            raise ScenarioError(f"{where}.to", f"{node!r} has no link to {to!r}{known}")
        if to == in_use.get(node, routers[0]):
            raise ScenarioError(f"{where}.to", f"{node!r} uses its link to {to!r} already")
        in_use[node] = to

    def _check_wait(self, where: str, step: WaitFor, running: Transfer | None) -> None:
        flags = (step.transfer or None, step.settled or None)
        given = (step.path, step.echoed_bytes, step.event, *flags)
        if sum(one is not None for one in given) != 1:
            raise ScenarioError(
                where, "a wait has one of path, echoed_bytes, transfer, event, settled"
            )
        if step.event is not None and step.event not in PEER_EVENTS:
            known = did_you_mean(step.event, PEER_EVENTS) or f"; there are {', '.join(PEER_EVENTS)}"
            raise ScenarioError(f"{where}.event", f"no peer reports {step.event!r}{known}")
        if step.path is Outcome.FAILED:
            raise ScenarioError(f"{where}.path", "is direct or relayed")
        if (step.transfer or step.echoed_bytes is not None) and running is None:
            raise ScenarioError(where, "no transfer is under way (a transfer with wait = false)")
        _check_seconds(f"{where}.within_s", step.within_s)
        most = running.size_bytes if running else 0
        if step.echoed_bytes is not None and not 0 < step.echoed_bytes <= most:
            raise ScenarioError(f"{where}.echoed_bytes", f"is from 1 to the transfer's {most}")

    def _check_between(self, where: str, between: tuple[str, str]) -> None:
        for end, name in enumerate(between):
            if name != CORE and name not in self.topology.by_name:
                known = did_you_mean(name, [CORE, *self.topology.by_name])
                raise ScenarioError(f"{where}.between[{end}]", f"there is no node {name!r}{known}")
        if between[0] == between[1]:
            raise ScenarioError(f"{where}.between", "names two different nodes")


def _check_seconds(field: str, value: float) -> None:
    if not 0 <= value <= LONGEST_RUN_S:
        raise ScenarioError(field, f"is 0 to {LONGEST_RUN_S:.0f} seconds (60 days)")


def _hosts(topology: Topology) -> list[str]:
    """What runs programs."""
    return [one.name for one in topology.nodes if isinstance(one, Host)]
