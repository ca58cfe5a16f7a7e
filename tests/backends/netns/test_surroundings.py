"""What programs see of the machine: the name, hosts and interfaces of their node."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from quicpipe_lab.backends.netns.lab import Lab
from quicpipe_lab.backends.netns.naming import hosts_file, places
from tests.backends.netns.remote import DEADLINE_S, output_of
from tests.nobody import python_of_nobody

pytestmark = pytest.mark.netns

_COVERED = [Path("/etc", name) for name in ("hosts", "resolv.conf", "hostname", "nsswitch.conf")]


def said_on(lab: Lab, node: str, script: str, exit_code: int = 0) -> list[str]:
    """The lines that a shell script writes there."""
    return output_of(
        lab, node, ["sh", "-c", f"exec 2>&1; {script}"], exit_code=exit_code
    ).splitlines()


@pytest.mark.parametrize("node", ["core", "relay", "nat-a", "alice"])
def test_own_names(two_homes: Lab, node: str) -> None:
    hosts = hosts_file(places(two_homes.topology), node).splitlines()
    assert said_on(two_homes, node, "hostname; cat /etc/hosts") == [node, *hosts]


def test_names_lead_to_nodes(two_homes: Lab) -> None:
    """Every name that a node has for another is one at which that node answers."""
    look_up = "import socket; print(socket.gethostbyname('{}'))"
    for node, other, address in (
        ("alice", "relay", "198.18.0.6"),
        ("alice", "core", "198.18.0.9"),
        ("bob", "nat-b", "192.168.0.5"),
        ("relay", "nat-b", "198.18.0.14"),
        ("alice", "localhost", "127.0.0.1"),
    ):
        script = f'{sys.executable} -S -c "{look_up.format(other)}"'
        assert said_on(two_homes, node, script) == [address]


def test_no_name_server(two_homes: Lab) -> None:
    """A name of the world is not asked of anybody: at once, not after a resolver's patience."""
    script = "grep -c '^[^#]' /etc/resolv.conf"
    assert said_on(two_homes, "alice", script, exit_code=1) == ["0"]
    script = f"{sys.executable} -S -c \"import socket; socket.gethostbyname('example.com')\""
    assert "gaierror" in said_on(two_homes, "alice", script, exit_code=1)[-1]


def test_daemons_of_the_host_are_not_asked(two_homes: Lab) -> None:
    if not Path("/etc/nsswitch.conf").exists():
        pytest.skip("this system has no /etc/nsswitch.conf")
    (line,) = said_on(two_homes, "alice", "grep ^hosts: /etc/nsswitch.conf")
    assert line == "hosts: files dns"
    others = Path("/etc/nsswitch.conf").read_text().splitlines()
    kept = [one for one in others if not one.startswith("hosts:")]
    assert said_on(two_homes, "alice", "grep -v ^hosts: /etc/nsswitch.conf") == kept


def test_own_interfaces_in_sysfs(two_homes: Lab) -> None:
    nodes = said_on(two_homes, "nat-a", "ls /sys/class/net")
    assert {"lo", "core", "alice"} <= set(nodes)
    assert "eth0" not in nodes
    (mac,) = said_on(two_homes, "nat-a", "cat /sys/class/net/alice/address")
    assert re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", mac)


def test_nothing_changes_outside(two_homes: Lab) -> None:
    """A program may write to its files: they are its own, and are gone with it."""
    before = [path.read_bytes() if path.exists() else None for path in _COVERED]
    mounts = Path("/proc/self/mountinfo").read_text()
    host_name = os.uname().nodename
    script = "echo 198.18.0.6 mine >> /etc/hosts; grep -c mine /etc/hosts; hostname other"
    assert said_on(two_homes, "alice", script) == ["1"]
    assert "mine" not in "".join(said_on(two_homes, "alice", "cat /etc/hosts"))
    assert said_on(two_homes, "alice", "hostname") == ["alice"]
    assert [path.read_bytes() if path.exists() else None for path in _COVERED] == before
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert os.uname().nodename == host_name


def test_files_are_the_hosts(two_homes: Lab, tmp_path: Path) -> None:
    """By the same paths, both ways."""
    (tmp_path / "in").write_text("word")
    command = f"cat {tmp_path}/in > {tmp_path}/out; ls {tmp_path}"
    assert said_on(two_homes, "bob", command) == ["in", "out"]
    assert (tmp_path / "out").read_text() == "word"


def test_own_programs_too(two_homes: Lab) -> None:
    """quicpipe-lab's, that are not executed but forked."""
    output = os.memfd_create("output")
    with os.fdopen(output, "r+") as file:
        argv = ["quicpipe-lab", "relay", "--bind", "127.0.0.1:0", "--ephemeral"]
        process = two_homes.spawn("relay", argv, stdout=output, stderr=output)
        root = Path(f"/proc/{process.pid}/root/etc/hosts")
        assert "relay" in root.read_text()
        process.send_signal(15)
        process.wait(DEADLINE_S)
        file.seek(0)


@pytest.mark.usefixtures("user_namespaces")
def test_without_root() -> None:
    script = (
        "from quicpipe_lab.backends.netns.lab import Lab\n"
        "from quicpipe_lab.resources import find_topology\n"
        "with Lab(find_topology('two-homes')) as lab:\n"
        "    argv = ['sh', '-c', 'hostname; grep -w relay /etc/hosts; ls /sys/class/net']\n"
        "    assert lab.spawn('alice', argv, stdout=1).wait(5) == 0\n"
    )
    argv, env = python_of_nobody()
    result = subprocess.run([*argv, "-c", script], capture_output=True, text=True, env=env)
    assert result.stderr == ""
    assert {"alice", "198.18.0.6", "relay", "lo", "nat-a"} <= set(result.stdout.split())
