"""The relay's XDP filter: its maps kept in step with the relay's bindings, and what it counts.

    with Filter.open() as filter:
        filter.set_own_addresses([TransportAddress("192.0.2.1", 4433)])
        filter.attach_port(4433)
        attachment = filter.attach("eth0")
        filter.add_redirect(connection_id, TransportAddress("198.51.100.7", 50000))

What is not in the filter's maps goes to userspace, so nothing here is ever needed for a packet to
arrive. The program is xdp/quicpipe_filter.c.
"""

import ctypes
import mmap
import struct
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from quicpipe_lab.errors import QuicpipeLabError
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.resources import folder
from quicpipe_lab.shell import bpf, xdp_interface
from quicpipe_lab.shell.xdp import InterfaceTakenError, Mode, Program
from quicpipe_lab.shell.xdp_layout import (
    HOSTS,
    Address,
    Config,
    FilterReason,
    Layer2,
    is_mapped,
    pack_address,
    unpack_address,
)
from quicpipe_lab.shell.xdp_table import (
    BindingCounters,
    BindingTable,
    FilterFullError,
    SenderCounters,
    memory_bytes,
)

MAX_CAPACITY = 2_000_000
MAX_INTERFACES = 64
_SECOND_NS = 1_000_000_000
_BURST_S = 0.1
_NUMBER = struct.Struct("=I")
_COUNTER = struct.Struct("=Q")


class Attachment(NamedTuple):
    """Where the filter runs. ``reason``: why in this mode, in one line.

    ``waits_for``: settings of the kernel that are 0; until they are 1 userspace forwards.
    """

    interface: str
    mode: Mode
    layer2: Layer2
    reason: str
    waits_for: tuple[str, ...] = ()


class Rejected(NamedTuple):
    """An ID that packets came for and that is not bound here, and who sent the first of them."""

    connection_id: bytes
    source: TransportAddress


