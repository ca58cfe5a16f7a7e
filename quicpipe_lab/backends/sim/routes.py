"""Where a node sends what: looked up once for each address, and remembered."""

from enum import Enum
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from quicpipe_lab.backends.sim.link import Interface


class Dead(Enum):
    """Ways that lead nowhere. ``HERE``: it is the node's own address. ``NOBODY``: an address on a
    link that neither end has, or one of no single host. ``UNREACHABLE``: there is no route.
    """

    HERE = "here"
    NOBODY = "nobody"
    UNREACHABLE = "unreachable"


Way = Interface | Dead


class Routes:
    """Of one node. ``own`` addresses, ``default`` interfaces by IP version, and routes."""

    def __init__(self, own: list[str]) -> None:
        self.own = own
        self.default: dict[int, Interface] = {}
        self._routes: list[tuple[IPv4Network | IPv6Network, Way]] = []
        self._found: dict[str, Way] = {}

    def add(self, network: IPv4Network | IPv6Network, way: Way) -> None:
        """To a network; the longest prefix wins."""
        self._routes.append((network, way))
        self._routes.sort(key=lambda route: -route[0].prefixlen)

    def add_link(self, network: IPv4Network | IPv6Network, neighbour: str, by: Interface) -> None:
        """To the other end of a link, and to nobody else on it."""
        self.add(network, Dead.NOBODY)
        self.add(ip_network(neighbour), by)

    def way_to(self, host: str) -> Way:
        """Raises ValueError where that is no address."""
        way = self._found.get(host)
        if way is None:
            way = self._found[host] = self._find(host)
        return way

    def _find(self, host: str) -> Way:
        address = ip_address(host)
        if host in self.own or address.is_loopback:
            return Dead.HERE
        if address.is_multicast or address.is_unspecified or host == "255.255.255.255":
            return Dead.NOBODY
        for network, way in self._routes:
            if address in network:
                return way
        return self.default.get(address.version, Dead.UNREACHABLE)
