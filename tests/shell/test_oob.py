"""Out-of-band channels."""

import io
import os
import sys
import threading
from pathlib import Path

import pytest

from quicpipe_lab.errors import QuicpipeLabError, RemoteProtocolError
from quicpipe_lab.protocol.wire import Envelope
from quicpipe_lab.shell import oob
from tests.small_disk import on_a_small_disk

PACKET = b"\xc0\x00\x00\x00\x01\x08" + b"d" * 8 + b"\x0c" + b"s" * 12
PACKET += bytes(1200 - len(PACKET))
ENVELOPE = Envelope(PACKET, "relay.example:443")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-", oob.Channel("stdio")),
        ("qr", oob.Channel("qr")),
        ("relay:blue horse", oob.Channel("mailbox", "blue horse")),
        ("/tmp/packet.json", oob.Channel("file", "/tmp/packet.json")),
    ],
)
def test_channels_by_name(text: str, expected: oob.Channel) -> None:
    assert oob.Channel.parse(text) == expected


def test_a_mailbox_needs_a_name() -> None:
    with pytest.raises(QuicpipeLabError, match="name"):
        oob.Channel.parse("relay:")


def test_file_appears_whole(tmp_path: Path) -> None:
    path = tmp_path / "packet.json"
    oob.write_file(path, ENVELOPE)
    assert oob.read_file(path) == ENVELOPE
    assert [one.name for one in tmp_path.iterdir()] == ["packet.json"]


def test_fifo(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=oob.write_file, args=(path, ENVELOPE))
    writer.start()
    assert oob.read_file(path) == ENVELOPE
    writer.join()


def test_file_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    with pytest.raises(QuicpipeLabError, match="cannot write"):
        oob.write_file(tmp_path / "no" / "such", ENVELOPE)
    with pytest.raises(QuicpipeLabError, match="cannot read"):
        oob.read_file(tmp_path / "nothing")


@pytest.mark.netns
def test_a_full_disk_has_nothing_left_of_it(tmp_path: Path) -> None:
    """The disk is a small one of its own."""
    script = f"head -c 4096 /dev/zero >full; {sys.executable} -c '{_WRITE}'; ls"
    done = on_a_small_disk(tmp_path, "4k", script)
    assert done.stderr == "cannot write packet.json: No space left on device\n"
    assert done.stdout == "full\n"


_WRITE = """\
import sys
from pathlib import Path
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.protocol.wire import Envelope
from quicpipe_lab.shell import oob
try:
    oob.write_file(Path("packet.json"), Envelope(bytes(1200), "relay.example:443"))
except QuicpipeLabError as error:
    print(error, file=sys.stderr)
"""


def test_descriptor_is_read_to_the_line_end_and_no_further() -> None:
    reader, writer = os.pipe()
    os.write(writer, ENVELOPE.dumps().encode() + b"\nthe stream's data")
    assert oob.read_descriptor(reader) == ENVELOPE
    assert os.read(reader, 100) == b"the stream's data"
    os.close(reader)
    os.close(writer)


def test_descriptor_that_ends_without_a_message() -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(RemoteProtocolError, match="ended"):
        oob.read_descriptor(reader)
    os.close(reader)


def test_mailbox_hides_and_protects_the_packet() -> None:
    mailbox = oob.Mailbox("a name that both know")
    sealed = mailbox.seal(ENVELOPE)
    assert oob.Mailbox("a name that both know").open(sealed) == ENVELOPE
    assert PACKET[:20] not in sealed
    assert "name" not in mailbox.path
    assert mailbox.path.startswith("/v1/mailbox/")
    tampered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for wrong in (tampered, b"", b"short", sealed[:12]):
        with pytest.raises(RemoteProtocolError, match="mailbox"):
            mailbox.open(wrong)
    with pytest.raises(RemoteProtocolError):
        oob.Mailbox("another name").open(sealed)


def test_qr_code_holds_the_whole_envelope() -> None:
    """A code of this size is version 29 or more; that a phone reads it was tried by hand."""
    out = io.StringIO()
    oob.print_qr(ENVELOPE, out)
    lines = out.getvalue().splitlines()
    assert len(lines) > 60
    assert all("▀" in line or "▄" in line or "█" in line for line in lines[3:-3])
