"""Variations of a scenario: the same steps under other conditions, as data that can be shrunk.

A variation is a scenario with room for what may happen (``prepared``), and a list of changes. Each
change stands by itself, so that any of them can be left out, and most can be halved. What comes of
them is an ordinary scenario, which says all of it.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from quicpipe_lab.backends.sim.liveness import PATIENCE_S
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.scenario import (
    Attack,
    Cut,
    Hostility,
    Idle,
    Meanwhile,
    Outcome,
    Reboot,
    RestartRelay,
    Restore,
    Scenario,
    Step,
    Switch,
    Transfer,
    WaitFor,
)
from quicpipe_lab.model.topology import CORE, Firewall, Nat

_WITHIN_S = 3 * PATIENCE_S
_DEADLINE_S = 7200.0
_MOST_BYTES = 131_072
"""Of all transfers of the scenario's own: more makes runs longer, and finds no more."""
_LAST_BYTES = 16_384
_HORIZONS_S = (1.0, 10.0, 60.0, 300.0)
"""In the longest there are minutes of silence, for which keepalives are there."""
_LONG_CUT_S = 130.0, 250.0
"""In which the relay gives up whoever it does not hear of: where there is time for it, and peers
that live on without the relay."""
_MOST_CHANGES = 6
_LEAST_S = 0.001


@dataclass(frozen=True, slots=True)
class Skew:
    """The accepter starts so long after the dialer."""

    oob_delay_s: float

    def apply(self, scenario: Scenario) -> Scenario:
        """The scenario with it."""
        return replace(scenario, oob_delay_s=self.oob_delay_s)

    def smaller(self) -> Iterator["Change"]:
        """With one number halved."""
        if self.oob_delay_s > _LEAST_S:
            yield Skew(_half(self.oob_delay_s))


@dataclass(frozen=True, slots=True)
class Slow:
    """So much more delay on a link, each way; some of the packets overtake others."""

    link: int
    delay_s: float
    jitter_s: float = 0.0
    reorder: float = 0.0

    def apply(self, scenario: Scenario) -> Scenario:
        """See Skew."""

        def slower(before: LinkBehavior) -> LinkBehavior:
            return replace(
                before,
                delay_s=before.delay_s + self.delay_s,
                jitter_s=before.jitter_s + self.jitter_s,
                reorder=max(before.reorder, self.reorder),
            )

        return _on_link(scenario, self.link, slower)

    def smaller(self) -> Iterator["Change"]:
        """See Skew."""
        if self.reorder:
            yield replace(self, reorder=0.0)
        if self.jitter_s:
            yield replace(self, jitter_s=0.0)
        if self.delay_s > _LEAST_S:
            yield replace(self, delay_s=_half(self.delay_s), jitter_s=_half(self.jitter_s))


@dataclass(frozen=True, slots=True)
class Lossy:
    """A link loses and doubles packets, each way."""

    link: int
    loss: float
    duplicate: float = 0.0

    def apply(self, scenario: Scenario) -> Scenario:
        """See Skew."""

        def worse(before: LinkBehavior) -> LinkBehavior:
            return replace(
                before,
                loss=max(before.loss, self.loss),
                duplicate=max(before.duplicate, self.duplicate),
            )

        return _on_link(scenario, self.link, worse)

    def smaller(self) -> Iterator["Change"]:
        """See Skew."""
        if self.duplicate:
            yield replace(self, duplicate=0.0)
        if self.loss > 0.001:
            yield replace(self, loss=_half(self.loss))


@dataclass(frozen=True, slots=True)
class Aside:
    """Something happens beside the steps."""

    what: Meanwhile

    def apply(self, scenario: Scenario) -> Scenario:
        """See Skew."""
        return replace(scenario, meanwhile=(*scenario.meanwhile, self.what))

    def smaller(self) -> Iterator["Change"]:
        """See Skew."""
        what = self.what
        if what.at_s > _LEAST_S:
            yield Aside(replace(what, at_s=_half(what.at_s)))
        if what.for_s is not None and what.for_s > _LEAST_S:
            yield Aside(replace(what, for_s=_half(what.for_s)))


Change = Skew | Slow | Lossy | Aside


@dataclass(frozen=True)
class Variation:
    """``scenario`` is without the steps and changes, which are all that is ever left out."""

    scenario: Scenario
    steps: tuple[Step, ...]
    changes: tuple[Change, ...]

    def applied(self) -> Scenario:
        """What is run. Raises ScenarioError where changes and steps do not go together."""
        scenario = replace(self.scenario, steps=self.steps)
        for change in self.changes:
            scenario = change.apply(scenario)
        return scenario


def vary(scenario: Scenario, number: int) -> Variation:
    """The variation of that number, from 0: the same for the same scenario, anywhere."""
    seed = scenario.seed + number
    draw = random.Random(f"{seed}/variation")
    horizon_s = draw.choice(_HORIZONS_S)
    kinds = draw.choices((_skew, _slow, _lossy, _aside, _hostile), (2, 4, 4, 8, 3), k=_MOST_CHANGES)
    drawn = [kind(scenario, draw, horizon_s) for kind in kinds[: draw.randint(1, _MOST_CHANGES)]]
    prepared = _prepared(replace(scenario, seed=seed), horizon_s, draw)
    return Variation(replace(prepared, steps=()), prepared.steps, _compatible(drawn, scenario))


def _skew(_scenario: Scenario, draw: random.Random, horizon_s: float) -> Change:
    return Skew(round(draw.uniform(0, horizon_s), 3))


