"""From a Topology to nodes that are joined, with the addresses and routes of the netns backend."""

from ipaddress import ip_network

from quicpipe_lab.backends import nat_support
from quicpipe_lab.backends.sim import nat64
from quicpipe_lab.backends.sim.clock import Clock
from quicpipe_lab.backends.sim.firewall import FirewallHooks
from quicpipe_lab.backends.sim.link import Interface, join
from quicpipe_lab.backends.sim.masquerade import Masquerade, OverloadingNat
from quicpipe_lab.backends.sim.nat import MappingNat
from quicpipe_lab.backends.sim.node import Hooks, Node, Observe
from quicpipe_lab.backends.sim.nptv6 import Nptv6
from quicpipe_lab.backends.sim.packet import MTU_BYTES
from quicpipe_lab.backends.sim.place import NatPlace
from quicpipe_lab.backends.sim.routes import Routes
from quicpipe_lab.backends.sim.udp_socket import Sockets
from quicpipe_lab.errors import UnsupportedBehaviorError
from quicpipe_lab.model.interface import HAIRPIN_IN, HAIRPIN_OUT, interface_names, neighbours
from quicpipe_lab.model.ipv6 import SERVICE_ADDRESSES_V6, Ipv6Addresses, firewall_of
from quicpipe_lab.model.link import LinkBehavior
from quicpipe_lab.model.link_model import LinkModel
from quicpipe_lab.model.nat import (
    Hairpinning,
    Ipv6Behavior,
    NatBehavior,
    PortAssignment,
    UnsolicitedReaction,
)
from quicpipe_lab.model.nat64 import LAB_PREFIX
from quicpipe_lab.model.topology import (
    CORE,
    SERVICE_ADDRESSES,
    Firewall,
    Host,
    Nat,
    Topology,
    Uplink,
)

Models = dict[tuple[str, str], LinkModel]
"""Of links that behave, by the nodes that a packet goes from and to."""


