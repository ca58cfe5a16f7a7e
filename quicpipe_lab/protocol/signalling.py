"""How the peers arrange to punch at the same time: messages on their control streams.

The dialer begins each round, the accepter answers it. Whatever the other side sends, it makes us
punch no oftener than an honest peer would.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.candidates import acceptable, own_candidates, search_target
from quicpipe_lab.protocol.control import (
    ControlReader,
    MovedMessage,
    PunchMessage,
    SearchMessage,
)
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


@dataclass(frozen=True, slots=True)
class Moved:
    """The other side is seen elsewhere than where its round said. ``theirs``: none where we would
    not punch at it. ``search_at``: see Round."""

    theirs: tuple[TransportAddress, ...]
    search_at: TransportAddress | None


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
        self._told: TransportAddress | None = None
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

    def moved(self, observed: TransportAddress | None) -> bytes:
        """The message that says where we are seen now; b"" where the other side knows it, or was
        never told."""
        if observed is None or self._told is None or observed == self._told:
            return b""
        self._told = observed
        return MovedMessage(observed).encode()

    def receive(
        self, data: bytes, observed: TransportAddress | None, now: float
    ) -> list[Round | Search | Moved]:
        """The rounds and searches that the other side opens or answers, and where it is meanwhile.
        Raises RemoteProtocolError."""
        taken: list[Round | Search | Moved | None] = []
        for message in self._reader.feed(data):
            match message:
                case PunchMessage():
                    taken.append(self._take(message, observed, now))
                case SearchMessage():
                    taken.append(self._take_search(message))
                case MovedMessage(theirs):
                    there = self._acceptable((theirs,), observed, theirs)
                    taken.append(Moved(there, self._search_at(theirs)))
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
        theirs = self._acceptable(message.candidates, observed, message.observed)
        self._both_willing = self._willing and message.search
        search_at = self._search_at(message.observed)
        return Round(message.round, key, self._ours(observed), theirs, answer, search_at)

    def _acceptable(
        self,
        theirs: Sequence[TransportAddress],
        our_observed: TransportAddress | None,
        their_observed: TransportAddress | None,
    ) -> tuple[TransportAddress, ...]:
        return acceptable(
            theirs, relay=self._relay, our_observed=our_observed, their_observed=their_observed
        )

    def _search_at(self, their_observed: TransportAddress | None) -> TransportAddress | None:
        if not self._both_willing:
            return None
        return search_target(their_observed, relay=self._relay)

    def _ours(self, observed: TransportAddress | None) -> tuple[TransportAddress, ...]:
        return own_candidates(self._host_addresses, observed)

    def _message(self, number: int, key: bytes, observed: TransportAddress | None) -> bytes:
        ours = self._ours(observed)
        self._told = observed
        return PunchMessage(number, key, ours, observed, self._willing).encode()
