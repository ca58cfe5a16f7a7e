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
        self.by_source: dict[str, Interface] = {}
        """Of a node with several links upwards: by which each of its addresses sends."""
        self._own = set(own)
        self._own_ipv4 = {host for host in own if ":" not in host}
        self._by_length: dict[tuple[int, int], dict[int, Way]] = {}
        """Ways by IP version and prefix length, and then by the prefix's bits."""
        self._lengths: dict[int, list[int]] = {4: [], 6: []}
        """By IP version, the longest first."""
        self._found: dict[str, Way] = {}

    def add(self, network: IPv4Network | IPv6Network, way: Way) -> None:
        """To a network; the longest prefix wins."""
        version, length = network.version, network.prefixlen
        if length not in self._lengths[version]:
            self._lengths[version].append(length)
            self._lengths[version].sort(reverse=True)
        bits = int(network.network_address) >> (network.max_prefixlen - length)
        self._by_length.setdefault((version, length), {})[bits] = way

    def set_default(self, version: int, by: Interface) -> None:
        """From now on."""
        self.default[version] = by
        self._found.clear()

    def add_link(self, network: IPv4Network | IPv6Network, neighbour: str, by: Interface) -> None:
        """To the other end of a link, and to nobody else on it."""
        self.add(network, Dead.NOBODY)
        self.add(ip_network(neighbour), by)

    def is_own_ipv4(self, host: str) -> bool:
        """Whether it is an IPv4 address of the node's."""
        return host in self._own_ipv4

    def way_from(self, source: str, host: str) -> Way:
        """For what the node itself sends. Raises ValueError where ``host`` is no address."""
        way = self.way_to(host)
        return self.by_source.get(source, way) if isinstance(way, Interface) else way

    def way_to(self, host: str) -> Way:
        """Raises ValueError where that is no address."""
        way = self._found.get(host)
        if way is None:
            way = self._found[host] = self._find(host)
        return way

    def _find(self, host: str) -> Way:
        address = ip_address(host)
        if host in self._own or address.is_loopback:
            return Dead.HERE
        if address.is_multicast or address.is_unspecified or host == "255.255.255.255":
            return Dead.NOBODY
        for length in self._lengths[address.version]:
            bits = int(address) >> (address.max_prefixlen - length)
            way = self._by_length[address.version, length].get(bits)
            if way is not None:
                return way
        return self.default.get(address.version, Dead.UNREACHABLE)
