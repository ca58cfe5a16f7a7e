"""How dial and accept end: signals at any moment, peers and readers that go away, slow readers."""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.shell.test_peer_program import COMMAND, DEADLINE_S, TO_NOBODY, Programs, events, line_of

MIB = 1024 * 1024
SHORT = ("--idle-timeout", "1.5")


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path)
    yield made
    made.end()


class Couple:
    """A relay, an accepter and a dialer that is connected through it."""

    def __init__(
        self, programs: Programs, *, accept: tuple[str, ...], dial: tuple[str, ...], **pipes: Any
    ) -> None:
        _, relay, relay_print = programs.relay()
        self.accepter, pinned = programs.accepter(
            *(relay, relay_print, *accept, "--oob", "packet.json", "--events", "accept.jsonl"),
            stdin=subprocess.PIPE,
        )
        self.dialer = programs.start(
            *("dial", "--relay", relay, "--relay-fingerprint", relay_print, *dial),
            *("--peer-fingerprint", pinned, "--oob", "packet.json", "--events", "dial.jsonl"),
            stdin=pipes.get("stdin", subprocess.PIPE),
        )

    def say(self, text: bytes) -> None:
        assert self.dialer.stdin is not None
        self.dialer.stdin.write(text)
        self.dialer.stdin.flush()

    def hear(self, size: int) -> bytes:
        assert self.dialer.stdout is not None
        return self.dialer.stdout.read(size)


@pytest.fixture
def echoing(programs: Programs) -> Couple:
    """The dialer's --pipe to an echo, with a first byte back."""
    couple = Couple(programs, accept=("--echo", *SHORT), dial=("--pipe", *SHORT))
    couple.say(b"!")
    assert couple.hear(1) == b"!"
    return couple


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "arguments",
    [
        ("accept", "--relay", "127.0.0.1:1", "--ephemeral"),
        ("accept", "--relay", "127.0.0.1:1", "--ephemeral", "--oob", "fifo"),
        ("accept", "--relay", "127.0.0.1:1", "--ephemeral", "--oob", "not-there.json"),
        ("accept", "--relay", "127.0.0.1:1", "--ephemeral", "--oob", "relay:a name"),
    ],
    ids=["stdin", "fifo", "file", "mailbox"],
)
def test_a_signal_ends_who_waits(
    programs: Programs, arguments: tuple[str, ...], number: signal.Signals
) -> None:
    os.mkfifo(programs.folder / "fifo")
    accepter = programs.start(*arguments, stdin=subprocess.PIPE)
    assert accepter.stderr is not None
    assert line_of(accepter.stderr).startswith("fingerprint: ")
    accepter.send_signal(number)
    assert accepter.wait(DEADLINE_S) == 128 + number
    assert accepter.stderr.read() == b""


def test_ctrl_c_where_the_event_log_blocks(programs: Programs) -> None:
    """A FIFO that nobody reads yet."""
    os.mkfifo(programs.folder / "fifo")
    dialer = programs.start("dial", *TO_NOBODY, "--events", "fifo")
    asleep_in = Path(f"/proc/{dialer.pid}/wchan")
    end_s = time.monotonic() + DEADLINE_S
    while asleep_in.read_text() not in ("wait_for_partner", "fifo_open"):
        if time.monotonic() > end_s or not asleep_in.exists():
            pytest.skip("this kernel does not say what a process waits for")
    dialer.send_signal(signal.SIGINT)
    _, complaint = dialer.communicate(timeout=DEADLINE_S)
    assert dialer.returncode == 130
    assert complaint.count(b"\n") == 1


def test_ctrl_c_twice_is_no_worse_than_once(echoing: Couple) -> None:
    echoing.dialer.send_signal(signal.SIGINT)
    echoing.dialer.send_signal(signal.SIGINT)
    _, complaint = echoing.dialer.communicate(timeout=DEADLINE_S)
    assert echoing.dialer.returncode == 130
    assert complaint == b""


