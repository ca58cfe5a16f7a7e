"""The part of the XDP filter's benchmark that needs traffic: what packets cost, how long they take.

Sender and sink are on the core router, each relay on a host with a link of its own, native XDP on
both ends of every link. A sender hands the kernel runs of datagrams (UDP GSO), which it splits on
the way to the link, as a network card's queue would fill; it also prints its own limit, into an
interface that drops everything. What a relay's packet costs is all processor time from there on:
the sender's system calls, within which the kernel does the receiving, the filter and the sending
back, the relay's process, and the kernel's threads for what could not be done at once (ksoftirqd),
less what the same sending costs into the interface that drops.
"""

import contextlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from quicpipe_lab.backends.netns.lab import Lab, Process
from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.topology import CORE, Link, Relay, Topology
from tests.bench import Row, median, skipped
from tests.bench._programs import COTURN_READY, PYTHON, Program, coturn_argv, cpu_s, serving
from tests.folders import vanishing_folder

ROUNDS = 5
FOR_S = 0.7
SHARED_RATE = 40_000
"""What everyone here can forward without loss, in datagrams a second."""
RATES = (1_000, 10_000, 100_000)
LEAST_TIMES_COTURN = 10.0
_PORT = 4433
_MODULE = "_xdp_load"

_RELAY = """
import sys
from pathlib import Path
from quicpipe_lab.protocol.relay_limits import RelayLimits
from quicpipe_lab.shell.relay_program import RelayOptions, run_relay
limits = RelayLimits(packets_per_s=1e9, bytes_per_s=1e12, linger_s=3600)
directory, host, port, mode = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
xdp = ("core",) if mode else ()
run_relay(RelayOptions(certificate_directory=directory, host=host, port=port, limits=limits,
                       xdp=xdp, xdp_mode=mode or None))
"""
"""The relay's program, without the limit on what one sender may send, which is below what it can
forward, and with bindings that outlive their connections, which are left to themselves."""


@dataclass(frozen=True, slots=True)
class Way:
    """``relay``: the host's name. ``how``: to get there, in _xdp_load's words."""

    relay: str
    label: str
    how: str = "relay"


REFUSED = Way("refused", "veth alone: dropped at the relay's end by XDP", "plain")
REFLECTED = Way("reflected", "veth and back: XDP_TX with swapped MAC addresses", "plain")
NATIVE = Way("native", "XDP filter, native")
GENERIC = Way("generic", "XDP filter, generic")
USERSPACE = Way("userspace", "quicpipe-lab relay in userspace")
TURN = Way("turn", "coturn's ChannelData", "turn")
_NOWHERE = "10.99.0.2:9"
"""Behind an interface that drops everything."""

Costs = dict[Way, list[float]]

_WAYS = (REFUSED, REFLECTED, NATIVE, GENERIC, USERSPACE, TURN)


