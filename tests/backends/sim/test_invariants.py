"""What holds of every NAT, whatever is sent through it; and that a seed says all."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat import (
    AddressPooling,
    FilteringBehavior,
    FilterScope,
    Hairpinning,
    MappingBehavior,
    MappingRefresh,
    NatBehavior,
    PortAssignment,
)
from quicpipe_lab.resources import find_topology
from tests.backends.sim.home import Home, Socket
from tests.backends.sim.wiring import Wiring

EIF, ADF, APDF = FilteringBehavior
LIFETIME_S = 30.0
PORTS = (5000, 5001)


@st.composite
def behaviors(draw: st.DrawFn) -> NatBehavior:
    """NATs with mappings of their own; few ports, so that they collide."""
    ports = draw(st.sampled_from(list(PortAssignment)))
    if ports is PortAssignment.PRESERVING_OVERLOADING:
        refresh = draw(st.sampled_from(MappingRefresh))
        return NatBehavior(port_assignment=ports, mapping_lifetime_s=LIFETIME_S, refresh=refresh)
    is_block = ports is PortAssignment.BLOCK
    return NatBehavior(
        draw(st.sampled_from(MappingBehavior)),
        draw(st.sampled_from(FilteringBehavior)),
        ports,
        LIFETIME_S,
        draw(st.sampled_from(FilterScope)),
        (5000, 5015),
        port_block_size=8 if is_block else None,
        refresh=draw(st.sampled_from(MappingRefresh)),
        mappings_per_subscriber=draw(st.none() | st.integers(1, 6)),
        hairpinning=draw(st.sampled_from(Hairpinning)),
        external_addresses=draw(st.integers(1, 2)),
        pooling=AddressPooling.PAIRED if is_block else draw(st.sampled_from(AddressPooling)),
    )


_out = st.tuples(st.just("out"), st.integers(0, 3), st.integers(0, 3))
steps = st.lists(
    _out
    | _out
    | st.tuples(st.just("in"), st.integers(0, 3), st.integers(0, 7))
    | st.tuples(st.just("turn"), st.integers(0, 3), st.integers(0, 7))
    | st.tuples(st.just("wait"), st.integers(1, 12), st.just(0)),
    max_size=60,
)


class Witness:
    """Plays steps, and knows from its own records what may happen."""

    def __init__(self, behavior: NatBehavior) -> None:
        self.behavior = behavior
        self.home = Home(behavior)
        self.inside = [make(port) for make in (self.home.a, self.home.b) for port in PORTS]
        self.sent: dict[tuple[TransportAddress, TransportAddress, TransportAddress], float] = {}
        """When an inside endpoint last had to do with a remote one by which external one."""
        self.endpoints: list[TransportAddress] = []

    def out(self, inside: Socket, remote: Socket) -> None:
        """A mapping that is there is used again, and is of the NAT's."""
        now_s = self.home.clock.now
        before = self.mapping_towards(inside.address, remote.address)
        seen = self.home.seen(inside, remote)
        if before is not None:
            assert seen == before
        if seen is None:
            return
        assert seen.host in self.home.addresses
        if self.behavior.port_assignment is not PortAssignment.PRESERVING_OVERLOADING:
            first, last = self.behavior.port_range
            assert first <= seen.port <= last
        self.sent[inside.address, remote.address, seen] = now_s
        if seen not in self.endpoints:
            self.endpoints.append(seen)

    def mapping_towards(
        self, inside: TransportAddress, remote: TransportAddress
    ) -> TransportAddress | None:
        """That which the NAT says it has."""
        for one in self.home.nat.table(self.home.clock.now).mappings:
            if one.inside == inside and one.remote in (None, remote.host, remote):
                return one.external
        return None

    def into(self, remote: Socket, to: TransportAddress) -> None:
        """Whoever comes in was let in by somebody's having sent to him, not long ago."""
        came = [len(one.came) for one in self.inside]
        remote.send(b"in", to)
        self.home.settle()
        for one, before in zip(self.inside, came, strict=True):
            if len(one.came) > before:
                assert self.may_come_in(one.address, remote.address, to)
                if self.behavior.refresh is MappingRefresh.BOTH:
                    self.sent[one.address, remote.address, to] = self.home.clock.now

    def may_come_in(
        self, inside: TransportAddress, remote: TransportAddress, to: TransportAddress
    ) -> bool:
        """By RFC 4787, 5."""
        by_mapping = self.behavior.filter_scope is FilterScope.MAPPING
        for (sender, contacted, mapped), at_s in self.sent.items():
            if sender != inside or self.home.clock.now >= at_s + LIFETIME_S:
                continue
            if self.behavior.filtering is EIF and mapped == to:
                return True
            matches = contacted == remote or (
                self.behavior.filtering is ADF and contacted.host == remote.host
            )
            if matches and (mapped == to or not by_mapping):
                return True
        return False

    def turn(self, inside: Socket, to: TransportAddress) -> None:
        """A hairpin comes where the behaviour says that there are any."""
        came = [len(one.came) for one in self.inside]
        inside.send(b"turn", to)
        self.home.settle()
        for one, before in zip(self.inside, came, strict=True):
            if len(one.came) > before:
                source = one.came[-1][1]
                assert self.behavior.hairpinning is not Hairpinning.NONE
                is_inside = self.behavior.hairpinning is Hairpinning.INTERNAL_SOURCE
                assert (source == inside.address) is is_inside
                if self.behavior.refresh is MappingRefresh.BOTH and not is_inside:
                    self.sent[one.address, source, to] = self.home.clock.now
        if self.behavior.hairpinning is Hairpinning.EXTERNAL_SOURCE:
            mapped = self.mapping_towards(inside.address, to)
            if mapped is not None:
                self.sent[inside.address, to, mapped] = self.home.clock.now

    def check(self) -> None:
        """REQ-3, and RFC 6888 REQ-4."""
        mappings = self.home.nat.table(self.home.clock.now).mappings
        if self.behavior.port_assignment is PortAssignment.PRESERVING_OVERLOADING:
            used = [(one.external, one.remote) for one in mappings]
        else:
            used = [(one.external, None) for one in mappings]
        assert len(set(used)) == len(used)
        limit = self.behavior.mappings_per_subscriber
        if limit is not None:
            hosts = [one.inside.host for one in mappings]
            assert all(hosts.count(host) <= limit for host in hosts)


