"""What a person would write by hand: a topology as a shell script of ``ip`` and ``nft``.

It builds what the lab builds, no more and no less, as the same blueprint says it, and with as few
processes as that takes: one ``ip -batch`` for all namespaces and one for each namespace's links.
"""

from quicpipe_lab.backends.netns.blueprint import Blueprint, Space, Wire
from quicpipe_lab.backends.netns.plan import plan
from quicpipe_lab.model.topology import Topology


def script(topology: Topology, prefix: str) -> str:
    """Up and down again. The namespaces are named ``prefix`` and the node's name."""
    blueprint = plan(topology)
    names = {space.node: f"{prefix}{space.node}" for space in blueprint.spaces}
    uplinks = {wire.lower_node: wire for space in blueprint.spaces for wire in space.wires}
    lines = ["set -e", *_all(names, "add")]
    for space in blueprint.spaces:
        lines += _settings(space, names[space.node])
    for space in blueprint.spaces:
        lines += _links(space, uplinks.get(space.node), names)
    lines += _all(names, "del")
    return "\n".join(lines) + "\n"


def clean_up(topology: Topology, prefix: str) -> str:
    """What removes the namespaces of a script that failed half way, and where ``ip`` kept them."""
    blueprint: Blueprint = plan(topology)
    lines = [f"ip netns del {prefix}{space.node} 2>/dev/null" for space in blueprint.spaces]
    # Made and mounted by the first ``ip netns add``; busy where others have namespaces in it.
    lines += ["umount /run/netns 2>/dev/null && rmdir /run/netns", "true"]
    return "\n".join(lines) + "\n"


def _all(names: dict[str, str], what: str) -> list[str]:
    return ["ip -batch - <<'END'", *(f"netns {what} {name}" for name in names.values()), "END"]


def _settings(space: Space, name: str) -> list[str]:
    lines = [f"ip netns exec {name} sh <<'END'", *_sysctls(space.sysctls)]
    for table in space.tables:
        lines += ["nft -f - <<'RULES'", str(table), "RULES"]
    return [*lines, *_sysctls(space.conntrack_sysctls), "END"]


def _sysctls(sysctls: list[list[str]]) -> list[str]:
    return [f"echo {value} > /proc/sys/{name}" for name, value in sysctls]


def _links(space: Space, uplink: Wire | None, names: dict[str, str]) -> list[str]:
    lines = [f"ip -n {names[space.node]} -batch - <<'END'", "link set dev lo up"]
    lines += [f"addr add {address}/32 dev lo" for address in space.addresses]
    if uplink is not None:
        device = uplink.lower.interface
        lines += [
            f"link set dev {device} up",
            f"addr add {uplink.lower.address}/{uplink.prefix_length} dev {device}",
            _neighbour(uplink.upper.address, uplink.upper.mac, device),
            f"route add default via {uplink.upper.address}",
        ]
    for wire in space.wires:
        device, peer = wire.upper.interface, wire.lower
        lines += [
            f"link add name {device} address {wire.upper.mac} type veth"
            f" peer name {peer.interface} address {peer.mac} netns {names[wire.lower_node]}",
            f"link set dev {device} up",
            f"addr add {wire.upper.address}/{wire.prefix_length} dev {device}",
            _neighbour(peer.address, peer.mac, device),
        ]
    return [*lines, "END"]


def _neighbour(address: str, mac: str, device: str) -> str:
    return f"neigh add {address} lladdr {mac} dev {device} nud permanent"
