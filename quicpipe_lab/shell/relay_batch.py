"""The relay's fast path: whole batches of datagrams, forwarded by remembered decisions.

Per datagram Python does one dictionary look-up, of its sender's raw socket address and its
destination connection ID. What is found there is a flow that the machine resolved before, valid
until its ``generation`` changes; the flow is charged for each batch, so that the machine's limits,
counters and signs of life hold here too. Everything else goes to the machine, in order.

What forwarding in userspace does to a datagram: it leaves with a TTL, ECN field and DSCP of the
relay's own (64, Not-ECT, 0), as a QUIC path may (RFC 9000, 13.4.2: endpoints then find ECN
unusable and stop), and with DF as the system sets it. Datagrams of one flow stay in order.
"""

import ctypes
import functools
import socket
import struct
from collections.abc import Callable

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import CONNECTION_ID_LENGTH
from quicpipe_lab.protocol.forwarding import Flow
from quicpipe_lab.protocol.relay import Relay
from quicpipe_lab.protocol.wire import parse_invariants
from quicpipe_lab.shell.batch import (
    CONTROL_BYTES,
    DATA_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_SEGMENTS,
    NAME_BYTES,
    SLOTS,
    STRIDE_BYTES,
    Message,
    ReceiveBatch,
    SendBatch,
    gro_segment,
    has_gso,
    set_gro,
)
from quicpipe_lab.shell.relay_socket import Datagram, PlainTransport, from_socket, to_socket

_BATCHES_AT_ONCE = 8
"""So many full batches in a row before timers and signals get their turn."""
_MAX_ROUTES = 65_536
_NAME_LENGTHS = {socket.AF_INET: 16, socket.AF_INET6: 28}
_MAPPED = bytes(10) + b"\xff\xff"
"""What begins an IPv4 address in an IPv6 socket (RFC 4291, 2.5.5.2)."""


class _Route:
    """A flow with its destination as the system wants it."""

    __slots__ = ("address", "flow", "keep", "name")

    def __init__(self, flow: Flow, family: int) -> None:
        self.flow = flow
        self.address = to_socket(flow.destination, family)
        raw = pack_name(flow.destination, family)
        self.keep = ctypes.create_string_buffer(raw, len(raw))
        self.name = (ctypes.addressof(self.keep), len(raw))


