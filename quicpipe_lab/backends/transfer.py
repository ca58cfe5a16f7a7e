"""The data of a run: seeded bytes into the dialer's standard input, the echo compared byte by byte.

The check stands outside the programs that it checks: a byte lost, repeated or altered on any path
shows here.
"""

import random
from dataclasses import dataclass

from quicpipe_lab.protocol.pacing import CHUNK_BYTES


class EchoMismatchError(Exception):
    """What came back is not what was sent; the text says where."""

    invariant = "data"


@dataclass
class Transfer:
    """One transfer of ``size_bytes`` each way. ``longest_gap_s``: without a new echoed byte, since
    the transfer began at ``last_echo_s``."""

    size_bytes: int
    seed: str
    last_echo_s: float
    sent_bytes: int = 0
    echoed_bytes: int = 0
    longest_gap_s: float = 0.0

    def __post_init__(self) -> None:
        self._payload = memoryview(random.Random(self.seed).randbytes(self.size_bytes))

    @property
    def is_sent(self) -> bool:
        """Whether every byte went into the dialer."""
        return self.sent_bytes == self.size_bytes

    @property
    def is_complete(self) -> bool:
        """Whether every byte came back."""
        return self.echoed_bytes == self.size_bytes

    def next_chunk(self) -> memoryview:
        """What is to be sent next; add what was taken of it to ``sent_bytes``."""
        return self._payload[self.sent_bytes : self.sent_bytes + CHUNK_BYTES]

    def take(self, data: bytes, now: float) -> None:
        """Compare what came back. Raises EchoMismatchError."""
        end = self.echoed_bytes + len(data)
        if end > self.size_bytes:
            raise EchoMismatchError(f"{end - self.size_bytes} bytes more came back than were sent")
        if self._payload[self.echoed_bytes : end] != data:
            expected = self._payload[self.echoed_bytes : end]
            offset = next(i for i, byte in enumerate(data) if byte != expected[i])
            raise EchoMismatchError(f"byte {self.echoed_bytes + offset} came back altered")
        self.longest_gap_s = max(self.longest_gap_s, now - self.last_echo_s)
        self.last_echo_s = now
        self.echoed_bytes = end
