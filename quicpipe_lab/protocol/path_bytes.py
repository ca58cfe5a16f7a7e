"""How many bytes of the connection between the peers took which path."""

from dataclasses import dataclass


@dataclass(slots=True)
class PathBytes:
    """UDP payload bytes of the peer connection, sent and received."""

    relayed: int = 0
    direct: int = 0

    def count(self, size_bytes: int, *, direct: bool) -> None:
        """One more datagram."""
        if direct:
            self.direct += size_bytes
        else:
            self.relayed += size_bytes