class BatchTransport:
    """A RelayTransport. ``offload``: let the kernel join and split runs of datagrams.

    A batch of ``few`` datagrams or less means that traffic is thin: they are then received and
    sent one by one, which costs less, until one comes within ``waiting_gap_s`` of another, and so
    was waiting already.
    """

    def __init__(
        self,
        opened: socket.socket,
        *,
        offload: bool = True,
        connection_id_length: int = CONNECTION_ID_LENGTH,
        few: int = 3,
        waiting_gap_s: float = 0.000015,
    ) -> None:
        self._family = opened.family
        offload = offload and has_gso(opened)
        self._socket = opened
        self._incoming = ReceiveBatch(opened, offload=offload)
        self._outgoing = SendBatch(opened, offload=offload)
        self._plain = PlainTransport(opened)
        self._id_length = connection_id_length
        self._few = few
        self._waiting_gap_s = waiting_gap_s
        # Over all slots at once: of each, the pair of socket address and destination ID.
        length = _NAME_LENGTHS[self._family]
        gap = NAME_BYTES - length
        rest = STRIDE_BYTES - NAME_BYTES - 1 - connection_id_length
        self._keys = struct.Struct(f"={length}s{gap}x1x{connection_id_length}s{rest}x")
        self._routes: dict[tuple[bytes, bytes], _Route] = {}
        self._generation = -1
        # For thin traffic: the first slot as a list of buffers, and the same routes by what
        # recvmsg gives.
        self._one = [self._incoming.data[NAME_BYTES : NAME_BYTES + DATA_BYTES]]
        self._thin_routes: dict[tuple[object, bytes], _Route] = {}
        self._is_thin = True
        self._last_s = 0.0

    @property
    def unsent(self) -> int:
        """Datagrams that the system did not take."""
        return self._outgoing.unsent + self._plain.unsent

    def send(self, datagrams: list[Datagram]) -> None:
        self._plain.send(datagrams)

    def receive(self, relay: Relay, now: Callable[[], float]) -> bool:
        if self._is_thin:
            return self._receive_one(relay, now)
        touched = False
        for _ in range(_BATCHES_AT_ONCE):
            count = self._incoming.receive()
            if count:
                touched |= self._handle(relay, count, now())
            if count < SLOTS:
                self._is_thin = count <= self._few
                break
        return touched

    # Parts

    def _receive_one(self, relay: Relay, now: Callable[[], float]) -> bool:
        """As ``receive``, but of traffic so thin that to prepare a call for many does not pay."""
        try:
            size, control, _, address = self._socket.recvmsg_into(self._one, CONTROL_BYTES)
        except OSError:
            return False  # nothing there, or an ICMP error of an earlier datagram
        now_s = now()
        self._is_thin = now_s - self._last_s > self._waiting_gap_s
        self._last_s = now_s
        self._forget_stale(relay)
        data = self._one[0]
        key = (address, data[1 : 1 + self._id_length].tobytes())
        route = self._thin_routes.get(key)
        if route is not None and not control and 0x40 <= data[0] < 0x80 and size > self._id_length:
            if route.flow.charge(1, size, now_s):
                self._plain.send_one(data[:size], route.address)
            return False
        name = pack_name(from_socket(address), self._family)
        segment = gro_segment(control) or size
        runs = _Runs(self._outgoing.offload)
        touched = self._handle_slowly(relay, runs, name, NAME_BYTES, size, segment, now_s)
        self._send(runs, now_s)
        if runs.charges and segment == size and data[0] < 0x80:
            (self._thin_routes[key],) = runs.charges
        return touched

    def _handle(self, relay: Relay, count: int, now: float) -> bool:
        """Forward what a batch holds; whether the machine was given anything of it."""
        self._forget_stale(relay)
        incoming, routes = self._incoming, self._routes
        view = incoming.data[: count * STRIDE_BYTES]
        firsts = view[NAME_BYTES::STRIDE_BYTES].tolist()
        keys = self._keys.iter_unpack(view)
        runs = _Runs(self._outgoing.offload)
        shortest = 1 + self._id_length
        touched = False
        at = NAME_BYTES
        for key, first, size, segment in zip(
            keys, firsts, incoming.sizes, incoming.segments, strict=True
        ):
            route = routes.get(key)
            if route is not None and size == segment and 0x40 <= first < 0x80 and size >= shortest:
                runs.add(route, incoming.base + at, size, size)
            else:
                touched |= self._handle_slowly(relay, runs, key[0], at, size, segment, now)
            at += STRIDE_BYTES
        self._send(runs, now)
        return touched

    def _handle_slowly(
        self, relay: Relay, runs: "_Runs", name: bytes, at: int, size: int, segment: int, now: float
    ) -> bool:
        """A message that is a run of datagrams, a long header, or of an unknown flow."""
        data = self._incoming.data
        if segment < size:
            connection_id = _common_id(data[at : at + size], segment, self._id_length)
            route = connection_id and self._route(relay, name, connection_id)
            if route:
                runs.add(route, self._incoming.base + at, size, segment)
                return False
        touched = False
        for offset in range(at, at + max(size, 1), max(segment, 1)):
            length = min(segment, at + size - offset)
            connection_id = _destination_id(data[offset : offset + length], self._id_length)
            route = connection_id and self._route(relay, name, connection_id)
            if route:
                runs.add(route, self._incoming.base + offset, length, length)
                continue
            datagram = bytes(data[offset : offset + length])
            relay.receive_datagram(datagram, unpack_name(name, self._family), now)
            self._forget_stale(relay)
            touched = True
        return touched

    def _route(self, relay: Relay, name: bytes, connection_id: bytes) -> _Route | None:
        """The way for a sender's datagrams to an ID, remembered or new."""
        key = (name, connection_id)
        route = self._routes.get(key)
        if route is None:
            flow = relay.resolve(connection_id, unpack_name(name, self._family))
            if not isinstance(flow, Flow):
                return None
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
                self._thin_routes.clear()
            route = self._routes[key] = _Route(flow, self._family)
        return route

    def _forget_stale(self, relay: Relay) -> None:
        if relay.generation != self._generation:
            self._routes.clear()
            self._thin_routes.clear()
            self._generation = relay.generation

    def _send(self, runs: "_Runs", now: float) -> None:
        refused = [
            route
            for route, (packets, size_bytes) in runs.charges.items()
            if not route.flow.charge(packets, size_bytes, now)
        ]
        messages = runs.messages
        if refused:
            names = {route.name for route in refused}
            messages = [message for message in messages if message.name not in names]
        if not messages:
            return
        self._outgoing.send(messages)
        if runs.offload and not self._outgoing.offload:
            set_gro(self._socket, False)  # what came joined would have to be split here


