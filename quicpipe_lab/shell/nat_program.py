"""Probes NATs in a lab: one process, with a foot in every namespace that it needs.

A socket belongs to the network namespace that it was made in, whoever uses it. So the server's
sockets, those of each inside host, and all tests may be in one process, which costs one fork, and
tells what came before what: it keeps to one CPU, on which a veth pair overtakes nothing.
"""

import dataclasses
import json
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from quicpipe_lab.model.nat64 import LAB_PREFIX
from quicpipe_lab.model.nat_measurement import NatMeasurement
from quicpipe_lab.shell.nat64 import Nat64Socket
from quicpipe_lab.shell.nat_prober import Place
from quicpipe_lab.shell.nat_survey import SERVER_PORTS, Sight, survey
from quicpipe_lab.shell.packet_ring import enter_network_namespace
from quicpipe_lab.shell.prober_means import CannotBindError, MakeSocket
from quicpipe_lab.shell.stun_client import Timing
from quicpipe_lab.shell.stun_responder import Responder, open_sockets

_SWITCH_S = 0.0002
"""Threads here take turns at every datagram."""

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """What becomes a Sight; ``host`` and ``second`` are namespaces, as open files.

    ``nat64``: the hosts have no IPv4 of their own, and look through a NAT64. ``by_address``: they
    have several links, of which an address chooses one. ``timing``: see Sight.
    """

    outermost: str
    host: int
    inside_host: str
    timing: Timing | str
    second: int | None = None
    second_host: str = ""
    lifetime_s: float | None = None
    warm_up_s: float = 0.0
    blocked: bool = False
    nat64: bool = False
    by_address: bool = False

    def maker(self, namespace: int, host: str) -> MakeSocket:
        """Of sockets that a host in that namespace looks through. One that has a single link looks
        through that, whichever address is believed to be its own."""
        if self.by_address:
            return _maker(namespace, host)
        over_ipv6 = self.nat64 or is_ipv6(host)
        return _maker(namespace, "::" if over_ipv6 else "0.0.0.0", self.nat64)


@dataclass(frozen=True)
class Job:
    """``server``: the namespace that has all ``addresses``, two of each family that views look
    over."""

    server: int
    addresses: Sequence[tuple[str, str]]
    views: dict[str, View]

    def dumps(self) -> str:
        """For the program's argument."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Job":
        """The inverse of dumps."""
        data: dict[str, Any] = json.loads(text)
        views: dict[str, dict[str, Any]] = data.pop("views")
        for view in views.values():
            if not isinstance(view["timing"], str):
                view["timing"] = Timing(**view["timing"])
        return cls(**data, views={name: View(**view) for name, view in views.items()})


def main(argv: Sequence[str]) -> int:
    """``quicpipe-lab _nat-probe JOB``: measurements by view, as one JSON object."""
    (text,) = argv
    measurements = probe(Job.loads(text))
    json.dump({name: dataclasses.asdict(one) for name, one in measurements.items()}, sys.stdout)
    return 0


def measurements_from_json(text: str) -> dict[str, NatMeasurement]:
    """What ``main`` printed."""
    data: dict[str, Any] = json.loads(text)
    measurements = {name: NatMeasurement(**one) for name, one in data.items()}
    for one in measurements.values():
        one.ports = [(inside, external) for inside, external in one.ports]
        if one.lifetime_s is not None:
            one.lifetime_s = one.lifetime_s[0], one.lifetime_s[1]
    return measurements


def probe(job: Job) -> dict[str, NatMeasurement]:
    """Look at every view at once."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    sys.setswitchinterval(_SWITCH_S)
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    with ExitStack() as stack:
        servers = {
            is_ipv6(pair[0]): [
                stack.enter_context(_serving(job.server, pair, port)) for port in SERVER_PORTS
            ]
            for pair in job.addresses
        }
        sights = {
            name: _sight(view, job.server, servers[is_ipv6(view.inside_host)])
            for name, view in job.views.items()
        }
        return survey(sights)


def _sight(view: View, server: int, servers: Sequence[Responder]) -> Sight:
    second = None
    if view.second is not None:
        second = Place(view.second_host, view.maker(view.second, view.second_host))
    return Sight(
        view.outermost,
        Place(view.inside_host, view.maker(view.host, view.inside_host)),
        second,
        servers,
        _maker(server, "::" if is_ipv6(view.inside_host) else "0.0.0.0"),
        view.timing,
        view.lifetime_s,
        view.warm_up_s,
        view.blocked,
    )


@contextmanager
def _serving(namespace: int, addresses: tuple[str, str], port: int) -> Iterator[Responder]:
    sockets = _inside(namespace, lambda: open_sockets(addresses, [port, port + 1]))
    responder = Responder(sockets)
    stop_reader, stop = os.pipe()
    thread = threading.Thread(target=responder.serve, args=[stop_reader])
    thread.start()
    try:
        yield responder
    finally:
        os.close(stop)
        thread.join()


def is_ipv6(host: str) -> bool:
    """Of an address in text form."""
    return ":" in host


def _maker(namespace: int, host: str, nat64: bool = False) -> MakeSocket:
    def make(port: int) -> socket.socket:
        return _inside(namespace, lambda: _bound(host, port, nat64))

    return make


def _bound(host: str, port: int, nat64: bool) -> socket.socket:
    family, kind = socket.AF_INET6 if is_ipv6(host) else socket.AF_INET, socket.SOCK_DGRAM
    sock = Nat64Socket(LAB_PREFIX, family, kind) if nat64 else socket.socket(family, kind)
    try:
        sock.bind((host, port))
    except OSError as error:
        sock.close()
        raise CannotBindError(f"cannot bind to port {port}: {error.strerror}") from None
    return sock


def _inside(namespace: int, act: Callable[[], T]) -> T:
    """The calling thread, and no other, moves; it makes nothing elsewhere that matters."""
    enter_network_namespace(namespace)
    return act()
