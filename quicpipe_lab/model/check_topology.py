"""Topologies to check NATs in, and NATs whose lives are short enough to wait for."""

import dataclasses
from collections.abc import Mapping

from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.topology import CORE, Firewall, Host, Link, Nat, Node, Topology


def topology_of(behaviors: Mapping[str, NatBehavior], *, dual_stack: bool = False) -> Topology:
    """A NAT of each name with two hosts behind it, around the core."""
    nodes: list[Node] = []
    links: list[Link] = []
    for name, behavior in behaviors.items():
        hosts = [f"{name}-a", f"{name}-b"]
        nodes += [Nat(name, behavior), *map(Host, hosts)]
        links += [Link((CORE, name)), *(Link((name, host)) for host in hosts)]
    return Topology("nat-check", tuple(nodes), tuple(links), dual_stack)


def with_shorter_lives(topology: Topology, divisor: float) -> Topology:
    """The same with all lifetimes divided, in whole seconds: what takes minutes takes seconds."""
    nodes = tuple(_with_shorter_lives(node, divisor) for node in topology.nodes)
    return dataclasses.replace(topology, nodes=nodes)


def _with_shorter_lives(node: Node, divisor: float) -> Node:
    match node:
        case Nat(behavior=behavior):
            return dataclasses.replace(node, behavior=_shorter_lived(behavior, divisor))
        case Firewall(behavior=behavior):
            lifetime_s = _shorter(behavior.state_lifetime_s, divisor)
            shorter = dataclasses.replace(behavior, state_lifetime_s=lifetime_s)
            return dataclasses.replace(node, behavior=shorter)
    return node


def _shorter_lived(behavior: NatBehavior, divisor: float) -> NatBehavior:
    answered_s = behavior.answered_lifetime_s
    return dataclasses.replace(
        behavior,
        mapping_lifetime_s=_shorter(behavior.mapping_lifetime_s, divisor),
        answered_lifetime_s=None if answered_s is None else _shorter(answered_s, divisor),
    )


def _shorter(lifetime_s: float, divisor: float) -> float:
    return float(max(1, round(lifetime_s / divisor)))
