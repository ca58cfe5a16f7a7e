"""Links as data: what a link does to the packets that go through it, one direction at a time.

What each field means exactly is decided by ``LinkModel`` (link_model.py), whichever backend a
link runs on. Named links, with their sources, are in link_presets.py.
"""

from dataclasses import asdict, dataclass
from typing import Any

from quicpipe_lab.errors import ScenarioError

LEAST_MTU_BYTES = 68
"""RFC 791, 3.2: every link carries 68 bytes in one piece."""
MOST_MTU_BYTES = 65535
"""The longest packet that IPv4's length field can tell."""

MOST_DELAY_S = 3600.0
"""The Sun's light takes 8 minutes to us; beyond an hour nobody's QUIC is left waiting."""
LEAST_RATE_BPS, MOST_RATE_BPS = 1.0, 1e12
"""A full packet takes hours at the one; at the other, 1 Tbit/s, it takes as good as no time."""
MOST_QUEUE_BYTES = 2**32
"""No router buffers more; what waits in a lab's queue is in this machine's memory."""


@dataclass(frozen=True, slots=True)
class BurstLoss:
    """Loss that comes in bursts: the chain of two states of Gilbert (1960) and Elliott (1963).

    A packet finds the link outside a burst or in one, is lost with the chance that goes with it,
    and then the link may change over. The four are those of ``loss gemodel`` in tc-netem(8), there
    called p, r, 1-h and 1-k.

    ``enter``, ``leave``: the chance, a packet, that a burst begins or ends; the mean burst is
    ``1 / leave`` packets. ``loss_within``, ``loss_outside``: the chance that a packet is lost.
    """

    enter: float
    leave: float
    loss_within: float = 1.0
    loss_outside: float = 0.0

    def __post_init__(self) -> None:
        for name in ("enter", "leave", "loss_within", "loss_outside"):
            _require_fraction(f"burst_loss.{name}", getattr(self, name))
        if self.enter > 0 and self.leave == 0:
            raise ScenarioError("burst_loss.leave", "is above 0: a burst must end some time")

    @property
    def mean(self) -> float:
        """The fraction lost in the long run."""
        if self.enter == 0:
            return self.loss_outside
        within = self.enter / (self.enter + self.leave)
        return within * self.loss_within + (1 - within) * self.loss_outside


@dataclass(frozen=True, slots=True)
class LinkBehavior:
    """One direction of a link. Raises ScenarioError, with the field as its path.

    ``delay_s``: how long a packet travels, an hour at most.
    ``jitter_s``: the delay of each packet is drawn evenly from ``delay_s`` give or take this; but
    no packet overtakes the one before it, so that at high rates the delay gathers at the upper end.
    ``loss``: the fraction lost, each packet for itself (RFC 7680's loss ratio).
    ``burst_loss``: lost in bursts, beside that.
    ``reorder``: the fraction of packets that skip the delay, and so overtake what is on its way
    (tc-netem(8); RFC 4737 says how reordering is measured).
    ``duplicate``: the fraction that is sent twice; each copy has its own luck.
    ``corrupt``: the fraction in which one bit, anywhere in the packet, is flipped.
    ``rate_bps``: bits of IP packets a second, one packet after the other, from 1 to 10^12; None: no
    limit.
    ``queue_bytes``: of IP packets that wait for the rate or are being sent, bit by bit; a packet
    that would make it more is dropped (drop-tail, RFC 7567 section 2). None: no limit, which is
    as much delay as somebody sends.
    ``mtu_bytes``: a longer IP packet is dropped and nobody is told (RFC 2923's black hole).
    """

    delay_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0
    burst_loss: BurstLoss | None = None
    reorder: float = 0.0
    duplicate: float = 0.0
    corrupt: float = 0.0
    rate_bps: float | None = None
    queue_bytes: int | None = None
    mtu_bytes: int = 1500

    def __post_init__(self) -> None:
        for name in ("delay_s", "jitter_s"):
            value = getattr(self, name)
            if not 0 <= value <= MOST_DELAY_S:
                raise ScenarioError(name, f"is 0 to {MOST_DELAY_S:g} seconds")
        for name in ("loss", "reorder", "duplicate", "corrupt"):
            _require_fraction(name, getattr(self, name))
        if self.jitter_s > self.delay_s:
            raise ScenarioError("jitter_s", f"is at most the delay of {self.delay_s:g} s")
        if self.reorder and not self.delay_s:
            raise ScenarioError("reorder", "needs a delay_s: without one nothing can be overtaken")
        if not LEAST_MTU_BYTES <= self.mtu_bytes <= MOST_MTU_BYTES:
            raise ScenarioError("mtu_bytes", f"is from {LEAST_MTU_BYTES} to {MOST_MTU_BYTES}")
        self._check_queue()

    def _check_queue(self) -> None:
        rate_bps = self.rate_bps
        if rate_bps is not None and not LEAST_RATE_BPS <= rate_bps <= MOST_RATE_BPS:
            known = f"{LEAST_RATE_BPS:g} to {MOST_RATE_BPS:g} bits a second"
            raise ScenarioError("rate_bps", f"is {known}")
        if self.queue_bytes is None:
            return
        if self.rate_bps is None:
            raise ScenarioError("queue_bytes", "needs a rate_bps: without one nothing waits")
        if self.queue_bytes < self.mtu_bytes:
            raise ScenarioError(
                "queue_bytes", f"is at least mtu_bytes, {self.mtu_bytes}: or no full packet passes"
            )
        if self.queue_bytes > MOST_QUEUE_BYTES:
            raise ScenarioError("queue_bytes", f"is at most {MOST_QUEUE_BYTES}")

    @property
    def mean_loss(self) -> float:
        """The fraction lost in the long run, apart from a full queue."""
        in_bursts = self.burst_loss.mean if self.burst_loss else 0.0
        return 1 - (1 - self.loss) * (1 - in_bursts)

    def to_data(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> "LinkBehavior":
        """The inverse. Raises ScenarioError."""
        bursts = data["burst_loss"]
        return cls(**{**data, "burst_loss": BurstLoss(**bursts) if bursts else None})


@dataclass(frozen=True, slots=True)
class LinkPreset:
    """Both directions of a kind of link: ``down`` is away from the core, ``up`` towards it."""

    down: LinkBehavior
    up: LinkBehavior


def _require_fraction(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ScenarioError(name, f"is a fraction from 0 to 1, not {value}")
