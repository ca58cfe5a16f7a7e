"""Which external address and port a new mapping gets (RFC 4787, 4.2): the rules for it.

Only the first packet of a flow comes here, as it is with chains of type ``nat``. Where the kernel's
own choice will do, it chooses; else a port is drawn, and drawn again while another mapping has it.
A port that the kernel chose is tested behind this, in ``record``.
"""

from typing import NamedTuple

from quicpipe_lab.backends.netns.blueprint import Chain
from quicpipe_lab.backends.netns.keys import Keys, concatenate
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.nat import (
    HIGHEST_PORT,
    LOWEST_PORT,
    AddressPooling,
    Hairpinning,
    NatBehavior,
    PortAssignment,
)

ATTEMPTS = 32
"""How often a port is drawn for one packet. With half of the ports taken all fail once in 2**32
packets, with nine tenths once in 30; the packet is then dropped, and the next one tries anew."""

Rules = list[list[str]]


class _Pool(NamedTuple):
    """Ports of one address, for those who may have them. ``address`` is None where the kernel
    finds it: that of the interface, the same text for every NAT."""

    name: str
    address: str | None
    first: int
    last: int

    def to(self, ports: str) -> str:
        """The statement that gives a packet an address of the pool and these ports."""
        if self.address is None:
            return f"masquerade to :{ports}"
        return f"snat to {self.address}:{ports}"


def postrouting(
    behavior: NatBehavior,
    keys: Keys,
    outward: list[str],
    addresses: list[str],
    subscribers: list[str],
) -> tuple[Rules, list[Chain]]:
    """The rules of the chain ``postrouting``, and the chains that they jump to."""
    rules: Rules = []
    chains: list[Chain] = []
    if behavior.external_addresses > 1 or behavior.port_assignment is PortAssignment.BLOCK:
        chosen, chains = _by_pool(behavior, addresses, subscribers)
    else:
        # Towards itself, the kernel would take an inside interface's address.
        explicit = behavior.hairpinning is Hairpinning.EXTERNAL_SOURCE
        pool = _Pool("all", addresses[0] if explicit else None, *behavior.port_range)
        chosen, chains = _choose(behavior, pool)
    known = f"snat to {concatenate(keys.mapping)} map @egress"
    for interface in outward:
        out = f'oifname "{interface}"'
        udp_out = [out, "meta l4proto udp"]
        rules += [[*udp_out, known], *([*udp_out, *rule] for rule in chosen)]
    out = f'oifname "{outward[0]}"'
    if len(addresses) > 1 and behavior.pooling is AddressPooling.PAIRED:
        rules += [
            [out, f"ip saddr {subscriber}", f"snat to {addresses[index % len(addresses)]}"]
            for index, subscriber in enumerate(subscribers)
        ]
    return [*rules, [out, "masquerade"]], chains


def _by_pool(
    behavior: NatBehavior, addresses: list[str], subscribers: list[str]
) -> tuple[Rules, list[Chain]]:
    rules: Rules = []
    chains: list[Chain] = []
    if behavior.port_assignment is PortAssignment.BLOCK:
        pools = [
            _block(behavior, addresses, index, subscriber)
            for index, subscriber in enumerate(subscribers)
        ]
        rules = [
            [f"ip saddr {subscriber}", f"jump {pool.name}"]
            for subscriber, pool in zip(subscribers, pools, strict=True)
        ]
    else:
        pools = [
            _Pool(f"address_{index}", address, *behavior.port_range)
            for index, address in enumerate(addresses)
        ]
        if behavior.pooling is AddressPooling.PAIRED:
            rules = [
                [f"ip saddr {subscriber}", f"jump {pools[index % len(pools)].name}"]
                for index, subscriber in enumerate(subscribers)
            ]
        else:
            # In turn: each takes its share of what those before it have left.
            rules = [
                [f"numgen inc mod {len(pools) - index} 0", f"jump {pool.name}"]
                for index, pool in enumerate(pools)
            ]
    for pool in pools:
        chosen, helpers = _choose(behavior, pool)
        chains += [*helpers, _helper(pool.name, chosen)]
    # Once, for all interfaces: the turns of hairpins are those of all others, and have one counter.
    chains.append(_helper("pools", rules))
    return [["jump pools"], ["drop"]], chains


