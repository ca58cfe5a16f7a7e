"""Link behaviours as Linux's own sch_netem, where it does exactly what the link model does.

It runs on the sending end's interface. Times are given in nanoseconds, in attributes of their own:
the fields of old count ticks of 64 ns, which pyroute2 in turn takes in microseconds.
"""

import hashlib
import socket
import struct
from collections.abc import Iterator
from typing import Any

from quicpipe_lab.backends.netns import encoders
from quicpipe_lab.backends.netns.blueprint import End, Netem
from quicpipe_lab.backends.netns.impairment import PURPOSE, why_not_netem
from quicpipe_lab.backends.netns.netlink import NetlinkError, Request, carry_out, datagram
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.link import LinkBehavior

# From linux/netlink.h, linux/rtnetlink.h and linux/gen_stats.h.
_NLMSG = struct.Struct("=IH")
_NLMSG_BYTES, _NLMSG_ERROR, _NLMSG_DONE = 16, 2, 3
_TCMSG = struct.Struct("=B3xi")
_TCMSG_BYTES = 20
_ATTRIBUTE = struct.Struct("=HH")
_ATTRIBUTE_KIND = 0x3FFF
_TCA_KIND, _TCA_STATS2 = 1, 7
_TCA_STATS_BASIC, _TCA_STATS_QUEUE = 1, 3
_BASIC = struct.Struct("=QI")
"""gnet_stats_basic: bytes and packets sent."""
_QUEUE = struct.Struct("=4I")
"""The head of gnet_stats_queue: packets and bytes waiting, packets dropped, requeued."""
_ANSWER_BYTES = 64 * 1024

_KIND = "netem"
_ROOT = 0xFFFFFFFF
_HANDLE = 0x10000
_ALL = 0xFFFFFFFF
"""A chance of 1."""
_NO_LIMIT = 0x7FFFFFFF
"""Packets that may wait; netem's own default of 1000 would drop on a long link."""
_ETHERNET_HEADER_BYTES = 14
_KEEP_ORDER_RATE = 1 << 62
"""Bytes a second. With a rate netem lets no packet overtake another, and this one takes no time."""


def set_netem(index: int, interface: str, behavior: LinkBehavior, seed: str) -> Request:
    """For the interface with this index, in place of what was there.

    The same seed draws the same from Linux 6.6 on. ``corrupt`` may also hit one of the 14 bytes of
    the Ethernet header, which the model does not know. Raises UnsupportedBehaviorError.
    """
    if reason := why_not_netem(behavior):
        raise UnsupportedBehaviorError(f"{interface}: {reason}")
    message = _message_type()()
    message.setvalue(
        {
            "index": index,
            "handle": _HANDLE,
            "parent": _ROOT,
            "attrs": [("TCA_KIND", _KIND), ("TCA_OPTIONS", _options(behavior, seed))],
        }
    )
    flags = encoders.netlink.NLM_F_CREATE | encoders.netlink.NLM_F_REPLACE
    purpose = f"{PURPOSE} {interface!r}"
    return encoders.encode(message, encoders.rtnl.RTM_NEWQDISC, flags, purpose)


def apply(end: End, netem: Netem) -> None:
    """Have an end behave, in the network namespace that the process is in. Raises NetlinkError."""
    behavior = LinkBehavior.from_data(netem.behavior)
    request = set_netem(end.number, end.interface, behavior, netem.seed)
    carry_out([datagram(socket.NETLINK_ROUTE, [request])])


def counters(end: End) -> dict[str, int]:
    """What netem counts on an interface of the process's network namespace.

    Bytes are those of IP packets. Raises NetlinkError.
    """
    message = _message_type()()
    message.setvalue({"index": end.number})
    data, _ = encoders.encode(message, encoders.rtnl.RTM_GETQDISC, encoders.netlink.NLM_F_DUMP, "")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.send(data)
        for payload in _answers(sock):
            _, index = _TCMSG.unpack_from(payload)
            attributes = dict(_attributes(payload[_TCMSG_BYTES:]))
            if index == end.number and attributes[_TCA_KIND].rstrip(b"\0") == _KIND.encode():
                return _counted(dict(_attributes(attributes[_TCA_STATS2])))
    raise NetlinkError(f"interface {end.interface!r} has no netem")


def _counted(statistics: dict[int, bytes]) -> dict[str, int]:
    sent_bytes, sent = _BASIC.unpack_from(statistics[_TCA_STATS_BASIC])
    waiting, waiting_bytes, dropped, reordered = _QUEUE.unpack_from(statistics[_TCA_STATS_QUEUE])
    return {
        "sent": sent,
        "sent_bytes": sent_bytes - sent * _ETHERNET_HEADER_BYTES,
        "waiting": waiting,
        "waiting_bytes": waiting_bytes - waiting * _ETHERNET_HEADER_BYTES,
        "dropped": dropped,
        "reordered": reordered,
    }


