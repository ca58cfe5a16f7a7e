"""What a program leaves for Wireshark and qvis: TLS secrets and a qlog."""

import json
import os
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
    """TLS secrets in SSLKEYLOGFILE form, appended line by line; None without a path.

    Who reads them reads the connections, so that a new file is its owner's alone, as a private key
    is. (What a lab's programs left is gathered when they have ended, in a file as all others of the
    run: its capture holds the same secrets, and both are there to be looked at by anybody.)
    """
    if path is None:
        yield None
        return
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        file = os.fdopen(os.open(path, flags, 0o600), "a", encoding="ascii", buffering=1)
    except OSError as error:
        raise QuicpipeLabError(f"keylog {path}: {error.strerror or error}") from None
    with file:
        yield file
