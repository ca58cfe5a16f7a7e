"""What the simulator makes of a second, and how far that is from what cannot be saved."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicProtocolVersion
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from quicpipe_lab.backends.matrix import CELLS, Cell, cells_of
from quicpipe_lab.backends.sim.backend import SimBackend
from quicpipe_lab.backends.sim.simulation import Simulation
from quicpipe_lab.model.nat import NatBehavior
from quicpipe_lab.model.scenario import Idle, Outcome, Scenario, Step, WaitFor
from quicpipe_lab.protocol.connection_id import is_relay_connection_id
from quicpipe_lab.protocol.wire import parse_invariants
from quicpipe_lab.shell import pcapng
from quicpipe_lab.traffic.frame import datagram_of
from tests.backends.sim.test_steps import FORGETFUL
from tests.bench import ROOT, SCRIPTS, Row, alternate, median
from tests.folders import vanishing_folder

TITLE = "The simulator: wall clock of the matrix on all cores, CPU time of the rest"

_ROUNDS = 3
_MATRIX_S = 5.0
_EXPIRY_S = 0.5
_LEAST_SPEED = 2000
_IDLE_S = 2000.0
_PAIRS, _MANY_PAIRS = 10, 1000
_GROWTH = 1.3
_HANDSHAKES = 3
"""Of a run: both peers with the relay, and with each other."""


def run() -> list[Row]:
    answers = alternate(
        _ROUNDS,
        captured=lambda: _matrix_s("--capture"),
        bare=lambda: _matrix_s(),
        idle=lambda: _cpu_s(_scenario(WaitFor(path=Outcome.DIRECT), Idle(_IDLE_S))),
        expiry=lambda: _cpu_s(_scenario(WaitFor(path=Outcome.DIRECT), Idle(300.0), nat=FORGETFUL)),
        cell=lambda: _cpu_s(_scenario()),
        crypto=lambda: _crypto_s(_work()),
    )
    took = {name: median(values) for name, values in answers.items()}
    speed = _IDLE_S / took["idle"]
    rows = [
        Row(
            "81 cells with captures",
            took["captured"],
            "s",
            note=f"wall clock; to be {_MATRIX_S:g} s on two cores with nothing else to do",
        ),
        Row("81 cells without", took["bare"], "s"),
        Row(
            "81 cells with captures, all work",
            sum(_cpu_s(one.scenario(), capture=True) for one in cells_of(CELLS, CELLS)),
            "s",
            limit=2 * _MATRIX_S,
            note="CPU time, for two cores to share",
        ),
        Row(
            f"{_IDLE_S:g} s of an idle direct pair",
            took["idle"],
            "s",
            limit=_IDLE_S / _LEAST_SPEED,
            note=f"{speed:.0f} simulated s a second",
        ),
        Row("five minutes in which mappings end", took["expiry"], "s", limit=_EXPIRY_S),
        Row("the crypto of one cell, by itself", took["crypto"], "s"),
        Row(
            "one cell", took["cell"], "s", ratio=took["cell"] / took["crypto"], against="its crypto"
        ),
    ]
    return rows + list(_pairs())


def _matrix_s(*options: str) -> float:
    """As the command says it: without Python's own start, and the figure at the end."""
    with vanishing_folder() as folder:
        argv = [str(SCRIPTS / "quicpipe-lab"), "matrix", "--backend", "sim"]
        argv += ["--run-dir", str(folder)]
        done = subprocess.run([*argv, "--json", *options], check=True, capture_output=True)
        return float(json.loads(done.stdout)["wall_s"])


def _scenario(*steps: Step, nat: NatBehavior = CELLS["EIM/APDF"]) -> Scenario:
    usual = Cell("one", nat, "other", nat).scenario()
    return replace(usual, steps=steps or usual.steps, deadline_s=10_000.0)


def _cpu_s(scenario: Scenario, *, capture: bool = False) -> float:
    with vanishing_folder() as folder:
        began_s = time.process_time()
        backend = SimBackend(capture=capture, qlog=False)
        result = backend.run(scenario, folder, lambda _: None)
        took_s = time.process_time() - began_s
    assert result.ok, result.failure
    return took_s


# The floor: the same packets sealed and opened, the same keys made, and nothing else


def _work() -> list[int]:
    """Sizes of the QUIC datagrams that the endpoints and the relay seal in one cell's run."""
    with vanishing_folder() as folder:
        simulation = Simulation(_scenario(), run_dir=folder)
        simulation.run()
        return list(_sealed(folder / "capture.pcapng"))


def _sealed(capture: Path) -> Iterator[int]:
    for frame in pcapng.read(capture).frames:
        datagram = datagram_of(frame.data)
        if frame.node not in ("alice", "bob") or datagram is None or not frame.interface:
            continue
        header = parse_invariants(datagram.payload) if datagram.payload[0] & 0x40 else None
        if header is not None and (
            frame.direction == "out" or is_relay_connection_id(header.destination)
        ):
            yield len(datagram.payload)


def _crypto_s(sizes: list[int]) -> float:
    client, server = CryptoPair(), CryptoPair()
    for pair, is_client in ((client, True), (server, False)):
        pair.setup_initial(bytes(8), is_client, QuicProtocolVersion.VERSION_1)
    short = bytes([0x41]) + bytes(12)  # packet numbers of two bytes (RFC 9000, 17.3.1)
    signer = Ed25519PrivateKey.generate()
    began_s = time.process_time()
    for _ in range(_HANDSHAKES):
        _exchange_keys(signer)
    for number, size in enumerate(sizes):
        header = short + number.to_bytes(2, "big")
        packet = client.encrypt_packet(header, bytes(max(4, size - len(header) - 16)), number)
        server.decrypt_packet(packet, len(short), number)
    return time.process_time() - began_s


def _exchange_keys(signer: Ed25519PrivateKey) -> None:
    """As aioquic does: a key for every group in the ClientHello, one in the answer."""
    ours = [ec.generate_private_key(curve()) for curve in (ec.SECP256R1, ec.SECP384R1)]
    X25519PrivateKey.generate().public_key()
    X448PrivateKey.generate().public_key()
    theirs = ec.generate_private_key(ec.SECP256R1())
    theirs.exchange(ec.ECDH(), ours[0].public_key())
    ours[0].exchange(ec.ECDH(), theirs.public_key())
    signer.public_key().verify(signer.sign(b"transcript"), b"transcript")


# Many pairs


def _pairs() -> Iterator[Row]:
    few, many = _dialled(_PAIRS), _dialled(_MANY_PAIRS)
    unit_s = few["cpu_s"] / _PAIRS
    yield Row(f"a pair of {_PAIRS}", unit_s, "s", note="dialled through one relay, and direct")
    yield Row(
        f"a pair of {_MANY_PAIRS}",
        many["cpu_s"] / _MANY_PAIRS,
        "s",
        ratio=many["cpu_s"] / _MANY_PAIRS / unit_s,
        against=f"a pair of {_PAIRS}",
        limit=_GROWTH,
        note=f"{many['memory_bytes'] / 1e6:.0f} MB in all",
    )
    missing = 2 * (_PAIRS + _MANY_PAIRS) - few["direct"] - many["direct"]
    yield Row("peers that did not go direct", missing, limit=0)


def _dialled(pairs: int) -> dict[str, float]:
    argv = [sys.executable, "-m", "tests.bench._sim_pairs", str(pairs)]
    done = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer
