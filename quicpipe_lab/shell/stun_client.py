"""A UDP socket that asks STUN questions: what NatProber's tests are made of. Blocking.

``ask`` wants an answer and sends again until it has one. ``provoke`` has the server send something
that the NAT may stop. Whether it came is told once something that the NAT lets in has come, which
was sent behind it: never by waiting for a time alone.
"""

from dataclasses import dataclass
from types import TracebackType

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.shell.prober_means import REAL, DatagramSocket, Means
from quicpipe_lab.shell.stun import (
    BindingAnswer,
    BindingError,
    BindingRequest,
    decode,
)

_DATAGRAM_BYTES = 2048


@dataclass(frozen=True, slots=True)
class Timing:
    """``first_wait_s`` before a question is repeated, doubled each time, ``tries`` in all, the last
    of them with 16 times the first wait at most (RFC 8489, 6.2.1: Rm).

    ``repeats``: packets in each but the first of them. Losses may come in bursts, and a burst does
    not end by waiting, where it is the packets that it is counted in (model/link_odds.py).
    ``rounds``: how often the server is asked for what may be filtered, with ``copies`` of the
    question each time, as some may be lost. Between rounds an answer has come.
    ``in_a_row``: packets where none is answered in between.
    ``grace``: how many round trips, and ``grace_s`` how long at least, something may come late that
    another packet has overtaken.
    ``slowest_s``: the longest round trip to allow for where none can be measured.
    """

    first_wait_s: float
    tries: int
    rounds: int
    copies: int
    grace: float
    grace_s: float
    slowest_s: float
    repeats: int = 1
    in_a_row: int = 1


PLAIN = Timing(0.2, tries=4, rounds=1, copies=1, grace=1.0, grace_s=0.002, slowest_s=0.0)
"""For a lab's plain links, which lose, delay and reorder nothing; tries are for a busy machine."""
DELAYED = Timing(0.5, tries=5, rounds=1, copies=1, grace=0.1, grace_s=0.01, slowest_s=1.5)
"""For a lab's links that take time, and lose and reorder nothing."""
LOSSY = Timing(0.5, tries=7, rounds=2, copies=4, grace=1.0, grace_s=0.1, slowest_s=1.5, in_a_row=8)
"""For the internet; RFC 8489, 6.2.1 has 0.5 s and 7 tries, 39.5 s in all. A lab's links that lose
are known, and get what they need beside it (nat_timing.py)."""
_LAST_WAIT = 16

_Answer = tuple[BindingAnswer | BindingError, TransportAddress]
"""And where it came from."""


class NoAnswerError(QuicpipeLabError):
    """The server is silent."""


class RefusedError(QuicpipeLabError):
    """The server cannot do what it was asked for."""


class StunClient:
    """One socket; a context manager. ``requests``: transactions that came as requests, from whom.

    (Those are one's own, sent to a NAT that turned them round.)
    """

    def __init__(self, sock: DatagramSocket, timing: Timing, means: Means = REAL) -> None:
        self.requests: dict[bytes, TransportAddress] = {}
        self._sock = sock
        self._timing = timing
        self._means = means
        self._answers: dict[bytes, _Answer] = {}
        self._rtt_s = 0.0

    def __enter__(self) -> "StunClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """No more answers."""
        self._sock.close()

    @property
    def port(self) -> int:
        """The inside port."""
        port: int = self._sock.getsockname()[1]
        return port

    def ask(self, server: TransportAddress) -> BindingAnswer:
        """An answer by all means. Raises NoAnswerError, RefusedError."""
        request = BindingRequest(self._means.transaction())
        wait_s = self._timing.first_wait_s
        for left in reversed(range(self._timing.tries)):
            if left == 0:
                wait_s = min(wait_s, _LAST_WAIT * self._timing.first_wait_s)
            sent_s = self._means.now_s()
            for _ in range(1 if left == self._timing.tries - 1 else self._timing.repeats):
                self.send(request, server)
            self._listen(sent_s + wait_s, request.transaction)
            answer = self._answer(request, server)
            if answer is not None:
                self._rtt_s = max(self._rtt_s, self._means.now_s() - sent_s)
                return answer
            wait_s *= 2
        raise NoAnswerError(f"{server} does not answer")

    def provoke(
        self,
        server: TransportAddress,
        *,
        change_address: bool = False,
        change_port: bool = False,
        response_port: int | None = None,
        target: "StunClient | None" = None,
    ) -> bool:
        """Whether what the server was made to send came, to ``target`` or here. Raises as ask."""
        receiver = target or self
        request = BindingRequest(
            self._means.transaction(), change_address, change_port, response_port
        )
        for _ in range(self._timing.rounds):
            for _ in range(self._timing.copies):
                self.send(request, server)
            self.ask(server)
            receiver.settle(request.transaction, self._rtt_s)
            if self._answer(request, server) is not None and receiver is not self:
                raise RefusedError(f"{server} takes no notice of RESPONSE-PORT")
            if receiver.has_answer(request.transaction):
                return True
        return False

    def _answer(self, request: BindingRequest, server: TransportAddress) -> BindingAnswer | None:
        """What came. Raises RefusedError where that is not what was asked for."""
        if request.transaction not in self._answers:
            return None
        answer, source = self._answers[request.transaction]
        if isinstance(answer, BindingError):
            raise RefusedError(f"{server} refuses: {answer.code} {answer.reason}")
        if (request.change_address or request.change_port) and source == server:
            raise RefusedError(f"{server} takes no notice of CHANGE-REQUEST")
        return answer

    def has_answer(self, transaction: bytes) -> bool:
        """To what was sent with ``send``, as far as ``settle`` has seen."""
        return transaction in self._answers

    def send(self, request: BindingRequest, target: TransportAddress) -> None:
        """Send a request once."""
        try:
            self._sock.sendto(request.encode(), target)
        except OSError as error:
            raise NoAnswerError(f"{target} cannot be reached: {error.strerror}") from None

    def settle(self, awaited: bytes, rtt_s: float | None = None, least_s: float = 0.0) -> None:
        """Take what is there and what comes within the grace time; no longer than ``awaited``."""
        rtt_s = self._rtt_s if rtt_s is None else rtt_s
        grace_s = max(self._timing.grace_s, self._timing.grace * rtt_s, least_s)
        self._listen(self._means.now_s() + grace_s, awaited)

    def _listen(self, end_s: float, awaited: bytes) -> None:
        """Until an answer or a request with this transaction has come, or the time is over."""
        while awaited not in self._answers and awaited not in self.requests:
            self._sock.settimeout(max(0.0, end_s - self._means.now_s()))
            try:
                datagram, (host, port, *_) = self._sock.recvfrom(_DATAGRAM_BYTES)
            except (BlockingIOError, TimeoutError):
                return
            except ConnectionRefusedError as error:
                # A hard ICMP error ends it (RFC 8489, 6.2.1). Connected sockets alone hear of it.
                raise NoAnswerError(f"nobody is there: {error.strerror}") from None
            except OSError:  # an ICMP error about something that was sent
                continue
            message = decode(datagram)
            if isinstance(message, BindingRequest):
                self.requests[message.transaction] = TransportAddress(host, port)
            elif message is not None:
                self._answers[message.transaction] = message, TransportAddress(host, port)
