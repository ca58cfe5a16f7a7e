"""A QUIC connection that knows when it has nothing to say, and so need not look for it again.

A machine with several connections asks each of them after everything that happens to any. aioquic
then looks through all that it might send, which is most of what an idle pair would cost.

aioquic's rule for drivers is that after ``datagrams_to_send`` nothing is to be sent until one of
its other calls is made, or the time of ``get_timer`` has come: until then the connection is quiet.
What may be called otherwise only asks (``get_peer_address``, ``next_event``).
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from aioquic.quic.connection import QuicConnection

P = ParamSpec("P")
T = TypeVar("T")


def _stirring(
    call: Callable[Concatenate[QuicConnection, P], T],
) -> Callable[Concatenate["QuietConnection", P], T]:
    """The same call; the connection is not quiet afterwards."""

    @wraps(call)
    def stir_and_call(self: "QuietConnection", /, *args: P.args, **kwargs: P.kwargs) -> T:
        self.stir()
        return call(self, *args, **kwargs)

    return stir_and_call


class QuietConnection(QuicConnection):
    """As QuicConnection. Who changes anything about it in another way than by these calls calls
    ``stir`` as well: what is to be sent would wait for the timer otherwise."""

    _quiet_until: float | None = None

    def stir(self) -> None:
        """There may be something to send, or another time to wait for."""
        self._quiet_until = None

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        """As QuicConnection's, and nothing while it is quiet."""
        if self._quiet_until is not None and now < self._quiet_until:
            return []
        self.stir()
        datagrams = super().datagrams_to_send(now)
        self._quiet_until = self.get_timer()
        return datagrams

    def get_timer(self) -> float | None:
        """As QuicConnection's."""
        return super().get_timer() if self._quiet_until is None else self._quiet_until

    change_connection_id = _stirring(QuicConnection.change_connection_id)
    close = _stirring(QuicConnection.close)
    connect = _stirring(QuicConnection.connect)
    handle_timer = _stirring(QuicConnection.handle_timer)
    receive_datagram = _stirring(QuicConnection.receive_datagram)
    request_key_update = _stirring(QuicConnection.request_key_update)
    reset_stream = _stirring(QuicConnection.reset_stream)
    send_datagram_frame = _stirring(QuicConnection.send_datagram_frame)
    send_ping = _stirring(QuicConnection.send_ping)
    send_stream_data = _stirring(QuicConnection.send_stream_data)
    stop_stream = _stirring(QuicConnection.stop_stream)
