"""Makes the actors of a scenario: machines configured as the programs' command lines would."""

from collections.abc import Callable
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from aioquic.quic.logger import QuicLogger

from quicpipe_lab.backends.carried import RELAY_PORT
from quicpipe_lab.backends.journal import Journal
from quicpipe_lab.backends.sim.actor import Ended, PeerActor, RelayActor
from quicpipe_lab.backends.sim.application import Echo, Pipe
from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.driver import Driver, Watch
from quicpipe_lab.backends.sim.identities import identity
from quicpipe_lab.backends.sim.network import Network
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.event import Event
from quicpipe_lab.model.scenario import Scenario
from quicpipe_lab.protocol.accepter import Accepter, AccepterConfig
from quicpipe_lab.protocol.dialer import Dialer, DialerConfig
from quicpipe_lab.protocol.port_search import SearchLimits
from quicpipe_lab.protocol.quic import RandomBytes
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_leg import RelayTrust, relay_configuration
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.protocol.wire import Envelope
from quicpipe_lab.shell.certificates import fingerprint


@dataclass(slots=True)
class Traces:
    """What a node leaves for Wireshark and qvis."""

    keylog: StringIO = field(default_factory=StringIO)
    qlog: QuicLogger | None = None


class Cast:
    """``traces`` are by node, as far as an actor was there."""

    def __init__(
        self,
        scenario: Scenario,
        network: Network,
        journal: Journal,
        random: RandomBytes,
        ended: Ended,
        *,
        with_qlog: bool,
        watch: Watch | None = None,
    ) -> None:
        self._watch = watch
        self.traces: dict[str, Traces] = {}
        self._relay_addresses = [TransportAddress(one, RELAY_PORT) for one in scenario.relay_hosts]
        self._scenario = scenario
        self._network = network
        self._clock: Clock = network.clock
        self._journal = journal
        self._random = random
        self._ended = ended
        self._with_qlog = with_qlog
        self._relay_identity = identity(scenario.seed, "relay")
        self._accepter_identity = identity(scenario.seed, "accepter")

    def relay(self, limits: RelayLimits | None = None) -> RelayActor:
        """Ready at once; made anew, it is the same one, restarted."""
        node = self._scenario.relay
        certificate, private_key = self._relay_identity
        traces = self._traces_of(node)
        machine = Relay(
            certificate=certificate,
            private_key=private_key,
            random=self._random,
            own_addresses=set(self._relay_addresses),
            limits=limits,
            qlog=traces.qlog,
            keylog=traces.keylog,
        )
        first, *others = self._relay_addresses
        bound = None if others else first.host
        driver = self._driver(node, RELAY_PORT, bound)
        actor = RelayActor(machine, node, **self._shared(driver))
        self._ready(
            node,
            address=str(first),
            fingerprint=fingerprint(certificate),
            pid=None,
        )
        return actor

    def announce_accepter(self) -> None:
        """It is ready, and waits for what comes out of band before it opens a socket."""
        certificate, _ = self._accepter_identity
        self._ready(self._scenario.accepter, fingerprint=fingerprint(certificate))

    def accepter(self, message: bytes) -> PeerActor:
        """The message has come."""
        node = self._scenario.accepter
        driver = self._driver(node)
        certificate, private_key = self._accepter_identity
        machine = Accepter(
            AccepterConfig(
                **self._config(node, driver), certificate=certificate, private_key=private_key
            )
        )
        packet = Envelope.loads(message).packet
        return PeerActor(
            "accept", machine, Echo(machine), node, packet=packet, **self._shared(driver)
        )

    def dialer(
        self, publish: Callable[[bytes], None], hand_out: Callable[[bytes], None]
    ) -> tuple[PeerActor, Pipe]:
        """``publish`` gets its message for out of band, ``hand_out`` what comes back."""
        node = self._scenario.dialer
        driver = self._driver(node)
        certificate, _ = self._accepter_identity
        machine = Dialer(
            DialerConfig(**self._config(node, driver), peer_fingerprint=fingerprint(certificate))
        )
        pipe = Pipe(machine, hand_out)

        def initial_ready(packet: bytes) -> None:
            publish((Envelope(packet, str(self._relay_of(node))).dumps() + "\n").encode())

        actor = PeerActor(
            "dial", machine, pipe, node, initial_ready=initial_ready, **self._shared(driver)
        )
        return actor, pipe

    # Parts

    def _driver(self, node: str, port: int = 0, address: str | None = None) -> Driver:
        host = self._network.host(node)
        return Driver(self._clock, host, port, address, watch=self._watch)

    def _relay_of(self, peer: str) -> TransportAddress:
        return TransportAddress(self._scenario.relay_host(peer), RELAY_PORT)

    def _config(self, node: str, driver: Driver) -> dict[str, Any]:
        """What both peers are told. The relay is pinned, as a scenario's programs are told to."""
        traces = self._traces_of(node)
        relay = self._relay_of(node)
        certificate, _ = self._relay_identity
        host = self._network.host(node)
        # None behind a NAT64: an IPv4 peer could use none of them.
        has_own = any((":" in one) == (":" in relay.host) for one in host.addresses)
        own = [host.source_towards(relay.host)] if has_own else []
        return {
            "relay": relay,
            "relay_authority": str(relay),
            "relay_trust": RelayTrust(fingerprint=fingerprint(certificate)),
            "relay_quic": relay_configuration(relay.host, traces.qlog, traces.keylog),
            "random": self._random,
            "host_addresses": [TransportAddress(one, driver.port) for one in own],
            "direct_after_bytes": self._scenario.direct_after_bytes,
            "search": SearchLimits() if self._scenario.search else None,
            "qlog": traces.qlog,
            "keylog": traces.keylog,
        }

    def _traces_of(self, node: str) -> Traces:
        qlog = QuicLogger() if self._with_qlog else None
        return self.traces.setdefault(node, Traces(qlog=qlog))

    def _shared(self, driver: Driver) -> dict[str, Any]:
        return {
            "driver": driver,
            "clock": self._clock,
            "journal": self._journal,
            "ended": self._ended,
        }

    def _ready(self, node: str, **data: Any) -> None:
        self._journal.take(Event(self._clock.now, node, "ready", data))
