"""The links of a lab that behave, from its caller's side: change them, read their counters."""

from typing import Any

from quicpipe_lab.backends.netns.blueprint import Blueprint
from quicpipe_lab.backends.netns.channel import Channel, Message
from quicpipe_lab.backends.netns.failures import raise_described
from quicpipe_lab.backends.netns.impairment import directions, require_support
from quicpipe_lab.errors import LocalProtocolError, QuicpipeLabError
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_model import Drop, LinkCounters
from quicpipe_lab.model.topology import Topology, Uplink

Counters = dict[tuple[str, str], LinkCounters]
"""By the nodes that a packet goes from and to."""


def link_between(topology: Topology, one: str, other: str) -> Uplink:
    """The link that joins two nodes. Raises LocalProtocolError."""
    for uplink in topology.uplinks.values():
        if {uplink.lower, uplink.upper} == {one, other}:
            return uplink
    raise LocalProtocolError(f"there is no link between {one!r} and {other!r}")


def is_needed(blueprint: Blueprint) -> bool:
    """Whether a lab has wires at all."""
    return any(wire.through for space in blueprint.spaces for wire in space.wires)


class Wires:
    """Talks with the wire's process over its control socket."""

    def __init__(
        self, topology: Topology, blueprint: Blueprint, seed: int, control: Channel
    ) -> None:
        self._topology = topology
        self._control = control
        links = []
        for wire in (wire for space in blueprint.spaces for wire in space.wires if wire.through):
            down, up = directions(topology.uplinks[wire.lower_node].link) or ()
            upper_end, lower_end = (end.interface for end in wire.through)
            links.append(
                [wire.lower_node, upper_end, lower_end, down.to_data(), up.to_data(), str(seed)]
            )
        self._served = {link[0] for link in links}
        self._ask({"links": links})

    def close(self) -> None:
        """The process ends."""
        self._control.close()

    def set_link(self, one: str, other: str, there: LinkBehavior, back: LinkBehavior) -> None:
        """``there`` is from ``one`` to ``other``. Raises LocalProtocolError, QuicpipeLabError."""
        uplink = link_between(self._topology, one, other)
        if uplink.lower not in self._served:
            raise LocalProtocolError(
                f"the link between {one!r} and {other!r} is a plain cable: to be changed in a"
                " running lab it needs a behaviour from the start, which may be empty"
            )
        for behavior in (there, back):
            require_support(f"link {uplink.lower!r} to {uplink.upper!r}", behavior)
        down, up = (there, back) if uplink.upper == one else (back, there)
        self._ask(
            {"request": "set", "link": uplink.lower, "down": down.to_data(), "up": up.to_data()}
        )

    def counters(self) -> Counters:
        """Of every link that behaves. Raises QuicpipeLabError."""
        found: Counters = {}
        for lower, both in self._ask({"request": "counters"}).items():
            upper = self._topology.uplinks[lower].upper
            found[upper, lower] = _counters(both["down"])
            found[lower, upper] = _counters(both["up"])
        return found

    def _ask(self, request: Message) -> Message:
        try:
            self._control.send(request)
            answer, _ = self._control.receive()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise QuicpipeLabError("the process that carries the lab's links is gone") from None
        raise_described(answer)
        return answer


def _counters(data: dict[str, Any]) -> LinkCounters:
    dropped = {Drop(why): count for why, count in data["dropped"].items()}
    return LinkCounters(**{**data, "dropped": dropped})
