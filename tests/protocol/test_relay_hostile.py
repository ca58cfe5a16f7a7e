"""A client under real keys may send the relay any frames: that costs nobody but itself."""

import pylsqpack
from aioquic.buffer import encode_uint_var as number
from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.tls import Epoch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.wire import Registration, encode_registration
from tests.protocol.relay_world import Network

PATH = "/v1/mailbox/" + "n" * 16


def packet(client: Connection, frames: bytes) -> bytes:
    """A packet of a connected client, with frames whose types take one byte."""
    builder = QuicPacketBuilder(
        host_cid=client.host_cid,
        is_client=True,
        max_datagram_size=1200,
        packet_number=client._packet_number,
        peer_cid=client._peer_cid.cid,
        peer_token=b"",
        quic_logger=None,
        spin_bit=False,
        version=1,
    )
    builder.start_packet(QuicPacketType.ONE_RTT, client._cryptos[Epoch.ONE_RTT])
    builder.start_frame(frames[0], capacity=len(frames)).push_bytes(frames[1:])
    ((datagram,), _) = builder.flush()
    client._packet_number = builder.packet_number
    return datagram


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """As HTTP/3 frames (RFC 9114, 7.2): HEADERS, DATA."""
    head = {"method": method, "scheme": "https", "authority": "relay", "path": path}
    headers = [(b":" + name.encode(), value.encode()) for name, value in head.items()]
    _, block = pylsqpack.Encoder().encode(0, headers)
    frames = b"\x01" + number(len(block)) + block
    return frames + b"\x00" + number(len(body)) + body if body else frames


REQUESTS = (
    request("GET", PATH),
    request("POST", "/v1/register", encode_registration(Registration(b"r" * 16, 4))),
    request("DELETE", "/nowhere"),
)
ASKING, TELLING = [0, 4], [7, 11]
"""Two requests, and the two streams by which the relay tells of headers (RFC 9204, 4.2)."""


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """One frame, of those that streams come and go by for the most part."""
    stream, any_stream = (number(draw(st.sampled_from(i))) for i in (ASKING, ASKING + TELLING))
    match draw(st.integers(0, 6)):
        case 0 | 1 | 2:  # STREAM: a request with its end, or the beginning of something
            kind, data = draw(
                st.sampled_from([*((0x0B, one) for one in REQUESTS), (0x0A, b"\x01")])
            )
            return bytes([kind]) + stream + number(len(data)) + data
        case 3:  # RESET_STREAM
            return b"\x04" + stream + number(0x10C) + number(draw(st.sampled_from([0, 1, 100])))
        case 4 | 5:  # STOP_SENDING
            return b"\x05" + any_stream + number(0x10C)
    return bytes([draw(st.integers(0, 0x3F))]) + draw(st.binary(max_size=24))


STOPPED, ASKED = b"\x05\x00\x05", b"\x0b\x00" + number(len(REQUESTS[2])) + REQUESTS[2]


@example([STOPPED + ASKED])
@example([b"\x04\x00\x05\x00" + b"\x05\x0b\x05"])  # reset, and the relay may not say so
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.lists(frames(), min_size=1, max_size=8).map(b"".join), min_size=1, max_size=4))
def test_no_frames_of_a_client_end_the_relay(packets: list[bytes]) -> None:
    network = Network()
    polite, rude = network.client("203.0.113.1"), network.client("203.0.113.2")
    network.clients.remove(rude)  # nobody reads what comes back
    for one in packets:
        network.inject(packet(rude.quic, one), rude.address)
    network.advance(1.0)
    assert polite.ask("PUT", PATH, b"for whoever waits").status == 201
    network.advance(40.0)
    assert polite.register(b"k" * 16, 4).status == 200
