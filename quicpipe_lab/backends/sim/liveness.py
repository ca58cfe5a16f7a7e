"""Whether a run that came to nothing had a path all the while: then somebody is to blame.

A path is there while both peers reach the relay. It is also there while the relay is cut off, if
both were direct before and nothing has happened to the way between them since.

For the direct path alone a run waits in vain, too, where the NATs leave none: then the scenario
expects what cannot be, and no machine is to blame (model/prediction.py).
"""

from math import inf

from quicpipe_lab.model.address import Family
from quicpipe_lab.model.between import cut_point, link_upwards
from quicpipe_lab.model.prediction import predict
from quicpipe_lab.model.scenario import Outcome, Scenario
from quicpipe_lab.model.topology import CORE, Topology
from quicpipe_lab.protocol.port_search import SearchLimits

PATIENCE_S = 120.0
"""Within so long after the last disturbance everything is to work again: a relay that was restarted
is missed after 45 s, and rounds of punching come every 30 s in the end."""
LEAST_LIFE_S = 30.0
"""A connection that dies may have had no path for half of its idle timeout, not less."""
_SURE_SEARCHES = SearchLimits().searches - 2
"""With more port searches spent before the network changed last, chance decides: one that is left
misses in one of eight cases, two in one of sixty."""


class Liveness:
    """Told of everything that is done to the network, in order; ``since_s`` is its answer."""

    def __init__(self, scenario: Scenario) -> None:
        self._topology = scenario.topology
        self._peers = scenario.dialer, scenario.accepter
        self._relay = scenario.relay
        self._theory = _theory(scenario)
        self._is_judged = Outcome.FAILED not in (scenario.expect, self._theory)
        self._cuts: dict[frozenset[str], tuple[str, list[str]]] = {}
        self._in_use: dict[str, str] = {}
        self._relayed_s: float | None = 0.0
        self._direct_s: float | None = None
        self._disturbed_s = -inf
        self._searches = self._searches_before = 0

    def search_began(self) -> None:
        """A port search."""
        self._searches += 1

    def cut(self, one: str, other: str, now: float, *, were_direct: bool) -> None:
        """Two nodes were cut off from each other. ``were_direct``: both peers used that path, or
        thought so: that it has died is noticed only after a while."""
        self._searches_before = self._searches
        self._cuts[frozenset((one, other))] = cut_point(
            self._topology, one, other, in_use=self._in_use
        )
        if self._relayed_s is not None and not self._relay_is_reachable:
            self._relayed_s = None
            is_alive = were_direct and now - self._disturbed_s >= LEAST_LIFE_S
            self._direct_s = now if is_alive else None
        if not self._reach(*self._peers):
            self._direct_s = None

    def restore(self, one: str, other: str, now: float) -> None:
        """The cut was undone."""
        self._searches_before = self._searches
        del self._cuts[frozenset((one, other))]
        if self._relayed_s is None and self._relay_is_reachable:
            self._relayed_s = now

    def switch(self, node: str, to: str, now: float) -> None:
        """A host uses another of its links."""
        self._searches_before = self._searches
        self._in_use[node] = link_upwards(self._topology, node, to).name
        self._direct_s, self._disturbed_s = None, now
        self._relayed_s = now if self._relay_is_reachable else None

    def disturb(self, now: float) -> None:
        """A router was rebooted, or the relay restarted."""
        self._searches_before = self._searches
        self._direct_s, self._disturbed_s = None, now
        if self._relayed_s is not None:
            self._relayed_s = now

    def since_s(self) -> float | None:
        """Since when there has been a path; None where there is none."""
        if not self._is_judged:
            return None
        return self._relayed_s if self._relayed_s is not None else self._direct_s

    def verdict(self, now: float, *, ended: bool, for_direct: bool = False) -> str | None:
        """What to say of a run that fails now, if it should not. ``ended``: a connection died,
        where else something was waited for in vain; ``for_direct``: for the direct path."""
        if for_direct and not ended and self._theory is Outcome.RELAYED:
            return None
        since_s = self.since_s()
        if since_s is None or now - since_s < (LEAST_LIFE_S if ended else PATIENCE_S):
            return None
        if self._searches_before > _SURE_SEARCHES and not ended:
            return None
        return f"there was a path for {now - since_s:.0f} s"

    def relay_verdict(self, now: float) -> str | None:
        """What to say of a peer that loses the relay now, if it should not: it stays warm."""
        if not self._is_judged or self._relayed_s is None or now - self._relayed_s < PATIENCE_S:
            return None
        return f"there was a way to it for {now - self._relayed_s:.0f} s"

    # Parts

    @property
    def _relay_is_reachable(self) -> bool:
        return all(self._reach(peer, self._relay) for peer in self._peers)

    def _reach(self, one: str, other: str) -> bool:
        """Whether no cut lies on the way between two nodes."""
        up, down = self._path(one), self._path(other)
        while len(up) > 1 and len(down) > 1 and up[-2] == down[-2]:
            up, down = up[:-1], down[:-1]
        way = [*up, *down[-2::-1]]
        for router, towards in self._cuts.values():
            if router not in way:
                continue
            at = way.index(router)
            beside = {*way[max(0, at - 1) : at], *way[at + 1 : at + 2]}
            if beside.issuperset(towards):
                return False
        return True

    def _path(self, name: str) -> list[str]:
        """To the core, by the link in use."""
        return [name, *self._topology.path_to_core(self._in_use.get(name, name))[1:]]


def _theory(scenario: Scenario) -> Outcome | None:
    """How the peers must end, whatever the machines do; None where theory cannot tell: of relays
    elsewhere than at the core, of hosts with several links, and of port searches by a hairpin."""
    topology, relay = scenario.topology, scenario.relay
    peers = scenario.dialer, scenario.accepter
    if topology.path_to_core(relay) != [relay, CORE] or topology.standby.keys() & set(peers):
        return None
    if scenario.search and set.intersection(*(_routers(topology, peer) for peer in peers)):
        return None
    families = {scenario.family_of(peer) for peer in peers}
    family = families.pop() if len(families) == 1 else Family.ANY
    return predict(topology, *peers, family, search=scenario.search).outcome


def _routers(topology: Topology, host: str) -> set[str]:
    return set(topology.path_to_core(host)[1:-1])
