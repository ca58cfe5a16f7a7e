"""A real browser, headless, that opens one page and tells what it did."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

DEADLINE_S = 60
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    # It asks for its maker's hosts by itself.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_ITS_OWN = "not an origin"
"""Who asks, in the browser's log, where that is the browser and no page."""


@dataclass(frozen=True)
class Visit:
    """``console``: lines that the page or the browser wrote about it. ``requests``: what the page
    asked the network for."""

    screenshot: Path
    console: list[str]
    requests: set[str]


def visit(page: Path, folder: Path, *, dark: bool = False, size: str = "1200,3000") -> Visit:
    """Open the page of a file, with a profile of its own."""
    folder.mkdir()
    picture, log = folder / "page.png", folder / "net.json"
    command = ["chromium", *FLAGS, *(["--force-dark-mode"] if dark else [])]
    command += [f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"]
    command += [f"--window-size={size}", f"--screenshot={picture}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return Visit(picture, console, _requests(log))


def _requests(log: Path) -> set[str]:
    events = json.loads(log.read_text("utf-8"))["events"]
    asked = [event.get("params", {}) for event in events]
    return {
        str(params["url"])
        for params in asked
        if "url" in params and params.get("initiator", _ITS_OWN) != _ITS_OWN
    }
