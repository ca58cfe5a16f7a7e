"""An endpoint's connection with the relay: HTTP/3 from the very socket that the peer uses.

It registers our connection IDs, tops them up, and is kept warm so that the NAT's mapping towards
the relay stays open: the relay is the fallback, always.
"""

import ipaddress
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TextIO

from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import (
    ConnectionTerminated,
    HandshakeCompleted,
    PingAcknowledged,
    StreamReset,
)
from aioquic.quic.logger import QuicLogger

from quicpipe_lab.errors import RemoteProtocolError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol import http3
from quicpipe_lab.protocol.connection_id import KEY_LENGTH, ConnectionIdGenerator
from quicpipe_lab.protocol.error_names import transport_error
from quicpipe_lab.protocol.events import (
    EndpointEvent,
    MailboxAnswered,
    RelayLost,
    RelayRefused,
    RelayRegistered,
)
from quicpipe_lab.protocol.quic import Connection, RandomBytes
from quicpipe_lab.protocol.quic_configuration import standard_configuration
from quicpipe_lab.protocol.wire import (
    OBSERVED_ADDRESS_HEADER,
    REGISTER_PATH,
    Registration,
    encode_registration,
    parse_invariants,
)

KEEPALIVE_S = 15.0
"""Half of the 30 s after which many NATs forget a mapping (RFC 9000, 10.1.2)."""
REGISTER_STEP = 64
"""How many new connection IDs our relay grants in one call (RelayLimits)."""
ANSWER_WITHIN_S = 5.0
"""A keepalive that has no answer after so long may have gone to a relay that was started anew and
knows nothing of our connection; it does not say so (RFC 9000, 10.3 needs a memory)."""
EXPECTING_S = 2.0
"""KEEPALIVE_S and ANSWER_WITHIN_S while the peer's first words are expected through the relay: a
relay that was started anew, or a NAT that was, drops them, and whoever speaks them waits twice as
long before each repetition (RFC 9002, 6.2.1) and gives up after few."""
ATTEMPT_S = 15.0
"""So long does a connection after the first one try to come about, before another is tried: one's
own timers back off, and a relay that is back after minutes should be found within seconds."""
ASK_AGAIN_S = 2.0
"""So long after the relay said that another client holds our key. It is we ourselves: a connection
of ours that the relay has not given up yet."""
FIRST_RETRY_S = 0.5
MAX_RETRY_S = 30.0
MAX_RESPONSE_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request. Header names in lower case, without the pseudo-headers."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


@dataclass(slots=True)
class Response:
    """An HTTP response as far as it has come."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


RequestHook = Callable[[Registration], Request]
"""From what is to be registered to the request that does it: the user's own method, path, headers
and body, where the relay speaks another dialect."""

ResponseHook = Callable[[Response], None]
"""Called with the whole response; raises RemoteProtocolError to refuse it."""


def standard_request(registration: Registration, token: str | None = None) -> Request:
    """The original's ``POST /v1/register``."""
    headers = [("content-type", "application/json")]
    if token is not None:
        headers.append(("authorization", f"Bearer {token}"))
    return Request("POST", REGISTER_PATH, tuple(headers), encode_registration(registration))


def standard_response(response: Response) -> None:
    """Success is any 2xx."""
    if not 200 <= response.status < 300:
        detail = response.body.decode("utf-8", "replace").strip()[:200]
        raise RefusedError(response.status, detail or "no reason given")


class RefusedError(Exception):
    """The relay said no: a status and its reason."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(f"{status}: {problem}")
        self.status = status
        self.problem = problem


@dataclass(frozen=True, slots=True)
class RelayTrust:
    """Whom to take for the relay: a pinned certificate, anybody (``insecure``), or, with neither,
    whoever the configuration's certificate authorities vouch for."""

    fingerprint: str | None = None
    insecure: bool = False


def relay_configuration(
    server_name: str, qlog: QuicLogger | None = None, keylog: TextIO | None = None
) -> QuicConfiguration:
    """The programs' QUIC towards the relay: it is given up three keepalives after its last word."""
    configuration = standard_configuration(
        is_client=True, alpn=[], idle_timeout_s=3 * KEEPALIVE_S, qlog=qlog, keylog=keylog
    )
    configuration.server_name = server_name
    return configuration


