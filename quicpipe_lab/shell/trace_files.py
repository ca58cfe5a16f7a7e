"""What a program leaves for Wireshark and qvis: TLS secrets and a qlog."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from aioquic.quic.logger import QuicLogger

from quicpipe_lab.errors import QuicpipeLabError


@contextmanager
def qlog_file(directory: Path | None, name: str) -> Iterator[QuicLogger | None]:
    """A logger whose traces stand in ``directory/name.qlog`` after the block; None without one.

    aioquic's own file logger writes a trace when its connection has drained, which a program that
    has said goodbye does not wait for.
    """
    if directory is None:
        yield None
        return
    path = directory / f"{name}.qlog"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8")  # now, so that a bad path is found out at once
    except OSError as error:
        raise QuicpipeLabError(f"qlog {path}: {error.strerror or error}") from None
    logger = QuicLogger()
    with file:
        try:
            yield logger
        finally:
            json.dump(logger.to_dict(), file)


@contextmanager
def keylog_file(path: Path | None) -> Iterator[TextIO | None]:
    """TLS secrets in SSLKEYLOGFILE form, appended line by line; None without a path."""
    if path is None:
        yield None
        return
    try:
        file = path.open("a", encoding="ascii", buffering=1)
    except OSError as error:
        raise QuicpipeLabError(f"keylog {path}: {error.strerror or error}") from None
    with file:
        yield file