class Filter:
    """A loaded filter. Leaving the context, ``close`` and the process's end detach it.

    Not for several threads at once. Interfaces are those of the caller's network namespace.
    """

    def __init__(self, program: Program, capacity: int, unbound_per_s: float) -> None:
        """Use ``open``."""
        self._program = program
        self._table = BindingTable(program, capacity)
        self._own_fd = program.map_fd("own")
        self._own: set[bytes] = set()
        self._unbound_per_s = unbound_per_s
        self._is_complete = True
        self._attachments: dict[str, Attachment] = {}
        self._indices: dict[str, int] = {}
        self._layer2_fd = program.map_fd("layer2")
        self._rejected: deque[Rejected] = deque()
        self._memory = mmap.mmap(program.map_fd("config"), _whole_pages(ctypes.sizeof(Config)))
        self._config = Config.from_buffer(self._memory)
        self._config.any_host = 1
        program.open_ring("rejected", self._take_rejected)

    @classmethod
    def open(cls, *, capacity: int = 4096, unbound_per_s: float = 20_000.0) -> Self:
        """Compile and load: half a second, most of it without the interpreter's lock.

        ``capacity``: bindings, up to 2 million; ``memory_bytes`` says what they take.
        ``unbound_per_s``: so many packets to unbound IDs a second may go up to userspace, on each
        CPU; what is more is dropped while the relay's addresses are known here and all of its
        bindings are (they are certain to be nobody's then; once something did not fit, some may
        be). 0 lets all of them pass.

        Raises BackendUnavailableError where this machine or this user cannot.
        """
        if not 1 <= capacity <= MAX_CAPACITY:
            raise QuicpipeLabError(f"a filter holds 1 to {MAX_CAPACITY} bindings, not {capacity}")
        _check_memory(capacity)
        definitions = {"QUICPIPE_CAPACITY": capacity, "QUICPIPE_CPUS": bpf.possible_cpus()}
        program = Program(folder("xdp") / "quicpipe_filter.c", "quicpipe_filter", definitions)
        try:
            return cls(program, capacity, unbound_per_s)
        except BaseException:  # nobody else would ever unload it: bcc keeps it until the end
            program.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detach from all interfaces and unload. Once is enough, and more does no harm."""
        if self._memory.closed:
            return
        self._program.close()
        self._table.close()
        del self._config
        self._memory.close()

    @property
    def program_fd(self) -> int:
        """The loaded program, for test runs (bpf.run_on_packet)."""
        return self._program.fd

    # Where it works

    def attach(
        self, interface: str, mode: Mode | None = None, layer2: Layer2 | None = None
    ) -> Attachment:
        """To one more interface: natively if its driver can, else behind the driver.

        A veth interface is one whose driver can, but its other end drops what comes back unless it
        has an XDP program as well: natively there only with ``mode``.

        With ``layer2`` None packets go back to where they came from on links with one neighbour (a
        network of /30, /126 or longer), and where the kernel's routes lead on all others; there the
        interface must be allowed to forward (``net.ipv4.conf.NAME.forwarding``), or all packets go
        up to userspace.
        """
        if len(self._attachments) == MAX_INTERFACES:
            raise QuicpipeLabError(f"a filter runs on up to {MAX_INTERFACES} interfaces")
        if layer2 is None:
            layer2 = xdp_interface.layer2_of(interface)
        index, mtu = xdp_interface.index_and_mtu(interface)
        mode, reason = self._attach(interface, mode)
        # Until the next hop is known here, userspace forwards.
        least = self._config.max_packet_bytes or mtu
        self._config.max_packet_bytes = min(least, mtu)
        bpf.update(self._layer2_fd, _NUMBER.pack(index), _NUMBER.pack(layer2))
        self._indices[interface] = index
        settings: list[str] = []
        if layer2 is Layer2.ROUTED and (settings := xdp_interface.forbidden_to_forward(interface)):
            reason += f"; userspace forwards until {' and '.join(settings)} is 1"
        attachment = Attachment(interface, mode, layer2, reason, tuple(settings))
        self._attachments[interface] = attachment
        return attachment

    def detach(self, interface: str) -> None:
        """Undo attach."""
        del self._attachments[interface]
        self._program.detach(interface)
        bpf.delete(self._layer2_fd, _NUMBER.pack(self._indices.pop(interface)))

    @property
    def attachments(self) -> list[Attachment]:
        """Where it runs now; not on interfaces that have gone without detach."""
        return [one for one in self._attachments.values() if self.is_attached(one.interface)]

    def is_attached(self, interface: str) -> bool:
        """Whether it runs there now, by the name that the interface had."""
        return self._program.is_attached(interface)

    def attach_port(self, port: int) -> None:
        """Forward what comes to this UDP port, too."""
        self._config.ports[port // 64] |= 1 << port % 64

    def detach_port(self, port: int) -> None:
        """Undo attach_port."""
        self._config.ports[port // 64] &= ~(1 << port % 64)

    def set_own_addresses(
        self, addresses: Iterable[TransportAddress], hosts: Iterable[str] = ()
    ) -> None:
        """The relay's: nothing is forwarded to them, and only what comes to their hosts or to
        ``hosts`` is forwarded at all. Of more than 8 hosts of an IP version the rest is left to
        userspace. With no host named, packets to any address are the relay's.
        """
        wanted = {pack_address(address): address.host for address in addresses}
        for packed in self._own - wanted.keys():
            bpf.delete(self._own_fd, packed)
        for packed in wanted.keys() - self._own:
            bpf.update(self._own_fd, packed, _NUMBER.pack(1))
        self._own = set(wanted)
        names = dict.fromkeys((*wanted.values(), *hosts))
        packed_hosts = [pack_address(TransportAddress(host, 0))[:16] for host in names]
        for hosts_in_config, is_ipv4, at in (
            (self._config.hosts4, True, 12),
            (self._config.hosts6, False, 0),
        ):
            chosen = [one[at:] for one in packed_hosts if is_mapped(one) is is_ipv4][:HOSTS]
            for place in range(HOSTS):
                packed = chosen[place] if place < len(chosen) else bytes(16 - at)
                hosts_in_config[place][:] = packed
        self._config.any_host = not names
        self._set_unbound_rate()

    # What is bound

    def add_redirect(self, connection_id: bytes, address: TransportAddress) -> None:
        """Bind, also to another address than before. Raises FilterFullError: nothing changed."""
        self.add_redirects([(connection_id, address)])

    def add_redirects(self, bindings: Iterable[tuple[bytes, TransportAddress]]) -> None:
        """Bind many at once, all or none. Addresses of one link only stay with userspace."""
        wanted = list(bindings)
        here = [one for one in wanted if "%" not in one[1].host]
        try:
            self._table.bind(here)
        except FilterFullError:
            self._leave_some_to_userspace()
            raise
        if len(here) < len(wanted):
            self._leave_some_to_userspace()

    def remove_redirect(self, connection_id: bytes) -> None:
        """Unbind; nothing happens where it is not bound. It may be reported again then."""
        if self._table.unbind(connection_id):
            bpf.delete(self._program.map_fd("reported"), connection_id)

    def set_source_passing(self, address: TransportAddress, is_passing: bool) -> None:
        """Send what comes from a bound address up to userspace (which knows its exact rate), or
        forward it again. Holds until the address's last binding goes."""
        self._table.set_passing(address, is_passing)

    # What it tells

    def read_rejected(self, max_count: int | None = None) -> list[Rejected]:
        """IDs that packets came for and that are not bound here: each once."""
        self._program.consume_rings()
        count = len(self._rejected) if max_count is None else min(max_count, len(self._rejected))
        return [self._rejected.popleft() for _ in range(count)]

    def rejected_fd(self) -> int:
        """Readable while there is something for read_rejected."""
        return self._program.map_fd("rejected")

    def counters(self) -> dict[FilterReason, int]:
        """Packets by what became of them, over all CPUs."""
        fd, size = self._program.map_fd("counters"), _COUNTER.size * bpf.possible_cpus()
        return {
            reason: sum(
                count
                for (count,) in _COUNTER.iter_unpack(
                    bpf.look_up(fd, _NUMBER.pack(reason), size) or b""
                )
            )
            for reason in FilterReason
        }

    def bindings(self) -> list[BindingCounters]:
        """What was forwarded to each ID that is bound."""
        return self._table.bindings()

    def senders(self) -> list[SenderCounters]:
        """What was forwarded from each address that has bindings."""
        return self._table.senders()

    def __len__(self) -> int:
        """IDs that are bound."""
        return len(self._table)

    # Parts

    def _attach(self, interface: str, mode: Mode | None) -> tuple[Mode, str]:
        """In which mode, and why."""
        if mode is not None:
            self._program.attach(interface, mode)
            return mode, "asked for"
        if xdp_interface.may_lose_what_it_sends(interface):
            self._program.attach(interface, Mode.GENERIC)
            return Mode.GENERIC, "natively a veth's other end may drop what is sent back"
        try:
            self._program.attach(interface, Mode.NATIVE)
        except InterfaceTakenError:
            raise
        except QuicpipeLabError as error:
            self._program.attach(interface, Mode.GENERIC)
            return Mode.GENERIC, f"the driver does not run XDP ({error})"
        return Mode.NATIVE, "the driver runs XDP itself"

    def _take_rejected(self, record: bytes) -> None:
        length = len(record) - ctypes.sizeof(Address)
        self._rejected.append(Rejected(record[:length], unpack_address(record[length:])))

    def _leave_some_to_userspace(self) -> None:
        self._is_complete = False
        self._set_unbound_rate()

    def _set_unbound_rate(self) -> None:
        may_drop = self._is_complete and not self._config.any_host and self._unbound_per_s > 0
        self._config.unbound_burst_ns = int(_BURST_S * _SECOND_NS)
        self._config.unbound_interval_ns = int(_SECOND_NS / self._unbound_per_s) if may_drop else 0


def _check_memory(capacity: int) -> None:
    """First, as of maps that are too large bcc says that their source does not compile."""
    needed = memory_bytes(capacity)
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, number, *_ = line.split()
        if name == "MemAvailable:" and needed > int(number) * 1024:
            raise QuicpipeLabError(
                f"a filter for {capacity} bindings takes {needed >> 20} MB of memory here,"
                f" of which {int(number) >> 10} are available"
            )


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
