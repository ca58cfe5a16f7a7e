"""Linux's conntrack, as far as UDP and masquerading need it (net/netfilter of kernel 6).

A flow is two tuples: as its first packet came, and as its answers come. A tuple that one flow has
no other gets: all that is said about plain Linux NATs follows from that.
"""

import random
from collections.abc import Iterator

from quicpipe_lab.backends.sim.table import MappingSeen
from quicpipe_lab.model.address import TransportAddress

_STREAM_AFTER_S = 2.0
"""Of an answered flow: nf_conntrack_proto_udp.c; the longer timeout holds once it is older."""
_ATTEMPTS = 128
"""nf_nat_core.c, NF_NAT_MAX_ATTEMPTS."""
_PORT_RANGES = ((512, 1, 511), (1024, 600, 1023), (65536, 1024, 65535))
"""nf_nat_core.c: inside ports below the first number get external ones in the range beside it."""
_LEAST_TO_SWEEP = 256

Tuple = tuple[TransportAddress, TransportAddress]


class Flow:
    """``inside`` is None where a packet from outside that was for the router itself began it."""

    __slots__ = ("answered", "born_s", "expires_s", "external", "inside", "refreshed_s", "remote")

    def __init__(
        self,
        inside: TransportAddress | None,
        external: TransportAddress,
        remote: TransportAddress,
        now_s: float,
    ) -> None:
        self.inside = inside
        self.external = external
        self.remote = remote
        self.born_s = self.refreshed_s = self.expires_s = now_s
        self.answered = False


class Conntrack:
    """``lifetime_s`` of flows, and ``answered_s`` of those that have been answered."""

    def __init__(self, lifetime_s: float, answered_s: float, draw: random.Random) -> None:
        self._lifetime_s = lifetime_s
        self._answered_s = answered_s
        self._random = draw
        self._by_original: dict[Tuple, Flow] = {}
        self._by_answer: dict[Tuple, Flow] = {}
        self._by_inside: dict[TransportAddress, list[Flow]] = {}
        self._sweep_at = _LEAST_TO_SWEEP

    def outbound(
        self, inside: TransportAddress, remote: TransportAddress, host: str, now_s: float
    ) -> Flow | None:
        """The flow of a packet that leaves by a router's address; None where no port is free."""
        flow = self._by_original.get((inside, remote))
        if flow is None or now_s >= flow.expires_s:
            external = self._choose(inside, remote, host, now_s)
            if external is None:
                return None
            flow = Flow(inside, external, remote, now_s)
            self._by_original[inside, remote] = flow
            self._by_inside.setdefault(inside, []).append(flow)
            self._keep(flow, now_s)
        self._touch(flow, now_s)
        return flow

    def inbound(
        self, remote: TransportAddress, external: TransportAddress, now_s: float
    ) -> Flow | None:
        """The flow that a packet answers to; None where it answers to none."""
        flow = self.answered_by(remote, external, now_s)
        if flow is None or flow.inside is None:
            return None
        self._touch(flow, now_s)
        flow.answered = True
        return flow

    def unsolicited(
        self, remote: TransportAddress, external: TransportAddress, now_s: float
    ) -> None:
        """A packet from outside for the router itself: it occupies what answers to it would be."""
        flow = self.answered_by(remote, external, now_s)
        if flow is None:
            flow = Flow(None, external, remote, now_s)
            self._keep(flow, now_s)
        self._touch(flow, now_s)

    def answered_by(
        self, remote: TransportAddress, external: TransportAddress, now_s: float
    ) -> Flow | None:
        """The flow of an answer, without its being one."""
        flow = self._by_answer.get((external, remote))
        return flow if flow is not None and now_s < flow.expires_s else None

    def begun_by(
        self, inside: TransportAddress, remote: TransportAddress, now_s: float
    ) -> Flow | None:
        """The flow of a packet from inside, without its being one."""
        flow = self._by_original.get((inside, remote))
        return flow if flow is not None and now_s < flow.expires_s else None

    def mappings(self, now_s: float) -> Iterator[MappingSeen]:
        """Flows from inside, as data: each is a mapping for one remote endpoint."""
        for flow in self._by_original.values():
            if flow.inside is not None and now_s < flow.expires_s:
                yield MappingSeen(
                    flow.inside,
                    flow.external,
                    flow.remote,
                    flow.born_s,
                    flow.refreshed_s,
                    flow.expires_s,
                )

    def _choose(
        self, inside: TransportAddress, remote: TransportAddress, host: str, now_s: float
    ) -> TransportAddress | None:
        """nf_nat_core.c, get_unique_tuple: what the endpoint's last flow has, then the inside
        port, then any; as long as the answer's tuple is nobody else's."""
        wanted = [inside.port]
        theirs = [one for one in self._by_inside.get(inside, []) if now_s < one.expires_s]
        if theirs:
            self._by_inside[inside] = theirs
            wanted.insert(0, theirs[-1].external.port)
        first, last = next((low, high) for below, low, high in _PORT_RANGES if inside.port < below)
        wanted += [self._random.randint(first, last) for _ in range(_ATTEMPTS)]
        for port in wanted:
            external = TransportAddress(host, port)
            if self.answered_by(remote, external, now_s) is None:
                return external
        return None

    def _touch(self, flow: Flow, now_s: float) -> None:
        is_stream = flow.answered and now_s > flow.born_s + _STREAM_AFTER_S
        flow.refreshed_s = now_s
        flow.expires_s = now_s + (self._answered_s if is_stream else self._lifetime_s)

    def _keep(self, flow: Flow, now_s: float) -> None:
        self._by_answer[flow.external, flow.remote] = flow
        if len(self._by_answer) < self._sweep_at:
            return
        living = [one for one in self._by_answer.values() if now_s < one.expires_s or one is flow]
        self._by_answer = {(one.external, one.remote): one for one in living}
        ours = [(one.inside, one) for one in living if one.inside is not None]
        self._by_original = {(inside, one.remote): one for inside, one in ours}
        self._by_inside = {}
        for inside, one in ours:
            self._by_inside.setdefault(inside, []).append(one)
        self._sweep_at = max(_LEAST_TO_SWEEP, 2 * len(living))