@settings(max_examples=250, deadline=None)
@given(behaviors(), steps)
def test_whatever_is_sent(behavior: NatBehavior, played: list[tuple[str, int, int]]) -> None:
    witness = Witness(behavior)
    for what, one, other in played:
        if what == "out":
            witness.out(witness.inside[one], witness.home.points[other])
        elif what == "wait":
            witness.home.wait(one)
        elif witness.endpoints:
            to = witness.endpoints[other % len(witness.endpoints)]
            if what == "in":
                witness.into(witness.home.points[one], to)
            else:
                witness.turn(witness.inside[one], to)
        witness.check()


def trace(seed: int) -> str:
    """Of packets through NATs and links that draw, as a digest."""
    digest = hashlib.sha256()
    for name in ("long-way", "cgnat"):
        wiring = Wiring(find_topology(name), seed)
        relay = wiring.udp("relay")
        hosts = [wiring.udp(one) for one in ("alice", "bob")]
        for number in range(50):
            for host in hosts:
                host.send(b"%d" % number, relay.address)
            wiring.clock.run(0.01 * number)
            for _, source in relay.came:
                relay.send(b"back", source)
        wiring.clock.run(100.0)
        digest.update(repr(wiring.frames).encode())
    return digest.hexdigest()


def test_a_seed_says_all() -> None:
    """In every process, whatever Python's hash seed."""
    program = f"from {__name__} import trace; print(trace(3))"
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).parents[3],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert said == {trace(3)}
    assert trace(4) not in said
