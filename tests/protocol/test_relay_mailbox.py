"""The relay's mailbox, asked by real clients."""

import pytest
from aioquic.h3.connection import ErrorCode

from quicpipe_lab.protocol.relay_limits import RelayLimits
from tests.protocol.relay_world import Network

PATH = "/v1/mailbox/" + "n" * 16


def test_a_message_is_read_once() -> None:
    network = Network()
    writer, reader = network.client(port=1), network.client(port=2)
    assert writer.ask("PUT", PATH, b"hello").status == 201
    answer = reader.ask("GET", PATH)
    assert (answer.status, answer.body) == (200, b"hello")
    again = reader.ask("GET", PATH)
    assert again.at_s is None
    network.advance(30)
    assert again.status == 404


def test_who_waits_gets_the_message_at_once() -> None:
    network = Network()
    writer, reader = network.client(port=1), network.client(port=2)
    answer = reader.ask("GET", PATH)
    network.advance(20)
    assert answer.at_s is None
    written_s = network.now
    assert writer.ask("PUT", PATH, b"hello").status == 201
    assert (answer.status, answer.body) == (200, b"hello")
    assert answer.at_s is not None
    assert answer.at_s - written_s < 0.05


def test_waiting_ends_after_30_seconds() -> None:
    network = Network()
    reader = network.client()
    asked_s = network.now
    answer = reader.request("GET", PATH)
    network.advance(35)
    assert answer.status == 404
    assert answer.at_s is not None
    assert 30 <= answer.at_s - asked_s < 30.1


def test_the_first_writer_wins() -> None:
    network = Network()
    first, second = network.client(port=1), network.client(port=2)
    assert first.ask("PUT", PATH, b"first").status == 201
    assert second.ask("PUT", PATH, b"second").status == 409
    assert second.ask("GET", PATH).body == b"first"


def test_messages_expire() -> None:
    network = Network()
    client = network.client()
    client.ask("PUT", PATH, b"old")
    for _ in range(8):
        network.advance(15)
        client.quic.send_ping(0)
    assert client.ask("PUT", PATH, b"new").status == 201
    assert client.ask("GET", PATH).body == b"new"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (PATH, b"x" * 4096, 201),
        (PATH, b"x" * 4097, 413),
        (PATH, b"x" * 9000, 413),
        ("/v1/mailbox/" + "n" * 64, b"x", 201),
        ("/v1/mailbox/" + "n" * 65, b"x", 400),
        ("/v1/mailbox/" + "n" * 15, b"x", 400),
        ("/v1/mailbox/" + "n" * 15 + "%", b"x", 400),
        ("/v1/mailbox/", b"x", 400),
        ("/v1/mailbox", b"x", 404),
        ("/v1/mailbox/aZ09_-aZ09_-aZ09_-", b"x", 201),
    ],
)
def test_names_and_sizes(path: str, body: bytes, status: int) -> None:
    client = Network().client()
    assert client.ask("PUT", path, body).status == status


def test_an_empty_message_and_other_methods() -> None:
    client = Network().client()
    assert client.ask("PUT", PATH).status == 400
    answer = client.ask("DELETE", PATH)
    assert (answer.status, answer.headers[b"allow"]) == (405, b"GET, PUT")


def test_a_full_mailbox_refuses() -> None:
    network = Network(limits=RelayLimits(mailbox_messages=2, mailbox_waiters=1))
    client = network.client()
    statuses = [client.ask("PUT", PATH + str(name), b"x").status for name in range(3)]
    assert statuses == [201, 201, 503]
    assert client.ask("GET", PATH + "0").status == 200
    assert client.ask("PUT", PATH + "2", b"x").status == 201
    waits = [client.ask("GET", PATH + "empty" + str(number)).status for number in range(2)]
    assert waits == [0, 503]


def test_the_token_guards_it_too() -> None:
    client = Network(token="t").client()
    assert client.ask("PUT", PATH, b"x").status == 401
    assert client.ask("GET", PATH).status == 401
    assert client.ask("PUT", PATH, b"x", {"authorization": "Bearer t"}).status == 201


def test_of_several_who_wait_the_last_one_is_served() -> None:
    """The others may be the remains of a reader that was killed and started again."""
    network = Network()
    killed, reader, writer = (network.client(port=port) for port in (1, 2, 3))
    lost = killed.ask("GET", PATH)
    answer = reader.ask("GET", PATH)
    writer.ask("PUT", PATH, b"hello")
    assert answer.body == b"hello"
    writer.ask("PUT", PATH, b"another")
    assert lost.body == b"another"


def test_who_gives_up_gets_nothing() -> None:
    network = Network()
    reader, writer = network.client(port=1), network.client(port=2)
    reader.ask("GET", PATH)
    (stream_id,) = reader.answers
    reader.quic.stop_stream(stream_id, 0x10C)
    network.advance(0.1)
    assert writer.ask("PUT", PATH, b"hello").status == 201
    assert writer.ask("GET", PATH).body == b"hello"


def test_who_leaves_gets_nothing() -> None:
    network = Network()
    reader, writer = network.client(port=1), network.client(port=2)
    reader.ask("GET", PATH)
    reader.quic.close()
    network.advance(5)
    writer.ask("PUT", PATH, b"hello")
    assert writer.ask("GET", PATH).body == b"hello"


@pytest.mark.parametrize("path", ["/v1/register", "/v1/mailbox/" + "n" * 16, "/nowhere"])
def test_an_answer_given_up_before_its_question_costs_the_relay_nothing(path: str) -> None:
    network = Network()
    rude, polite = network.client("203.0.113.1"), network.client("203.0.113.2")
    stream_id = rude.quic.open_stream()
    rude.quic.stop_stream(stream_id, 0x10C)
    network.settle()
    assert rude.http is not None
    head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"r")]
    rude.http.send_headers(stream_id, [*head, (b":path", path.encode())], end_stream=True)
    network.settle()
    assert polite.register(b"k" * 16, 4).status == 200
    assert rude.register(b"l" * 16, 4).status == 200


@pytest.mark.parametrize("critical", [3, 7, 11])
def test_who_refuses_a_critical_stream_ends_nobody_but_itself(critical: int) -> None:
    """HTTP/3 would write to it: of a request that is reset by the same datagram (11), and the
    headers of an answer (7)."""
    network = Network()
    rude, polite = network.client("203.0.113.1"), network.client("203.0.113.2")
    rude.request("GET", PATH)
    stream_id = rude.quic.open_stream()
    rude.quic.send_stream_data(stream_id, b"\x01")
    network.settle()
    rude.quic.reset_stream(stream_id, 0x10C)
    rude.quic.stop_stream(critical, 0x10C)
    rude.quic._streams_queue.sort(key=lambda one: one.stream_id == critical)  # it comes last
    network.settle()
    assert polite.ask("PUT", PATH, b"for nobody").status == 201
    network.advance(5)
    assert rude.terminated is not None
    assert rude.terminated.error_code == ErrorCode.H3_CLOSED_CRITICAL_STREAM
