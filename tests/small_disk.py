"""A disk that is soon full, and is gone afterwards."""

import os
import subprocess
from pathlib import Path


def on_a_small_disk(
    folder: Path, size: str, script: str, timeout_s: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder where there is a tmpfs of this size meanwhile, in a mount namespace.

    Root needs no user namespace for that, and may have none; who can build a lab otherwise has one.
    """
    unshare = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
    mounted = f"mount -t tmpfs -o size={size} tmpfs {folder} && cd {folder} && {{ {script}; }}"
    return subprocess.run(
        [*unshare, "sh", "-c", mounted], capture_output=True, text=True, timeout=timeout_s
    )
