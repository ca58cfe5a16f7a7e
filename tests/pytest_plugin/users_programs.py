"""Somebody's own peer-to-peer product, small: programs that the lab knows nothing of.

``rendezvous PORT`` tells two peers of each other and carries what they cannot send directly.
``peer HOST:PORT`` punches, and falls back to the rendezvous after ten rounds.
"""

import sys
from pathlib import Path

_RENDEZVOUS = """
import socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("", int(sys.argv[1])))
print("ready", flush=True)
peers = []
while True:
    data, source = udp.recvfrom(1500)
    if source not in peers:
        peers.append(source)
    if len(peers) == 2:
        other = peers[1 - peers.index(source)]
        if data == b"hello":
            for one, its in (peers, peers[::-1]):
                udp.sendto(b"peer %s %d" % (its[0].encode(), its[1]), one)
        else:
            udp.sendto(data, other)
"""

_PEER = """
import socket, sys
host, port = sys.argv[1].split(":")
server = socket.gethostbyname(host), int(port)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.settimeout(0.05)
other = None
for round in range(400):
    if other is None:
        udp.sendto(b"hello", server)
    elif round % 20 < 10:
        udp.sendto(b"ask", other)
    else:
        udp.sendto(b"ask", server)
    try:
        data, source = udp.recvfrom(1500)
    except TimeoutError:
        continue
    if data.startswith(b"peer "):
        other = data.split()[1].decode(), int(data.split()[2])
    elif data == b"ask":
        udp.sendto(b"answer", source)
    elif data == b"answer":
        for _ in range(3):
            udp.sendto(b"answer", source)
        sys.exit(0)
sys.exit("nobody is there")
"""


def install(folder: Path) -> None:
    """As executable files."""
    for name, source in (("rendezvous", _RENDEZVOUS), ("peer", _PEER)):
        path = folder / name
        path.write_text(f"#!{sys.executable} -S\n{source}", encoding="utf-8")
        path.chmod(0o755)
