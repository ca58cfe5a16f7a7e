"""How much anybody may ask of the relay, and what measures it: by rate, and by host."""

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """Every bound of the relay. A host is an IPv4 address or an IPv6 /64.

    ``unvalidated_connections``: with so many half open, a newcomer is first asked to show that
    it receives at its address (Retry). ``ids_per_call`` counts those that are new by a call;
    ``ids_per_owner`` all that one HTTP/3 connection holds. ``linger_s``: how long a binding
    outlives its HTTP/3 connection and the last datagram from its address. Packets and bytes are
    those that one address sends through us.

    ``connections_per_host`` and ``ids_per_host``: an eighth of the whole, so that no host can shut
    the others out, and as much as that, because a carrier's NAT has many peers behind one address.
    IDs count whether or not the connection lives that asked for them.
    """

    connections: int = 1024
    connections_per_host: int = 128
    half_open_connections: int = 256
    unvalidated_connections: int = 64
    handshake_timeout_s: float = 10.0
    idle_timeout_s: float = 60.0
    requests_per_connection: int = 64
    ids_per_call: int = 64
    ids_per_owner: int = 256
    ids_per_host: int = 16_384
    bindings: int = 131_072
    requests_per_s: float = 8.0
    requests_burst: float = 128.0
    linger_s: float = 60.0
    packets_per_s: float = 200_000.0
    bytes_per_s: float = 125_000_000.0
    burst_s: float = 0.1
    mailbox_messages: int = 1024
    mailbox_waiters: int = 1024
    mailbox_message_bytes: int = 4096
    mailbox_keep_s: float = 120.0
    mailbox_wait_s: float = 30.0


class TokenBucket:
    """Admits ``rate_per_s`` units a second on average and ``burst`` at once.

    A batch is admitted as a whole while anything is left, and what it takes too much is a debt:
    the average holds, and a batch larger than the bucket still passes some time.
    """

    __slots__ = ("_at_s", "_left", "burst", "rate_per_s")

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._left = burst
        self._at_s = now

    def take(self, units: float, now: float) -> bool:
        """Whether so many units may pass now."""
        left = min(self.burst, self._left + (now - self._at_s) * self.rate_per_s)
        self._at_s = now
        admitted = left > 0
        self._left = left - units if admitted else left
        return admitted

    def is_full(self, now: float) -> bool:
        """Whether it has recovered from everything, so that a new one would do as well."""
        return self._left + (now - self._at_s) * self.rate_per_s >= self.burst


class HostBuckets:
    """A token bucket for each host that asks; bounded, and it fails closed."""

    MAX_HOSTS = 16_384

    def __init__(self, rate_per_s: float, burst: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._buckets: dict[int, TokenBucket] = {}

    def take(self, host: str, now: float) -> bool:
        """Whether one more request of this host may pass now."""
        key = host_key(host)
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self.MAX_HOSTS:
                self._forget_idle(now)
            if len(self._buckets) >= self.MAX_HOSTS:
                return False
            bucket = self._buckets[key] = TokenBucket(self._rate_per_s, self._burst, now)
        return bucket.take(1, now)

    def _forget_idle(self, now: float) -> None:
        idle = [key for key, bucket in self._buckets.items() if bucket.is_full(now)]
        for key in idle:
            del self._buckets[key]


class Share:
    """How many one holder has, and the host that they count for."""

    __slots__ = ("count", "host")

    def __init__(self) -> None:
        self.count = 0
        self.host: int | None = None


class HostCounts:
    """How many of something all hosts have, of which none may have more than ``most``.

    A holder that moves to a host without room keeps what it has, and goes on counting for the host
    that it came from: no move fails, and no host is ever beyond its bound.
    """

    def __init__(self, most: int) -> None:
        self.total = 0
        self._most = most
        self._counts: dict[int, int] = {}

    def payer(self, share: Share, host: int, count: int) -> int | None:
        """The host that so many would count for, had the holder them at this host; None where
        there is no room for more. Changes nothing."""
        for one in (host, share.host):
            if one is not None:
                others = self._counts.get(one, 0) - (share.count if one == share.host else 0)
                if others + count <= self._most:
                    return one
        return None

    def set(self, share: Share, host: int | None, count: int) -> None:
        """The holder has so many from now on, and they count for this host (for None: nobody)."""
        for one, change in ((share.host, -share.count), (host, count)):
            if one is not None:
                left = self._counts.pop(one, 0) + change
                if left:
                    self._counts[one] = left
                self.total += change
        share.host, share.count = host, count


def host_key(host: str) -> int:
    """One number for everything that one subscriber can easily send from."""
    address = ipaddress.ip_address(host.partition("%")[0])
    return int(address) if address.version == 4 else -(int(address) >> 64) - 1
