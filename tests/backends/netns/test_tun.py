"""Where a TUN device cannot be had, what to do about it is said."""

import os
import shutil
import subprocess
import sys

import pytest

MAKE = """
from quicpipe_lab.backends.netns import tun
from quicpipe_lab.errors import BackendUnavailableError
try:
    tun.make("nat64", 7)
except BackendUnavailableError as error:
    print(error)
"""


@pytest.mark.netns
@pytest.mark.skipif(os.getuid() != 0, reason="giving a power up takes root's")
def test_without_the_power_to_make_interfaces() -> None:
    """In a network namespace of its own, whatever this machine lets us have."""
    if shutil.which("setpriv") is None or not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        pytest.skip("needs setpriv (package util-linux) and /dev/net/tun")
    powerless = ["unshare", "--net", "setpriv", "--bounding-set=-net_admin"]
    done = subprocess.run([*powerless, sys.executable, "-c", MAKE], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (
        "NAT64 needs a TUN device, and none may be made: Operation not permitted; a container may"
        " with docker run --privileged; elsewhere dmesg names the policy that forbids it\n",
        "",
    )