def _slow(scenario: Scenario, draw: random.Random, _horizon_s: float) -> Change:
    delay_s = round(10 ** draw.uniform(-3, -0.7), 4)
    jitter_s = round(delay_s * draw.choice((0, 0, 0.2, 0.8)), 4)
    reorder = draw.choice((0, 0, 0.02, 0.2))
    return Slow(draw.randrange(len(scenario.topology.links)), delay_s, jitter_s, reorder)


def _lossy(scenario: Scenario, draw: random.Random, _horizon_s: float) -> Change:
    link = draw.randrange(len(scenario.topology.links))
    return Lossy(link, round(draw.uniform(0, 0.08), 3), draw.choice((0, 0, 0.05)))


def _aside(scenario: Scenario, draw: random.Random, horizon_s: float) -> Change:
    """Near the beginning rather than later, for there more depends on it."""
    at_s = round(horizon_s * draw.random() ** 2, 3)
    routers = [one.name for one in scenario.topology.nodes if isinstance(one, Nat | Firewall)]
    switches = [
        Switch(host, link.upper)
        for host, links in scenario.topology.standby.items()
        for link in links
    ]
    what = draw.choice(("reboot", "restart", "cut", "cut", *["switch"] * bool(switches)))
    if what == "switch":
        return Aside(Meanwhile(at_s, draw.choice(switches)))
    if what == "reboot" and routers:
        return Aside(Meanwhile(at_s, Reboot(draw.choice(routers))))
    if what == "restart":
        return Aside(Meanwhile(at_s, RestartRelay()))
    for_s = round(10 ** draw.uniform(-1, 1.1), 2)
    is_long = horizon_s > _LONG_CUT_S[0] and draw.random() < 0.5
    if is_long and scenario.expect is Outcome.DIRECT:
        for_s = round(draw.uniform(*_LONG_CUT_S), 2)
    between = draw.choice(
        (
            (scenario.dialer, scenario.accepter),
            (CORE, scenario.relay),
            (scenario.dialer, scenario.relay),
            (scenario.accepter, scenario.relay),
        )
    )
    return Aside(Meanwhile(at_s, Cut(between), for_s))


def _hostile(_scenario: Scenario, draw: random.Random, horizon_s: float) -> Change:
    """Whenever there is something to have seen."""
    return Aside(Meanwhile(round(horizon_s * draw.random(), 3), Attack(draw.choice([*Hostility]))))


def _compatible(changes: list[Change], scenario: Scenario) -> tuple[Change, ...]:
    """One start, one change of a kind on a link, one cut of a pair, one switch of a host: the first
    of them, and none of what the scenario itself cuts or switches."""
    kept: dict[object, Change] = {}
    asides = [one.step for one in scenario.meanwhile]
    cut = {frozenset(one.between) for one in (*scenario.steps, *asides) if isinstance(one, Cut)}
    switched = {one.node for one in (*scenario.steps, *asides) if isinstance(one, Switch)}
    for number, one in enumerate(changes):
        key: object = number
        match one:
            case Skew():
                key = Skew
            case Slow() | Lossy():
                key = type(one), one.link
            case Aside(what=Meanwhile(step=Cut(between=between))):
                key = frozenset(between)
                if key in cut:
                    continue
            case Aside(what=Meanwhile(step=Switch(node=node))):
                key = Switch, node
                if node in switched:
                    continue
        kept.setdefault(key, one)
    return tuple(kept.values())


def _prepared(scenario: Scenario, horizon_s: float, draw: random.Random) -> Scenario:
    """With patience, and less to carry; at the end what is cut is restored, and while the last
    changes happen there is time, and something to carry now and then. After that, when the relay
    knows where everybody is now, a stranger tries what may have been of use before."""
    total = sum(one.size_bytes for one in scenario.steps if isinstance(one, Transfer))
    share = min(1.0, _MOST_BYTES / max(1, total))
    steps: list[Step] = []
    cuts: list[Cut] = []
    for step in scenario.steps:
        match step:
            case Transfer(size_bytes=size, wait=wait):
                steps.append(Transfer(max(1, round(size * share)), wait))
            case WaitFor(echoed_bytes=int(echoed)):
                steps.append(
                    replace(step, echoed_bytes=max(1, int(echoed * share)), within_s=_WITHIN_S)
                )
            case WaitFor():
                steps.append(replace(step, within_s=_WITHIN_S))
            case _:
                steps.append(step)
        if isinstance(step, Cut):
            cuts.append(step)
        elif isinstance(step, Restore):
            cuts = [one for one in cuts if set(one.between) != set(step.between)]
    steps += [Restore(one.between) for one in cuts]
    for _ in range(3):
        attack = Attack(draw.choice([*Hostility]))
        steps += [Idle(horizon_s / 2), Transfer(_LAST_BYTES), attack]
    return replace(
        scenario,
        steps=tuple(steps),
        direct_after_bytes=round(scenario.direct_after_bytes * share),
        deadline_s=_DEADLINE_S,
        connect_within_s=_WITHIN_S,
    )


def _on_link(
    scenario: Scenario, index: int, change: Callable[[LinkBehavior], LinkBehavior]
) -> Scenario:
    topology = scenario.topology
    links = list(topology.links)
    link = links[index]
    links[index] = replace(
        link,
        towards_lower=change(link.towards_lower or LinkBehavior()),
        towards_upper=change(link.towards_upper or LinkBehavior()),
    )
    return replace(scenario, topology=replace(topology, links=tuple(links)))


def _half(value: float) -> float:
    """Shorter to read than the exact half."""
    return float(f"{value / 2:.3g}")
