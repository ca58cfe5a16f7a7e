"""What a forwarded datagram costs the relay in userspace, against coturn's ChannelData."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from quicpipe_lab.backends.netns.lab import Lab, Process
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.topology import CORE, Host, Link, Relay, Topology
from tests.bench import Row, median, skipped
from tests.bench._programs import COTURN_READY, PYTHON, Program, coturn_argv, cpu_s, serving
from tests.folders import vanishing_folder

TITLE = (
    "Relaying datagrams of 1200 bytes in userspace: user and system CPU time of the relaying "
    "process (softirq time is part of it only where it interrupts that process)"
)

_ROUNDS = 3
_FOR_S = 1.0
_PACED_PER_S = 10_000
_COTURN_PORT, _RELAY_PORT = 3478, 4433
_TOPOLOGY = Topology(
    "relay-bench",
    (Relay("relay"), Host("sender"), Host("receiver")),
    tuple(Link((name, CORE)) for name in ("relay", "sender", "receiver")),
)

_UNLIMITED_RELAY = """
import sys
from pathlib import Path
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.shell.relay_program import RelayOptions, run_relay
limits = RelayLimits(packets_per_s=1e9, bytes_per_s=1e12)
directory, host, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
run_relay(RelayOptions(certificate_directory=directory, host=host, port=port, limits=limits))
"""
"""The relay's program, without the limit on what one sender may send, which is below what it can
forward."""


@dataclass(frozen=True, slots=True)
class _Load:
    """How datagrams are sent: ``rate`` 0 is as many as go, in batches of 64 a system call.

    ``limit``: of the relay's CPU time a datagram, as a multiple of coturn's.
    """

    name: str
    gso: bool
    rate: int
    gro: bool = False
    limit: float | None = 1.0


_LOADS = (
    _Load("full load", gso=False, rate=0),
    _Load("full load, sender with GSO, receiver with GRO", gso=True, rate=0, gro=True),
    # Every datagram wakes a sleeping process: here interpreted Python costs more than C does, and
    # only to hold datagrams back, which costs latency, would change that. Reported, not limited.
    _Load(f"{_PACED_PER_S}/s, one by one", gso=False, rate=_PACED_PER_S, limit=None),
)


@dataclass(frozen=True, slots=True)
class _Measured:
    """``cpu_s`` and ``per_s``: for each datagram that arrived, and of them."""

    cpu_s: float
    per_s: float
    sent_per_s: float


def run() -> list[Row]:
    rows: list[Row] = []
    with vanishing_folder() as directory, Lab(_TOPOLOGY) as lab:
        ways = {"direct": _direct(lab), "relay": _relay(lab, directory)}
        if shutil.which("turnserver"):
            ways["turn"] = _coturn(lab, directory)
        with contextlib.ExitStack() as stack:
            paths = {name: stack.enter_context(way) for name, way in ways.items()}
            for load in _LOADS:
                results: dict[str, list[_Measured]] = {name: [] for name in paths}
                for counted in range(-1, _ROUNDS):
                    for name, path in paths.items():
                        measured = path.measure(load)
                        if counted >= 0:
                            results[name].append(measured)
                rows += _rows(load, results)
    return rows


def _rows(load: _Load, results: dict[str, list[_Measured]]) -> list[Row]:
    def cost_us(way: str) -> float:
        return 1e6 * median([one.cpu_s for one in results[way]])

    def per_s(way: str) -> float:
        return median([one.per_s for one in results[way]])

    note = "the two ends alone, on one processor"
    rows = [Row(f"{load.name}: without a relay", per_s("direct"), "datagrams/s", note=note)]
    what = f"{load.name}: coturn"
    if "turn" in results:
        rows.append(Row(f"{what}, CPU a datagram", cost_us("turn"), "us"))
        rows.append(Row(f"{what}, arriving", per_s("turn"), "datagrams/s"))
        ratio, against = cost_us("relay") / cost_us("turn"), "coturn"
    else:
        rows.append(skipped(what, "coturn is not installed"))
        ratio, against = None, ""
    ours = f"{load.name}: quicpipe-lab relay"
    sent_per_s = median([one.sent_per_s for one in results["relay"]])
    rows.append(
        Row(
            f"{ours}, CPU a datagram",
            cost_us("relay"),
            "us",
            ratio,
            against,
            load.limit if ratio is not None else None,
        )
    )
    note = f"{sent_per_s:.0f} were sent"
    rows.append(Row(f"{ours}, arriving", per_s("relay"), "datagrams/s", note=note))
    return rows


class _Path:
    """A sender and a receiver with whatever lies between."""

    def __init__(self, sender: Program, receiver: Program, server: Process | None) -> None:
        self._sender = sender
        self._receiver = receiver
        self._server = server

    def measure(self, load: _Load) -> _Measured:
        self._receiver.ask(gro=load.gro)
        before_s = self._cpu_s()
        sent = self._sender.ask(for_s=_FOR_S, gso=load.gso, rate=load.rate)
        received = self._receiver.ask()
        took_cpu_s = self._cpu_s() - before_s
        if not received["received"]:
            raise QuicpipeLabError(f"the relay's benchmark: {sent} went out, {received} came")
        count, took_s = received["received"], sent["took_s"]
        return _Measured(took_cpu_s / count, count / took_s, sent["sent"] / took_s)

    def _cpu_s(self) -> float:
        return 0.0 if self._server is None else cpu_s([self._server.pid])


def _address(node: str) -> str:
    return str(_TOPOLOGY.uplinks[node].lower_address)


@contextlib.contextmanager
def _pair(lab: Lab, way: str, server: str, process: Process | None) -> Iterator[_Path]:
    """Both ends on one processor, so that the relaying process has the other to itself."""
    given = ["--server", server] if server else []
    receiver = Program(lab, "receiver", "_relay_load", way, "receive", *given)
    peer = f"{_address('receiver')}:{receiver.ready['port']}"
    sender = Program(lab, "sender", "_relay_load", way, "send", "--peer", peer, *given)
    try:
        yield _Path(sender, receiver, process)
    finally:
        sender.close()
        receiver.close()


@contextlib.contextmanager
def _direct(lab: Lab) -> Iterator[_Path]:
    with _pair(lab, "direct", "", None) as path:
        yield path


@contextlib.contextmanager
def _relay(lab: Lab, directory: Path) -> Iterator[_Path]:
    argv = [PYTHON, "-c", _UNLIMITED_RELAY, str(directory)]
    argv += [_address("relay"), str(_RELAY_PORT)]
    with (
        serving(lab, "relay", argv, directory / "relay.log", "fingerprint") as process,
        _pair(lab, "relay", f"{_address('relay')}:{_RELAY_PORT}", process) as path,
    ):
        yield path


@contextlib.contextmanager
def _coturn(lab: Lab, directory: Path) -> Iterator[_Path]:
    address = _address("relay")
    argv = coturn_argv(address, _COTURN_PORT, directory)
    with (
        serving(lab, "relay", argv, directory / "turn.log", COTURN_READY) as process,
        _pair(lab, "turn", f"{address}:{_COTURN_PORT}", process) as path,
    ):
        yield path