def _block(behavior: NatBehavior, addresses: list[str], index: int, subscriber: str) -> _Pool:
    """RFC 7422: the subscriber's place says which address and block it has, with nothing logged."""
    size = behavior.port_block_size or 0
    first = behavior.port_range[0] + index // len(addresses) * size
    if first + size - 1 > behavior.port_range[1]:
        raise UnsupportedBehaviorError(
            f"port_block_size of {size}: no block is left for subscriber {subscriber}"
            " (RFC 7422 gives each one of its own)"
        )
    several = behavior.external_addresses > 1
    explicit = several or behavior.hairpinning is Hairpinning.EXTERNAL_SOURCE
    address = addresses[index % len(addresses)] if explicit else None
    return _Pool(f"subscriber_{index}", address, first, first + size - 1)


def _choose(behavior: NatBehavior, pool: _Pool) -> tuple[Rules, list[Chain]]:
    """Rules that give a packet an address and a port of the pool, and the chains that they need."""
    rules: Rules = []
    if behavior.port_assignment is PortAssignment.PRESERVING:
        # Not with conntrack's own eyes: it would share a port as long as the destinations differ.
        wanted = [f"udp sport {pool.first}-{pool.last}", _is_free(behavior, pool, "udp sport")]
        rules.append([*wanted, pool.to("udp sport")])
    by_kernel = (
        behavior.port_assignment in (PortAssignment.PRESERVING, PortAssignment.RANDOM)
        and (pool.first, pool.last) == (LOWEST_PORT, HIGHEST_PORT)
        and not behavior.port_parity
    )
    if by_kernel:
        # Without a range it would look for a port near an inside port below 1024.
        return [*rules, [pool.to(f"{pool.first}-{pool.last} fully-random")]], []
    if not behavior.port_parity:
        attempts, chains = _draw(behavior, pool, "any", pool.first, behavior.port_step)
        return [*rules, [f"jump {attempts}"]], chains
    # RFC 4787, 4.2.2: an even port for an even one, an odd one for an odd one.
    chains = []
    step = behavior.port_step if behavior.port_step > 1 else 2
    for parity, name in enumerate(("even", "odd")):
        first = pool.first + (pool.first + parity) % 2
        attempts, more = _draw(behavior, pool, name, first, step)
        rules.append([f"udp sport & 1 == {parity}", f"jump {attempts}"])
        chains += more
    return rules, chains


def _draw(
    behavior: NatBehavior, pool: _Pool, name: str, first: int, step: int
) -> tuple[str, list[Chain]]:
    """The chain to jump to, and all that are needed."""
    one = _draw_chain(behavior, pool, f"{name}_of_{pool.name}", first, step)
    again = [[f"jump {one.name}"]] * ATTEMPTS
    attempts = _helper(f"attempts_{one.name}", [*again, ["drop"]])
    return attempts.name, [one, attempts]


def _draw_chain(behavior: NatBehavior, pool: _Pool, name: str, first: int, step: int) -> Chain:
    """One attempt: the next port, or any, of those that lie ``step`` apart from ``first`` on.

    Jumped to again and again it goes on counting, as a rule has one counter.
    """
    bits = step.bit_length() - 1
    if step != 1 << bits:
        raise UnsupportedBehaviorError(
            f"port_step of {step}: nftables shifts and does not multiply; take 1, 2, 4, 8, ..."
        )
    kind = "inc" if behavior.port_assignment is PortAssignment.SEQUENTIAL else "random"
    count = (pool.last - first) // step + 1
    draw = f"draw {kind} mod {count} offset {first >> bits}"
    if bits:
        draw += f" << {bits}"
    if first % step:
        draw += f" ^ {first % step}"
    return _helper(name, [[draw, _is_free(behavior, pool, "drawn"), pool.to("drawn")]])


def _is_free(behavior: NatBehavior, pool: _Pool, port: str) -> str:
    """No mapping has it (REQ-3)."""
    external = f"{pool.address} . {port}" if behavior.external_addresses > 1 else port
    return f"{external} != @ports"


def _helper(name: str, rules: Rules) -> Chain:
    return Chain(name, "", "", 0, rules)
