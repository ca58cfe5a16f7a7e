"""What the programs ``dial --pipe`` and ``accept --echo`` do with their stream, without asyncio:
shell/pipe.py and shell/peer.py with the waiting turned inside out.

``move`` goes on as far as it can; whoever drives the machine calls it again after every turn.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

from quicpipe_lab.backends.transfer import Transfer
from quicpipe_lab.protocol.endpoint import Endpoint
from quicpipe_lab.protocol.events import Closed
from quicpipe_lab.protocol.pacing import CHUNK_BYTES, HIGH_WATER_BYTES, READ_AHEAD_BYTES


class Application(ABC):
    """One stream. ``is_over`` once all was said, both ways, and acknowledged; ``problem`` is a
    line for a person where it will not come to that."""

    def __init__(self, machine: Endpoint) -> None:
        self.problem: str | None = None
        self._machine = machine
        self._stream_id: int | None = None
        self._inbox = bytearray()
        self._has_end = False
        self._end_was_sent = False
        self._is_paused = False
        self._closed: Closed | None = None
        self._has_moved = False

    def move(self) -> bool:
        """Whether the machine has something to send now that it had not before."""
        self._has_moved = False
        self._go_on()
        return self._has_moved

    @property
    def is_over(self) -> bool:
        """See the class."""
        if not self._has_end or self._inbox:
            return False
        return self._closed is not None or (self._end_was_sent and self._unacknowledged == 0)

    # What the machine reports

    def connected(self) -> None:  # noqa: B027 (whoever waits for a stream has nothing to do)
        """With the peer."""

    def take(self, stream_id: int, data: bytes, ended: bool) -> None:
        """The peer sent something."""
        if self._stream_id is None and not stream_id & 2:
            self._stream_id = stream_id
        if stream_id != self._stream_id:
            return  # unidirectional (RFC 9000, 2.1): there is nobody here for it
        self._inbox += data
        self._has_end = self._has_end or ended
        # As asyncio's StreamReader does with its transport.
        if len(self._inbox) > 2 * READ_AHEAD_BYTES and not self._is_paused:
            self._is_paused = True
            self._machine.pause_stream(stream_id)

    def broken(self, stream_id: int, error_code: int) -> None:
        """The peer gave the stream up."""
        if stream_id == self._stream_id and not self._has_end:
            self.problem = f"the peer gave the stream up (error {error_code:#x})"

    def refused(self, stream_id: int, error_code: int) -> None:
        """The peer takes nothing more."""
        if stream_id == self._stream_id:
            self.problem = f"the peer wants no more of the stream (error {error_code:#x})"

    def closed(self, event: Closed) -> None:
        """The connection is over. Some end it where they might have ended the stream."""
        self._closed = event
        if self._stream_id is None or (event.error_code and not self._has_end):
            self.problem = event.describe()
        self._has_end = True

    # Parts

    @abstractmethod
    def _go_on(self) -> None:
        """Read, and write while that may be."""

    @property
    def _unacknowledged(self) -> int:
        assert self._stream_id is not None
        return self._machine.unacknowledged_bytes(self._stream_id)

    @property
    def _may_write(self) -> bool:
        return (
            self._stream_id is not None
            and self._closed is None
            and not self._end_was_sent
            and self._unacknowledged < HIGH_WATER_BYTES
        )

    def _write(self, data: bytes, end: bool = False) -> None:
        assert self._stream_id is not None
        self._machine.send_stream_data(self._stream_id, data, end)
        self._end_was_sent = end
        self._has_moved = True

    def _read(self) -> bytes:
        """A chunk of what has come, or nothing."""
        data = bytes(self._inbox[:CHUNK_BYTES])
        del self._inbox[: len(data)]
        if self._is_paused and len(self._inbox) <= READ_AHEAD_BYTES:
            self._is_paused, self._has_moved = False, True
            assert self._stream_id is not None
            self._machine.resume_stream(self._stream_id)
        return data


class Echo(Application):
    """Sends back what comes, until its end."""

    def _go_on(self) -> None:
        while self._may_write and self._inbox:
            self._write(self._read())
        if self._may_write and self._has_end:
            self._write(b"", end=True)
        if self._closed is not None and self._inbox:
            self.problem = self.problem or self._closed.describe()


class Pipe(Application):
    """Sends what it is fed, and hands out what comes back."""

    def __init__(self, machine: Endpoint, hand_out: Callable[[bytes], None]) -> None:
        super().__init__(machine)
        self._hand_out = hand_out
        self._feeding: Transfer | None = None
        self._input_ended = False

    def feed(self, transfer: Transfer) -> None:
        """Take a transfer's bytes from now on. ``move`` comes next."""
        self._feeding = transfer

    def end_input(self) -> None:
        """Nothing more will be fed. ``move`` comes next."""
        self._input_ended = True

    def connected(self) -> None:
        """See Application.connected."""
        self._stream_id = self._machine.open_stream()

    def _go_on(self) -> None:
        while self._inbox:
            self._hand_out(self._read())
        feeding = self._feeding
        while self._may_write and feeding is not None and not feeding.is_sent:
            chunk = bytes(feeding.next_chunk())
            self._write(chunk)
            feeding.sent_bytes += len(chunk)
        if self._may_write and self._input_ended and (feeding is None or feeding.is_sent):
            self._write(b"", end=True)
