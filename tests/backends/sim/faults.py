"""Casts whose actors do something wrong, each for one invariant to notice."""

from collections.abc import Callable
from typing import Any

from aioquic.quic.connection import QuicNetworkPath

from quicpipe_lab.backends.sim.actor import PeerActor, RelayActor
from quicpipe_lab.backends.sim.application import Pipe
from quicpipe_lab.backends.sim.cast import Cast
from quicpipe_lab.backends.sim.driver import Driver
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.direct_states import DirectTiming
from quicpipe_lab.protocol.forwarding import Flow, Reason, Sender
from quicpipe_lab.protocol.relay_limits import RelayLimits

HandOut = Callable[[bytes], None]


class _Dialer(Cast):
    def dialer(self, publish: Callable[[bytes], None], hand_out: HandOut) -> tuple[PeerActor, Pipe]:
        return super().dialer(publish, self.changed(hand_out))

    def changed(self, hand_out: HandOut) -> HandOut:
        raise NotImplementedError


class LosesAByte(_Dialer):
    def changed(self, hand_out: HandOut) -> HandOut:
        return lambda data: hand_out(data[1:])


class RepeatsAByte(_Dialer):
    def changed(self, hand_out: HandOut) -> HandOut:
        return lambda data: hand_out(data[:1] + data)


class Crashes(_Dialer):
    def changed(self, hand_out: HandOut) -> HandOut:
        del hand_out
        nothing: dict[bytes, None] = {}
        return lambda data: nothing[data]


class Amplifies(Cast):
    """The relay says everything four times, also to who has not shown where it is."""

    def relay(self, limits: RelayLimits | None = None) -> RelayActor:
        actor = super().relay(limits)
        once = actor.machine.datagrams_to_send
        actor.machine.datagrams_to_send = lambda now: 4 * once(now)  # type: ignore[method-assign]
        return actor


class PunchesForEver(Cast):
    def _config(self, node: str, driver: Driver) -> dict[str, Any]:
        return {**super()._config(node, driver), "timing": DirectTiming(probes=5000)}


class ForwardsForAnyone(Cast):
    """As the original relay does."""

    def relay(self, limits: RelayLimits | None = None) -> RelayActor:
        actor = super().relay(limits)
        forwarder = actor.machine._forwarder
        strict, limits = forwarder.resolve, actor.machine.limits

        def resolve(destination_id: bytes, source: TransportAddress) -> Flow | Reason:
            decided = strict(destination_id, source)
            if decided is not Reason.SOURCE_NOT_BOUND:
                return decided
            address = forwarder.store.get_association(destination_id).address
            return Flow(Sender(source, limits, self._clock.now), address, forwarder.counters)

        forwarder.resolve = resolve  # type: ignore[method-assign]
        return actor


class BindsWhoeverSends(Cast):
    """The same, and it remembers the sender as one that is bound."""

    def relay(self, limits: RelayLimits | None = None) -> RelayActor:
        actor = super().relay(limits)
        forwarder, clock = actor.machine._forwarder, self._clock
        strict = forwarder.resolve

        def resolve(destination_id: bytes, source: TransportAddress) -> Flow | Reason:
            decided = strict(destination_id, source)
            if decided is Reason.SOURCE_NOT_BOUND:
                forwarder._senders[source] = Sender(source, actor.machine.limits, clock.now)
                return strict(destination_id, source)
            return decided

        forwarder.resolve = resolve  # type: ignore[method-assign]
        return actor


def nothing(*_: object) -> None:
    pass


class NeverUnbinds(Cast):
    """Who has moved on may send from where he was, and whoever has that address since."""

    def relay(self, limits: RelayLimits | None = None) -> RelayActor:
        actor = super().relay(limits)
        actor.machine._registrar._unbind = nothing  # type: ignore[assignment,method-assign]
        return actor


class _Paths(Cast):
    """The relay's connections have something wrong with their paths."""

    def relay(self, limits: RelayLimits | None = None) -> RelayActor:
        actor = super().relay(limits)
        machine = actor.machine
        once = machine.receive_datagram

        def receive_datagram(data: bytes, source: TransportAddress, now: float) -> None:
            once(data, source, now)
            for client in machine._clients:
                for path in client.quic._network_paths:
                    self.spoil(path)

        machine.receive_datagram = receive_datagram  # type: ignore[method-assign]
        return actor

    def spoil(self, path: QuicNetworkPath) -> None:
        raise NotImplementedError


class TakesAllForValidated(_Paths):
    def spoil(self, path: QuicNetworkPath) -> None:
        path.is_validated = True


class CountsTooMuch(_Paths):
    """As received, so that there is no limit to what may be sent."""

    def spoil(self, path: QuicNetworkPath) -> None:
        path.bytes_received += 1_000_000


class NeverWaits(_Paths):
    """The limit is kept, but nobody knows: aioquic asks ``can_send`` only for when to try again."""

    def spoil(self, path: QuicNetworkPath) -> None:
        # But for a connection's last words, which go out within the limit or not at all.
        path.can_send = lambda size: size > 0 or QuicNetworkPath.can_send(path, size)  # type: ignore[method-assign]


class TimerStandsStill(_Dialer):
    def dialer(self, publish: Callable[[bytes], None], hand_out: HandOut) -> tuple[PeerActor, Pipe]:
        actor, pipe = Cast.dialer(self, publish, hand_out)
        began_s = self._clock.now
        actor.machine.get_timer = lambda: began_s  # type: ignore[method-assign]
        return actor, pipe


class NeverReturns(Cast):
    """Where the direct path has died, the dialer stays there."""

    def dialer(self, publish: Callable[[bytes], None], hand_out: HandOut) -> tuple[PeerActor, Pipe]:
        actor, pipe = super().dialer(publish, hand_out)
        actor.machine._return_to_relay = lambda now: None  # type: ignore[method-assign] # noqa: ARG005
        return actor, pipe
