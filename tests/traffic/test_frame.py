"""Datagrams of frames: made and read back, and read by scapy, which is not ours."""

from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.traffic.frame import datagram_of, frame_with, identity_of, protocol_of

ports = st.integers(0, 65535)
families = st.one_of(
    st.tuples(*[st.ip_addresses(v=4).map(str)] * 2), st.tuples(*[st.ip_addresses(v=6).map(str)] * 2)
)


@given(families, ports, ports, st.binary(max_size=1400))
def test_a_datagram_comes_back_as_it_went(
    hosts: tuple[str, str], source: int, destination: int, payload: bytes
) -> None:
    ends = TransportAddress(hosts[0], source), TransportAddress(hosts[1], destination)
    found = datagram_of(frame_with(*ends, payload))
    assert found is not None
    assert found[:2] == ends
    assert found.payload == payload
    assert found.ttl == 64


@given(families, st.binary(max_size=99))
def test_scapy_finds_the_same_checksums(hosts: tuple[str, str], payload: bytes) -> None:
    data = frame_with(TransportAddress(hosts[0], 1), TransportAddress(hosts[1], 2), payload)
    packet: Packet = Ether(data)
    for name in ("IP", "UDP"):
        if packet.haslayer(name):
            del packet[name].chksum
    assert bytes(packet) == data


@given(
    st.binary(max_size=80), st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06", b"\x81\x00"])
)
def test_any_frame_is_read_or_is_none(data: bytes, ethertype: bytes) -> None:
    for frame in (data, data[:12] + ethertype + data[12:]):
        datagram_of(frame)
        assert protocol_of(frame)
        identity_of(frame)


def test_fragments_and_options() -> None:
    ends = TransportAddress("192.0.2.1", 1), TransportAddress("192.0.2.2", 2)
    data = frame_with(*ends, b"payload")
    fragment = data[:20] + b"\x20\x00" + data[22:]
    assert datagram_of(fragment) is None
    options = data[:14] + b"\x46" + data[15:34] + b"\x94\x04\x00\x00" + data[34:]
    found = datagram_of(options)
    assert found is not None
    assert found.payload == b"payload"
    assert protocol_of(data) == "udp"