class RelayLeg:
    """The machine. ``key`` is that of our *peer* connection IDs, the ones to be registered.

    ``authority``: the relay's name for HTTP, as ``host:port``.
    """

    def __init__(
        self,
        *,
        address: TransportAddress,
        authority: str,
        configuration: QuicConfiguration,
        trust: RelayTrust,
        key: bytes,
        random: RandomBytes,
        request_hook: RequestHook = standard_request,
        response_hook: ResponseHook = standard_response,
    ) -> None:
        configuration.alpn_protocols = H3_ALPN
        self.address = address
        self._authority = authority
        self._configuration = configuration
        self._trust = trust
        self._key = key
        self._random = random
        self._request_hook = request_hook
        self._response_hook = response_hook
        self._quic: Connection | None = None
        self._http: H3Connection | None = None
        self._queue: deque[tuple[Request, int]] = deque()
        self._responses: dict[int, tuple[Response, Request, int]] = {}
        self._first = 1
        self._wanted = self._asked = 0
        self.registered = 0
        """The index up to which the relay has bound our connection IDs."""
        self.observed: TransportAddress | None = None
        self._challenger: Connection | None = None
        """A second connection, beside one that does not answer. Whichever does first stays."""
        self._farewell: list[tuple[bytes, Any]] = []
        self._unanswered_since: float | None = None
        self.expecting = False
        """Whether the peer's first words are to come through the relay."""
        self._keepalive_at: float | None = None
        self._attempt_ends_at: float | None = None
        self._ask_again_at: float | None = None
        self._retry_at: float | None = None
        self._retry_s = FIRST_RETRY_S
        self._closing = False
        self._events: deque[EndpointEvent] = deque()

    @property
    def rtt_s(self) -> float | None:
        """Round-trip time to the relay."""
        return None if self._quic is None else self._quic.rtt_s

    def connect(self, now: float) -> None:
        """Begin; register() may be called before or after."""
        self._quic = self._new_connection(now)
        self._http = self._unanswered_since = None
        self._retry_at = self._ask_again_at = None
        self._attempt_ends_at = now + ATTEMPT_S if self.registered else None

    def register(self, num: int, first: int = 1) -> None:
        """Bind the connection IDs ``first`` to ``num`` of the key to where the relay sees us, and
        give back those before ``first``.

        In steps that the relay grants in one call, each from where the last one ended: after a
        reconnection it may have forgotten us, and is asked from the beginning.
        """
        self._first = first
        start = max(self._asked, first - 1)
        for upto in range(start + REGISTER_STEP, num + REGISTER_STEP, REGISTER_STEP):
            self._ask_for(min(upto, num))
        self._wanted = self._asked = num
        self._flush_requests()

    def refresh(self, now: float) -> None:
        """Register once more what is registered: the answer says where the relay sees us now, and
        the question makes it bind us there. Our NAT may have forgotten its mapping.

        Where there is no connection, another one is tried now: the relay is needed, and the timers
        of one that had no answer for minutes have backed off."""
        if not self.registered or self._closing:
            return
        if self._http is None:
            self._keep_unanswered()
            self._connect_anew(now)
        else:
            self._ask_for(self.registered)
            # What was refused meanwhile may be granted now.
            self._asked = self.registered
            self.register(self._wanted, self._first)

    def request(self, request: Request) -> None:
        """Any other request; it ends in MailboxAnswered."""
        self._queue.append((request, 0))
        self._flush_requests()

    def close(self) -> None:
        """Take leave of the relay."""
        self._closing = True
        self._challenger = self._unanswered_since = self._attempt_ends_at = None
        self._ask_again_at = self._retry_at = self._keepalive_at = None
        if self._quic is not None:
            self._quic.close(error_code=0x100)  # H3_NO_ERROR (RFC 9114, 8.1)

    # The five calls

    def receive_datagram(self, data: bytes, source: TransportAddress, now: float) -> None:
        """A datagram whose connection ID has the relay bit."""
        if self._challenger is not None and self._is_for_challenger(data):
            self._challenger.receive_datagram(data, source, now)
            self._look_at_challenger(now)
        elif self._quic is not None:
            acknowledged = self._quic.largest_acknowledged
            self._quic.receive_datagram(data, source, now)
            if self._quic.largest_acknowledged > acknowledged:
                self._unanswered_since = self._challenger = None
            self._handle_quic_events(now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, TransportAddress]]:
        """What goes to the relay now."""
        if self._quic is None:
            return []
        sent = self._farewell + self._quic.datagrams_to_send(now)
        self._farewell = []
        if self._challenger is not None:
            sent += self._challenger.datagrams_to_send(now)
        return [(data, TransportAddress(*address)) for data, address in sent]

    def get_timer(self) -> float | None:
        """The next wake-up."""
        quic = self._quic.get_timer() if self._quic is not None else None
        challenger = self._challenger.get_timer() if self._challenger is not None else None
        own = (self._keepalive_at, self._retry_at, self._challenge_at, self._attempt_ends_at)
        times = (quic, challenger, self._ask_again_at, *own)
        return min((time for time in times if time is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """Retry, keep alive, retransmit: whatever is due."""
        if self._retry_at is not None and self._retry_at <= now:
            self._connect_anew(now)
        if self._attempt_ends_at is not None and self._attempt_ends_at <= now:
            self._keep_unanswered()
            self._connect_anew(now)
        if self._quic is None:
            return
        if self._keepalive_at is not None and self._keepalive_at <= now:
            self._quic.send_ping(0)
            self._keepalive_at = now + self._keepalive_s
            if self._unanswered_since is None:
                self._unanswered_since = now
        if self._ask_again_at is not None and self._ask_again_at <= now:
            self._ask_again_at = None
            self._ask_for_all()
        if self._challenge_at is not None and self._challenge_at <= now:
            self._challenger = self._new_connection(now)
        if self._challenger is not None:
            timer = self._challenger.get_timer()
            if timer is not None and timer <= now:
                self._challenger.handle_timer(now)
            self._look_at_challenger(now)
        timer = self._quic.get_timer()
        if timer is not None and timer <= now:
            self._quic.handle_timer(now)
        self._handle_quic_events(now)

    def next_event(self) -> EndpointEvent | None:
        """The next event, or None."""
        return self._events.popleft() if self._events else None

    # Parts

    def _new_connection(self, now: float) -> Connection:
        ids = ConnectionIdGenerator(
            self._random(KEY_LENGTH),
            relay_leg=True,
            length=self._configuration.connection_id_length,
        )
        connection = Connection(self._configuration, ids)
        connection.connect(self.address, now)
        return connection

    def _connect_anew(self, now: float) -> None:
        self.connect(now)
        self._ask_for_all()

    def _ask_for_all(self) -> None:
        self._asked = 0
        if self._wanted:
            self.register(self._wanted, self._first)

    def _ask_for(self, num: int) -> None:
        registration = Registration(self._key, num, self._first)
        self._queue.append((self._request_hook(registration), num))

    @property
    def _challenge_at(self) -> float | None:
        if self._unanswered_since is None or self._challenger is not None:
            return None
        return self._unanswered_since + (EXPECTING_S if self.expecting else ANSWER_WITHIN_S)

    @property
    def _keepalive_s(self) -> float:
        return EXPECTING_S if self.expecting else KEEPALIVE_S

    def _is_for_challenger(self, data: bytes) -> bool:
        assert self._challenger is not None
        header = parse_invariants(data, self._configuration.connection_id_length)
        return header is not None and header.destination in self._challenger.current_ids

    def _look_at_challenger(self, now: float) -> None:
        """Once it is connected, the other one was with a relay that is no more, or that has lost
        sight of us: it is told that it need not hold our key for that one any longer. The
        challenger's own events are left for whoever looks at the connection in use."""
        challenger = self._challenger
        assert challenger is not None
        if challenger.is_over:
            self._challenger, self._unanswered_since = None, now
        elif challenger.is_confirmed:
            if self._quic is not None:
                self._quic.close(error_code=0x100)  # H3_NO_ERROR (RFC 9114, 8.1)
                self._farewell = self._quic.datagrams_to_send(now)
            self._quic, self._challenger = challenger, None
            self._http = self._unanswered_since = None
            self._keep_unanswered()
            self._events.append(RelayLost("it knows nothing of our connection any more", 0.0))
            self._ask_for_all()
            self._handle_quic_events(now)

    def _handle_quic_events(self, now: float) -> None:
        assert self._quic is not None
        if self._http is not None and http3.is_broken(self._quic):
            self._http = None
        while (event := self._quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                if not self._trusted():
                    return
                self._http = H3Connection(self._quic)
                self._retry_s = FIRST_RETRY_S
                self._attempt_ends_at = None
                self._keepalive_at = now + self._keepalive_s
                self._flush_requests()
            elif isinstance(event, ConnectionTerminated):
                self._terminated(event, now)
                return
            elif isinstance(event, StreamReset) and event.stream_id in self._responses:
                _, _, num = self._responses.pop(event.stream_id)
                self._finished(Response(status=0, body=b"the relay reset the request"), num, now)
            elif self._http is not None and not isinstance(event, PingAcknowledged):
                for http_event in self._http.handle_event(event):
                    self._handle_http_event(http_event, now)

    def _trusted(self) -> bool:
        assert self._quic is not None
        pinned = self._trust.fingerprint
        if pinned is None or self._quic.peer_fingerprint == pinned:
            return True
        problem = f"the relay's certificate is {self._quic.peer_fingerprint}, not {pinned}"
        self._events.append(RelayRefused(0, problem))
        self._quic.refuse_certificate("not the pinned certificate")
        self._closing = True
        return False

    def _terminated(self, event: ConnectionTerminated, now: float) -> None:
        self._quic = self._http = self._keepalive_at = None
        self._challenger = self._unanswered_since = self._attempt_ends_at = None
        self._ask_again_at = None
        self._keep_unanswered()
        if self._closing:
            return
        problem = event.reason_phrase or (
            f"HTTP/3 error {event.error_code:#x}"
            if event.frame_type is None
            else transport_error(event.error_code)
        )
        if 0x100 <= event.error_code < 0x200 and event.frame_type is not None:
            # CRYPTO_ERROR: TLS did not accept the other side; trying again will not help.
            self._events.append(RelayRefused(0, f"TLS with the relay failed: {problem}"))
            return
        self._events.append(RelayLost(problem, self._retry_s))
        self._retry_at = now + self._retry_s
        self._retry_s = min(2 * self._retry_s, MAX_RETRY_S)

    def _keep_unanswered(self) -> None:
        """Requests wait for the next connection; registrations are then made anew."""
        unanswered = [(request, num) for _, request, num in self._responses.values()]
        self._responses.clear()
        self._queue = deque(one for one in [*unanswered, *self._queue] if not one[1])

    def _flush_requests(self) -> None:
        if self._http is None or self._quic is None:
            return
        while self._queue:
            request, num = self._queue.popleft()
            stream_id = self._quic.get_next_available_stream_id()
            pseudo = [
                (b":method", request.method.encode()),
                (b":scheme", b"https"),
                (b":authority", self._authority.encode()),
                (b":path", request.path.encode()),
            ]
            headers = [(name.encode(), value.encode()) for name, value in request.headers]
            if request.body:
                headers.append((b"content-length", str(len(request.body)).encode()))
            self._http.send_headers(stream_id, pseudo + headers, end_stream=not request.body)
            if request.body:
                self._http.send_data(stream_id, request.body, end_stream=True)
            self._responses[stream_id] = (Response(), request, num)

    def _handle_http_event(self, event: object, now: float) -> None:
        if not isinstance(event, HeadersReceived | DataReceived):
            return
        pending = self._responses.get(event.stream_id)
        if pending is None:
            return
        response, _, num = pending
        if isinstance(event, HeadersReceived):
            for name, value in event.headers:
                if name == b":status":
                    response.status = int(value)
                else:
                    response.headers[name.decode("latin-1")] = value.decode("latin-1")
        elif len(response.body) + len(event.data) <= MAX_RESPONSE_BYTES:
            response.body += event.data
        if event.stream_ended:
            del self._responses[event.stream_id]
            self._finished(response, num, now)

    def _finished(self, response: Response, num: int, now: float) -> None:
        if not num:
            self._events.append(MailboxAnswered(response.status, response.body))
            return
        try:
            self._response_hook(response)
        except RefusedError as error:
            if error.status == HTTPStatus.CONFLICT and self.registered:
                self._ask_again_at = now + ASK_AGAIN_S
            self._events.append(RelayRefused(error.status, error.problem))
            return
        except RemoteProtocolError as error:
            self._events.append(RelayRefused(response.status, str(error)))
            return
        self.registered = max(self.registered, num)
        self.observed = _parse_address(response.headers.get(OBSERVED_ADDRESS_HEADER))
        self._events.append(RelayRegistered(num, self.observed))


def _parse_address(text: str | None) -> TransportAddress | None:
    """``host:port`` or ``[host]:port``; None for anything else."""
    match = re.fullmatch(r"\[?([0-9a-fA-F.:]+?)\]?:(\d{1,5})", text or "")
    if match is None:
        return None
    try:
        host = str(ipaddress.ip_address(match[1]))
    except ValueError:
        return None
    return TransportAddress(host, int(match[2])) if int(match[2]) < 65536 else None