def test_nohup_is_respected(programs: Programs) -> None:
    accepter = programs.start(
        *("accept", "--relay", "127.0.0.1:1", "--ephemeral"),
        through=("nohup",),
        stdin=subprocess.PIPE,
    )
    assert accepter.stderr is not None
    line_of(accepter.stderr)
    accepter.send_signal(signal.SIGHUP)
    _, complaint = accepter.communicate(b"not json\n", DEADLINE_S)
    assert accepter.returncode == 2
    assert b"JSON" in complaint


# The peer goes away: what came is not taken for the whole


def test_a_peer_that_is_killed_is_an_error(echoing: Couple) -> None:
    echoing.accepter.kill()
    out, complaint = echoing.dialer.communicate(timeout=DEADLINE_S)
    assert echoing.dialer.returncode == 1
    assert out == b""
    assert complaint.count(b"\n") == 1
    assert b"ended" in complaint


def test_a_peer_that_is_interrupted_is_an_error(echoing: Couple) -> None:
    echoing.dialer.send_signal(signal.SIGTERM)
    _, complaint = echoing.accepter.communicate(timeout=DEADLINE_S)
    assert echoing.accepter.returncode == 1
    assert (
        complaint == b"quicpipe-lab: the connection with the peer ended: the other side gave up\n"
    )
    assert echoing.dialer.wait(DEADLINE_S) == 128 + signal.SIGTERM


def test_a_plain_accepter_ends_the_stream_too(programs: Programs) -> None:
    couple = Couple(programs, accept=(), dial=("--pipe",))
    out, complaint = couple.dialer.communicate(b"all of it", DEADLINE_S)
    assert (out, complaint, couple.dialer.returncode) == (b"", b"", 0)
    assert couple.accepter.communicate(timeout=DEADLINE_S) == (b"all of it", b"")
    assert couple.accepter.returncode == 0


def test_a_relay_that_goes_away_is_mentioned(programs: Programs) -> None:
    relay, address, relay_print = programs.relay()
    dialer = programs.start(
        "dial", "--relay", address, "--relay-fingerprint", relay_print, "--insecure"
    )
    assert dialer.stdout is not None
    assert dialer.stderr is not None
    dialer.stdout.readline()
    relay.send_signal(signal.SIGTERM)
    assert "no connection with the relay" in line_of(dialer.stderr)
    assert dialer.poll() is None


# Descriptors


def test_a_reader_that_goes_away_ends_the_program(echoing: Couple) -> None:
    assert echoing.dialer.stdout is not None
    echoing.dialer.stdout.close()
    echoing.dialer.stdout = None
    echoing.say(b"for nobody")
    assert echoing.dialer.wait(DEADLINE_S) == 1
    assert echoing.dialer.stderr is not None
    assert echoing.dialer.stderr.read() == b""
    assert echoing.accepter.wait(DEADLINE_S) == 1


@pytest.mark.parametrize("missing", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_files_may_be_missing(programs: Programs, missing: str) -> None:
    _, relay, relay_print = programs.relay()
    accepter, pinned = programs.accepter(relay, relay_print, "--echo", "--oob", "packet.json")
    line = (
        f"exec {sys.executable} -m quicpipe_lab.cli dial --relay {relay} --pipe"
        f" --relay-fingerprint {relay_print} --peer-fingerprint {pinned}"
        f" --oob packet.json {missing}"
    )
    dialer = subprocess.run(
        ["sh", "-c", line],
        cwd=programs.folder,
        env=programs.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=DEADLINE_S,
    )
    assert (dialer.returncode, dialer.stdout, dialer.stderr) == (0, b"", b"")
    assert accepter.wait(DEADLINE_S) == 0


def test_a_full_disk_is_one_line(programs: Programs) -> None:
    _, relay, relay_print = programs.relay()
    _, pinned = programs.accepter(relay, relay_print, "--echo", "--oob", "packet.json")
    trust = ("--relay", relay, "--relay-fingerprint", relay_print, "--peer-fingerprint", pinned)
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*COMMAND, "dial", *trust, "--pipe", "--oob", "packet.json"],
            cwd=programs.folder,
            env=programs.environment,
            input=b"too much",
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
        )
    assert done.returncode == 2
    assert done.stderr == b"quicpipe-lab: cannot write the output: No space left on device\n"


