"""A dialer, an accepter and a relay in the virtual world, wired up and ready to be run."""

import random
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.protocol.accepter import Accepter, AccepterConfig
from quicpipe_lab.protocol.dialer import Dialer, DialerConfig
from quicpipe_lab.protocol.endpoint import Endpoint
from quicpipe_lab.protocol.events import (
    Closed,
    Connected,
    EndpointEvent,
    InitialReady,
    PathChanged,
    StreamData,
)
from quicpipe_lab.protocol.port_search import SearchLimits
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.relay_leg import RelayTrust
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.shell.certificates import fingerprint, identity
from tests.protocol.world import Site, TestNat, World

RELAY = TransportAddress("198.51.100.1", 4433)
DELAY_S = {
    frozenset(("alice", "relay")): 0.040,
    frozenset(("bob", "relay")): 0.040,
    frozenset(("alice", "bob")): 0.015,
}
"""One way, as in the study that the design builds on."""

CERTIFICATE, PRIVATE_KEY = identity(None, "test", ephemeral=True)
FINGERPRINT = fingerprint(CERTIFICATE)

E = TypeVar("E", bound=EndpointEvent)


@dataclass
class Received:
    """What one side has heard: events, and bytes by stream."""

    events: list[EndpointEvent] = field(default_factory=list)
    data: dict[int, bytes] = field(default_factory=dict)

    def of(self, kind: type[E]) -> list[E]:
        return [event for event in self.events if isinstance(event, kind)]


class Pair:
    """``alice`` dials ``bob``. The out-of-band channel takes ``oob_delay_s``.

    ``search``: both would search ports, but for the ``unwilling``."""

    def __init__(
        self,
        nat_a: NatBehavior | None = None,
        nat_b: NatBehavior | None = None,
        *,
        seed: int = 1,
        oob_delay_s: float = 0.5,
        search: SearchLimits | None = None,
        unwilling: str = "",
        **dialer: Any,
    ) -> None:
        self.world = World(lambda one, other: DELAY_S[frozenset((one, other))])
        self.random = random.Random(seed)
        self.replace_relay()
        self.oob_delay_s = oob_delay_s
        self.echoing = True
        self.received = {"alice": Received(), "bob": Received()}
        address_a = TransportAddress("192.168.1.2", 5000) if nat_a else None
        address_b = TransportAddress("192.168.1.3", 6000) if nat_b else None
        address_a = address_a or TransportAddress("203.0.113.10", 5000)
        address_b = address_b or TransportAddress("203.0.113.20", 6000)
        given: dict[str, Any] = {"peer_fingerprint": FINGERPRINT} | dialer
        given["search"] = None if unwilling == "alice" else search
        self.dialer = Dialer(DialerConfig(**self._shared(address_a) | given))
        self.accepter = Accepter(
            AccepterConfig(
                **self._shared(address_b),
                certificate=CERTIFICATE,
                private_key=PRIVATE_KEY,
                search=None if unwilling == "bob" else search,
            )
        )
        for name, machine, address, nat in (
            ("alice", self.dialer, address_a, nat_a),
            ("bob", self.accepter, address_b, nat_b),
        ):
            host = {"alice": "203.0.113.1", "bob": "203.0.113.2"}[name]
            self.world.add(
                Site(
                    name,
                    _Heard(self, name, machine),
                    address,
                    TestNat(nat, host, seed) if nat else None,
                )
            )

    def _shared(self, address: TransportAddress) -> dict[str, Any]:
        return {
            "relay": RELAY,
            "relay_authority": "relay:4433",
            "relay_trust": RelayTrust(FINGERPRINT),
            "random": self.random.randbytes,
            "host_addresses": (address,),
        }

    def replace_relay(self, limits: RelayLimits | None = None) -> None:
        """A relay that knows nobody, at the relay's address."""
        self.relay = Relay(
            certificate=CERTIFICATE,
            private_key=PRIVATE_KEY,
            random=self.random.randbytes,
            own_addresses=(RELAY,),
            limits=limits,
        )
        self.world.add(Site("relay", self.relay, RELAY))

    def start(self) -> "Pair":
        """Both set out; the first packet is carried once the dialer has it."""
        self.dialer.start(self.world.now)
        self.accepter.start(self.world.now)
        self.world.pump("alice")
        self.world.pump("bob")
        return self

    def connect(self) -> "Pair":
        """Start, and run until both are connected through the relay."""
        self.start()
        assert self.world.run(self.oob_delay_s + 5, lambda: self.both(Connected))
        return self

    def run_until_direct(self, seconds: float = 10) -> bool:
        return self.world.run(seconds, lambda: self.dialer.is_direct and self.accepter.is_direct)

    def both(self, kind: type[EndpointEvent]) -> bool:
        return all(heard.of(kind) for heard in self.received.values())

    def send(self, data: bytes, stream_id: int = 0, end: bool = False) -> None:
        self.dialer.send_stream_data(stream_id, data, end)
        self.world.pump("alice")

    def echoed(self, data: bytes, seconds: float = 60) -> bool:
        """Send on stream 0 and wait for the echo of just these bytes."""
        before = self.received["alice"].data.get(0, b"")
        self.send(data)
        wanted = before + data
        heard = self.received["alice"].data
        done = self.world.run(seconds, lambda: len(heard.get(0, b"")) >= len(wanted))
        return done and heard[0] == wanted

    def take(self, name: str, machine: Endpoint) -> None:
        """Hear what a machine has to say; carry its packet; echo at bob."""
        heard = self.received[name]
        while (event := machine.next_event()) is not None:
            if isinstance(event, StreamData):
                heard.data[event.stream_id] = heard.data.get(event.stream_id, b"") + event.data
                if name == "bob" and self.echoing:
                    machine.send_stream_data(event.stream_id, event.data, event.ended)
                continue
            heard.events.append(event)
            if isinstance(event, InitialReady):
                self.world.at(self.oob_delay_s, partial(self._accept, event.packet))

    def _accept(self, packet: bytes) -> None:
        self.accepter.accept(packet, self.world.now)
        self.world.pump("bob")


class _Heard:
    """A machine whose events are taken after each call, before it sends."""

    def __init__(self, pair: Pair, name: str, machine: Endpoint) -> None:
        self._pair, self._name, self._machine = pair, name, machine

    def receive_datagram(
        self, data: bytes, source: TransportAddress, now: float, via: int = 0
    ) -> None:
        self._machine.receive_datagram(data, source, now, via)
        self._pair.take(self._name, self._machine)

    def handle_timer(self, now: float) -> None:
        self._machine.handle_timer(now)
        self._pair.take(self._name, self._machine)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, TransportAddress]]:
        self._pair.take(self._name, self._machine)
        return self._machine.datagrams_to_send(now)

    def extra_datagrams_to_send(self) -> list[tuple[int, bytes, TransportAddress]]:
        return self._machine.extra_datagrams_to_send()

    @property
    def extra_sockets(self) -> frozenset[int]:
        return self._machine.extra_sockets

    def get_timer(self) -> float | None:
        return self._machine.get_timer()


__all__ = ["CERTIFICATE", "FINGERPRINT", "PRIVATE_KEY", "RELAY", "Closed", "Pair", "PathChanged"]
