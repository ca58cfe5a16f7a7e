"""dial, accept and relay as processes on loopback, as a person would start them."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, cast

import pytest

from quicpipe_lab.backends.netns.syscalls import set_parent_death_signal
from quicpipe_lab.model.event import Event

COMMAND = [sys.executable, "-m", "quicpipe_lab.cli"]
DEADLINE_S = 30
TO_NOBODY = ("--relay", "127.0.0.1:1", "--insecure")
PINNED = ("--relay", "127.0.0.1:1", "--peer-fingerprint", "0" * 64)


class Programs:
    """Starts programs, and ends whatever still runs at the end; so does the kernel, where the
    tests themselves are killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[bytes]] = []
        environment = {k: v for k, v in os.environ.items() if k not in ("QHOST",)}
        self.environment = environment | {"XDG_DATA_HOME": str(folder / "data")}

    def start(
        self, *arguments: str | bytes, through: Sequence[str] = (), **options: Any
    ) -> subprocess.Popen[bytes]:
        """A program; `through` is a command that becomes it, such as ("nohup",)."""
        options = {"stdin": subprocess.DEVNULL} | options
        process: Any = subprocess.Popen(
            [*through, *COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self.environment,
            preexec_fn=lambda: set_parent_death_signal(signal.SIGKILL),
            **options,
        )
        self.started.append(process)
        return cast("subprocess.Popen[bytes]", process)

    def relay(self, *options: str) -> tuple[subprocess.Popen[bytes], str, str]:
        """A relay: its process, address and fingerprint."""
        process = self.start("relay", "--bind", "127.0.0.1:0", *options)
        assert process.stdout is not None
        address = line_of(process.stdout).removeprefix("addr: ")
        return process, address, line_of(process.stdout).removeprefix("fingerprint: ")

    def accepter(
        self, relay: str, relay_print: str, *options: str, **more: Any
    ) -> tuple[subprocess.Popen[bytes], str]:
        """An accepter: its process and fingerprint."""
        process = self.start(
            "accept", "--relay", relay, "--relay-fingerprint", relay_print, *options, **more
        )
        assert process.stderr is not None
        return process, line_of(process.stderr).removeprefix("fingerprint: ")

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait(DEADLINE_S)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()


def line_of(stream: IO[bytes]) -> str:
    return stream.readline().decode().rstrip("\n")


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    made = Programs(tmp_path)
    yield made
    made.end()


def events(path: Path) -> list[Event]:
    return [Event.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("channel", ["packet.json", "relay:the blue horse of 1911"])
def test_pipe_and_echo(programs: Programs, channel: str) -> None:
    _, relay, relay_print = programs.relay()
    accepter, pinned = programs.accepter(relay, relay_print, "--echo", "--oob", channel)
    dialer = programs.start(
        *("dial", "--relay", relay, "--relay-fingerprint", relay_print),
        *("--peer-fingerprint", pinned, "--pipe", "--oob", channel, "--events", "dial.jsonl"),
        stdin=subprocess.PIPE,
    )
    payload = os.urandom(300_000)
    out, complaint = dialer.communicate(payload, DEADLINE_S)
    assert (dialer.returncode, complaint) == (0, b"")
    assert out == payload
    assert accepter.wait(DEADLINE_S) == 0
    names = [event.name for event in events(programs.folder / "dial.jsonl")]
    names = [name for name in names if name != "mailbox-answered"]
    assert names[:3] == ["relay-registered", "initial-ready", "connected"]
    assert names[-1] == "statistics"
    assert "path-changed" in names


def test_as_in_the_originals_example(programs: Programs) -> None:
    """The dialer prints the packet, the accepter reads it from standard input, QHOST names R."""
    _, relay, _ = programs.relay()
    programs.environment["QHOST"] = relay
    dialer = programs.start("dial", "--insecure")
    assert dialer.stdout is not None
    packet = dialer.stdout.readline()
    assert set(json.loads(packet)) == {"packet", "relay"}
    accepter = programs.start("accept", "--relay-insecure", stdin=subprocess.PIPE)
    assert accepter.stdin is not None
    assert accepter.stdout is not None
    accepter.stdin.write(packet)
    accepter.stdin.close()
    accepter.stdin = None
    assert line_of(accepter.stdout) == "initial hello"
    assert line_of(accepter.stdout) == "hello"
    dialer.send_signal(signal.SIGINT)
    assert dialer.wait(DEADLINE_S) == 130
    assert accepter.wait(DEADLINE_S) == 0


def test_netcat_both_ways(programs: Programs) -> None:
    _, relay, relay_print = programs.relay()
    accepter, pinned = programs.accepter(
        relay, relay_print, "--pipe", "--oob", "packet.json", stdin=subprocess.PIPE
    )
    dialer = programs.start(
        *("dial", "--relay", relay, "--relay-fingerprint", relay_print),
        *("--peer-fingerprint", pinned, "--pipe", "--oob", "packet.json"),
        stdin=subprocess.PIPE,
    )
    assert accepter.stdin is not None
    accepter.stdin.write(b"from the accepter\n")
    accepter.stdin.close()
    accepter.stdin = None
    out, _ = dialer.communicate(b"from the dialer\n", DEADLINE_S)
    assert out == b"from the accepter\n"
    assert accepter.communicate(timeout=DEADLINE_S)[0] == b"from the dialer\n"
    assert (dialer.returncode, accepter.returncode) == (0, 0)


def test_wrong_fingerprint_ends_both_with_one_line(programs: Programs) -> None:
    _, relay, relay_print = programs.relay()
    accepter, _ = programs.accepter(relay, relay_print, "--echo", "--oob", "packet.json")
    dialer = programs.start(
        *("dial", "--relay", relay, "--relay-fingerprint", relay_print),
        *("--peer-fingerprint", "00" * 32, "--pipe", "--oob", "packet.json"),
    )
    out, complaint = dialer.communicate(timeout=DEADLINE_S)
    assert dialer.returncode == 1
    assert out == b""
    assert complaint.count(b"\n") == 1
    assert b"certificate is" in complaint
    assert accepter.wait(DEADLINE_S) == 1


def test_wrong_relay_is_refused(programs: Programs) -> None:
    _, relay, _ = programs.relay()
    dialer = programs.start(
        "dial", "--relay", relay, "--relay-fingerprint", "11" * 32, "--peer-fingerprint", "00" * 32
    )
    _, complaint = dialer.communicate(timeout=DEADLINE_S)
    assert dialer.returncode == 1
    assert b"the relay's certificate is" in complaint
    assert complaint.count(b"\n") == 1


def test_a_relay_that_does_not_answer_is_told_early_and_given_up(programs: Programs) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        relay = f"127.0.0.1:{silent.getsockname()[1]}"
        both = [
            programs.start(
                *("dial", "--relay", relay, "--insecure", "--connect-timeout", "3.5"),
            ),
            programs.start(
                *("accept", "--relay", relay, "--relay-insecure", "--oob", "relay:x"),
                *("--ephemeral", "--connect-timeout", "3.5"),
            ),
        ]
        for process in both:
            out, complaint = process.communicate(timeout=DEADLINE_S)
            hint, given_up = complaint.decode().splitlines()[-2:]
            assert (process.returncode, out) == (1, b"")
            assert hint == f"quicpipe-lab: no answer from the relay at {relay} yet, still trying"
            assert f"no answer from the relay at {relay} in 3.5 s" in given_up


def test_an_unpinned_relay_needs_a_known_authority(programs: Programs) -> None:
    _, relay, _ = programs.relay()
    dialer = programs.start("dial", "--relay", relay, "--peer-fingerprint", "00" * 32)
    _, complaint = dialer.communicate(timeout=DEADLINE_S)
    assert dialer.returncode == 1
    assert b"TLS with the relay failed" in complaint
    assert b"--relay-fingerprint" in complaint
    assert complaint.count(b"\n") == 1


@pytest.mark.parametrize(
    ("arguments", "stdin", "says"),
    [
        (["dial", "--relay", "127.0.0.1:1"], b"", "--peer-fingerprint"),
        (["dial", "--insecure"], b"", "which relay?"),
        (["dial", "--relay", "127.0.0.1:x", "--insecure"], b"", "HOST:PORT"),
        (["dial", "--relay", "no.such.invalid:1", "--insecure"], b"", "resolve"),
        (["dial", "--relay", "127.0.0.1:1", "--peer-fingerprint", "zz"], b"", "64 digits"),
        (
            ["dial", "--relay", "127.0.0.1:1", "--insecure", "--bind", "192.0.2.1:1"],
            b"",
            "192.0.2.1",
        ),
        (["accept", "--relay", "127.0.0.1:1"], b"not json\n", "JSON"),
        (["accept", "--relay", "127.0.0.1:1"], b"{}\n", "packet"),
        (["accept", "--relay", "127.0.0.1:1"], b'{"packet": "!"}\n', "base64"),
        (["accept", "--relay", "127.0.0.1:1"], b'{"packet": "AAAA"}\n', "long header"),
        (["accept", "--relay", "127.0.0.1:1"], b"", "ended"),
        (["accept", "--oob", "relay:"], b"", "name"),
        (["relay", "--bind", "127.0.0.1"], b"", "HOST:PORT"),
        (["relay", "--bind", "[::1:0"], b"", "HOST:PORT"),
        (["relay", "--bind", "127.0.0.1:\u0663"], b"", "HOST:PORT"),
        (["relay", "--strict"], b"", "token"),
        (["relay", "--token", "open sesame"], b"", "--token"),
        (["relay", "--xdp", "eth9"], b"", "--xdp eth9"),
        (["frobnicate"], b"", "frobnicate"),
        (["dial", "--relay", "127.0.0.1:0", "--insecure"], b"", "port 0"),
        (["dial", "--relay", "a" * 70 + ":1", "--insecure"], b"", "resolve"),
        (["dial", "--relay", ":1", "--insecure"], b"", "HOST:PORT"),
        (["dial", "--relay", "127.0.0.1:65536", "--insecure"], b"", "HOST:PORT"),
        (["dial", "--relay", "127.0.0.1:1", "--insecure", "--bind", "[::1]:0"], b"", "resolve"),
        (["dial", *TO_NOBODY, "--idle-timeout", "nan"], b"", "--idle-timeout"),
        (["dial", *TO_NOBODY, "--idle-timeout", "-1"], b"", "--idle-timeout"),
        (["dial", *TO_NOBODY, "--idle-timeout", "inf"], b"", "--idle-timeout"),
        (["dial", *TO_NOBODY, "--idle-timeout", "soon"], b"", "--idle-timeout"),
        (["dial", *TO_NOBODY, "--connect-timeout", "0"], b"", "--connect-timeout"),
        (["dial", *TO_NOBODY, "--connect-timeout", "nan"], b"", "--connect-timeout"),
        (["dial", *TO_NOBODY, "--search", "--search-rate", "0"], b"", "--search-rate"),
        (["dial", *TO_NOBODY, "--search", "--search-rate", "nan"], b"", "--search-rate"),
        (["dial", *TO_NOBODY, "--direct-after", "-1"], b"", "--direct-after"),
        (["dial", *TO_NOBODY, "--alpn", ""], b"", "--alpn"),
        (["dial", *TO_NOBODY, "--alpn", "\u00e4"], b"", "--alpn"),
        (["dial", *TO_NOBODY, "--server-name", "\u00e4"], b"", "--server-name"),
        (["dial", *TO_NOBODY, "--token", "a\nb"], b"", "--token"),
        (["dial", *TO_NOBODY, "--token", "\udcff"], b"", "--token"),
        (["dial", *PINNED, "--relay-ca", "/nowhere"], b"", "--relay-ca /nowhere: No such file"),
        (["dial", *PINNED, "--relay-ca", "/dev/null"], b"", "--relay-ca /dev/null: it holds no"),
        (["dial", *TO_NOBODY, "--node", "../alice", "--qlog", "q"], b"", "--node"),
        (["dial", *TO_NOBODY, "--qlog", "/proc/nowhere"], b"", "qlog"),
        (["dial", *TO_NOBODY, "--qlog", "/proc"], b"", "qlog"),
        (["dial", *TO_NOBODY, "--keylog", "/proc/nowhere"], b"", "keylog"),
        (["dial", *TO_NOBODY, "--events", "/proc/nowhere"], b"", "events"),
        (["dial", *TO_NOBODY, "--events", "fd:77"], b"", "events"),
        (["accept", "--relay", "127.0.0.1:1"], b"x" * 5000, "over 4096"),
        (["accept", "--relay", "127.0.0.1:1", "--oob", "/nowhere/x"], b"", "no folder /nowhere"),
    ],
)
def test_bad_input_gets_one_line(
    programs: Programs, arguments: list[str], stdin: bytes, says: str
) -> None:
    process = programs.start(*map(os.fsencode, arguments), stdin=subprocess.PIPE)
    out, complaint = process.communicate(stdin, DEADLINE_S)
    lines = [line for line in complaint.decode().splitlines() if "fingerprint: " not in line]
    assert out == b""
    assert len(lines) == 1, lines
    assert lines[0].startswith("quicpipe-lab: ")
    assert says in lines[0]
    assert process.returncode == 2


def test_relay_port_in_use(programs: Programs) -> None:
    _, relay, _ = programs.relay()
    second = programs.start("relay", "--bind", relay)
    _, complaint = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 2
    assert b"in use" in complaint
    assert complaint.count(b"\n") == 1


def test_relay_with_a_token(programs: Programs) -> None:
    _, relay, relay_print = programs.relay("--token", "sesame", "--strict")
    trust = ("--relay", relay, "--relay-fingerprint", relay_print, "--insecure")
    stranger = programs.start("dial", *trust)
    _, complaint = stranger.communicate(timeout=DEADLINE_S)
    assert stranger.returncode == 1
    assert b"the relay refused" in complaint
    friend = programs.start("dial", *trust, "--token", "sesame")
    assert friend.stdout is not None
    assert "packet" in json.loads(friend.stdout.readline())


def test_qlog_and_keys_are_left_behind(programs: Programs) -> None:
    _, relay, relay_print = programs.relay()
    logs = ("--qlog", "qlog", "--keylog", "keys.log")
    accepter, pinned = programs.accepter(
        relay, relay_print, "--echo", "--oob", "packet.json", *logs, "--node", "bob"
    )
    dialer = programs.start(
        *("dial", "--relay", relay, "--relay-fingerprint", relay_print, *logs, "--node", "alice"),
        *("--peer-fingerprint", pinned, "--pipe", "--oob", "packet.json"),
    )
    assert dialer.wait(DEADLINE_S) == 0
    assert accepter.wait(DEADLINE_S) == 0
    for name in ("alice", "bob"):
        traces = json.loads((programs.folder / "qlog" / f"{name}.qlog").read_text())["traces"]
        assert len(traces) == 2  # the relay's leg and the peer's
    assert "CLIENT_HANDSHAKE_TRAFFIC_SECRET" in (programs.folder / "keys.log").read_text()
