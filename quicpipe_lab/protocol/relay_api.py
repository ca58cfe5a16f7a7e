"""What the relay answers to HTTP requests: registration and the mailbox."""

import hmac
from collections import deque
from collections.abc import Callable, Iterable

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.mailbox import MAILBOX_PATH, Mailbox, mailbox_name
from quicpipe_lab.protocol.registrar import Registrar
from quicpipe_lab.protocol.relay_events import Refused
from quicpipe_lab.protocol.relay_http import Header, HttpConnection, Request
from quicpipe_lab.protocol.relay_limits import HostBuckets, RelayLimits
from quicpipe_lab.protocol.wire import (
    OBSERVED_ADDRESS_HEADER,
    REGISTER_PATH,
    RequestError,
    decode_registration,
)

Waiter = tuple[HttpConnection, int]
"""A client and the stream on which it waits for its answer."""


class RelayApi:
    """Answers requests, some of them later. ``on_answer`` is called for a connection that now has
    something to send."""

    def __init__(
        self,
        registrar: Registrar,
        limits: RelayLimits,
        token: str | None,
        on_answer: Callable[[HttpConnection], None],
    ) -> None:
        self._registrar = registrar
        self._mailbox: Mailbox[Waiter] = Mailbox(limits)
        self._hosts = HostBuckets(limits.requests_per_s, limits.requests_burst)
        self._token = token
        self._on_answer = on_answer
        self.refused: deque[Refused] = deque()

    def handle(
        self, client: HttpConnection, request: Request, address: TransportAddress, now: float
    ) -> None:
        """Answer a request from a client whose address is validated."""
        try:
            if not self._hosts.take(address.host, now):
                raise RequestError(429, "too many requests")
            if request.path == REGISTER_PATH:
                self._register(client, request, address, now)
            elif request.path.startswith(MAILBOX_PATH):
                self._use_mailbox(client, request, now)
            else:
                raise RequestError(404, "no such path")
        except RequestError as error:
            self.refused.append(Refused(address, error.status, error.problem))
            allowed = b"POST" if request.path == REGISTER_PATH else b"GET, PUT"
            headers = [(b"allow", allowed)] if error.status == 405 else []
            body = error.problem.encode()
            self._respond(client, request.stream_id, error.status, body, headers)

    def cancel(self, client: HttpConnection, stream_id: int) -> None:
        """The client does not wait for this answer any more."""
        self._mailbox.forget((client, stream_id))

    def get_timer(self) -> float | None:
        """When handle_timer is to be called."""
        return self._mailbox.get_timer()

    def handle_timer(self, now: float) -> None:
        """Answer those who have waited in vain."""
        for client, stream_id in self._mailbox.handle_timer(now):
            self._respond(client, stream_id, 404, b"nothing came")

    # Parts

    def _check(self, request: Request, methods: Iterable[str]) -> None:
        """What holds for every path, in the order in which to say it."""
        if request.method not in methods:
            raise RequestError(405, f"{request.method[:20]} is not allowed here")
        if self._token is not None:
            wanted = f"Bearer {self._token}".encode()
            if not hmac.compare_digest(request.authorization or b"", wanted):
                raise RequestError(401, "a bearer token is required")
        if request.is_too_large:
            raise RequestError(413, "the body is too large")

    def _register(
        self, client: HttpConnection, request: Request, address: TransportAddress, now: float
    ) -> None:
        self._check(request, ("POST",))
        registration = decode_registration(bytes(request.body))
        self._registrar.register(registration, client, address, now)
        observed = (OBSERVED_ADDRESS_HEADER.encode(), str(address).encode())
        self._respond(client, request.stream_id, 200, b"OK", [observed])

    def _use_mailbox(self, client: HttpConnection, request: Request, now: float) -> None:
        self._check(request, ("GET", "PUT"))
        name = mailbox_name(request.path)
        if request.method == "PUT":
            body = bytes(request.body)
            waiter = self._mailbox.put(name, body, now)
            self._respond(client, request.stream_id, 201, b"")
            if waiter is not None:
                self._respond(*waiter, 200, body)
            return
        message = self._mailbox.take(name, (client, request.stream_id), now)
        if message is not None:
            self._respond(client, request.stream_id, 200, message)

    def _respond(
        self,
        client: HttpConnection,
        stream_id: int,
        status: int,
        body: bytes,
        headers: Iterable[Header] = (),
    ) -> None:
        client.respond(stream_id, status, body, headers)
        self._on_answer(client)
