"""Token buckets by host, and many timers behind one."""

from hypothesis import given
from hypothesis import strategies as st

from quicpipe_lab.protocol.relay_limits import HostBuckets, TokenBucket
from quicpipe_lab.protocol.timers import Timers


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 20)), max_size=60))
def test_a_bucket_admits_its_burst_and_its_rate(steps: list[tuple[float, float]]) -> None:
    """Over any time: never more than burst, rate and one batch of debt."""
    bucket = TokenBucket(rate_per_s=10.0, burst=5.0, now=0.0)
    now = admitted = 0.0
    for pause_s, units in steps:
        now += pause_s
        if bucket.take(units, now):
            admitted += units
        assert admitted <= 5.0 + 10.0 * now + 20.0


def test_a_batch_larger_than_the_bucket_passes_and_is_paid_for() -> None:
    bucket = TokenBucket(rate_per_s=10.0, burst=5.0, now=0.0)
    assert bucket.take(25, 0.0)
    assert not bucket.take(1, 1.9)
    assert bucket.take(1, 2.1)


class TestHosts:
    def test_ports_and_ipv6_hosts_of_one_network_share(self) -> None:
        buckets = HostBuckets(rate_per_s=0.0, burst=1.0)
        assert buckets.take("2001:db8::1", 0.0)
        assert not buckets.take("2001:db8::ffff:2", 0.0)
        assert buckets.take("2001:db8:0:1::1", 0.0)
        assert buckets.take("192.0.2.1", 0.0)
        assert buckets.take("192.0.2.2", 0.0)
        assert not buckets.take("192.0.2.1", 0.0)
        assert buckets.take("fe80::1%2", 0.0)

    def test_what_is_kept_is_bounded_and_fails_closed(self) -> None:
        buckets = HostBuckets(rate_per_s=1.0, burst=1.0)
        hosts = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(HostBuckets.MAX_HOSTS)]
        assert all(buckets.take(host, 0.0) for host in hosts)
        assert not buckets.take("192.0.2.1", 0.5)  # all of them are in use
        assert buckets.take("192.0.2.1", 1.5)  # the first ones have recovered


@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 20).map(float)), max_size=80
    ),
    st.integers(0, 20),
)
def test_timers_are_a_dictionary_with_a_minimum(
    steps: list[tuple[str, float | None]], now: int
) -> None:
    timers: Timers[str] = Timers()
    model: dict[str, float] = {}
    for key, at_s in steps:
        timers.set(key, at_s)
        model.pop(key, None)
        if at_s is not None:
            model[key] = at_s
        assert timers.next_s() == min(model.values(), default=None)
    due = timers.due(float(now))
    assert sorted(due) == sorted(key for key, at_s in model.items() if at_s <= now)
    assert [model[key] for key in due] == sorted(model[key] for key in due)
    assert timers.next_s() == min((t for t in model.values() if t > now), default=None)


def test_timers_that_are_set_again_and_again_take_no_more_room() -> None:
    timers: Timers[str] = Timers()
    for number in range(10_000):
        timers.set("one", float(number))
    assert len(timers._heap) < 100
    assert timers.next_s() == 9999.0
