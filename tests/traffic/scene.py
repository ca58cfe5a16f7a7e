"""Two homes and a relay, and the frames of packets on their way through them."""

from quicpipe_lab import resources
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.traffic.frame import CapturedFrame, Direction, frame_with

TOPOLOGY = resources.find_topology("two-homes")
ALICE_INSIDE = TransportAddress("192.168.0.6", 1111)
BOB_INSIDE = TransportAddress("192.168.0.6", 2222)
ALICE = TransportAddress("198.18.0.10", 41000)
BOB = TransportAddress("198.18.0.14", 42000)
RELAY = TransportAddress("198.18.0.6", 443)
HOP_NS = 1000

_WAY = {
    ("alice", "core"): ("alice/nat-a", "nat-a/alice", "nat-a/core", "core/nat-a"),
    ("core", "alice"): ("core/nat-a", "nat-a/core", "nat-a/alice", "alice/nat-a"),
    ("bob", "core"): ("bob/nat-b", "nat-b/bob", "nat-b/core", "core/nat-b"),
    ("core", "bob"): ("core/nat-b", "nat-b/core", "nat-b/bob", "bob/nat-b"),
    ("core", "relay"): ("core/relay", "relay/core"),
    ("relay", "core"): ("relay/core", "core/relay"),
}


def way(
    time_ns: int,
    payload: bytes,
    start: str,
    end: str,
    inside: TransportAddress,
    external: TransportAddress,
    remote: TransportAddress,
    hops: int = 9,
) -> list[CapturedFrame]:
    """A packet between a host and the core; the NAT's two sides are ``inside`` and ``external``."""
    frames = []
    for hop, place in enumerate(_WAY[start, end][:hops]):
        node, _, interface = place.partition("/")
        outwards = end == "core"
        near = inside if (hop < 2) == outwards else external
        ends = (near, remote) if outwards else (remote, near)
        direction: Direction = "in" if hop % 2 else "out"
        data = frame_with(*ends, payload)
        frames.append(CapturedFrame(time_ns + hop * HOP_NS, node, interface, direction, data))
    return frames


def from_alice(
    time_ns: int, payload: bytes, remote: TransportAddress, hops: int = 9
) -> list[CapturedFrame]:
    return way(time_ns, payload, "alice", "core", ALICE_INSIDE, ALICE, remote, hops)


def from_bob(
    time_ns: int, payload: bytes, remote: TransportAddress, hops: int = 9
) -> list[CapturedFrame]:
    return way(time_ns, payload, "bob", "core", BOB_INSIDE, BOB, remote, hops)


def to_alice(
    time_ns: int, payload: bytes, remote: TransportAddress, hops: int = 9
) -> list[CapturedFrame]:
    return way(time_ns, payload, "core", "alice", ALICE_INSIDE, ALICE, remote, hops)


def to_bob(
    time_ns: int, payload: bytes, remote: TransportAddress, hops: int = 9
) -> list[CapturedFrame]:
    return way(time_ns, payload, "core", "bob", BOB_INSIDE, BOB, remote, hops)


def at_relay(
    time_ns: int, payload: bytes, source: TransportAddress, *, outwards: bool = False
) -> list[CapturedFrame]:
    """Between the core and the relay; ``outwards``: sent by the relay to ``source``."""
    start, end = ("relay", "core") if outwards else ("core", "relay")
    far = RELAY if outwards else source
    near = source if outwards else RELAY
    return way(time_ns, payload, start, end, far, far, near)
