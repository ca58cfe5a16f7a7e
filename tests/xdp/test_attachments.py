"""Where the filter runs, in which mode, to which neighbour, and that nothing of it stays."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from pyroute2 import IPRoute

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.shell.xdp import Mode
from quicpipe_lab.shell.xdp_filter import MAX_INTERFACES, Filter
from quicpipe_lab.shell.xdp_hosts import OwnHosts
from quicpipe_lab.shell.xdp_interface import layer2_of
from quicpipe_lab.shell.xdp_layout import FilterReason, Layer2
from tests.xdp import kernel
from tests.xdp.kernel import ask, forwarded
from tests.xdp.packets import BINDINGS, BOB4, BOB6, CORPUS, OWN, PORT, RELAY4, RELAY6

pytestmark = pytest.mark.bpf

T = TypeVar("T")
Run = Callable[[Callable[[], T]], T]

GATEWAY4, GATEWAY6 = "192.0.2.254", "2001:db8::fe"
GATEWAY_MAC = "02:00:00:00:00:fe"
HOLDER = """
import signal
from quicpipe_lab.shell.xdp import Mode
from quicpipe_lab.shell.xdp_filter import Filter
with Filter.open(capacity=8) as filter_:
    print(filter_.attach("relay", Mode.NATIVE).mode, filter_.attach("other").mode, flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module")
def thread() -> Iterator[ThreadPoolExecutor]:
    """In a namespace with two pairs of interfaces: relay and other."""
    with kernel.namespace() as one:
        one.submit(_make_interfaces).result()
        yield one


@pytest.fixture(scope="module")
def filter_(thread: ThreadPoolExecutor) -> Iterator[Filter]:
    with thread.submit(Filter.open, capacity=64).result() as one:
        one.attach_port(PORT)
        one.set_own_addresses(OWN)
        one.add_redirects(BINDINGS)
        yield one


def _make_interfaces() -> None:
    with IPRoute() as ip:
        for name in ("relay", "other"):
            ip.link("add", ifname=name, kind="veth", peer=f"{name}-peer")
            # Or its router solicitations and the like come to the filter and are counted, too.
            Path(f"/proc/sys/net/ipv6/conf/{name}-peer/disable_ipv6").write_text("1")
            for end in (name, f"{name}-peer"):
                ip.link("set", index=_index(end), state="up")


def _index(interface: str) -> int:
    with IPRoute() as ip:
        (index,) = ip.link_lookup(ifname=interface)
        return int(index)


def _mode_of(interface: str) -> str | None:
    """In the kernel's own words; ``xdp`` is its word for native."""
    with IPRoute() as ip:
        (link,) = ip.get_links(ifname=interface)
        mode: str | None = link.get_nested("IFLA_XDP", "IFLA_XDP_ATTACHED")
        return mode


def test_natively_where_that_is_asked_for_or_loses_nothing(
    thread: ThreadPoolExecutor, filter_: Filter
) -> None:
    """Of these interfaces none does so by itself: a veth's driver can, and then drops the rest."""
    native = thread.submit(filter_.attach, "relay", Mode.NATIVE).result()
    veth = thread.submit(filter_.attach, "other").result()
    generic = thread.submit(filter_.attach, "lo").result()
    try:
        assert (native.mode, native.reason.split(";")[0]) == (Mode.NATIVE, "asked for")
        assert veth.mode is generic.mode is Mode.GENERIC
        assert veth.reason.startswith("natively a veth's other end may drop what is sent back")
        assert generic.reason.startswith("the driver does not run XDP (no native XDP on 'lo': ")
        assert filter_.attachments == [native, veth, generic]
        modes = [thread.submit(_mode_of, name).result() for name in ("relay", "lo", "other")]
        assert modes == ["xdp", "xdpgeneric", "xdpgeneric"]
    finally:
        for name in ("relay", "other", "lo"):
            filter_.detach(name)
    assert [thread.submit(_mode_of, name).result() for name in ("relay", "lo")] == [None, None]


@pytest.mark.parametrize(
    ("interface", "mode", "words"),
    [
        ("relay", Mode.OFFLOADED, "no offload XDP on 'relay': its network card does not take"),
        ("nowhere", None, "no interface 'nowhere'"),
    ],
)
def test_what_cannot_be_is_one_line(
    thread: ThreadPoolExecutor, filter_: Filter, interface: str, mode: Mode | None, words: str
) -> None:
    with pytest.raises(QuicpipeLabError, match=words) as raised:
        thread.submit(filter_.attach, interface, mode).result()
    assert "\n" not in str(raised.value)
    assert filter_.attachments == []


def test_an_attempt_that_fails_changes_nothing(thread: ThreadPoolExecutor, filter_: Filter) -> None:
    """Another filter comes to the interface, and this one itself comes again."""
    index = thread.submit(_index, "relay").result()
    thread.submit(filter_.attach, "relay", Mode.NATIVE, Layer2.SWAP).result()
    words = "on 'relay': it has an XDP program already$"
    try:
        with Filter.open(capacity=8) as other:
            for mode in (None, Mode.GENERIC, Mode.NATIVE):
                for one in (other, filter_):
                    with pytest.raises(QuicpipeLabError, match=words):
                        thread.submit(one.attach, "relay", mode, Layer2.ROUTED).result()
            other.close()  # leaving the context is once more
        assert ask(filter_, CORPUS["IPv4"].data, index).reason is FilterReason.FORWARDED
    finally:
        filter_.detach("relay")


def test_interfaces_come_and_go(thread: ThreadPoolExecutor, filter_: Filter) -> None:
    """More of them than a filter has room for at once, and some without a farewell."""

    def come_and_go() -> None:
        with IPRoute() as ip:
            for _ in range(MAX_INTERFACES + 1):
                ip.link("add", ifname="guest", kind="veth", peer="guest-peer")
                filter_.attach("guest", Mode.GENERIC, Layer2.SWAP)
                assert filter_.is_attached("guest")
                ip.link("del", index=_index("guest"))
                assert filter_.attachments == []
                filter_.detach("guest")

    thread.submit(come_and_go).result()
    assert filter_.attachments == []


def test_nothing_stays_of_a_process_that_is_killed(thread: ThreadPoolExecutor) -> None:
    command = [sys.executable, "-c", HOLDER]

    def killed() -> list[str | None]:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "native generic\n"
            attached = [_mode_of("relay"), _mode_of("other")]
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        return [*attached, _mode_of("relay"), _mode_of("other")]

    assert thread.submit(killed).result() == ["xdp", "xdpgeneric", None, None]


# --- The next hop


def _with_addresses(check: Callable[[], None], *addresses: tuple[str, int]) -> None:
    """While the interface ``relay`` has these addresses."""
    with IPRoute() as ip:
        index = _index("relay")
        for address, length in addresses:
            ip.addr("add", index=index, address=address, prefixlen=length, flags=0x02)
        try:
            check()
        finally:
            ip.flush_addr(index=index, scope=0)


@pytest.mark.parametrize(
    ("addresses", "expected"),
    [
        ([("192.0.2.1", 24)], Layer2.ROUTED),
        ([("192.0.2.1", 30)], Layer2.SWAP),
        ([("192.0.2.1", 31)], Layer2.SWAP),
        ([("2001:db8::1", 64)], Layer2.ROUTED),
        ([("2001:db8::1", 126)], Layer2.SWAP),
        ([("192.0.2.1", 30), ("2001:db8::1", 64)], Layer2.ROUTED),
        ([], Layer2.ROUTED),
    ],
)
def test_swapping_only_where_there_is_one_neighbour(
    thread: ThreadPoolExecutor, addresses: list[tuple[str, int]], expected: Layer2
) -> None:
    def check() -> None:
        assert layer2_of("relay") is expected

    thread.submit(_with_addresses, check, *addresses).result()


def test_elsewhere_the_kernels_routes_say_which(
    thread: ThreadPoolExecutor, filter_: Filter
) -> None:
    """Two known neighbours, one of them the gateway to all others."""

    def check() -> None:
        index = _index("relay")
        attachment = filter_.attach("relay", Mode.NATIVE)
        assert attachment.layer2 is Layer2.ROUTED
        settings = "net.ipv4.conf.relay.forwarding and net.ipv6.conf.relay.forwarding"
        assert attachment.reason.endswith(f"; userspace forwards until {settings} is 1")
        try:
            for name in ("IPv4", "IPv6"):
                assert ask(filter_, CORPUS[name].data, index).reason is FilterReason.NO_ROUTE
            _allow_forwarding()
            for name in ("IPv4", "IPv6"):  # forwarding alone is not enough: no neighbour is known
                assert ask(filter_, CORPUS[name].data, index).reason is FilterReason.NO_ROUTE
            _add_gateways(index)
            for name, to in (("IPv4", BOB4), ("IPv6", BOB6)):
                data = CORPUS[name].data
                assert ask(filter_, data, index).data == forwarded(data, to, GATEWAY_MAC)
            filter_.add_redirects(BINDINGS)  # so that nothing is remembered of them
            for name in ("VLAN", "VLAN in VLAN"):
                assert ask(filter_, CORPUS[name].data, index).reason is FilterReason.NO_ROUTE
        finally:
            filter_.detach("relay")

    thread.submit(_with_addresses, check, (RELAY4, 24), (RELAY6, 64)).result()


def _allow_forwarding() -> None:
    for path in ("ipv4/conf/relay/forwarding", "ipv6/conf/relay/forwarding"):
        Path("/proc/sys/net", path).write_text("1")


def _add_gateways(index: int) -> None:
    with IPRoute() as ip:
        for gateway in (GATEWAY4, GATEWAY6):
            ip.neigh("add", dst=gateway, lladdr=GATEWAY_MAC, ifindex=index, state="permanent")
        ip.route("add", dst="default", gateway=GATEWAY4)
        ip.route("add", dst="default", gateway=GATEWAY6)


# --- A relay that listens on all addresses


@pytest.mark.parametrize(
    ("bound", "ipv6"),
    [("::", FilterReason.FORWARDED), ("0.0.0.0", FilterReason.OTHER_HOST)],
)
@pytest.mark.parametrize("first", ["relay", "other"])
def test_what_comes_for_others_is_not_the_relays(
    thread: ThreadPoolExecutor, filter_: Filter, bound: str, ipv6: FilterReason, first: str
) -> None:
    """On a host that forwards as well, packets to other hosts come by too, some to that port."""
    hosts = OwnHosts(filter_, TransportAddress(bound, PORT), [first])

    def reasons() -> list[FilterReason]:
        hosts.refresh()
        index = _index("relay")
        return [ask(filter_, CORPUS[name].data, index).reason for name in ("IPv4", "IPv6")]

    def check_own() -> None:
        assert reasons() == [FilterReason.FORWARDED, ipv6]

    def check_others() -> None:
        assert reasons() == [FilterReason.OTHER_HOST] * 2

    thread.submit(filter_.attach, "relay", Mode.NATIVE, Layer2.SWAP).result()
    try:
        thread.submit(_with_addresses, check_own, (RELAY4, 24), (RELAY6, 64)).result()
        others = (GATEWAY4, 24), (GATEWAY6, 64)
        thread.submit(_with_addresses, check_others, *others).result()
    finally:
        filter_.detach("relay")
        filter_.set_own_addresses(OWN)
