"""User namespaces: how a process without root becomes root of its own, and why it may not."""

import os
from pathlib import Path

from quicpipe_lab.backends.netns import syscalls
from quicpipe_lab.errors import BackendUnavailableError

_SWITCHES = (
    # Ubuntu's, from 23.10 on: the namespace is made, but has no powers.
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    # Debian's own.
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "15000"),
)
"""A setting, the value of it that forbids user namespaces, and one that allows them."""


def enter_user_namespace(more_flags: int = 0) -> None:
    """Become root in a new user namespace, and outside stay who one is.

    ``more_flags`` are further namespaces to make, which belong to it. Raises
    BackendUnavailableError.
    """
    user, group = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | more_flags)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    except OSError as error:
        raise BackendUnavailableError(
            f"no user namespace with powers of its own ({error.strerror})", remedy()
        ) from None


def remedy() -> str:
    """The command that allows user namespaces here, as far as the kernel's settings tell."""
    for name, forbids, allows in _SWITCHES:
        path = Path("/proc/sys") / name.replace(".", "/")
        if path.exists() and path.read_text().strip() == forbids:
            return f"sudo sysctl -w {name}={allows}"
    return "in a container, start it with: docker run --privileged"
