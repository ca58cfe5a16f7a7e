"""Follows a capture while it is being recorded: what has come to the spool since the last look."""

import json
import os
from collections.abc import Iterator
from typing import NamedTuple

from quicpipe_lab.shell.capture import CHUNK, JSON_CHUNK
from quicpipe_lab.shell.packet_ring import frame_at, frames_of_block


class Arrival(NamedTuple):
    """A frame that a node received on an interface. ``data``: as much of it as was captured."""

    node: str
    interface: str
    data: bytes


class SpoolTail:
    """``spool`` is open, and its recorder writes whole chunks."""

    def __init__(self, spool: int) -> None:
        self._file = spool
        self._at = 0
        self._nodes: list[tuple[str, dict[int, str]]] = []

    def arrivals(self) -> Iterator[Arrival]:
        """Those that are new."""
        while (chunk := self._next_chunk()) is not None:
            number, data = chunk
            if number == JSON_CHUNK:
                self._nodes = self._named(data) or self._nodes
                continue
            memory = memoryview(data)
            node, interfaces = self._nodes[number]
            for _, offset in frames_of_block(memory):
                index, outgoing, _, frame = frame_at(memory, offset)
                if not outgoing:
                    yield Arrival(node, interfaces.get(index, str(index)), bytes(frame))

    def _next_chunk(self) -> tuple[int, bytes] | None:
        """None where the next one is not there in full."""
        head = os.pread(self._file, CHUNK.size, self._at)
        if len(head) < CHUNK.size:
            return None
        number, size = CHUNK.unpack(head)
        data = os.pread(self._file, size, self._at + CHUNK.size)
        if len(data) < size:
            return None
        self._at += CHUNK.size + size
        return number, data

    @staticmethod
    def _named(data: bytes) -> list[tuple[str, dict[int, str]]]:
        return [
            (node["name"], {int(index): name for index, name in node["interfaces"].items()})
            for node in json.loads(data).get("nodes", ())
        ]