def _answers(sock: socket.socket) -> Iterator[bytes]:
    """The payload of each message of a dump."""
    while True:
        data = sock.recv(_ANSWER_BYTES)
        while data:
            size, kind = _NLMSG.unpack_from(data)
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                return
            yield data[_NLMSG_BYTES:size]
            data = data[size + 3 & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while data:
        size, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & _ATTRIBUTE_KIND, data[_ATTRIBUTE.size : size]
        data = data[size + 3 & ~3 :]


def _options(behavior: LinkBehavior, seed: str) -> dict[str, Any]:
    attrs: list[tuple[str, Any]] = [
        ("TCA_NETEM_LATENCY64", round(behavior.delay_s * 1e9)),
        ("TCA_NETEM_JITTER64", round(behavior.jitter_s * 1e9)),
        ("TCA_NETEM_PRNG_SEED", _number(seed)),
    ]
    if behavior.reorder:
        chance = {"prob_reorder": _chance(behavior.reorder), "corr_reorder": 0}
        attrs.append(("TCA_NETEM_REORDER", chance))
    if behavior.corrupt:
        chance = {"prob_corrupt": _chance(behavior.corrupt), "corr_corrupt": 0}
        attrs.append(("TCA_NETEM_CORRUPT", chance))
    if behavior.burst_loss is not None:
        model = {"attrs": [("NETEM_LOSS_GE", _gilbert_elliott(behavior))]}
        attrs.append(("TCA_NETEM_LOSS", model))
    attrs += _rate(behavior)
    return {
        "delay": 0,
        "limit": _NO_LIMIT,
        "loss": 0 if behavior.burst_loss is not None else _chance(behavior.loss),
        "gap": 1 if behavior.reorder else 0,
        "duplicate": _chance(behavior.duplicate),
        "jitter": 0,
        "attrs": attrs,
    }


def _gilbert_elliott(behavior: LinkBehavior) -> dict[str, int]:
    """netem has one loss model at a time, so ``loss`` goes into both of this one's states."""
    burst_loss = behavior.burst_loss
    assert burst_loss is not None
    kept = 1 - behavior.loss
    return {
        "p": _chance(burst_loss.enter),
        "r": _chance(burst_loss.leave),
        # The kernel wants what is delivered within a burst, and what is lost outside.
        "h": _chance(kept * (1 - burst_loss.loss_within)),
        "k1": _chance(1 - kept * (1 - burst_loss.loss_outside)),
    }


def _rate(behavior: LinkBehavior) -> list[tuple[str, Any]]:
    """The rate counts IP packets: what the Ethernet header adds is taken off."""
    if behavior.rate_bps is not None:
        bytes_per_s = round(behavior.rate_bps / 8)
    elif behavior.jitter_s:
        bytes_per_s = _KEEP_ORDER_RATE
    else:
        return []
    rate = {
        "rate": min(bytes_per_s, _ALL),
        "packet_overhead": -_ETHERNET_HEADER_BYTES,
        "cell_size": 0,
        "cell_overhead": 0,
    }
    return [("TCA_NETEM_RATE", rate), ("TCA_NETEM_RATE64", bytes_per_s)]


def _chance(chance: float) -> int:
    return round(chance * _ALL)


def _number(seed: str) -> int:
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest(), "little")


_message_types: list[Any] = []


def _message_type() -> Any:
    """pyroute2's message for queueing disciplines, with those of netem's attributes it lacks.

    Imported when the first netem link is made, for hardly a lab has one.
    """
    if not _message_types:
        tcmsg, sched_netem = encoders.load(
            "pyroute2.netlink.rtnl.tcmsg", "pyroute2.netlink.rtnl.tcmsg.sched_netem"
        )
        _message_types.append(_extended(tcmsg.tcmsg, sched_netem.options))
    return _message_types[0]


def _extended(base: Any, base_options: Any) -> Any:
    nla: Any = encoders.netlink.nla

    class Options(base_options):  # type: ignore[misc]
        nla_map = (
            *(
                (name, "loss_models" if name == "TCA_NETEM_LOSS" else kind)
                for name, kind in base_options.nla_map
            ),
            ("TCA_NETEM_ECN", "uint32"),
            ("TCA_NETEM_RATE64", "uint64"),
            ("TCA_NETEM_PAD", "none"),
            ("TCA_NETEM_LATENCY64", "int64"),
            ("TCA_NETEM_JITTER64", "int64"),
            ("TCA_NETEM_SLOT", "none"),
            ("TCA_NETEM_SLOT_DIST", "none"),
            ("TCA_NETEM_PRNG_SEED", "uint64"),
        )

        class loss_models(nla):  # type: ignore[misc]  # noqa: N801
            nla_map = (
                ("NETEM_LOSS_UNSPEC", "none"),
                ("NETEM_LOSS_GI", "hex"),
                ("NETEM_LOSS_GE", "gilbert_elliott"),
            )

            class gilbert_elliott(nla):  # type: ignore[misc]  # noqa: N801
                fields = (("p", "I"), ("r", "I"), ("h", "I"), ("k1", "I"))

    class Message(base):  # type: ignore[misc]
        @staticmethod
        def get_options(*_: Any, **__: Any) -> Any:
            return Options

    return Message
