"""The relay's side of one HTTP/3 connection: whole requests come out, answers go in.

It knows no paths and no policy. Whatever a client does wrong costs that client's connection or
stream and nothing else.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from aioquic.h3.connection import ErrorCode, H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic.events import (
    ConnectionIdIssued,
    ConnectionIdRetired,
    ConnectionTerminated,
    HandshakeCompleted,
    StopSendingReceived,
    StreamDataReceived,
    StreamReset,
)

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol import http3
from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.wire import MAX_BODY_BYTES

Header = tuple[bytes, bytes]


@dataclass(slots=True)
class Request:
    """A request, complete with its body; ``is_too_large`` where that was cut off."""

    stream_id: int
    method: str
    path: str
    authorization: bytes | None
    body: bytearray = field(default_factory=bytearray)
    is_too_large: bool = False


class HttpConnection:
    """One client's connection. The owner calls ``handle_events`` after every call on ``quic``."""

    def __init__(self, quic: Connection, max_requests: int, now: float) -> None:
        self.quic = quic
        self.began_s = now
        self.max_requests = max_requests
        self.connection_ids = {quic.host_cid}
        """The IDs that the relay may be addressed by on this connection."""
        self.is_established = False
        self.terminated: ConnectionTerminated | None = None
        self.requests: deque[Request] = deque()
        """Whole requests that wait for the owner."""
        self.cancelled: deque[int] = deque()
        """Streams whose answers nobody wants any more."""
        self.unanswered: set[int] = set()
        """Streams that await their answer."""
        self._http: H3Connection | None = None
        self._partial: dict[int, Request] = {}

    @property
    def validated_address(self) -> TransportAddress | None:
        """Where the client is, if it has shown that it receives there."""
        if self.quic.address_is_validated and self.terminated is None:
            return self.quic.address
        return None

    def handle_events(self) -> None:
        """Take everything that the QUIC connection has to tell."""
        if self._http is not None and http3.is_broken(self.quic):
            self._http = None
        while (event := self.quic.next_event()) is not None:
            if isinstance(event, HandshakeCompleted):
                self.is_established = True
                self._http = H3Connection(self.quic)
            elif isinstance(event, ConnectionTerminated):
                self.terminated = event
            elif isinstance(event, ConnectionIdIssued):
                self.connection_ids.add(event.connection_id)
            elif isinstance(event, ConnectionIdRetired):
                self.connection_ids.discard(event.connection_id)
            elif self._http is not None:
                if isinstance(event, StreamDataReceived | StreamReset | StopSendingReceived):
                    for http_event in self._http.handle_event(event):
                        self._handle_http_event(http_event)
                if isinstance(event, StreamReset | StopSendingReceived):
                    self._cancel(event.stream_id)

    def respond(
        self, stream_id: int, status: int, body: bytes, headers: Iterable[Header] = ()
    ) -> None:
        """Answer a request, unless its client has given it up."""
        if stream_id not in self.unanswered or self._http is None:
            return
        self.unanswered.remove(stream_id)
        head: list[Header] = [
            (b":status", str(status).encode()),
            (b"content-length", str(len(body)).encode()),
            *headers,
        ]
        self._http.send_headers(stream_id, head, end_stream=not body)
        if body:
            self._http.send_data(stream_id, body, end_stream=True)
        if self._partial.pop(stream_id, None) is not None:
            # Answered before the request's end (RFC 9114, 4.1.1): the rest is not wanted.
            self.quic.stop_stream(stream_id, ErrorCode.H3_NO_ERROR)

    def close(self) -> None:
        """An orderly end (RFC 9114, 8.1)."""
        self.quic.close(error_code=ErrorCode.H3_NO_ERROR)

    def refuse(self, why: str) -> None:
        """End it, and leave unanswered what it has asked."""
        self.requests.clear()
        self.quic.close(error_code=ErrorCode.H3_EXCESSIVE_LOAD, reason_phrase=why)

    # Parts

    def _handle_http_event(self, event: H3Event) -> None:
        if isinstance(event, HeadersReceived):
            if event.stream_id in self._partial:
                if event.stream_ended:  # trailers
                    self._complete(event.stream_id)
            elif event.stream_id not in self.unanswered:
                self._begin(event)
        elif isinstance(event, DataReceived) and event.stream_id in self._partial:
            request = self._partial[event.stream_id]
            if not request.is_too_large:
                request.body += event.data
                if len(request.body) > MAX_BODY_BYTES:
                    request.is_too_large = True
                    request.body.clear()
                    self.requests.append(request)
            if event.stream_ended:
                self._complete(event.stream_id)

    def _begin(self, event: HeadersReceived) -> None:
        if self.quic.is_refused(event.stream_id):
            return  # its answer was given up before it was asked (RFC 9114, 4.1.1)
        if len(self.unanswered) >= self.max_requests:
            self.quic.close(
                error_code=ErrorCode.H3_EXCESSIVE_LOAD, reason_phrase="too many requests at once"
            )
            return
        headers = dict(event.headers)
        request = Request(
            event.stream_id,
            headers[b":method"].decode("latin-1"),
            headers.get(b":path", b"").decode("latin-1").partition("?")[0],
            headers.get(b"authorization"),
        )
        self.unanswered.add(event.stream_id)
        self._partial[event.stream_id] = request
        if event.stream_ended:
            self._complete(event.stream_id)

    def _complete(self, stream_id: int) -> None:
        request = self._partial.pop(stream_id)
        if not request.is_too_large:
            self.requests.append(request)

    def _cancel(self, stream_id: int) -> None:
        self._partial.pop(stream_id, None)
        if stream_id in self.unanswered:
            self.unanswered.remove(stream_id)
            self.cancelled.append(stream_id)
            self.quic.reset_stream(stream_id, ErrorCode.H3_REQUEST_CANCELLED)
