"""What becomes of each packet on a link: pure and deterministic, the same for every backend.

One ``LinkModel`` is one direction. A packet passes these stages, in this order:

1. longer than the MTU: dropped;
2. duplicated or not, lost or not, corrupted or not;
3. the delay with its jitter, in order: none arrives before the one that was admitted before it;
4. a queue with a rate behind it, first in, first out.

That the delay comes before the queue makes no difference to anybody outside as long as it is
constant. It is this way because jitter then never lifts the rate, and because Linux's netem, which
the netns backend may use instead, works in this order.
"""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from quicpipe_lab.model.link import LinkBehavior

_ROUNDING_BYTES = 0.5
"""A queue that is exactly full must not overflow by rounding alone: the clock is a double, which
tells 4 ns apart after a year, and that is half a byte at 1 Gbit/s."""


class Drop(StrEnum):
    """Why a packet, or a copy of it, does not come out."""

    LOSS = "loss"
    BURST = "burst"
    QUEUE = "queue"
    MTU = "mtu"


class Fate(NamedTuple):
    """Of one copy: when it comes out and which of its bits is flipped, or why it does not."""

    out_s: float | None
    flipped_bit: int | None = None
    drop: Drop | None = None


@dataclass(slots=True)
class LinkCounters:
    """What has become of the packets of one direction. Every copy is delivered or dropped:
    ``packets + duplicated == delivered + sum(dropped.values())``.

    ``missed`` are packets that a backend lost by its own fault, before or after they were counted.
    """

    packets: int = 0
    packet_bytes: int = 0
    delivered: int = 0
    delivered_bytes: int = 0
    duplicated: int = 0
    corrupted: int = 0
    reordered: int = 0
    dropped: dict[Drop, int] = field(default_factory=lambda: dict.fromkeys(Drop, 0))
    missed: int = 0


class LinkModel:
    """One direction of a link: the same seed and the same packets give the same fates."""

    def __init__(self, behavior: LinkBehavior, seed: str) -> None:
        self.counters = LinkCounters()
        self._behavior = behavior
        self._random = random.Random(seed)
        self._in_burst = False
        self._last_arrival_s = 0.0
        self._free_s = 0.0
        """When the last of the queue will have been sent."""

    @property
    def behavior(self) -> LinkBehavior:
        """As it is now."""
        return self._behavior

    def change(self, behavior: LinkBehavior) -> None:
        """From the next packet on. Those admitted before keep their fates, and their lead."""
        if behavior.rate_bps is None:
            self._last_arrival_s = max(self._last_arrival_s, self._free_s)
        if behavior.burst_loss is None:
            self._in_burst = False
        self._behavior = behavior

    def admit(self, size_bytes: int, now_s: float) -> list[Fate]:
        """The fate of every copy of an IP packet of this size; ``now_s`` never goes back."""
        behavior, counters = self._behavior, self.counters
        counters.packets += 1
        counters.packet_bytes += size_bytes
        if size_bytes > behavior.mtu_bytes:
            return [self._dropped(Drop.MTU)]
        is_double = behavior.duplicate > 0 and self._random.random() < behavior.duplicate
        lost = self._loss()
        first = self._dropped(lost) if lost else self._pass(size_bytes, now_s)
        if not is_double:
            return [first]
        counters.duplicated += 1
        # As netem has it: the copy makes good for a loss, and is at risk itself where there is none
        lost = None if lost else self._loss()
        return [first, self._dropped(lost) if lost else self._pass(size_bytes, now_s)]

    def _loss(self) -> Drop | None:
        burst_loss = self._behavior.burst_loss
        if burst_loss is not None:
            if self._in_burst:
                chance, change = burst_loss.loss_within, burst_loss.leave
            else:
                chance, change = burst_loss.loss_outside, burst_loss.enter
            is_lost = self._random.random() < chance
            if self._random.random() < change:
                self._in_burst = not self._in_burst
            if is_lost:
                return Drop.BURST
        loss = self._behavior.loss
        return Drop.LOSS if loss > 0 and self._random.random() < loss else None

    def _pass(self, size_bytes: int, now_s: float) -> Fate:
        """Stages 3 and 4."""
        behavior, counters, draw = self._behavior, self.counters, self._random
        flipped_bit = None
        if behavior.corrupt > 0 and draw.random() < behavior.corrupt:
            flipped_bit = draw.randrange(size_bytes * 8)
        skips_delay = behavior.reorder > 0 and draw.random() < behavior.reorder
        out_s = now_s
        if behavior.rate_bps is not None:
            arrival_s = self._arrival(now_s)
            start_s = max(arrival_s, self._free_s)
            queue_bytes = behavior.queue_bytes
            if queue_bytes is not None:
                waiting_bytes = (start_s - arrival_s) * behavior.rate_bps / 8
                if waiting_bytes + size_bytes > queue_bytes + _ROUNDING_BYTES:
                    return self._dropped(Drop.QUEUE)
            out_s = self._free_s = start_s + size_bytes * 8 / behavior.rate_bps
            if skips_delay:
                out_s -= arrival_s - now_s
        elif not skips_delay:
            out_s = self._arrival(now_s)
        counters.delivered += 1
        counters.delivered_bytes += size_bytes
        counters.reordered += skips_delay
        counters.corrupted += flipped_bit is not None
        return Fate(out_s, flipped_bit)

    def _arrival(self, now_s: float) -> float:
        behavior = self._behavior
        arrival_s = now_s + behavior.delay_s
        if behavior.jitter_s:
            arrival_s += behavior.jitter_s * (2 * self._random.random() - 1)
        self._last_arrival_s = max(arrival_s, self._last_arrival_s)
        return self._last_arrival_s

    def _dropped(self, why: Drop) -> Fate:
        self.counters.dropped[why] += 1
        return Fate(None, None, why)
