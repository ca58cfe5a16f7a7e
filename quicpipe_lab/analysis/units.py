"""Numbers for people."""


def amount(size_bytes: float) -> str:
    """Bytes in decimal units, three digits."""
    for factor, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Milliseconds below a second, microseconds below one of these."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    if 0 < seconds < 1e-3:
        return f"{1e6 * seconds:.3g} µs"
    return f"{1000 * seconds:.3g} ms"
