"""How the peers arrange to punch at the same time: messages on their control streams.

The dialer begins each round, the accepter answers it. Whatever the other side sends, it makes us
punch no oftener than an honest peer would.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.candidates import acceptable, own_candidates, search_target
from quicpipe_lab.protocol.control import ControlReader, PunchMessage, SearchMessage
from quicpipe_lab.protocol.port_search import Offer
from quicpipe_lab.protocol.quic import RandomBytes
from quicpipe_lab.protocol.wire import PUNCH_KEY_LENGTH

MIN_ROUND_S = 0.5
"""An accepter takes part in no more rounds than this: half of the first wait between two
(DirectTiming.retry_s). A round is up to 120 datagrams to addresses that the dialer named."""


@dataclass(frozen=True, slots=True)
class Round:
    """Both sides' candidates are known. ``answer``: what the other side is to be told, or b""."""

    number: int
    key: bytes
    ours: tuple[TransportAddress, ...]
    theirs: tuple[TransportAddress, ...]
    answer: bytes
    search_at: TransportAddress | None = None
    """Where a port search may go; None where one side wants none, or there is nowhere to go."""


@dataclass(frozen=True, slots=True)
class Search:
    """The other side would search the ports now, and do this. ``number``: of the round."""

    number: int
    theirs: Offer


class Signalling:
    """One side's part of the rounds; ``observed`` is where the relay sees us at the time."""

    def __init__(
        self,
        *,
        is_dialer: bool,
        relay: TransportAddress,
        host_addresses: Sequence[TransportAddress],
        random: RandomBytes,
        search: bool = False,
    ) -> None:
        self._is_dialer = is_dialer
        self._relay = relay
        self._host_addresses = host_addresses
        self._random = random
        self._willing = search
        self._both_willing = False
        self._reader = ControlReader()
        self._key: bytes | None = None
        self._sent_round = 0
        self._heard_round = 0
        self._heard_at: float | None = None
        self._sent_search = 0
        self._heard_search = 0

    @property
    def their_stream(self) -> int:
        """The other side's first unidirectional stream (RFC 9000, 2.1)."""
        return 3 if self._is_dialer else 2

    @property
    def has_begun(self) -> bool:
        """Whether the first round has been opened."""
        return self._key is not None

    def begin(self, number: int, observed: TransportAddress | None) -> bytes:
        """Dialer: the message that opens a round; numbers rise."""
        if self._key is None:
            self._key = self._random(PUNCH_KEY_LENGTH)
        self._sent_round = number
        return self._message(number, self._key, observed)

    def search(self, number: int, offer: Offer) -> bytes:
        """The message that says that we would search after a round, or agrees to do so."""
        self._sent_search = number
        return SearchMessage(number, offer).encode()

    def receive(
        self, data: bytes, observed: TransportAddress | None, now: float
    ) -> list[Round | Search]:
        """The rounds and searches that the other side opens or answers. Raises
        RemoteProtocolError."""
        taken: list[Round | Search | None] = []
        for message in self._reader.feed(data):
            if isinstance(message, PunchMessage):
                taken.append(self._take(message, observed, now))
            else:
                taken.append(self._take_search(message))
        return [one for one in taken if one is not None]

    def _take_search(self, message: SearchMessage) -> Search | None:
        """One for each round, and only where both sides have said in it that they are willing."""
        expected = self._sent_search if self._is_dialer else self._heard_round
        is_new = message.round == expected and message.round > self._heard_search
        if not self._both_willing or not is_new:
            return None
        self._heard_search = message.round
        return Search(message.round, message.offer)

    def _take(
        self, message: PunchMessage, observed: TransportAddress | None, now: float
    ) -> Round | None:
        if message.round <= self._heard_round:
            return None  # each round has one message from each side
        answer = b""
        if self._is_dialer:
            if self._key is None or message.round > self._sent_round:
                return None  # an answer to what was never asked
            key = self._key
        else:
            if self._heard_at is not None and now < self._heard_at + MIN_ROUND_S:
                return None
            key = message.key
            answer = self._message(message.round, key, observed)
        self._heard_round, self._heard_at = message.round, now
        theirs = acceptable(
            message.candidates,
            relay=self._relay,
            our_observed=observed,
            their_observed=message.observed,
        )
        self._both_willing = self._willing and message.search
        search_at = None
        if self._both_willing:
            search_at = search_target(message.observed, relay=self._relay)
        return Round(message.round, key, self._ours(observed), theirs, answer, search_at)

    def _ours(self, observed: TransportAddress | None) -> tuple[TransportAddress, ...]:
        return own_candidates(self._host_addresses, observed)

    def _message(self, number: int, key: bytes, observed: TransportAddress | None) -> bytes:
        ours = self._ours(observed)
        return PunchMessage(number, key, ours, observed, self._willing).encode()
