"""Sender and receiver of the relay's benchmark: the same programs whatever relays between them.

Each prints a JSON line when it is ready, takes JSON commands from standard input, one a line, and
answers each with a JSON line. How the datagrams find their way is the first argument: ``direct``,
``relay`` (registered over HTTP/3) or ``turn`` (an allocation with a channel, RFC 8656).
"""

import argparse
import ctypes
import json
import os
import secrets
import select
import socket
import struct
import sys
import time

from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.protocol.connection_id import ConnectionIdGenerator
from quicpipe_lab.protocol.events import RelayRegistered
from quicpipe_lab.protocol.quic_configuration import standard_configuration
from quicpipe_lab.protocol.relay_leg import RelayLeg, RelayTrust
from quicpipe_lab.shell.batch import SLOTS, Message, ReceiveBatch, SendBatch, set_gro
from quicpipe_lab.shell.relay_batch import pack_name

DATAGRAM_BYTES = 1200
GSO_DATAGRAMS = 54
"""Of one message: the most that fit 64 kB."""
SENDER_KEY, RECEIVER_KEY = b"s" * 16, b"r" * 16
CHANNEL = 0x4000

_MAGIC = 0x2112A442
_ALLOCATE, _CHANNEL_BIND = 0x0003, 0x0009


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=("direct", "relay", "turn"))
    parser.add_argument("role", choices=("send", "receive"))
    parser.add_argument("--server", default="")
    parser.add_argument("--peer", default="")
    parser.add_argument("--cpu", type=int, default=0)
    options = parser.parse_args()
    os.sched_setaffinity(0, {options.cpu % (os.cpu_count() or 1)})
    opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    opened.bind(("0.0.0.0", 0))
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    opened.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
    if options.way == "relay":
        key = SENDER_KEY if options.role == "send" else RECEIVER_KEY
        register(opened, parse(options.server), key)
    if options.role == "receive":
        receive(opened)
        return
    if options.way == "turn":
        allocate(opened, parse(options.server), parse(options.peer))
        head, to = struct.pack("!HH", CHANNEL, DATAGRAM_BYTES), parse(options.server)
    elif options.way == "relay":
        peer_id = ConnectionIdGenerator(RECEIVER_KEY, relay_leg=False).at(1)
        head, to = b"\x41" + peer_id, parse(options.server)
    else:
        head, to = b"\x41", parse(options.peer)
    size = DATAGRAM_BYTES + (4 if options.way == "turn" else 0)
    send(opened, head + secrets.token_bytes(size - len(head)), to)


def parse(text: str) -> TransportAddress:
    host, _, port = text.rpartition(":")
    return TransportAddress(host, int(port))


def say(**data: object) -> None:
    print(json.dumps(data), flush=True)


# Commands


def send(opened: socket.socket, datagram: bytes, to: TransportAddress) -> None:
    """``{"for_s": S, "gso": BOOL, "rate": N}``: N datagrams a second one by one, or (0) as many
    as go, in batches."""
    say(ready=True)
    batch = SendBatch(opened, offload=True)
    memory = bytearray(datagram * GSO_DATAGRAMS)
    at = _address_of(memory)
    raw = bytearray(pack_name(to, socket.AF_INET))
    name = (_address_of(raw), len(raw))
    size = len(datagram)
    single = Message(name, size, [at], [size], size, 1)
    run = Message(name, size, [at], [size * GSO_DATAGRAMS], size * GSO_DATAGRAMS, GSO_DATAGRAMS)
    for line in sys.stdin:
        command = json.loads(line)
        messages = [run] if command["gso"] else [single] * SLOTS
        interval_s = 1 / command["rate"] if command["rate"] else 0.0
        sent, unsent = 0, batch.unsent
        began_s = time.perf_counter()
        end_s = began_s + command["for_s"]
        cpu_s = time.process_time()
        while (now := time.perf_counter()) < end_s:
            if interval_s:
                if now - began_s >= sent * interval_s:
                    opened.sendto(datagram, to)
                    sent += 1
                continue
            batch.send(messages)
            sent += sum(message.count for message in messages)
        say(
            sent=sent - (batch.unsent - unsent),
            took_s=time.perf_counter() - began_s,
            cpu_s=time.process_time() - cpu_s,
        )


