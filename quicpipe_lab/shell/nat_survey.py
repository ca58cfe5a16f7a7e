"""All that is looked at in one go of a lab's NATs: what each is to a host behind it, and why not.

On whatever sockets and clock: a lab's (nat_program.py), or a simulator's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat_measurement import (
    NatMeasurement,
    Property,
    ServerPoint,
    rejection,
    udp_policy,
)
from quicpipe_lab.shell.nat_lifetime import LifetimeProber
from quicpipe_lab.shell.nat_prober import PRIMARY, NatProber, Place
from quicpipe_lab.shell.prober_means import REAL, MakeSocket, Means
from quicpipe_lab.shell.stun import BindingRequest
from quicpipe_lab.shell.stun_client import NoAnswerError, StunClient, Timing
from quicpipe_lab.shell.stun_responder import STUN_PORT

SERVER_PORTS = (STUN_PORT, 443)
"""Each has a server of its own; the second is HTTP/3's, which some firewalls let out alone."""
_SIGHTS_AT_ONCE = 8


class Answering(Protocol):
    """A STUN server. ``icmp_errors``: see Responder."""

    @property
    def addresses(self) -> Mapping[ServerPoint, TransportAddress]: ...
    @property
    def icmp_errors(self) -> Mapping[str, set[tuple[int, int]]]: ...


@dataclass(frozen=True)
class Sight:
    """A host behind NATs, and perhaps a second one behind the same.

    ``outermost``: the name of the last of them; sights that share it are not looked at alone.
    ``servers``: at SERVER_PORTS; ``beside`` makes sockets where they are.
    ``lifetime_s`` and ``warm_up_s``: see LifetimeProber; None where it is not to be measured.
    ``blocked``: on its way UDP is blocked, and which is all that can be looked at.
    ``timing``: as timing_for has it; the reason where nothing is to be looked at.
    """

    outermost: str
    place: Place
    second: Place | None
    servers: Sequence[Answering]
    beside: MakeSocket
    timing: Timing | str
    lifetime_s: float | None = None
    warm_up_s: float = 0.0
    blocked: bool = False


def survey(sights: Mapping[str, Sight], means: Means = REAL) -> dict[str, NatMeasurement]:
    """Look at all at once, as far as ``means`` do several things at once."""
    timings = {name: one.timing for name, one in sights.items() if isinstance(one.timing, Timing)}
    probers = {
        name: NatProber(sight.servers[0].addresses, timings[name], sight.place, sight.second, means)
        for name, sight in sights.items()
        if name in timings and not sight.blocked
    }
    by_outermost: dict[str, list[NatProber]] = {}
    for name, prober in probers.items():
        by_outermost.setdefault(sights[name].outermost, []).append(prober)
    with means.pool(_SIGHTS_AT_ONCE) as pool:
        for task in [pool.submit(_measure_ports, group) for group in by_outermost.values()]:
            task.result()
        looks = {
            name: pool.submit(_look, prober, sights[name], timings[name], means)
            for name, prober in probers.items()
        }
        looks |= {
            name: pool.submit(_look_at_blocked, sights[name], timing, means)
            for name, timing in timings.items()
            if sights[name].blocked
        }
        unmeasured = {
            name: NatMeasurement(unmeasured=one.timing)
            for name, one in sights.items()
            if isinstance(one.timing, str)
        }
        return unmeasured | {name: look.result() for name, look in looks.items()}


def _measure_ports(probers: list[NatProber]) -> None:
    """One by one, as they share a NAT whose ports may be in a sequence."""
    for prober in probers:
        try:
            prober.measure_ports()
        except NoAnswerError as error:
            prober.result.remarks[Property.EXTERNAL_ADDRESS] = str(error)


def _look(prober: NatProber, sight: Sight, timing: Timing, means: Means) -> NatMeasurement:
    if not prober.result.ports:
        prober.close()
        return prober.result  # nothing gets through
    result = prober.measure_behaviors()
    server = sight.servers[0]
    errors = [one for host in result.hosts for one in server.icmp_errors.get(host, ())]
    result.words[Property.REJECTION] = rejection(set(errors))
    prober.close()
    if sight.lifetime_s is not None:
        LifetimeProber(
            server.addresses[PRIMARY],
            sight.place.make,
            timing,
            sight.lifetime_s,
            sight.warm_up_s,
            means,
        ).measure(result)
    return result


def _look_at_blocked(sight: Sight, timing: Timing, means: Means) -> NatMeasurement:
    servers = [one.addresses[PRIMARY] for one in sight.servers]
    answered = {server.port: _gets_out(sight, server, timing, means) for server in servers}
    return NatMeasurement(words={Property.UDP: udp_policy(answered)})


def _gets_out(sight: Sight, server: TransportAddress, timing: Timing, means: Means) -> bool:
    """Whether a question is answered by the time one that the server asks itself behind it is."""
    request = BindingRequest(means.transaction())
    with (
        StunClient(sight.place.make(0), timing, means) as client,
        StunClient(sight.beside(0), timing, means) as beside,
    ):
        for _ in range(timing.in_a_row):
            client.send(request, server)
            beside.ask(server)
        client.settle(request.transaction, least_s=timing.slowest_s)
        return client.has_answer(request.transaction)
