"""Runs a command where no namespaces can be made: ``without_namespaces.py COMMAND ...``.

The kernel keeps these limits for each user namespace, so that the machine's own stay as they are.
"""

import os
import sys
from pathlib import Path

from quicpipe_lab.backends.netns.isolation import enter_user_namespace

enter_user_namespace()
for kind in ("net", "user"):
    Path(f"/proc/sys/user/max_{kind}_namespaces").write_text("0")
os.execvp(sys.argv[1], sys.argv[1:])
