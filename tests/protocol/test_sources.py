"""aioquic's randomness and clock are ours within a block, all of them, and nobody else's."""

import os
import random
import threading
from typing import Any

import pytest
from aioquic.quic.logger import QuicLogger

from quicpipe_lab.protocol.connection_id import KEY_LENGTH, ConnectionIdGenerator
from quicpipe_lab.protocol.quic import Connection
from quicpipe_lab.protocol.quic_configuration import standard_configuration
from quicpipe_lab.protocol.sources import Sources, drawn_from
from tests.protocol.pair import Pair


def sources(seed: int, unix_s: float = 946_684_800.0) -> Sources:
    return Sources(random.Random(seed).randbytes, lambda: unix_s)


def datagrams_of_a_run(seed: int) -> list[Any]:
    """Everything that travels until both have gone direct, as it was."""
    with drawn_from(sources(seed)):
        pair = Pair(seed=seed)
        pair.connect()
        pair.world.run(1.0)
        return list(pair.world.log)


def test_one_seed_gives_the_same_bytes_on_the_wire() -> None:
    one, again, other = (datagrams_of_a_run(seed) for seed in (1, 1, 2))
    assert one == again
    assert len(one) > 50
    assert one != other


def datagrams_of_many_streams(number: int) -> list[Any]:
    """Each is served several times."""
    before = [bytearray(100) for _ in range(100 * number)]  # other places in memory
    with drawn_from(sources(1)):
        pair = Pair(seed=1)
        pair.connect()
        streams = [pair.dialer.open_stream() for _ in range(12)]
        for _ in range(3):
            for stream_id in streams:
                pair.dialer.send_stream_data(stream_id, bytes(50))
            pair.world.run(0.5)
    assert len(before) == 100 * number
    return list(pair.world.log)


def test_nor_does_it_matter_where_in_memory_streams_lie() -> None:
    assert len({repr(datagrams_of_many_streams(number)) for number in range(4)}) == 1


def test_the_operating_system_is_not_asked_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    datagrams_of_a_run(1)  # what is asked for once is over

    def refuse(_: int) -> bytes:
        raise AssertionError("somebody asked the operating system")

    monkeypatch.setattr(os, "urandom", refuse)
    assert datagrams_of_a_run(1)


def test_the_log_is_on_our_clock() -> None:
    with drawn_from(sources(1, 5.0)):
        trace = QuicLogger().start_trace(is_client=True, odcid=b"")
        trace.log_event(category="any", event="thing", data={})
        assert trace.to_dict()["events"][0]["time"] == 5000.0
    trace.log_event(category="any", event="thing", data={})
    assert trace.to_dict()["events"][1]["time"] > 1e12


def first_ids() -> set[bytes]:
    """Drawn by aioquic itself: where a client says that its first packet goes."""
    found = set()
    for _ in range(2):
        configuration = standard_configuration(is_client=True, alpn=["x"])
        found.add(Connection(configuration, _ids()).original_destination_connection_id)
    return found


def _ids() -> ConnectionIdGenerator:
    return ConnectionIdGenerator(bytes(KEY_LENGTH), relay_leg=False)


def test_others_keep_the_operating_systems() -> None:
    elsewhere: list[set[bytes]] = []
    with drawn_from(sources(3)):
        within = first_ids()
        thread = threading.Thread(target=lambda: elsewhere.append(first_ids()))
        thread.start()
        thread.join()
    with drawn_from(sources(3)):
        assert first_ids() == within
        assert elsewhere[0].isdisjoint(within)
    assert first_ids().isdisjoint(within)
