"""How many ICMP errors a Linux machine sends to one address (RFC 1812, 4.3.2.8)."""

_SECONDS_EACH = 1.0
"""icmp_ratelimit, and ICMPv6's ratelimit."""
_AT_ONCE = 6
"""net/ipv4/inetpeer.c, XRLIM_BURST_FACTOR."""
_LEAST_TO_SWEEP = 256


class IcmpLimit:
    """A bucket of tokens for each destination, one a second."""

    def __init__(self) -> None:
        self._buckets: dict[str, tuple[float, float]] = {}
        """How full, and when that was."""
        self._sweep_at = _LEAST_TO_SWEEP

    def allows(self, destination: str, now_s: float) -> bool:
        """Whether one more may be sent; it then counts."""
        tokens, then_s = self._buckets.get(destination, (float(_AT_ONCE), now_s))
        tokens = min(float(_AT_ONCE), tokens + (now_s - then_s) / _SECONDS_EACH)
        allowed = tokens >= 1.0
        self._buckets[destination] = tokens - allowed, now_s
        if len(self._buckets) >= self._sweep_at:
            self._sweep(now_s)
        return allowed

    def _sweep(self, now_s: float) -> None:
        full_after_s = _AT_ONCE * _SECONDS_EACH
        self._buckets = {
            one: bucket for one, bucket in self._buckets.items() if now_s - bucket[1] < full_after_s
        }
        self._sweep_at = max(_LEAST_TO_SWEEP, 2 * len(self._buckets))
