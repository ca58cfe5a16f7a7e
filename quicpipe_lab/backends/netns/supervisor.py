"""The lab's own process: owns the namespaces, starts programs in them, and takes all with it.

Run as ``python -m quicpipe_lab.backends.netns.supervisor CONTROL_FD`` by Lab, with a Blueprint as
JSON on standard input. Two processes come of it:

- the *watcher* leaves the host's namespaces, forks the supervisor into a fresh PID namespace, and
  waits for the first of these to end: its caller, the control socket, the supervisor. Then it
  kills the supervisor.
- the *supervisor* is process 1 of that namespace. When it ends, whatever the reason, the kernel
  kills every process in the namespace, and with them goes everything else.

The supervisor dies with the watcher (PR_SET_PDEATHSIG), the watcher with its caller: a SIGKILL to
any of the three leaves nothing behind. One thread, blocking, no asyncio.
"""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from quicpipe_lab.backends.netns import registry, syscalls
from quicpipe_lab.backends.netns.channel import Channel
from quicpipe_lab.backends.netns.failures import describe
from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError


def main() -> NoReturn:
    """The watcher: see above."""
    caller = os.pidfd_open(os.getppid())
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        listener = registry.reserve_name()
        _leave_host()
        watcher = os.pidfd_open(os.getpid())
        pid = os.fork()
    except (QuicpipeLabError, OSError) as error:
        _complain(Channel(control), error)
        sys.exit(1)
    if pid == 0:
        os.close(caller)
        _supervise(control, listener, watcher)
    listener.close()
    os.close(watcher)
    supervisor = os.pidfd_open(pid)
    _wait_for_end(control, caller, supervisor)
    signal.pidfd_send_signal(supervisor, signal.SIGKILL)
    os.waitpid(pid, 0)
    os._exit(0)


def _leave_host() -> None:
    """The first act, so that a mistake hits an empty namespace and never the host."""
    flags = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS
    try:
        syscalls.unshare(flags)
    except PermissionError:
        _unshare_as_user(flags)
    # Slave: what the host unmounts goes away here too, and nothing goes the other way.
    syscalls.mount("none", "/", "none", syscalls.MS_REC | syscalls.MS_SLAVE)


def _unshare_as_user(flags: int) -> None:
    """Without root: root in a user namespace of our own, where it is the same user outside."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        syscalls.unshare(syscalls.CLONE_NEWUSER | flags)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise BackendUnavailableError(
                "no root, and no user namespaces (as many as allowed exist)",
                "run as root, or allow more: sysctl -w user.max_user_namespaces=15000",
            ) from None
        raise BackendUnavailableError(
            f"no root, and no user namespaces ({error.strerror})", _user_namespace_remedy()
        ) from None
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        try:
            Path("/proc/self", name).write_text(text)
        except OSError as error:
            raise BackendUnavailableError(
                f"this user namespace has no powers (/proc/self/{name}: {error.strerror})",
                _user_namespace_remedy(),
            ) from None


def _user_namespace_remedy() -> str:
    for name, value in (
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),
        ("kernel.unprivileged_userns_clone", "1"),
    ):
        with contextlib.suppress(OSError):
            if Path("/proc/sys", name.replace(".", "/")).read_text().strip() != value:
                return f"run as root, or allow them: sysctl -w {name}={value}"
    return "run as root, or allow user namespaces"


def _wait_for_end(control: socket.socket, caller: int, supervisor: int) -> None:
    """Returns when the caller, the control socket's other end or the supervisor is gone."""
    poll = select.poll()
    poll.register(control, 0)  # POLLHUP is always reported
    poll.register(caller, select.POLLIN)
    poll.register(supervisor, select.POLLIN)
    poll.poll()


def _supervise(control: socket.socket, listener: socket.socket, watcher: int) -> NoReturn:
    """The supervisor, from its first step on."""
    status = 1
    try:
        syscalls.set_parent_death_signal(signal.SIGKILL)
        if select.select([watcher], [], [], 0)[0]:
            os._exit(1)  # the watcher ended before the kernel knew whom to tell
        channel = Channel(control)
        try:
            _serve(channel, listener)
        except EOFError:
            status = 0
        except Exception as error:
            _complain(channel, error)
    finally:
        os._exit(status)


def _serve(channel: Channel, listener: socket.socket) -> None:
    # Only here: the watcher has no use for them.
    from quicpipe_lab.backends.netns.blueprint import blueprint_from_json
    from quicpipe_lab.backends.netns.namespaces import build
    from quicpipe_lab.backends.netns.service import Service, raise_descriptor_limit

    # A /proc of this PID namespace, for programs that look themselves up in it. Where a container
    # hides parts of its own, the kernel allows none; then they see the container's.
    with contextlib.suppress(OSError):
        syscalls.mount(
            "proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        )
    blueprint = blueprint_from_json(json.load(sys.stdin))
    descriptor_limit = raise_descriptor_limit()
    files = build(blueprint)
    service = Service(channel, listener, blueprint.topology, files, descriptor_limit)
    channel.send({"ready": True}, [os.pidfd_open(os.getpid())])
    service.run()


def _complain(channel: Channel, error: Exception) -> None:
    with contextlib.suppress(OSError):
        channel.send(describe(error))


if __name__ == "__main__":
    main()
