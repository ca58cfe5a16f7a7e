"""What whoever drives a machine calls, a shell or a simulator: aioquic's calls, less events, which
are for whoever owns the machine."""

from typing import Protocol, runtime_checkable

from quicpipe_lab.model.address import TransportAddress


class Machine(Protocol):
    """Has one socket and one timer."""

    def receive_datagram(self, data: bytes, source: TransportAddress, now: float, /) -> None: ...
    def datagrams_to_send(self, now: float, /) -> list[tuple[bytes, TransportAddress]]: ...
    def get_timer(self) -> float | None: ...
    def handle_timer(self, now: float, /) -> None: ...


@runtime_checkable
class Searcher(Protocol):
    """What a machine that may need further sockets has besides; see endpoint.py."""

    def receive_datagram(
        self, data: bytes, source: TransportAddress, now: float, via: int = 0, /
    ) -> None: ...
    def extra_datagrams_to_send(self) -> list[tuple[int, bytes, TransportAddress]]: ...
    @property
    def extra_sockets(self) -> frozenset[int]: ...
