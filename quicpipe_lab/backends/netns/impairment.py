"""Who makes a link behave: nobody, the kernel's netem where it is exact, or the wire (wire.py).

Pure, on the caller's side.
"""

import os
from pathlib import Path

from quicpipe_lab.backends.netns.blueprint import End, Netem
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.topology import Link, Topology

PURPOSE = "netem on interface"
"""How what goes wrong with netem is told from other mishaps of a lab's start."""
INTERFACE_MTU_BYTES = 1500
"""Of every interface of a lab: nothing longer comes to a link."""
_MOST_JITTER_S = 2.0
"""netem draws from 32 bits of nanoseconds, half of them to each side."""
_FIRST_INDEX = 101
"""As in plan.py."""

Means = tuple[list[End], list[Netem]]
"""A Wire's ``through`` and ``netem``."""


def means_by_link(topology: Topology, seed: int, netem: bool) -> dict[str, Means]:
    """By each link's name. Raises UnsupportedBehaviorError where there are none."""
    means: dict[str, Means] = {}
    wires = 0
    for uplink in topology.all_links:
        if uplink.link.is_plain:
            means[uplink.name] = [], []
            continue
        behaviors = directions(uplink.link)
        for behavior in behaviors:
            require_support(f"link {uplink.lower!r} to {uplink.upper!r}", behavior)
        # One that does nothing is there to be changed to anything, which only the wire can be.
        is_idle = behaviors == (LinkBehavior(), LinkBehavior())
        if netem and not is_idle and not any(map(why_not_netem, behaviors)):
            means[uplink.name] = [], netems(uplink.name, behaviors, seed)
        else:
            means[uplink.name] = list(wire_ends(wires)), []
            wires += 1
    return means


def kernel_has_netem() -> bool:
    """As far as can be told without trying: it is loaded, built in, or a module that would be."""
    modules = Path("/lib/modules", os.uname().release)
    places = Path("/proc/modules"), modules / "modules.builtin", modules / "modules.dep"
    for place in places:
        try:
            if "sch_netem" in place.read_text(encoding="ascii", errors="replace"):
                return True
        except OSError:
            continue
    return False


def directions(link: Link) -> tuple[LinkBehavior, LinkBehavior]:
    """What a link does downwards and upwards."""
    return link.towards_lower or LinkBehavior(), link.towards_upper or LinkBehavior()


def require_support(link: str, behavior: LinkBehavior) -> None:
    """Raises UnsupportedBehaviorError for what neither netem nor the wire can do."""
    if behavior.mtu_bytes > INTERFACE_MTU_BYTES:
        raise UnsupportedBehaviorError(
            f"{link}: mtu_bytes of {behavior.mtu_bytes}: the netns backend's interfaces carry"
            f" {INTERFACE_MTU_BYTES}"
        )


def why_not_netem(behavior: LinkBehavior) -> str | None:
    """The field, and why netem cannot do what it says; None where it can do all.

    Linux's tbf, which has a queue in bytes, does not help: it lets a packet go when it has the
    tokens, and not when it has been sent, and small ones many at once.
    """
    if behavior.queue_bytes is not None:
        return "queue_bytes: netem counts the packets of its queue and not their bytes"
    if behavior.mtu_bytes < INTERFACE_MTU_BYTES:
        return "mtu_bytes: netem drops nothing for its length"
    if behavior.reorder and behavior.rate_bps is not None:
        return "reorder: netem's packets that skip the delay skip the rate as well"
    if behavior.jitter_s > _MOST_JITTER_S:
        return f"jitter_s: netem's is {_MOST_JITTER_S:g} s at most"
    return None


def netems(link: str, behaviors: tuple[LinkBehavior, LinkBehavior], seed: int) -> list[Netem]:
    """Of a link by its name, downwards and upwards."""
    return [
        Netem(behavior.to_data(), f"{seed}/{link}/{direction}")
        for behavior, direction in zip(behaviors, ("down", "up"), strict=True)
    ]


def wire_ends(number: int) -> tuple[End, End]:
    """Of a lab's wire with this number, in the namespace of the wires: upper and lower."""
    first = _FIRST_INDEX + 2 * number
    upper, lower = (
        End(f"{side}{number}", index, f"02:01:00:00:{index >> 8:02x}:{index & 255:02x}", "")
        for side, index in (("upper", first), ("lower", first + 1))
    )
    return upper, lower
