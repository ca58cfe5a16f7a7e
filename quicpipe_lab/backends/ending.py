"""How a program ended, in words, for a message: its status always, and what it said of that."""

import signal

PREFIX = "quicpipe-lab: "


def ending(exit_code: int, said: str) -> str:
    """Goes behind ``the dialer ended``. ``exit_code``: minus a signal's number where one killed
    it; ``said``: what it wrote, whose last line counts."""
    words = last_line(said)
    if exit_code >= 0:
        return f"with status {exit_code}" + (f": {words}" if words else ", and did not say why")
    killer = f"by {_signal_name(-exit_code)}"
    return f"{killer}, and had said: {words}" if words else killer


def last_line(said: str) -> str:
    """Without our name; empty where there is nothing but blanks."""
    lines = said.strip().splitlines()
    return lines[-1].removeprefix(PREFIX) if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
