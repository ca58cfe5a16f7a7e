"""The lab's own process: owns the namespaces, starts programs in them, and takes all with it.

Run by Lab, with the number of its control socket and the lab's name as its arguments, and on
standard input what is to be built, marshalled: what the lab says of itself (see Service), the
Blueprint as JSON, and its encoding or None. Two processes come of it:

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
import fcntl
import marshal
import os
import resource
import select
import signal
import socket
import sys

from quicpipe_lab.backends.netns import syscalls
from quicpipe_lab.backends.netns.announcement import reserve_name
from quicpipe_lab.backends.netns.channel import Channel
from quicpipe_lab.backends.netns.failures import describe
from quicpipe_lab.backends.netns.namespaces import build
from quicpipe_lab.errors import BackendUnavailableError, QuicpipeLabError

TYPE_CHECKING = False  # typing's own would cost a tenth of a lab's start (see channel.py)
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> "NoReturn":
    """The watcher: see above."""
    control = socket.socket(fileno=_renumber(int(sys.argv[1])))
    caller = os.pidfd_open(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        listener = reserve_name(sys.argv[2])
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


def _renumber(fd: int) -> int:
    """A low number for the control socket, but none of the standard files'.

    The numbers from FIRST_FILE on are the namespaces'. A caller without standard files may have
    given the socket the number of one, and must not have others end up there.
    """
    low = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    while (null := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(null, True)
    os.close(null)
    return low


def _leave_host() -> None:
    """The first act, so that a mistake hits an empty namespace and never the host."""
    flags = syscalls.CLONE_NEWNET | syscalls.CLONE_NEWPID | syscalls.CLONE_NEWNS
    try:
        syscalls.unshare(flags)
    except PermissionError:
        # Root in a user namespace of our own, to which the others belong.
        from quicpipe_lab.backends.netns.isolation import enter_user_namespace

        enter_user_namespace(flags)
    except OSError as error:
        if error.errno != errno.ENOSPC:  # what the kernel says of its limits on namespaces
            raise
        raise BackendUnavailableError(
            "this machine's limit on namespaces is reached",
            "raise it: sudo sysctl -w user.max_net_namespaces=15000",
        ) from None
    # Slave: what the host unmounts goes away here too, and nothing goes the other way.
    syscalls.mount("none", "/", "none", syscalls.MS_REC | syscalls.MS_SLAVE)


def _wait_for_end(control: socket.socket, caller: int, supervisor: int) -> None:
    """Returns when the caller, the control socket's other end or the supervisor is gone."""
    poll = select.poll()
    poll.register(control, 0)  # POLLHUP is always reported
    poll.register(caller, select.POLLIN)
    poll.register(supervisor, select.POLLIN)
    poll.poll()


def _supervise(control: socket.socket, listener: socket.socket, watcher: int) -> "NoReturn":
    """The supervisor, from its first step on."""
    try:
        syscalls.set_parent_death_signal(signal.SIGKILL)
        if select.select([watcher], [], [], 0)[0]:
            os._exit(0)  # the watcher ended before the kernel knew whom to tell
        channel = Channel(control)
        try:
            _serve(channel, listener)
        except EOFError:
            pass
        except Exception as error:
            _complain(channel, error)
    finally:
        os._exit(0)


def _serve(channel: Channel, listener: socket.socket) -> None:
    # A /proc of this PID namespace, for programs that look themselves up in it. Where a container
    # hides parts of its own, the kernel allows none; then they see the container's.
    with contextlib.suppress(OSError):
        syscalls.mount(
            "proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        )
    introduction, text, spaces = marshal.loads(sys.stdin.buffer.read())
    answer = [os.pidfd_open(os.getpid())]
    if spaces is None:
        # Imported only where it is needed: it takes longer than all the rest.
        from quicpipe_lab.backends.netns.encoding import encode_blueprint

        spaces = encode_blueprint(text)
        answer.append(_memory_file(marshal.dumps(spaces)))
    descriptor_limit = _raise_descriptor_limit()
    files = build(spaces)
    listener.listen()
    channel.send_yes(answer)
    for fd in answer:
        os.close(fd)

    # The caller need not wait for this import.
    from quicpipe_lab.backends.netns.service import Service

    Service(channel, listener, introduction, files, descriptor_limit).run()


def _raise_descriptor_limit() -> tuple[int, int]:
    """As many open files as allowed, one for each node; the limit that programs are to have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    return before


def _memory_file(data: bytes) -> int:
    fd = os.memfd_create("encoded")
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    return fd


def _complain(channel: Channel, error: Exception) -> None:
    with contextlib.suppress(OSError):
        channel.send(describe(error))


if __name__ == "__main__":
    main()
