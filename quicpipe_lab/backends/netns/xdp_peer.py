"""Makes the other end of a node's link fit for an XDP program on the node's own end.

A veth interface takes frames that its peer sends back with XDP_TX only while it has an XDP program
itself, unless the peer's runs behind the driver (generic mode). And such frames leave with the
checksums that they came with: where the other end sends them half made, to be finished by nobody,
they stay so. Hence real checksums from there, and a program that lets everything pass.

By the supervisor, in the interface's namespace.
"""

import os

from quicpipe_lab.backends.netns import ethtool
from quicpipe_lab.errors import BackendUnavailableError
from quicpipe_lab.shell import bpf

PASS = bytes.fromhex("b700000002000000 9500000000000000")
"""xdp/quicpipe_pass.c, compiled: r0 = XDP_PASS, exit. A test compares the two; not to compile so
little anew for each lab saves a third of a second of processor time."""
_NATIVE = 1 << 2  # XDP_FLAGS_DRV_MODE


def prepare(interface: str, index: int, *, native: bool) -> list[int]:
    """A descriptor that keeps the program attached while it is open, if it takes one.

    Raises BackendUnavailableError, OSError.
    """
    ethtool.send_real_packets([interface])
    if not native:
        return []
    try:
        program = bpf.load_xdp_program(PASS, "quicpipe_pass")
        try:
            return [bpf.create_xdp_link(program, index, _NATIVE)]
        finally:
            os.close(program)
    except OSError as error:
        raise BackendUnavailableError(
            f"no XDP on the link of the relay: {error.strerror}", "quicpipe-lab doctor says more"
        ) from None
