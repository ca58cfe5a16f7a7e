"""The links of a lab that behave, from its caller's side: change them, read their counters."""

import contextlib
import select
from collections.abc import Callable, Sequence
from typing import Any

from quicpipe_lab.backends.netns.blueprint import Blueprint, End, Wire
from quicpipe_lab.backends.netns.channel import Channel, Message
from quicpipe_lab.backends.netns.failures import raise_described
from quicpipe_lab.backends.netns.impairment import (
    directions,
    netems,
    require_support,
    why_not_netem,
)
from quicpipe_lab.errors import LocalProtocolError, QuicpipeLabError, UnsupportedBehaviorError
from quicpipe_lab.model.between import link_between
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_model import Drop, LinkCounters
from quicpipe_lab.model.topology import Topology, Uplink

Counters = dict[tuple[str, str], LinkCounters]
"""By the nodes that a packet goes from and to."""

Ask = Callable[[Message, Sequence[int]], tuple[Message, list[int]]]
"""The supervisor."""


_END_WITHIN_S = 2.0


class Links:
    """Some are carried by the wire's process, with a control socket; others are netem's."""

    def __init__(self, topology: Topology, blueprint: Blueprint, seed: int, ask: Ask) -> None:
        self._topology = topology
        self._seed = seed
        self._ask = ask
        wires = [wire for space in blueprint.spaces for wire in space.wires]
        self._netem = {wire.link: wire for wire in wires if wire.netem}
        self._wired = {wire.link: wire for wire in wires if wire.through}
        self._uplinks = {uplink.name: uplink for uplink in topology.all_links}
        self._behaviors = {
            name: directions(self._uplinks[name].link) for name in (*self._netem, *self._wired)
        }
        self._control: Channel | None = None
        if self._wired:
            self._start_wire()

    def _start_wire(self) -> None:
        self._control, there = Channel.pair()
        with there:
            self._ask({"request": "wire"}, [there.fileno()])
        links = []
        for name, wire in self._wired.items():
            ends = [end.interface for end in wire.through]
            behaviors = [one.to_data() for one in self._behaviors[name]]
            links.append([name, *ends, *behaviors, str(self._seed)])
        self._ask_wire({"links": links})

    def close(self) -> None:
        """The process ends, if there is one; not waited for if it does not answer."""
        if self._control is None:
            return
        with contextlib.suppress(OSError):
            self._control.send({"request": "end"})
            select.select([self._control], [], [], _END_WITHIN_S)
        self._control.close()

    def set_link(self, one: str, other: str, there: LinkBehavior, back: LinkBehavior) -> None:
        """``there`` is from ``one`` to ``other``.

        Raises LocalProtocolError, UnsupportedBehaviorError, QuicpipeLabError.
        """
        uplink = link_between(self._topology, one, other)
        if uplink.name not in self._behaviors:
            raise LocalProtocolError(
                f"the link between {one!r} and {other!r} is a plain cable: to be changed in a"
                " running lab it needs a behaviour from the start, which may be empty"
            )
        behaviors = (there, back) if uplink.upper == one else (back, there)
        for behavior in behaviors:
            require_support(f"link {uplink.lower!r} to {uplink.upper!r}", behavior)
        if uplink.name in self._netem:
            self._set_netem(uplink, behaviors)
        else:
            down, up = (behavior.to_data() for behavior in behaviors)
            self._ask_wire({"request": "set", "link": uplink.name, "down": down, "up": up})
        self._behaviors[uplink.name] = behaviors

    def _set_netem(self, uplink: Uplink, behaviors: tuple[LinkBehavior, LinkBehavior]) -> None:
        for behavior in behaviors:
            if reason := why_not_netem(behavior):
                raise UnsupportedBehaviorError(
                    f"link {uplink.lower!r} to {uplink.upper!r} runs on the kernel's netem and"
                    f" cannot change to this: {reason}; Lab(..., netem=False) does without"
                )
        places = self._netem_ends(self._netem[uplink.name])
        changed = netems(uplink.name, behaviors, self._seed)
        for (node, end), netem in zip(places, changed, strict=True):
            self._ask({"request": "set-netem", "node": node, "end": end, "netem": netem}, [])

    def _netem_ends(self, wire: Wire) -> list[tuple[str, End]]:
        """Where downwards and upwards are sent from."""
        upper = self._uplinks[wire.link].upper
        return [(upper, wire.upper), (wire.lower_node, wire.lower)]

    def counters(self) -> Counters:
        """Of every link that behaves. Raises QuicpipeLabError."""
        found: Counters = {}
        wired = self._ask_wire({"request": "counters"}) if self._wired else {}
        for name, both in wired.items():
            upper, lower = self._uplinks[name].upper, self._uplinks[name].lower
            found[upper, lower] = _from_wire(both["down"])
            found[lower, upper] = _from_wire(both["up"])
        for name, wire in self._netem.items():
            (upper, upper_end), (lower, lower_end) = self._netem_ends(wire)
            down, up = self._behaviors[name]
            found[upper, lower] = self._netem_counters(upper, upper_end, down)
            found[lower, upper] = self._netem_counters(lower, lower_end, up)
        return found

    def _netem_counters(self, node: str, end: End, behavior: LinkBehavior) -> LinkCounters:
        """netem tells copies from packets as little as reasons, of which it can have only one."""
        answer, _ = self._ask({"request": "netem-counters", "node": node, "end": end}, [])
        counters = LinkCounters(
            packets=answer["sent"] + answer["waiting"] + answer["dropped"],
            packet_bytes=answer["sent_bytes"] + answer["waiting_bytes"],
            delivered=answer["sent"] + answer["waiting"],
            delivered_bytes=answer["sent_bytes"] + answer["waiting_bytes"],
            reordered=answer["reordered"],
        )
        counters.dropped[Drop.BURST if behavior.burst_loss else Drop.LOSS] = answer["dropped"]
        return counters

    def _ask_wire(self, request: Message) -> Message:
        assert self._control is not None
        try:
            self._control.send(request)
            answer, _ = self._control.receive()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise QuicpipeLabError("the process that carries the lab's links is gone") from None
        raise_described(answer)
        return answer


def _from_wire(data: dict[str, Any]) -> LinkCounters:
    dropped = {Drop(why): count for why, count in data["dropped"].items()}
    return LinkCounters(**{**data, "dropped": dropped})
