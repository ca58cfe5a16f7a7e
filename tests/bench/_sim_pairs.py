"""Many simulated pairs dial through one relay: ``python -m tests.bench._sim_pairs N``.

Each peer is behind a NAT of its own. All have dialled within 10 simulated seconds, and go direct.
Prints one JSON object: CPU seconds and bytes of memory that it took, all in all.
"""

import gc
import json
import random
import resource
import sys
import time
from dataclasses import replace

from quicpipe_lab.backends.journal import Journal
from quicpipe_lab.backends.sim.actor import PeerActor
from quicpipe_lab.backends.sim.cast import Cast
from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.identities import EPOCH
from quicpipe_lab.backends.sim.network import Network
from quicpipe_lab.backends.summary import RunRecord
from quicpipe_lab.model import result
from quicpipe_lab.model.scenario import Outcome, Scenario
from quicpipe_lab.model.topology import Host, Link, Nat, Node, Relay, Topology
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.sources import Sources, drawn_from

DIALLED_WITHIN_S = 10.0
END_S = 12.0


def topology_of(pairs: int) -> Topology:
    peers = [f"{role}{number}" for number in range(pairs) for role in "ab"]
    nodes: list[Node] = [Relay("relay"), *map(Host, peers), *(Nat(f"nat-{one}") for one in peers)]
    links = [Link(("core", "relay"))]
    for one in peers:
        links += [Link(("core", f"nat-{one}")), Link((f"nat-{one}", one))]
    return Topology("pairs", tuple(nodes), tuple(links))


class Pairs:
    """``run`` is all of it."""

    def __init__(self, pairs: int) -> None:
        self.clock = Clock()
        topology = topology_of(pairs)
        self.network = Network(topology, self.clock)
        self.record = RunRecord(result.Clock("virtual", EPOCH.timestamp()))
        self.journal = Journal(self.record, None, lambda _: None)
        self.random = random.Random("pairs").randbytes
        usual = Scenario("pairs", topology, "a0", "b0", "relay", Outcome.DIRECT, (), seed=1)
        self.scenarios = [
            replace(usual, dialer=f"a{number}", accepter=f"b{number}") for number in range(pairs)
        ]
        self.accepters: list[PeerActor] = []

    def run(self) -> None:
        sources = Sources(self.random, lambda: EPOCH.timestamp() + self.clock.now)
        limits = RelayLimits(connections=2 * len(self.scenarios))
        for number, scenario in enumerate(self.scenarios):
            at_s = DIALLED_WITHIN_S * number / len(self.scenarios)
            self.clock.at(at_s, self._dial, self._cast(scenario))
        with drawn_from(sources):
            self._cast(self.scenarios[0]).relay(limits)
            self.clock.run(END_S)

    def _cast(self, scenario: Scenario) -> Cast:
        return Cast(
            scenario, self.network, self.journal, self.random, lambda _: None, with_qlog=False
        )

    def _dial(self, cast: Cast) -> None:
        def accept(message: bytes) -> None:
            accepter = cast.accepter(message)
            self.accepters.append(accepter)
            accepter.start()

        def publish(message: bytes) -> None:
            self.clock.after(0.0, accept, message)

        dialer, _ = cast.dialer(publish, lambda _: None)
        dialer.start()

    @property
    def direct(self) -> int:
        """Peers that use the direct path."""
        nodes = [one for pair in self.scenarios for one in (pair.dialer, pair.accepter)]
        return sum(self.journal.is_direct(node) for node in nodes)


def main(pairs: int) -> None:
    gc.collect()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began_s = time.process_time()
    world = Pairs(pairs)
    world.run()
    took_s = time.process_time() - began_s
    memory = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    print(json.dumps({"cpu_s": took_s, "memory_bytes": memory, "direct": world.direct}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
