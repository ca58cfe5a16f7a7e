"""Any topology in virtual time, and sockets that keep what comes."""

from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.network import FrameSeen, Network
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.topology import Topology
from tests.backends.sim.home import Socket


class Wiring:
    """``frames``: all that was seen at interfaces."""

    def __init__(self, topology: Topology, seed: int = 1) -> None:
        self.topology = topology
        self.clock = Clock()
        self.frames: list[FrameSeen] = []
        self.network = Network(topology, self.clock, seed=seed, observe=self.frames.append)

    def udp(
        self, node: str, port: int = 0, host: str | None = None, through_nat64: bool = False
    ) -> Socket:
        """A fresh socket."""
        return Socket(self.network, node, port, host, through_nat64)

    def address(self, name: str, version: int = 4) -> str:
        """A node's own."""
        return self.network.host(name).addresses[version == 6]

    def passes(
        self, sender: Socket, target: Socket, to: TransportAddress | None = None
    ) -> TransportAddress | None:
        """Who a datagram comes from, on links that take no time; None where it does not come."""
        before = len(target.came)
        sender.send(b"datagram", to or target.address)
        self.clock.run(self.clock.now)
        if len(target.came) == before:
            return None
        assert len(target.came) == before + 1
        return target.came[-1][1]
