"""``quicpipe-lab relay`` as a process: what it prints, logs and answers to signals."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.event import Event
from quicpipe_lab.protocol.events import RelayLost
from quicpipe_lab.shell.certificates import fingerprint, load_or_create
from quicpipe_lab.shell.relay_program import RelayOptions, run_relay
from quicpipe_lab.shell.relay_socket import open_socket
from tests.nobody import python_of_nobody
from tests.shell.relay_scene import DEADLINE_S, Client

COMMAND = str(Path(sys.executable).with_name("quicpipe-lab"))


class Program:
    """A running relay."""

    def __init__(self, process: subprocess.Popen[str], events: Path) -> None:
        self.process = process
        self._events = events
        assert process.stdout is not None
        self.lines = [process.stdout.readline().rstrip("\n") for _ in range(2)]
        host, _, port = self.lines[0].removeprefix("addr: ").rpartition(":")
        self.address = TransportAddress(host, int(port))

    def events(self) -> list[Event]:
        return [Event.loads(line) for line in self._events.read_text().splitlines()]

    def end(self, number: int) -> tuple[int, str]:
        """Exit status and standard error."""
        self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, stderr


@contextmanager
def running(directory: Path, *arguments: str) -> Iterator[Program]:
    events = directory / "events.jsonl"
    argv = [COMMAND, "relay", "--bind", "127.0.0.1:0", "--certificate-dir", str(directory / "id")]
    argv += ["--events", str(events), "--node", "r", *arguments]
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Program(process, events)
        finally:
            process.kill()


def register(program: Program, key: bytes) -> Client:
    client = Client(program.address, key, "127.0.0.1")
    client.leg.register(4)
    until(client, lambda: bool(client.events))
    return client


def until(client: Client, holds: Any) -> None:
    end_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end_s, "the deadline is over"
        select.select([client.socket], [], [], 0.01)
        client.turn()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_serves_and_ends_in_order(tmp_path: Path, number: int) -> None:
    with running(tmp_path, "--qlog", str(tmp_path / "q"), "--keylog", str(tmp_path / "k")) as relay:
        certificate, _ = load_or_create(tmp_path / "id")
        assert relay.lines == [f"addr: {relay.address}", f"fingerprint: {fingerprint(certificate)}"]
        one, other = register(relay, b"a" * 16), register(relay, b"b" * 16)
        datagram = b"\x41" + other.connection_id() + b"from peer to peer"
        one.send(datagram)
        until(other, lambda: other.received == [datagram])
        assert relay.end(number) == (0, "")
        # The clients are told, and need not wait for a timeout.
        until(one, lambda: isinstance(one.events[-1], RelayLost))
        for client in (one, other):
            client.socket.close()

    events = {event.name: event for event in relay.events()}
    assert next(iter(events)) == "ready"
    assert events["ready"].data["address"] == str(relay.address)
    assert events["ready"].node == "r"
    assert events["registered"].data == {"address": str(other.address), "num": 4, "new": 4}
    assert events["stopped"].data["datagrams"]["forwarded"] == 1
    (qlog,) = (tmp_path / "q").glob("*.qlog")
    assert len(json.loads(qlog.read_text())["traces"]) == 2
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "k").read_text()


def test_it_waits_without_working(tmp_path: Path) -> None:
    """An idle relay sleeps: no timer, no polling."""
    with running(tmp_path) as relay:
        stat = Path(f"/proc/{relay.process.pid}/status")
        if not stat.exists():
            pytest.skip("no /proc on this system")
        # It sleeps in poll(2) once it has nothing to do: wait for that, then see that it stays.
        end_s = time.monotonic() + DEADLINE_S
        while _field(stat, "State") != "S" and time.monotonic() < end_s:
            select.select([], [], [], 0.01)
        before = _field(stat, "voluntary_ctxt_switches")
        select.select([], [], [], 0.3)
        assert _field(stat, "voluntary_ctxt_switches") == before
        relay.end(signal.SIGTERM)


def _field(status: Path, name: str) -> str:
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return lines[name].split()[0]


def test_events_go_to_a_descriptor(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    argv = [COMMAND, "relay", "--certificate-dir", str(tmp_path), "--events", f"fd:{writer}"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, pass_fds=[writer]) as process:
        os.close(writer)
        with os.fdopen(reader) as events:
            ready = Event.loads(events.readline())
        assert ready.name == "ready"
        assert ready.data["address"].startswith("0.0.0.0:")
        # Whoever read the events is gone: the relay serves on, and ends in order.
        port = int(ready.data["address"].rpartition(":")[2])
        client = Client(TransportAddress("127.0.0.1", port), b"k" * 16, "127.0.0.1")
        client.leg.register(1)
        until(client, lambda: bool(client.events))
        client.socket.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) == 0


class TestRefusals:
    """One line that says what is wrong."""

    @staticmethod
    def refused(error: type[QuicpipeLabError], says: str, **options: Any) -> None:
        with pytest.raises(error, match=says) as caught:
            run_relay(RelayOptions(**options))
        assert "\n" not in str(caught.value)

    def test_port_in_use(self, tmp_path: Path) -> None:
        with open_socket("127.0.0.1", 0) as taken:
            port = taken.getsockname()[1]
            self.refused(
                QuicpipeLabError,
                f"cannot listen at 127.0.0.1:{port}: Address already in use",
                certificate_directory=tmp_path,
                host="127.0.0.1",
                port=port,
            )

    @pytest.mark.parametrize("host", ["192.0.2.77", "no.such.name.invalid", "1.2.3.4.5", "\0"])
    def test_bad_addresses(self, tmp_path: Path, host: str) -> None:
        says = "cannot listen at"
        self.refused(QuicpipeLabError, says, certificate_directory=tmp_path, host=host)

    @pytest.mark.parametrize("port", [65536, -1])
    def test_bad_ports(self, tmp_path: Path, port: int) -> None:
        says = "cannot listen at"
        self.refused(
            QuicpipeLabError, says, certificate_directory=tmp_path, host="127.0.0.1", port=port
        )

    def test_xdp(self, tmp_path: Path) -> None:
        self.refused(
            QuicpipeLabError,
            "--xdp eth99: there is no such interface",
            certificate_directory=tmp_path,
            xdp=("lo", "eth99"),
        )

    def test_xdp_without_root(self) -> None:
        argv, env = python_of_nobody()
        argv += ["-m", "quicpipe_lab.cli", "relay", "--bind", "127.0.0.1:0", "--ephemeral"]
        done = subprocess.run(
            [*argv, "--xdp", "lo"], env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 3
        assert done.stderr == "quicpipe-lab: --xdp needs root; run it as root: sudo quicpipe-lab\n"

    def test_strict_without_token(self, tmp_path: Path) -> None:
        self.refused(QuicpipeLabError, "--token", certificate_directory=tmp_path, strict=True)

    @pytest.mark.parametrize("target", ["/no/such/folder/events", "fd:99"])
    def test_events(self, tmp_path: Path, target: str) -> None:
        self.refused(QuicpipeLabError, target, certificate_directory=tmp_path, events=target)

    @pytest.mark.parametrize("option", ["qlog", "keylog"])
    def test_logs(self, tmp_path: Path, option: str) -> None:
        (tmp_path / "file").touch()
        path = tmp_path / "file" / "below"
        self.refused(
            QuicpipeLabError,
            f"{option} {path}.*: Not a directory",
            certificate_directory=tmp_path,
            **{option: path},
        )


def test_the_command_prints_one_line_and_exits_with_2(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        argv = [COMMAND, "relay", "--bind", f"127.0.0.1:{taken.getsockname()[1]}"]
        argv += ["--certificate-dir", str(tmp_path)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "Address already in use" in done.stderr
    assert done.stderr.count("\n") == 1
