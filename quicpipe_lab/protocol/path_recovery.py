"""aioquic's loss recovery for a connection that moves between paths; private names are used here.

Built into connections by quic.py, whose tests have one for each of the names.
"""

from typing import Any

from aioquic.quic.congestion.base import create_congestion_control
from aioquic.quic.rangeset import RangeSet
from aioquic.quic.recovery import QuicPacketPacer, QuicPacketRecovery, QuicPacketSpace


class PathRecovery(QuicPacketRecovery):
    """Recovery that forgets a path when the connection leaves it.

    RFC 9000, 9.4: congestion controller and RTT estimator are reset on a new path, and packets
    sent on the old one contribute to neither. aioquic resets neither.
    """

    _RTT_FIELDS = (
        "_rtt_first_sample_time",
        "_rtt_initialized",
        "_rtt_latest",
        "_rtt_min",
        "_rtt_smoothed",
        "_rtt_variance",
    )

    def __init__(self, *, congestion_control_algorithm: str, **arguments: Any) -> None:
        super().__init__(congestion_control_algorithm=congestion_control_algorithm, **arguments)
        self._algorithm = congestion_control_algorithm
        self._max_datagram_size: int = arguments["max_datagram_size"]
        self._unlearned_rtt = self._rtt()
        self._first_packet_number = 0
        self.patience_s = 0.0

    def start_path(self, next_packet_number: int) -> None:
        """Packets below ``next_packet_number`` were the old path's."""
        # RFC 9000, 8.2.4: a validation has three PTO, the old path's or a new one's: 333 + 666 + 25
        # ms (RFC 9002, 6.2). aioquic takes 200 ms for a new one's, and we have it forget the old's.
        self.patience_s = 3 * (max(self.get_probe_timeout(), 1.024) - 2 * self._rtt_initial)
        self._first_packet_number = next_packet_number
        for space in self.spaces:
            for packet in space.sent_packets.values():
                packet.in_flight = False  # they weigh on no congestion window any more
        self._cc = create_congestion_control(
            self._algorithm, max_datagram_size=self._max_datagram_size
        )
        self._pacer = QuicPacketPacer(max_datagram_size=self._max_datagram_size)
        self._pto_count = 0
        self._set_rtt(self._unlearned_rtt)

    def on_ack_received(
        self, *, ack_rangeset: RangeSet, ack_delay: float, now: float, space: QuicPacketSpace
    ) -> None:
        """As QuicPacketRecovery's; an old path's packet gives no RTT sample."""
        learned = self._rtt()
        super().on_ack_received(
            ack_rangeset=ack_rangeset, ack_delay=ack_delay, now=now, space=space
        )
        if ack_rangeset.bounds().stop <= self._first_packet_number:
            self._set_rtt(learned)

    def _rtt(self) -> tuple[Any, ...]:
        return tuple(getattr(self, field) for field in self._RTT_FIELDS)

    def _set_rtt(self, values: tuple[Any, ...]) -> None:
        for field, value in zip(self._RTT_FIELDS, values, strict=True):
            setattr(self, field, value)
