"""A lab from its caller's side: programs, files, errors, cuts."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from quicpipe_lab.backends.netns.lab import Lab, Process
from quicpipe_lab.backends.netns.registry import running_labs
from quicpipe_lab.errors import LocalProtocolError, QuicpipeLabError, UnsupportedBehaviorError
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.topology import Host, Link, Topology
from quicpipe_lab.resources import find_topology
from tests.backends.netns.remote import (
    DEADLINE_S,
    Sockets,
    open_files,
    output_of,
    port_of,
    sockets_of,
)

pytestmark = pytest.mark.netns


@pytest.fixture
def sockets(two_homes: Lab) -> Iterator[Sockets]:
    with sockets_of(two_homes) as made:
        yield made


def test_every_node_reaches_the_relay(two_homes: Lab, sockets: Sockets) -> None:
    relay = str(two_homes.topology.uplinks["relay"].lower_address)
    server = sockets.udp("relay")
    for name in ("alice", "bob", "nat-a", "core"):
        client = sockets.udp(name)
        client.sendto(name.encode(), (relay, port_of(server)))
        data, seen = server.recvfrom(2048)
        assert data == name.encode()
        server.sendto(b"back", seen)
        assert client.recv(2048) == b"back"


def test_homes_are_not_reachable_from_outside(two_homes: Lab, sockets: Sockets) -> None:
    """The core knows the public networks only."""
    alice = str(two_homes.topology.uplinks["alice"].lower_address)
    with pytest.raises(OSError, match="unreachable"):
        sockets.udp("core").sendto(b"", (alice, 9))


def test_exit_codes(two_homes: Lab) -> None:
    for argv, code in (
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], -9),
    ):
        process = two_homes.spawn("alice", argv)
        assert select.select([process.exit_fd], [], [], DEADLINE_S)[0]
        assert process.poll() == code
        assert process.wait() == code
        process.close()


def test_signals_and_pid(two_homes: Lab) -> None:
    process = two_homes.spawn("alice", ["sleep", "1000"])
    assert Path(f"/proc/{process.pid}/cmdline").read_bytes() == b"sleep\x001000\x00"
    assert process.poll() is None
    with pytest.raises(QuicpipeLabError, match="sleep on alice still runs after 0 s"):
        process.wait(0)
    process.send_signal(signal.SIGTERM)
    assert process.wait(DEADLINE_S) == -signal.SIGTERM
    process.send_signal(signal.SIGTERM)


def test_files_go_where_they_are_told(two_homes: Lab) -> None:
    """Also where a file's number here is another's number there; and no other file goes along."""
    one, two = (os.memfd_create(name) for name in ("one", "two"))
    script = f"ls /proc/self/fd; echo to one >&{two}; echo to two >&{one}"
    process = two_homes.spawn(
        "bob", ["bash", "-c", script], stdout=one, extra_fds={one: two, two: one}
    )
    assert process.wait(DEADLINE_S) == 0
    texts = []
    for fd in (one, two):
        os.lseek(fd, 0, os.SEEK_SET)
        with os.fdopen(fd) as file:
            texts.append(file.read().split())
    expected = {"0", "1", "2", "3", str(one), str(two)}  # 3 is the folder that ls reads
    assert set(texts[0][:-2]) == expected
    assert texts[0][-2:] == ["to", "one"]
    assert texts[1] == ["to", "two"]


def test_environment_and_folder(two_homes: Lab, tmp_path: Path) -> None:
    text = output_of(
        two_homes,
        "bob",
        ["sh", "-c", "echo $WORD; pwd"],
        env={"WORD": "word", "PATH": os.environ["PATH"]},
        cwd=tmp_path,
    )
    assert text.split() == ["word", str(tmp_path)]


def test_programs_see_their_own_processes_only(two_homes: Lab) -> None:
    script = "import os; print(*sorted(int(n) for n in os.listdir('/proc') if n.isdigit()))"
    text = output_of(two_homes, "bob", [sys.executable, "-c", script])
    assert text.split()[0] == "1"
    assert len(text.split()) == 2


def test_program_that_does_not_exist(two_homes: Lab, tmp_path: Path) -> None:
    before = open_files()
    with pytest.raises(QuicpipeLabError, match="nonsense cannot be started: it is not on the PATH"):
        two_homes.spawn("alice", ["nonsense"], env={"PATH": "/usr/bin:/bin"})
    with pytest.raises(QuicpipeLabError, match="cannot be started: there is no such file"):
        two_homes.spawn("alice", [str(tmp_path / "nonsense")])
    with pytest.raises(QuicpipeLabError, match="nowhere: No such file or directory"):
        two_homes.spawn("alice", ["true"], cwd=tmp_path / "nowhere")
    with pytest.raises(QuicpipeLabError, match="Message too long"):
        two_homes.spawn("alice", ["true", "x" * 1_000_000])
    with pytest.raises(QuicpipeLabError, match="Bad file descriptor"):
        two_homes.spawn("alice", ["true"], stdout=1_000_000)
    with pytest.raises(LocalProtocolError, match="no node 'nowhere'"):
        two_homes.spawn("nowhere", ["true"])
    assert open_files() == before
    assert two_homes.spawn("alice", ["true"]).wait(DEADLINE_S) == 0


def test_own_program_runs_without_a_python_start(two_homes: Lab) -> None:
    text = output_of(two_homes, "alice", ["quicpipe-lab", "--help"])
    assert "quicpipe-lab" in text


def test_lab_that_ends_takes_programs_along() -> None:
    with Lab(find_topology("two-homes")) as lab:
        # A daemon: no child of anything in the lab but its process 1.
        reader, writer = os.pipe()
        lab.spawn("bob", ["sh", "-c", "setsid sleep 1000 & echo $!"], stdout=writer)
        os.close(writer)
        assert os.read(reader, 10)
        process = lab.spawn("alice", ["sleep", "1000"])
    # The daemon held the other end of the pipe.
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert process.wait(DEADLINE_S) == -signal.SIGKILL
    assert not Path(f"/proc/{process.pid}").exists()


def test_nothing_stays_open() -> None:
    Lab(find_topology("two-homes")).up().down()
    before = open_files()
    with Lab(find_topology("two-homes")) as lab:
        assert set(lab.namespaces()) == {"core", *lab.topology.by_name}
        lab.spawn("alice", ["true"]).close()
    assert open_files() == before
    lab.down()


def test_lab_goes_also_where_a_forked_child_holds_its_socket() -> None:
    lab = Lab(find_topology("two-homes")).up()
    held = os.dup(lab._channel.fileno())  # type: ignore[union-attr]
    pid = lab.pid
    lab.down()
    assert not Path(f"/proc/{pid}").exists()
    os.close(held)


def test_lab_can_be_found_and_entered(two_homes: Lab) -> None:
    (found,) = [lab for lab in running_labs() if lab.pid == two_homes.pid]
    assert found.topology == "two-homes"
    for node, fd in two_homes.namespaces().items():
        assert Path(found.namespaces[node]).stat().st_ino == os.fstat(fd).st_ino
    inodes = {os.fstat(fd).st_ino for fd in two_homes.namespaces().values()}
    assert len(inodes) == len(two_homes.topology.nodes) + 1
    assert Path("/proc/self/ns/net").stat().st_ino not in inodes
    pid = two_homes.pid
    two_homes.down()
    assert pid not in [lab.pid for lab in running_labs()]


def test_two_labs_at_once(two_homes: Lab) -> None:
    with Lab(two_homes.topology) as other:
        assert other.pid != two_homes.pid
        assert other.spawn("alice", ["true"]).wait(DEADLINE_S) == 0


def test_misuse() -> None:
    lab = Lab(find_topology("two-homes"))
    with pytest.raises(LocalProtocolError, match="not up"):
        lab.spawn("alice", ["true"])
    with lab, pytest.raises(LocalProtocolError, match="up already"):
        lab.up()
    link = Link(("core", "a"), LinkBehavior(mtu_bytes=9000))
    jumbo = Topology("jumbo", (Host("a"),), (link,))
    with pytest.raises(UnsupportedBehaviorError, match="'a' to 'core': mtu_bytes of 9000"):
        Lab(jumbo).up()


def test_more_nodes_than_open_files() -> None:
    """One line that says what to do, and nothing is left of the half that was built."""
    script = (
        "from quicpipe_lab.backends.netns.lab import Lab\n"
        "from quicpipe_lab.model.topology import Host, Link, Topology\n"
        "hosts = tuple(Host(f'h{number}') for number in range(30))\n"
        "links = tuple(Link(('core', host.name)) for host in hosts)\n"
        "Lab(Topology('star', hosts, links)).up()\n"
    )
    argv = ["sh", "-c", 'ulimit -n 80; exec "$0" -c "$1"', sys.executable, script]
    result = subprocess.run(argv, capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == (
        "quicpipe_lab.errors.BackendUnavailableError: no more open files are allowed, and a lab"
        " needs one for each node; raise the limit: ulimit -Hn 65536"
    )


def test_caller_without_standard_files() -> None:
    """The control socket takes the number of one, and no program gets hold of it."""
    script = (
        "import os, sys\n"
        "from quicpipe_lab.backends.netns.lab import Lab\n"
        "from quicpipe_lab.resources import find_topology\n"
        "report = os.dup(1)\n"
        "os.closerange(0, 3)\n"
        "with Lab(find_topology('two-homes')) as lab:\n"
        "    look = 'import os; os.write(9, repr([os.readlink(f\"/proc/self/fd/{n}\")'\\\n"
        "        ' for n in range(3)]).encode())'\n"
        "    argv = [sys.executable, '-c', look]\n"
        "    lab.spawn('alice', argv, extra_fds={9: report}).wait()\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.stdout == repr(["/dev/null"] * 3)


def test_dead_supervisor_is_noticed(two_homes: Lab) -> None:
    process = two_homes.spawn("alice", ["sleep", "1000"])
    os.kill(two_homes.pid, signal.SIGKILL)
    assert process.wait(DEADLINE_S) == -signal.SIGKILL
    with pytest.raises(QuicpipeLabError, match="supervisor is gone"):
        two_homes.spawn("alice", ["true"])


def test_long_and_awkward_names() -> None:
    names = ["a-very-long-name-for-a-host", "a-very-long-name-for-another", "lo", "all", "default"]
    topology = Topology(
        "names", tuple(Host(name) for name in names), tuple(Link(("core", name)) for name in names)
    )
    with Lab(topology) as lab, sockets_of(lab) as sockets:
        for name in names:
            server = sockets.udp(name)
            address = str(topology.uplinks[name].lower_address)
            sockets.udp("core").sendto(b"hello", (address, port_of(server)))
            assert server.recv(100) == b"hello"


@pytest.mark.parametrize(
    ("one", "other"), [("alice", "bob"), ("nat-b", "alice"), ("core", "relay"), ("bob", "core")]
)
def test_cut_and_restore(two_homes: Lab, sockets: Sockets, one: str, other: str) -> None:
    """Each pair against what must and must not pass, before, during and after."""
    relay, alice, bob = (sockets.udp(name) for name in ("relay", "alice", "bob"))
    address = str(two_homes.topology.uplinks["relay"].lower_address)
    seen = {}
    for name, inside in (("alice", alice), ("bob", bob)):
        inside.sendto(name.encode(), (address, port_of(relay)))
        seen[name] = relay.recvfrom(100)[1]
    alice.sendto(b"punch", seen["bob"])  # opens alice's NAT; bob's is closed yet
    bob.sendto(b"from bob", seen["alice"])
    assert alice.recvfrom(100) == (b"from bob", seen["bob"])

    def passes(sender: socket.socket, to: tuple[str, int], receiver: socket.socket) -> bool:
        sender.sendto(b"probe", to)
        receiver.settimeout(0.2)
        try:
            return receiver.recv(100) == b"probe"
        except TimeoutError:
            return False

    def what_passes() -> list[bool]:
        return [
            passes(alice, seen["bob"], bob),
            passes(bob, seen["alice"], alice),
            passes(alice, (address, port_of(relay)), relay),
            passes(relay, seen["bob"], bob),
        ]

    cut_off = {
        ("alice", "bob"): [False, False, True, True],
        ("nat-b", "alice"): [False, False, True, True],
        ("core", "relay"): [True, True, False, False],
        ("bob", "core"): [False, False, True, False],
    }
    assert what_passes() == [True] * 4
    two_homes.cut(one, other)
    assert what_passes() == cut_off[one, other]
    two_homes.restore(other, one)
    assert what_passes() == [True] * 4


def test_cut_behind_one_nat() -> None:
    with Lab(find_topology("one-home")) as lab, sockets_of(lab) as sockets:
        bob, alice, relay = (sockets.udp(name) for name in ("bob", "alice", "relay"))
        to_bob, to_relay = (
            (str(lab.topology.uplinks[name].lower_address), port_of(sock))
            for name, sock in (("bob", bob), ("relay", relay))
        )
        lab.cut("alice", "bob")
        alice.sendto(b"lost", to_bob)
        alice.sendto(b"passes", to_relay)
        assert relay.recv(100) == b"passes"
        lab.restore("alice", "bob")
        alice.sendto(b"passes", to_bob)
        assert bob.recv(100) == b"passes"


def test_cuts_are_checked(two_homes: Lab) -> None:
    with pytest.raises(LocalProtocolError, match="not cut off"):
        two_homes.restore("alice", "bob")
    with pytest.raises(LocalProtocolError, match="no node 'nobody'"):
        two_homes.cut("alice", "nobody")
    with pytest.raises(LocalProtocolError, match="itself"):
        two_homes.cut("alice", "alice")


def test_repr_names_the_program(two_homes: Lab) -> None:
    process: Process = two_homes.spawn("alice", ["true"])
    assert repr(process) == f"<Process 'true' on 'alice', pid {process.pid}>"
