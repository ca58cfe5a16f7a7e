"""A program's qlog: one file with a trace for each of its connections, written when it ends."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aioquic.quic.logger import QuicLogger

from quicpipe_lab.errors import QuicpipeLabError


@contextmanager
def qlog_file(directory: Path, name: str) -> Iterator[QuicLogger]:
    """A logger whose traces stand in ``directory/name.qlog`` after the block.

    aioquic's own file logger writes a trace when its connection has drained, which a program that
    has said goodbye does not wait for.
    """
    logger = QuicLogger()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        yield logger
        (directory / f"{name}.qlog").write_text(json.dumps(logger.to_dict()), encoding="utf-8")
    except OSError as error:
        raise QuicpipeLabError(f"cannot write qlog in {directory}: {error.strerror}") from None
