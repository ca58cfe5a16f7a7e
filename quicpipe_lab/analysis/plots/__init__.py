"""Pictures: functions from what a run left to matplotlib's Axes, one picture a file.

Each takes an ``ax``, or makes a figure of its own size, and ``dark`` for a dark background. None
needs its colours to be understood: what a colour says, a dash, a marker, a hatch or a word says
too. These files are the only importers of matplotlib. Raises BackendUnavailableError where there
is none.
"""

from quicpipe_lab.errors import BackendUnavailableError

try:
    import matplotlib  # noqa: F401
except ImportError:
    raise BackendUnavailableError(
        "figures need matplotlib", "pip install 'quicpipe-lab[plot]'"
    ) from None