def receive(opened: socket.socket) -> None:
    """``{"gro": BOOL}``: count from now on, until nothing has come for a while after the next
    line; that line's answer is the count."""
    _, port = opened.getsockname()
    batch = ReceiveBatch(opened, offload=True)
    opened.setblocking(False)
    say(ready=True, port=port)
    for line in sys.stdin:
        set_gro(opened, json.loads(line)["gro"])
        while batch.receive():
            pass
        say(counting=True)
        count = 0
        stopping = False
        while True:
            readable, _, _ = select.select([opened, sys.stdin], [], [], 0.2)
            if not readable and stopping:
                break
            if sys.stdin in readable:
                sys.stdin.readline()
                stopping = True
            if opened not in readable:
                continue
            while taken := batch.receive():
                for size, segment in zip(batch.sizes, batch.segments, strict=True):
                    if segment == DATAGRAM_BYTES:  # and not the relay's own words
                        count += -(-size // segment)
                if taken < SLOTS:
                    break
        say(received=count)


def _address_of(memory: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


# Ways


def register(opened: socket.socket, server: TransportAddress, key: bytes, num: int = 1) -> None:
    """Over HTTP/3, as every endpoint does; the connection is then left to itself."""
    leg = RelayLeg(
        address=server,
        authority=str(server),
        configuration=standard_configuration(is_client=True, alpn=[]),
        trust=RelayTrust(insecure=True),
        key=key,
        random=os.urandom,
    )
    leg.connect(time.monotonic())
    leg.register(num)
    opened.settimeout(0.01)
    end_s = time.monotonic() + 10
    while time.monotonic() < end_s:
        now = time.monotonic()
        timer = leg.get_timer()
        if timer is not None and timer <= now:
            leg.handle_timer(now)
        for data, to in leg.datagrams_to_send(now):
            opened.sendto(data, to)
        try:
            data, source = opened.recvfrom(2048)
            leg.receive_datagram(data, TransportAddress(*source), time.monotonic())
        except TimeoutError:
            pass
        if isinstance(leg.next_event(), RelayRegistered):
            for data, to in leg.datagrams_to_send(time.monotonic()):
                opened.sendto(data, to)
            opened.setblocking(True)
            return
    raise SystemExit("no registration within 10 s")


def allocate(opened: socket.socket, server: TransportAddress, peer: TransportAddress) -> None:
    """A TURN allocation, and a channel to the peer (RFC 8656, 7 and 12)."""
    stun(opened, server, _ALLOCATE, struct.pack("!HHB3x", 0x0019, 4, socket.IPPROTO_UDP))
    port = peer.port ^ (_MAGIC >> 16)
    host = int.from_bytes(socket.inet_aton(peer.host), "big") ^ _MAGIC
    attributes = struct.pack("!HHH2x", 0x000C, 4, CHANNEL)
    attributes += struct.pack("!HHBBHI", 0x0012, 8, 0, 1, port, host)
    stun(opened, server, _CHANNEL_BIND, attributes)


def stun(opened: socket.socket, server: TransportAddress, method: int, attributes: bytes) -> None:
    """One request and its success response (RFC 8489, 5)."""
    transaction = secrets.token_bytes(12)
    request = struct.pack("!HHI", method, len(attributes), _MAGIC) + transaction + attributes
    opened.settimeout(0.5)
    for _ in range(20):
        opened.sendto(request, server)
        try:
            answer = opened.recv(2048)
        except TimeoutError:
            continue
        if answer[8:20] == transaction:
            if struct.unpack_from("!H", answer)[0] != method | 0x0100:
                raise SystemExit(f"TURN request {method:#x} was refused: {answer[20:].hex()}")
            opened.setblocking(True)
            return
    raise SystemExit("no answer from the TURN server")


if __name__ == "__main__":
    main()