def test_an_error_without_standard_error_goes_nowhere(programs: Programs) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m quicpipe_lab.cli frobnicate 2>&-"],
        env=programs.environment,
        capture_output=True,
        timeout=DEADLINE_S,
    )
    assert (done.returncode, done.stdout) == (2, b"")


def test_memory_is_bounded_where_nobody_reads(programs: Programs) -> None:
    """Nobody takes what the accepter writes: the dialer's input is soon taken no more."""
    couple = Couple(programs, accept=(), dial=("--pipe",))
    assert couple.dialer.stdin is not None
    assert couple.accepter.stdout is not None
    couple.say(b"!")
    assert couple.accepter.stdout.read(1) == b"!"
    descriptor = couple.dialer.stdin.fileno()
    os.set_blocking(descriptor, False)
    sent = 0
    # A pause means that it stalls.
    while select.select([], [descriptor], [], 2.0)[1]:
        sent += os.write(descriptor, bytes(64 * 1024))
        assert sent < 16 * MIB
    assert sent > MIB
    couple.dialer.stdin.close()
    couple.dialer.stdin = None
    received = 0
    while data := couple.accepter.stdout.read(MIB):
        received += len(data)
    assert received == sent
    assert couple.dialer.wait(DEADLINE_S) == 0
    assert couple.accepter.wait(DEADLINE_S) == 0


# Other ways to be started


@pytest.mark.parametrize(
    ("accept", "dial"),
    [
        (("--no-direct",), ()),
        ((), ("--no-direct",)),
        (("--alpn", "EXAMPLE"), ("--alpn", "EXAMPLE")),
        ((), ("--direct-after", "1000000")),
        ((), ("--server-name", "peer.example")),
    ],
)
def test_stays_on_the_relay(
    programs: Programs, accept: tuple[str, ...], dial: tuple[str, ...]
) -> None:
    couple = Couple(programs, accept=("--echo", *accept), dial=("--pipe", *dial))
    payload = os.urandom(100_000)
    out, complaint = couple.dialer.communicate(payload, DEADLINE_S)
    assert (couple.dialer.returncode, complaint) == (0, b"")
    assert out == payload
    assert couple.accepter.wait(DEADLINE_S) == 0
    names = {event.name for event in events(programs.folder / "dial.jsonl")}
    assert ("path-changed" in names) == ("--server-name" in dial)


@pytest.mark.parametrize("bind", [(), ("--bind", "[::1]:0"), ("--bind", "0.0.0.0:0")])
def test_ipv6(programs: Programs, bind: tuple[str, ...]) -> None:
    relay = programs.start("relay", "--bind", "[::1]:0", "--ephemeral")
    assert relay.stdout is not None
    address = line_of(relay.stdout).removeprefix("addr: ")
    assert address.startswith("[::1]:")
    accepter, pinned = programs.accepter(
        *(address, line_of(relay.stdout).removeprefix("fingerprint: ")),
        *("--echo", "--oob", "packet.json", *bind),
    )
    dialer = programs.start(
        *("dial", "--relay", address, "--relay-insecure", "--peer-fingerprint", pinned),
        *("--pipe", "--oob", "packet.json", "--events", "dial.jsonl", *bind),
        stdin=subprocess.PIPE,
    )
    payload = os.urandom(300_000)
    out, complaint = dialer.communicate(payload, DEADLINE_S)
    assert (dialer.returncode, complaint) == (0, b"")
    assert out == payload
    assert accepter.wait(DEADLINE_S) == 0
    changes = [e for e in events(programs.folder / "dial.jsonl") if e.name == "path-changed"]
    assert changes
    assert changes[0].data["direct"]


def test_a_mailbox_name_need_not_be_text(programs: Programs) -> None:
    _, relay, relay_print = programs.relay()
    name = b"relay:blue \xff horse"
    trust = ("--relay", relay, "--relay-fingerprint", relay_print, "--oob", name)
    accepter = programs.start("accept", "--echo", "--ephemeral", *trust)
    assert accepter.stderr is not None
    pinned = line_of(accepter.stderr).removeprefix("fingerprint: ")
    dialer = programs.start("dial", "--pipe", "--peer-fingerprint", pinned, *trust)
    assert dialer.wait(DEADLINE_S) == 0
    assert accepter.wait(DEADLINE_S) == 0
