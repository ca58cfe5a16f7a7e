"""The codec: other people's bytes, round trips, and arbitrary input."""

import subprocess
import sys
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.shell.stun import (
    BindingAnswer,
    BindingError,
    BindingMessage,
    BindingRequest,
    decode,
)

# RFC 5769, 2.2 and 2.3: sample answers.
ANSWER_IPV4 = bytes.fromhex(
    "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000080001a147"
    "e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96"
)
ANSWER_IPV6 = bytes.fromhex(
    "010100482112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f7220002000140002a147"
    "0113a9faa5d3f179bc25f4b5bed2b9d900080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004"
    "c8fb0b4c"
)
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")

transactions = st.binary(min_size=12, max_size=12)
ports = st.integers(1, 65535)
addresses = st.builds(
    lambda ip, port: TransportAddress(str(ip), port),
    st.one_of(st.builds(IPv4Address, st.integers(0, 2**32 - 1)), st.ip_addresses(v=6)),
    ports,
)
messages: st.SearchStrategy[BindingMessage] = st.one_of(
    st.builds(BindingRequest, transactions, st.booleans(), st.booleans(), st.none() | ports),
    st.builds(BindingAnswer, transactions, addresses, st.none() | addresses, st.none() | addresses),
    st.builds(BindingError, transactions, st.integers(300, 699), st.text(max_size=100)),
)


@pytest.mark.parametrize(
    ("datagram", "mapped"),
    [
        (ANSWER_IPV4, TransportAddress("192.0.2.1", 32853)),
        (ANSWER_IPV6, TransportAddress("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
)
def test_sample_answers_of_rfc_5769(datagram: bytes, mapped: TransportAddress) -> None:
    assert decode(datagram) == BindingAnswer(TRANSACTION, mapped)


def test_requests_of_rfc_5780_as_they_are_on_the_wire() -> None:
    request = BindingRequest(TRANSACTION, change_address=True, change_port=True, response_port=4660)
    assert request.encode().hex() == (
        f"000100102112a442{TRANSACTION.hex()}"
        "0003000400000006"  # CHANGE-REQUEST: A and B
        "0027000412340000"  # RESPONSE-PORT: its value, and two bytes of padding
    )
    port_alone = BindingRequest(TRANSACTION, change_port=True)
    assert port_alone.encode().hex().endswith("0003000400000002")
    assert BindingRequest(TRANSACTION).encode().hex() == f"000100002112a442{TRANSACTION.hex()}"


def test_answers_of_rfc_5780_as_they_are_on_the_wire() -> None:
    answer = BindingAnswer(
        TRANSACTION,
        TransportAddress("192.0.2.1", 32853),
        other=TransportAddress("198.51.100.2", 3479),
        origin=TransportAddress("198.51.100.1", 3478),
    )
    assert "802b0008" + "00010d96c6336401" in answer.encode().hex()  # RESPONSE-ORIGIN, not xored
    assert "802c0008" + "00010d97c6336402" in answer.encode().hex()  # OTHER-ADDRESS
    assert decode(answer.encode()) == answer


def test_a_server_of_before_rfc_5389_is_understood() -> None:
    """MAPPED-ADDRESS and CHANGED-ADDRESS, as RFC 3489 had them."""
    mapped, changed = "000100080001d8f1c0000201", "000500080001" + "0d97c6336402"
    datagram = bytes.fromhex(f"010100182112a442{TRANSACTION.hex()}{mapped}{changed}")
    assert decode(datagram) == BindingAnswer(
        TRANSACTION, TransportAddress("192.0.2.1", 55537), TransportAddress("198.51.100.2", 3479)
    )


@given(messages)
def test_round_trip(message: BindingMessage) -> None:
    assert decode(message.encode()) == message


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_message(datagram: bytes) -> None:
    assert decode(datagram) is None


@given(messages, st.data())
def test_damaged_messages_are_read_or_refused(message: BindingMessage, data: st.DataObject) -> None:
    datagram = bytearray(message.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(datagram) - 1))
        datagram[place] = data.draw(st.integers(0, 255))
    decoded = decode(bytes(datagram[: data.draw(st.integers(0, len(datagram)))]))
    assert decoded is None or isinstance(decoded, BindingMessage)


def test_other_methods_are_no_binding_messages() -> None:
    allocate = b"\x00\x03" + BindingRequest(TRANSACTION).encode()[2:]
    assert decode(allocate) is None


def test_the_copy_of_the_codec_is_ours_alone() -> None:
    """The rest of aioice is not imported, asyncio is not put in its place, and both still work."""
    program = (
        "import sys; from quicpipe_lab.shell import stun;"
        "print(sorted({'asyncio', 'dns', 'aioice'} & set(sys.modules)));"
        "import aioice.stun, asyncio;"
        "print(asyncio.run(asyncio.to_thread(int)));"
        "print('RESPONSE-PORT' in aioice.stun.ATTRIBUTES_BY_NAME)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "0", "False"], done.stderr


def test_ipv6_addresses_stay_text() -> None:
    mapped = TransportAddress(str(IPv6Address("2001:db8::1")), 5)
    assert decode(BindingAnswer(TRANSACTION, mapped).encode()) == BindingAnswer(TRANSACTION, mapped)
