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
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise QuicpipeLabError(f"qlog {directory}: {error.strerror or error}") from None
    logger = QuicLogger()
    try:
        yield logger
    finally:
        (directory / f"{name}.qlog").write_text(json.dumps(logger.to_dict()), encoding="utf-8")


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
