"""A run's packets, for notebooks."""

import os
from pathlib import Path
from typing import Any

from quicpipe_lab.evidence import open_run
from quicpipe_lab.model.address import TransportAddress
from quicpipe_lab.model.result import RunResult


def packets(run: RunResult | str | os.PathLike[str]) -> Any:
    """The capture of a run as a table: one row a packet and interface.

    A pandas DataFrame where pandas is installed, else a list of analysis.packets.Packet, which has
    the same columns and says what they are; only the two addresses are one column each there, and
    host and port apart in a DataFrame. ``run``: a result, or the path of a run's directory.
    """
    rows = open_run(run if isinstance(run, RunResult) else Path(run)).packets
    try:
        import pandas
    except ImportError:
        return rows
    frame = pandas.DataFrame(rows)
    for end in ("source", "destination"):
        addresses: list[TransportAddress | None] = [getattr(row, end) for row in rows]
        frame[end] = [address and address.host for address in addresses]
        ports = [address and address.port for address in addresses]
        where = frame.columns.get_loc(end) + 1
        frame.insert(where, f"{end}_port", pandas.array(ports, dtype="Int32"))
    return frame