class Builder:
    """``nodes`` and ``models`` are what it makes. Raises UnsupportedBehaviorError."""

    def __init__(
        self, topology: Topology, clock: Clock, seed: int, observe: Observe | None
    ) -> None:
        self.nodes: dict[str, Node] = {}
        self.models: Models = {}
        self._topology = topology
        self._clock = clock
        self._seed = seed
        self._ipv6 = Ipv6Addresses(topology)
        for name in (CORE, *topology.uplinks):
            forwards = not isinstance(topology.by_name.get(name), Host)
            sockets = Sockets(clock, f"{seed}/{name}/ports")
            routes = Routes(self._own_addresses(name))
            self.nodes[name] = Node(name, clock, routes, sockets, forwards, observe)
        for name in self.nodes:
            self._make_interfaces(name)
        for uplink in topology.all_links:
            self._join(uplink)
        for name in self.nodes:
            self._route(name)
        for name in topology.uplinks:
            self.nodes[name].hooks = self.hooks_of(name, 0)

    # Addresses and routes

    def _own_addresses(self, name: str) -> list[str]:
        topology = self._topology
        own: list[str] = []
        if name == CORE:
            own = [str(one) for one in SERVICE_ADDRESSES]
            own += [str(one) for one in SERVICE_ADDRESSES_V6 if topology.dual_stack]
        uplink = topology.uplinks.get(name)
        if uplink is not None:
            own += [str(one) for one in topology.external_addresses.get(name, ())]
            if topology.nat64_above(name) is None:
                own.append(str(uplink.lower_address))
            if name in self._ipv6.uplinks:
                own.append(str(self._ipv6.uplinks[name].lower_address))
        own += [str(one.lower_address) for one in topology.standby.get(name, ())]
        for below in topology.children(name):
            if topology.nat64_above(below.lower) is None:
                own.append(str(below.upper_address))
            if below.lower in self._ipv6.uplinks:
                own.append(str(self._ipv6.uplinks[below.lower].upper_address))
        return list(dict.fromkeys(own))

    def _make_interfaces(self, name: str) -> None:
        topology, node = self._topology, self.nodes[name]
        names = interface_names(neighbours(topology, name))
        links = topology.links_of(name) if name in topology.uplinks else ()
        for link in (*links, *topology.children(name)):
            is_lower = link.lower == name
            addresses = {}
            if topology.nat64_above(link.lower) is None:
                addresses[4] = str(link.lower_address if is_lower else link.upper_address)
            six = self._ipv6.uplinks.get(link.lower)
            if six is not None:
                addresses[6] = str(six.lower_address if is_lower else six.upper_address)
            neighbour = link.upper if is_lower else link.lower
            node.interfaces[neighbour] = Interface(node, names[neighbour], addresses)

    def _route(self, name: str) -> None:
        topology, node = self._topology, self.nodes[name]
        uplink = topology.uplinks.get(name)
        if uplink is not None:
            up = node.interfaces[uplink.upper]
            if 4 in up.addresses:
                node.routes.add_link(uplink.network, str(uplink.upper_address), up)
                node.routes.default[4] = up
            six = self._ipv6.uplinks.get(name)
            if six is not None:
                node.routes.add_link(six.network, str(six.upper_address), up)
                node.routes.default[6] = up
            self._route_by_source(name)
        for below in topology.children(name):
            down = node.interfaces[below.lower]
            if 4 in down.addresses:
                node.routes.add_link(below.network, str(below.lower_address), down)
            if not isinstance(topology.by_name[below.lower], Host):
                for network in topology.behind(below.lower):
                    node.routes.add(network, down)
            six = self._ipv6.uplinks.get(below.lower)
            if six is not None:
                node.routes.add_link(six.network, str(six.lower_address), down)
                for network6 in self._ipv6.behind(below.lower):
                    node.routes.add(network6, down)
        known = topology.by_name.get(name)
        if isinstance(known, Nat) and known.behavior.ipv6 is Ipv6Behavior.NAT64:
            self._route_to_translator(node)

    def _route_by_source(self, name: str) -> None:
        """A host with several links: what is sent from an address of one leaves by it."""
        node = self.nodes[name]
        for one in self._topology.standby.get(name, ()):
            node.routes.add_link(one.network, str(one.upper_address), node.interfaces[one.upper])
        if name in self._topology.standby:
            for one in self._topology.links_of(name):
                node.routes.by_source[str(one.lower_address)] = node.interfaces[one.upper]

    def _route_to_translator(self, node: Node) -> None:
        hosts = {
            str(below.lower_address): str(self._ipv6.uplinks[below.lower].lower_address)
            for below in self._topology.children(node.name)
        }
        interface = Interface(node, nat64.INTERFACE, {})
        interface.carry = nat64.Translator(interface, hosts)
        node.routes.add(LAB_PREFIX, interface)
        for host in hosts:
            node.routes.add(ip_network(host), interface)

    def _join(self, uplink: Uplink) -> None:
        lower = uplink.lower
        down = up = None
        if not uplink.link.is_plain:
            behaviors = (
                uplink.link.towards_lower or LinkBehavior(),
                uplink.link.towards_upper or LinkBehavior(),
            )
            for behavior in behaviors:
                require_support(f"link {lower!r} to {uplink.upper!r}", behavior)
            down = LinkModel(behaviors[0], f"{self._seed}/{uplink.name}/down")
            up = LinkModel(behaviors[1], f"{self._seed}/{uplink.name}/up")
            self.models[uplink.upper, lower], self.models[lower, uplink.upper] = down, up
        upper_end = self.nodes[uplink.upper].interfaces[lower]
        lower_end = self.nodes[lower].interfaces[uplink.upper]
        join(self._clock, upper_end, lower_end, down, up)

    # What routers do

    def hooks_of(self, name: str, reboots: int) -> dict[int, Hooks]:
        """A router's, by IP version, as they are after so many starts. Raises
        UnsupportedBehaviorError."""
        known, node = self._topology.by_name[name], self.nodes[name]
        wan = node.interfaces[self._topology.uplinks[name].upper]
        hooks: dict[int, Hooks] = {}
        if isinstance(known, Firewall):
            hooks[4] = FirewallHooks(known.behavior, node, wan, self._clock)
            if name in self._ipv6.uplinks:
                hooks[6] = FirewallHooks(known.behavior, node, wan, self._clock)
        elif isinstance(known, Nat):
            seed = f"{self._seed}/{name}/nat" + (f"/{reboots}" if reboots else "")
            hooks[4] = self._ipv4_hooks(known, node, wan, seed)
            if name in self._ipv6.uplinks:
                self._add_ipv6_hooks(hooks, known, node, wan, seed)
        return hooks

    def _ipv4_hooks(self, nat: Nat, node: Node, wan: Interface, seed: str) -> Hooks:
        topology, behavior = self._topology, nat.behavior
        _refuse(behavior)
        inward: tuple[Interface, ...] = (wan,)
        outward: tuple[Interface, ...] = (wan,)
        if behavior.hairpinning is Hairpinning.EXTERNAL_SOURCE:
            out, back = self._hairpin(node)
            inward, outward = (wan, back), (wan, out)
        place = NatPlace(
            node,
            tuple(map(str, topology.external_addresses[nat.name])),
            tuple(map(str, topology.subscribers(nat.name))),
            inward,
            outward,
        )
        if behavior.unsolicited is UnsolicitedReaction.CONNTRACK:
            return Masquerade(behavior, place, self._clock, seed)
        if behavior.port_assignment is PortAssignment.PRESERVING_OVERLOADING:
            return OverloadingNat(behavior, place, self._clock, seed)
        return MappingNat(behavior, place, self._clock, seed)

    def _hairpin(self, node: Node) -> tuple[Interface, Interface]:
        """A cable from the node to itself. What comes back by it has a source of the node's."""
        node.accept_local = True
        out, back = (Interface(node, name, {}) for name in (HAIRPIN_OUT, HAIRPIN_IN))
        join(self._clock, out, back, None, None)
        return out, back

    def _add_ipv6_hooks(
        self, hooks: dict[int, Hooks], nat: Nat, node: Node, wan: Interface, seed: str
    ) -> None:
        match nat.behavior.ipv6:
            case Ipv6Behavior.ROUTED | Ipv6Behavior.NAT64:
                firewall = firewall_of(nat.behavior)
                hooks[6] = FirewallHooks(firewall, node, wan, self._clock)
            case Ipv6Behavior.NPTV6:
                hooks[6] = Nptv6(*self._ipv6.prefixes(nat.name), wan)
            case Ipv6Behavior.NAT66:
                place = NatPlace(node, (wan.addresses[6],), (), (wan,), (wan,))
                hooks[6] = Masquerade(nat.behavior, place, self._clock, f"{seed}66")
            case Ipv6Behavior.NONE:
                pass


def require_support(link: str, behavior: LinkBehavior) -> None:
    """Raises UnsupportedBehaviorError."""
    if behavior.mtu_bytes > MTU_BYTES:
        raise UnsupportedBehaviorError(
            f"{link}: mtu_bytes of {behavior.mtu_bytes}: the sim backend's interfaces carry"
            f" {MTU_BYTES}"
        )


def _refuse(behavior: NatBehavior) -> None:
    """What no NAT is here, and what none is anywhere."""
    if behavior.port_contiguity:
        raise UnsupportedBehaviorError(
            "port_contiguity (RFC 4787, 4.2.3): the simulator's NATs do not have it"
        )
    nat_support.require_support(behavior)
