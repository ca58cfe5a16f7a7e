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
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat_measurement import (
    NatMeasurement,
    Property,
    rejection,
    udp_policy,
)
from quicpipe_lab.shell.nat_lifetime import LifetimeProber
from quicpipe_lab.shell.nat_prober import PRIMARY, NatProber, Place
from quicpipe_lab.shell.packet_ring import enter_network_namespace
from quicpipe_lab.shell.stun import BindingRequest, new_transaction
from quicpipe_lab.shell.stun_client import (
    DELAYED,
    LOSSY,
    PLAIN,
    MakeSocket,
    NoAnswerError,
    StunClient,
    Timing,
)
from quicpipe_lab.shell.stun_responder import STUN_PORT, Responder, open_sockets

_SWITCH_S = 0.0002
"""Threads here take turns at every datagram."""
_VIEWS_AT_ONCE = 8
_HTTP3_PORT = 443
_TIMINGS = {"plain": PLAIN, "delayed": DELAYED, "lossy": LOSSY}

T = TypeVar("T")


@dataclass(frozen=True)
class View:
    """A host behind NATs, and perhaps a second one behind the same; namespaces as open files.

    ``outermost``: the name of the last of them; views that share it are not looked at alone.

    ``lifetime_s`` and ``warm_up_s``: see LifetimeProber; None where it is not to be measured.
    ``blocked``: on its way UDP is blocked, and which is all that can be looked at.
    """

    outermost: str
    host: int
    inside_host: str
    second: int | None = None
    second_host: str = ""
    lifetime_s: float | None = None
    warm_up_s: float = 0.0
    blocked: bool = False


@dataclass(frozen=True)
class Job:
    """``server``: the namespace that has all ``addresses``, two of each family that views look
    over. ``links``: a key of _TIMINGS."""

    server: int
    addresses: Sequence[tuple[str, str]]
    views: dict[str, View]
    links: str

    def dumps(self) -> str:
        """For the program's argument."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Job":
        """The inverse of dumps."""
        data: dict[str, Any] = json.loads(text)
        views = {name: View(**view) for name, view in data.pop("views").items()}
        return cls(**{**data, "views": views})


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
    timing = _TIMINGS[job.links]
    open_views = {name: view for name, view in job.views.items() if not view.blocked}
    with ExitStack() as stack:
        responders = {
            (is_ipv6(pair[0]), port): stack.enter_context(_serving(job.server, pair, port))
            for pair in job.addresses
            for port in (STUN_PORT, _HTTP3_PORT)
        }
        threads = stack.enter_context(ThreadPoolExecutor(_VIEWS_AT_ONCE))
        servers = {
            name: [responders[is_ipv6(view.inside_host), port] for port in (STUN_PORT, _HTTP3_PORT)]
            for name, view in job.views.items()
        }
        probers = {
            name: NatProber(servers[name][0].addresses, timing, *_places(view))
            for name, view in open_views.items()
        }
        by_outermost: dict[str, list[NatProber]] = {}
        for name, prober in probers.items():
            by_outermost.setdefault(job.views[name].outermost, []).append(prober)
        list(threads.map(_measure_ports, by_outermost.values()))
        looks = {
            name: threads.submit(_look, prober, job.views[name], servers[name][0], timing)
            for name, prober in probers.items()
        }
        looks |= {
            name: threads.submit(_look_at_blocked, view, job.server, servers[name], timing)
            for name, view in job.views.items()
            if view.blocked
        }
        return {name: look.result() for name, look in looks.items()}


def _measure_ports(probers: list[NatProber]) -> None:
    """One by one, as they share a NAT whose ports may be in a sequence."""
    for prober in probers:
        try:
            prober.measure_ports()
        except NoAnswerError as error:
            prober.result.remarks[Property.EXTERNAL_ADDRESS] = str(error)


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


def _places(view: View) -> list[Place]:
    over_ipv6 = is_ipv6(view.inside_host)
    places = [Place(view.inside_host, _maker(view.host, over_ipv6))]
    if view.second is not None:
        places.append(Place(view.second_host, _maker(view.second, over_ipv6)))
    return places


def is_ipv6(host: str) -> bool:
    """Of an address in text form."""
    return ":" in host


def _look(prober: NatProber, view: View, responder: Responder, timing: Timing) -> NatMeasurement:
    if not prober.result.ports:
        prober.close()
        return prober.result  # nothing gets through
    result = prober.measure_behaviors()
    errors = [one for host in result.hosts for one in responder.icmp_errors.get(host, ())]
    result.words[Property.REJECTION] = rejection(set(errors))
    prober.close()
    if view.lifetime_s is not None:
        primary = responder.addresses[PRIMARY]
        make = _maker(view.host, is_ipv6(view.inside_host))
        LifetimeProber(primary, make, timing, view.lifetime_s, view.warm_up_s).measure(result)
    return result


def _look_at_blocked(
    view: View, server_namespace: int, responders: Sequence[Responder], timing: Timing
) -> NatMeasurement:
    servers = [one.addresses[PRIMARY] for one in responders]
    answered = {
        server.port: _gets_out(view.host, server_namespace, server, timing) for server in servers
    }
    return NatMeasurement(words={Property.UDP: udp_policy(answered)})


def _gets_out(
    namespace: int, server_namespace: int, server: TransportAddress, timing: Timing
) -> bool:
    """Whether a question is answered by the time one that the server asks itself behind it is."""
    request = BindingRequest(new_transaction())
    with (
        StunClient(_maker(namespace, is_ipv6(server.host))(0), timing) as client,
        StunClient(_maker(server_namespace, is_ipv6(server.host))(0), timing) as beside,
    ):
        for _ in range(timing.rounds * timing.copies):
            client.send(request, server)
            beside.ask(server)
        client.settle(request.transaction, least_s=timing.slowest_s)
        return client.has_answer(request.transaction)


def _maker(namespace: int, over_ipv6: bool) -> MakeSocket:
    def make(port: int) -> socket.socket:
        return _inside(namespace, lambda: _bound(port, over_ipv6))

    return make


def _bound(port: int, over_ipv6: bool) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if over_ipv6 else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind(("::" if over_ipv6 else "0.0.0.0", port))
    except OSError as error:
        sock.close()
        raise QuicpipeLabError(f"cannot bind to port {port}: {error.strerror}") from None
    return sock


def _inside(namespace: int, act: Callable[[], T]) -> T:
    """The calling thread, and no other, moves; it makes nothing elsewhere that matters."""
    enter_network_namespace(namespace)
    return act()