class _Runs:
    """Collects a batch's datagrams into messages: as few as the system allows, each flow's in
    order."""

    __slots__ = ("_open", "charges", "messages", "offload")

    def __init__(self, offload: bool) -> None:
        self.offload = offload
        self.messages: list[Message] = []
        self.charges: dict[_Route, list[int]] = {}
        self._open: dict[_Route, Message] = {}

    def add(self, route: _Route, address: int, size: int, segment: int) -> None:
        """``size`` bytes at a memory address: datagrams of ``segment`` bytes each, at most one
        shorter at the end."""
        count = 1 if size == segment else -(-size // segment)
        charge = self.charges.get(route)
        if charge is None:
            self.charges[route] = [count, size]
        else:
            charge[0] += count
            charge[1] += size
        message = self._open.get(route)
        if (
            message is None
            or (segment != message.segment and (count > 1 or size > message.segment))
            or message.count + count > MAX_SEGMENTS
            or message.size_bytes + size > MAX_MESSAGE_BYTES
        ):
            message = Message(route.name, segment)
            self.messages.append(message)
            if self.offload:
                self._open[route] = message
        message.pieces.append(address)
        message.sizes.append(size)
        message.size_bytes += size
        message.count += count
        if size % message.segment:  # a shorter one can only be the last
            self._open.pop(route, None)


def pack_name(address: TransportAddress, family: int) -> bytes:
    """A socket address in memory (ip(7), ipv6(7))."""
    host, port, *rest = to_socket(address, family)
    packed = socket.inet_pton(family, host)
    head = struct.pack("=H", family) + struct.pack("!H", port)
    if family == socket.AF_INET:
        return head + packed + bytes(8)
    return head + bytes(4) + packed + struct.pack("=I", rest[1] if rest else 0)


def unpack_name(raw: bytes, family: int) -> TransportAddress:
    """The reverse; IPv4-mapped becomes IPv4, a link-local address keeps its interface."""
    (port,) = struct.unpack_from("!H", raw, 2)
    if family == socket.AF_INET:
        return TransportAddress(socket.inet_ntop(family, raw[4:8]), port)
    if raw[8:20] == _MAPPED:
        return TransportAddress(socket.inet_ntop(socket.AF_INET, raw[20:24]), port)
    host = socket.inet_ntop(family, raw[8:24])
    (scope,) = struct.unpack_from("=I", raw, 24)
    return TransportAddress(f"{host}%{scope}" if scope else host, port)


def _destination_id(datagram: memoryview, length: int) -> bytes | None:
    """The destination ID if the datagram may be one to forward: QUIC, and long enough."""
    header = parse_invariants(bytes(datagram), length)
    return header.destination if header is not None and datagram[0] & 0x40 else None


@functools.lru_cache(maxsize=64)
def _ids_of(segment: int, length: int) -> struct.Struct:
    return struct.Struct(f"1x{length}s{segment - 1 - length}x")


def _common_id(run: memoryview, segment: int, length: int) -> bytes | None:
    """The destination ID of a run of datagrams, if all of them have short headers and that one."""
    tail = len(run) % segment
    if segment < 1 + length or 0 < tail < 1 + length:
        return None
    firsts = bytes(run[::segment])
    if min(firsts) < 0x40 or max(firsts) >= 0x80:
        return None
    whole = len(run) - tail
    ids: set[bytes] = {one for (one,) in _ids_of(segment, length).iter_unpack(run[:whole])}
    if tail:
        ids.add(bytes(run[whole + 1 : whole + 1 + length]))
    return ids.pop() if len(ids) == 1 else None