class Bench:
    """Everything up; a context manager."""

    def __init__(self) -> None:
        self.ways = [way for way in _WAYS if way is not TURN or shutil.which("turnserver")]
        self._topology = Topology(
            "xdp-bench",
            tuple(Relay(way.relay) for way in self.ways),
            tuple(Link((CORE, way.relay)) for way in self.ways),
        )
        self._stack = ExitStack()
        self._senders: dict[str, Program] = {}
        self._servers: dict[str, Process] = {}
        self._kernel = _kernel_threads()

    def __enter__(self) -> "Bench":
        with ExitStack() as stack:
            directory = stack.enter_context(vanishing_folder())
            lab = stack.enter_context(Lab(self._topology))
            names = [way.relay for way in self.ways]
            self._sink = stack.enter_context(Program(lab, CORE, _MODULE, "sink", *names))
            for way in self.ways:
                server = stack.enter_context(self._server(lab, way, directory))
                if server is not None:
                    self._servers[way.relay] = server
            for way in self.ways:
                at = f"{self._address(way.relay)}:{_PORT}"
                self._senders[way.relay] = stack.enter_context(
                    Program(lab, CORE, _MODULE, "send", way.how, "--server", at)
                )
            self._nowhere = stack.enter_context(
                Program(lab, CORE, _MODULE, "send", "nowhere", "--server", _NOWHERE)
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _address(self, relay: str) -> str:
        return str(self._topology.uplinks[relay].lower_address)

    @contextlib.contextmanager
    def _server(self, lab: Lab, way: Way, directory: Path) -> Iterator[Process | None]:
        own = directory / way.relay
        own.mkdir()
        address = self._address(way.relay)
        if way.how == "plain":
            name = {REFUSED: "refuse", REFLECTED: "reflect"}[way]
            with Program(lab, way.relay, _MODULE, "attach", name, CORE):
                yield None
        elif way is TURN:
            argv = coturn_argv(address, _PORT, own)
            with serving(lab, way.relay, argv, own / "log", COTURN_READY) as process:
                yield process
        else:
            mode = "" if way is USERSPACE else way.relay
            argv = [PYTHON, "-c", _RELAY, str(own), address, str(_PORT), mode]
            with serving(lab, way.relay, argv, own / "log", "fingerprint") as process:
                yield process

    def measure(self, way: Way | None, rate: int, *, stamped: bool = False) -> "Measured":
        """``way`` None: into the interface that drops."""
        sender = self._nowhere if way is None else self._senders[way.relay]
        server = None if way is None else self._servers.get(way.relay)
        others = [*self._kernel, *([server.pid] if server else [])]
        self._sink.ask()
        before_s = cpu_s(others)
        sent = sender.ask(for_s=FOR_S, rate=rate, stamped=stamped)
        seen = self._sink.ask()
        took_s = cpu_s(others) - before_s + sent.get("cpu_s", 0.0)
        return Measured(
            sent["sent"], seen["arrived"], sent["took_s"], took_s, seen["median_s"], seen["p99_s"]
        )


@dataclass(frozen=True, slots=True)
class Measured:
    """``cpu_s`` is of the whole; the delays are None where nothing was stamped."""

    sent: int
    arrived: int
    took_s: float
    cpu_s: float
    median_s: float | None
    p99_s: float | None

    @property
    def lost(self) -> float:
        """As a fraction."""
        return 1 - self.arrived / self.sent


def _kernel_threads() -> list[int]:
    """ksoftirqd of every processor: it does what interrupts' and senders' time does not suffice
    for."""
    names = {int(path.parent.name): path.read_text() for path in Path("/proc").glob("[0-9]*/comm")}
    return [pid for pid, name in names.items() if name.startswith("ksoftirqd/")]


# What comes of it


def rows() -> list[Row]:
    """Of both items. Raises BackendUnavailableError."""
    with Bench() as bench:
        full: Costs = {way: [] for way in bench.ways}
        shared: Costs = {way: [] for way in bench.ways}
        found = [*_costs(bench, 0, full), *_costs(bench, SHARED_RATE, shared)]
        if TURN in full:
            found.append(_at_best(full, shared))
        return found + _delays(bench)


def _at_best(*loads: Costs) -> Row:
    """Each at the load at which it takes least: coturn is not blamed for what is too much for
    it, nor the filter for what wakes it up seldom."""
    native, turn = (min(median(load[way]) for load in loads) for way in (NATIVE, TURN))
    note = f"{1e9 / native:,.0f} a second of processor time, coturn {1e9 / turn:,.0f}"
    limit = 1 / LEAST_TIMES_COTURN
    what = f"at the best load of each: {NATIVE.label}, CPU"
    return Row(what, native, "ns", native / turn, "coturn", limit, note)


def _costs(bench: Bench, rate: int, costs: Costs) -> list[Row]:
    """``rate`` 0: as many as go, from one processor. Fills ``costs``: nanoseconds by round."""
    own: list[Measured] = []
    arrived: dict[Way, list[float]] = {way: [] for way in bench.ways}
    for counted in range(-1, ROUNDS):
        nowhere = bench.measure(None, rate)
        measured = {way: bench.measure(way, rate) for way in bench.ways}
        if counted < 0:
            continue
        own.append(nowhere)
        for way, one in measured.items():
            cost_s = one.cpu_s - one.sent * nowhere.cpu_s / nowhere.sent
            count = one.sent if way is REFUSED else one.arrived
            if not count:
                raise QuicpipeLabError(f"nothing came of {one.sent} datagrams: {way.label}")
            costs[way].append(1e9 * cost_s / count)
            arrived[way].append(one.arrived / one.took_s)
    load = f"{rate:,}/s" if rate else "full load"
    per_s = median([one.sent / one.took_s for one in own])
    own_ns = median([1e9 * one.cpu_s / one.sent for one in own])
    found = [Row(f"{load}: the sender's own limit", per_s, "datagrams/s", note=f"{own_ns:.0f} ns")]
    for way in bench.ways:
        found += _cost_rows(f"{load}: {way.label}", way, costs, arrived[way] if not rate else [])
    if TURN not in costs:
        found.append(skipped(f"{load}: {TURN.label}", "coturn is not installed"))
    return found


def _cost_rows(what: str, way: Way, costs: Costs, arrived: list[float]) -> list[Row]:
    note = f"{1e9 / median(costs[way]):,.0f} a second of processor time"
    ratio, against = None, ""
    if TURN in costs and way is not TURN:
        pairs = zip(costs[way], costs[TURN], strict=True)
        ratio, against = median([ours / coturns for ours, coturns in pairs]), "coturn"
    found = [Row(f"{what}, CPU", median(costs[way]), "ns", ratio, against, None, note)]
    if way is not REFUSED and arrived:
        found.append(Row(f"{what}, arriving", median(arrived), "datagrams/s"))
    return found


def _delays(bench: Bench) -> list[Row]:
    """Added to what the link and its two ends take by themselves."""
    found = []
    ways = [way for way in bench.ways if way is not REFUSED]
    for rate in RATES:
        medians: dict[Way, list[float]] = {way: [] for way in ways}
        lates: dict[Way, list[float]] = {way: [] for way in ways}
        losses: dict[Way, list[str]] = {way: [] for way in ways}
        for counted in range(-1, ROUNDS):
            for way in ways:
                one = bench.measure(way, rate, stamped=True)
                if counted < 0 or one.median_s is None or one.p99_s is None:
                    continue
                medians[way].append(1e6 * one.median_s)
                lates[way].append(1e6 * one.p99_s)
                losses[way].append(f"{one.sent / one.took_s:,.0f}/s sent, {one.lost:.1%} lost")
        for name, delays in (("median", medians), ("p99", lates)):
            least = median(delays[REFLECTED])
            for way in ways:
                delay = median(delays[way])
                added = "" if way is REFLECTED else f"{delay - least:+.1f} us to veth alone; "
                note = f"{added}{losses[way][-1]}"
                found.append(Row(f"{rate:,}/s: {way.label}, {name}", delay, "us", note=note))
    return found
