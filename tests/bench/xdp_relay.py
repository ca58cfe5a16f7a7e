"""What a packet costs and how long it takes through the XDP filter, userspace and coturn."""

from tests.bench import Row, _xdp_traffic

TITLE = "Relaying datagrams of 1200 bytes through veth: all processor time from the link on, delays"


def run() -> list[Row]:
    return _xdp_traffic.rows()
