"""From one statement of a rule, in nft's language, to the kernel's expressions.

This knows the part of the language that the lab's own rules use, and refuses everything else:

    SELECTOR [!=] VALUE             VALUE may be a range of ports, FIRST-LAST
    ip6 (saddr|daddr) PREFIX
    udp sport & MASK == VALUE
    KEY [!=] @SET                   KEY is SELECTOR . SELECTOR ...
    SELECTOR set KEY map @MAP
    snat to KEY map @MAP
    snat to ADDRESS[:SELECTOR]
    (snat|dnat) ip6 prefix to PREFIX
    masquerade [to :FIRST-LAST | to :SELECTOR] [fully-random]
    numgen inc mod COUNT VALUE
    update @SET { KEY }
    update @MAP { KEY : KEY }
    reject with (icmp|icmpv6) CODE
    jump CHAIN | notrack | accept | drop

Four things are the kernel's but not the language's, whose grammar has no room for them:

    (KEY map @MAP)                  a selector: what a map says, as part of a key
    ADDRESS                         a selector: a constant, as part of a key
    draw (inc|random) mod COUNT offset VALUE [<< BITS] [^ VALUE]
    drawn                           a selector: the port that was drawn
    SELECTOR . SELECTOR set KEY     several fields rewritten at once
"""

import re
import socket
import struct
from collections.abc import Iterator
from ipaddress import AddressValueError, IPv4Address, IPv6Network
from typing import Any

Expression = tuple[str, list[tuple[str, Any]]]
"""The kernel's name of an expression, and its attributes less their common prefix."""

VERDICTS = {"drop": 0, "accept": 1, "jump": -3}
_CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
_CT_DESTINATION_NAT = 32  # IPS_DST_NAT
_ICMP_CODES = {
    "icmp port-unreachable": 3,
    "icmp admin-prohibited": 13,
    "icmpv6 port-unreachable": 4,
    "icmpv6 admin-prohibited": 1,
}
_PROTOCOLS = {"icmp": socket.IPPROTO_ICMP, "tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}

# The kernel's registers, four bytes each; a key of several fields lies in one after the other.
_VERDICT_REGISTER, _REGISTER, _DRAWN_REGISTER = 0, 8, 23
_EQUAL, _UNEQUAL, _AT_MOST, _AT_LEAST = 0, 1, 3, 5
_SHIFT_LEFT, _TO_NETWORK_ORDER = 1, 1
_PORT_BITS = 16

# How a selector is loaded into a register: the expression, and the size of what it loads.
_SELECTORS: dict[str, tuple[str, list[tuple[str, Any]], int]] = {
    "iifname": ("meta", [("KEY", 6)], 16),
    "oifname": ("meta", [("KEY", 7)], 16),
    "meta l4proto": ("meta", [("KEY", 16)], 1),
    "ct state": ("ct", [("KEY", 0)], 4),
    "ct status": ("ct", [("KEY", 2)], 4),
    "ct original ip saddr": ("ct", [("KEY", 19), ("DIRECTION", 0)], 4),
    "ct original proto-src": ("ct", [("KEY", 11), ("DIRECTION", 0)], 2),
    "ip saddr": ("payload", [("BASE", 1), ("OFFSET", 12), ("LEN", 4)], 4),
    "ip daddr": ("payload", [("BASE", 1), ("OFFSET", 16), ("LEN", 4)], 4),
    "ip6 saddr": ("payload", [("BASE", 1), ("OFFSET", 8), ("LEN", 16)], 16),
    "ip6 daddr": ("payload", [("BASE", 1), ("OFFSET", 24), ("LEN", 16)], 16),
    "udp sport": ("payload", [("BASE", 2), ("OFFSET", 0), ("LEN", 2)], 2),
    "udp dport": ("payload", [("BASE", 2), ("OFFSET", 2), ("LEN", 2)], 2),
}

# Which checksum a rewritten field is in: its offset, and whether UDP's covers it too.
_CHECKSUMS: dict[str, list[tuple[str, Any]]] = {
    "ip daddr": [
        ("CSUM_TYPE", 1),
        ("CSUM_OFFSET", 10),
        ("CSUM_FLAGS", ("NFT_PAYLOAD_L4CSUM_PSEUDOHDR",)),
    ],
    "udp dport": [("CSUM_TYPE", 1), ("CSUM_OFFSET", 6)],
}


def expressions(statement: str) -> list[Expression]:
    """The kernel's expressions for one statement. Raises ValueError."""
    head, _, rest = statement.partition(" ")
    if head in VERDICTS:
        verdict: list[tuple[str, Any]] = [("NFTA_VERDICT_CODE", VERDICTS[head])]
        verdict += [("NFTA_VERDICT_CHAIN", rest)] if rest else []
        data = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": verdict})]}
        return [("immediate", [("DREG", _VERDICT_REGISTER), ("DATA", data)])]
    if head == "notrack":
        return [("notrack", [])]
    if head == "reject":
        code = _ICMP_CODES[rest.removeprefix("with ")]
        return [("reject", [("TYPE", 0), ("ICMP_CODE", code)])]
    if head == "update":
        return _update(rest)
    if head == "masquerade":
        return _masquerade(rest)
    if " prefix to " in statement:
        return _translate_prefix(head, statement.rpartition(" ")[2])
    if head == "snat":
        return _translate_source(rest.removeprefix("to "))
    if head == "draw":
        return _draw(rest)
    if head == "numgen":
        return _every(rest)
    if " set " in statement:
        return _rewrite(*statement.split(" set "))
    return _match(statement)


def _match(statement: str) -> list[Expression]:
    left, operator, right = statement.rpartition(" != ")
    if not operator:
        left, _, right = statement.rpartition(" ")
    if right.startswith("@"):
        loads, _ = _load(left)
        inverted = [("FLAGS", ("NFT_LOOKUP_F_INV",))] if operator else []
        return [*loads, ("lookup", [("SET", right[1:]), ("SREG", _REGISTER), *inverted])]
    if masked := re.fullmatch(r"(.+) & (\d+) ==", left):
        loads, _ = _load(masked[1])
        mask = _constant(masked[1], masked[2])
        return [*loads, _mask(mask), _compare(_EQUAL, _constant(masked[1], right))]
    if left in ("ip6 saddr", "ip6 daddr"):
        return _match_prefix(left, right)
    loads, _ = _load(left)
    if left == "ct status":
        return [
            *loads,
            _mask(struct.pack("=I", _CT_DESTINATION_NAT)),
            _compare(_UNEQUAL, bytes(4)),
        ]
    if left == "ct state":
        states = struct.pack("=I", sum(_CT_STATES[state] for state in right.split(",")))
        return [*loads, _mask(states), _compare(_UNEQUAL, bytes(4))]
    first, dash, last = right.partition("-") if left.startswith("udp ") else (right, "", "")
    if not dash:
        return [*loads, _compare(_UNEQUAL if operator else _EQUAL, _constant(left, right))]
    low, high = _constant(left, first), _constant(left, last)
    if operator:
        bounds = [("FROM_DATA", _value(low)), ("TO_DATA", _value(high))]
        return [*loads, ("range", [("SREG", _REGISTER), ("OP", _UNEQUAL), *bounds])]
    return [*loads, _compare(_AT_LEAST, low), _compare(_AT_MOST, high)]


def _constant(selector: str, text: str) -> bytes:
    if selector == "meta l4proto":
        return bytes([_PROTOCOLS[text]])
    if selector in ("iifname", "oifname"):
        return text.strip('"').encode().ljust(16, b"\0")
    if selector in ("ip saddr", "ip daddr", "ct original ip saddr"):
        return IPv4Address(text).packed
    if selector in ("udp sport", "udp dport"):
        return int(text).to_bytes(2, "big")
    raise ValueError(f"{selector!r} is not compared with constants")


def _compare(operator: int, value: bytes) -> Expression:
    return ("cmp", [("SREG", _REGISTER), ("OP", operator), ("DATA", _value(value))])


def _mask(mask: bytes) -> Expression:
    return _bitwise(_REGISTER, _REGISTER, mask, bytes(len(mask)))


def _bitwise(source: int, target: int, mask: bytes, xor: bytes) -> Expression:
    registers = [("SREG", source), ("DREG", target), ("LEN", len(mask))]
    return ("bitwise", [*registers, ("MASK", _value(mask)), ("XOR", _value(xor))])


def _value(data: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def _update(rest: str) -> list[Expression]:
    name, _, element = rest.partition(" { ")
    key, _, data = element.removesuffix(" }").partition(" : ")
    loads, after = _load(key)
    attributes = [("SET_NAME", name[1:]), ("OP", 1), ("SREG_KEY", _REGISTER)]
    if data:
        more, _ = _load(data, after)
        loads += more
        attributes.append(("SREG_DATA", after))
    return [*loads, ("dynset", attributes)]


def _masquerade(rest: str) -> list[Expression]:
    ports = rest.removesuffix("fully-random").strip().removeprefix("to :")
    loads, attributes = _ports(ports, _REGISTER)
    return [*loads, ("masq", [*_flags(rest, attributes), *attributes])]


def _translate_source(rest: str) -> list[Expression]:
    attributes: list[tuple[str, Any]] = [("TYPE", 0), ("FAMILY", socket.AF_INET)]
    attributes.append(("REG_ADDR_MIN", _REGISTER))
    if " map @" in rest:
        both = [*attributes, ("REG_PROTO_MIN", _REGISTER + 1)]
        return [*_look_up(rest), ("nat", both)]
    target = rest.removesuffix(" fully-random")
    address, _, ports = target.partition(":")
    loads, _ = _load(address)
    more, registers = _ports(ports, _REGISTER + 1)
    return [*loads, *more, ("nat", [*attributes, *registers, *_flags(rest, registers)])]


def _match_prefix(selector: str, text: str) -> list[Expression]:
    """Of whole bytes."""
    prefix = IPv6Network(text)
    size_bytes = prefix.prefixlen // 8
    name, attributes, _ = _SELECTORS[selector]
    loaded = [(key, size_bytes if key == "LEN" else value) for key, value in attributes]
    return [
        (name, [("DREG", _REGISTER), *loaded]),
        _compare(_EQUAL, prefix.network_address.packed[:size_bytes]),
    ]


def _translate_prefix(kind: str, text: str) -> list[Expression]:
    """The bits behind the prefix stay as they are."""
    prefix = IPv6Network(text)
    first, last = _REGISTER, _REGISTER + 4
    attributes: list[tuple[str, Any]] = [
        ("TYPE", int(kind == "dnat")),
        ("FAMILY", socket.AF_INET6),
        ("REG_ADDR_MIN", first),
        ("REG_ADDR_MAX", last),
        ("FLAGS", ("NF_NAT_RANGE_NETMAP",)),
    ]
    return [
        _immediate(first, prefix.network_address.packed),
        _immediate(last, prefix.broadcast_address.packed),
        ("nat", attributes),
    ]


def _flags(text: str, ports: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    flags = ["NF_NAT_RANGE_PROTO_SPECIFIED"] if ports else []
    if text.endswith("fully-random"):
        flags.append("NF_NAT_RANGE_PROTO_RANDOM_FULLY")
    return [("FLAGS", tuple(flags))] if flags else []


def _ports(text: str, register: int) -> tuple[list[Expression], list[tuple[str, Any]]]:
    """``FIRST-LAST``, a selector or nothing: how it is loaded, and where a translation finds it."""
    if not text:
        return [], []
    if not text[0].isdigit():
        loads, _ = _load(text, register)
        return loads, [("REG_PROTO_MIN", register)]
    first, _, last = text.partition("-")
    bounds = [int(bound).to_bytes(2, "big") for bound in (first, last)]
    loads = [_immediate(register + place, bound) for place, bound in enumerate(bounds)]
    return loads, [("REG_PROTO_MIN", register), ("REG_PROTO_MAX", register + 1)]


def _immediate(register: int, data: bytes) -> Expression:
    return ("immediate", [("DREG", register), ("DATA", _value(data))])


def _draw(rest: str) -> list[Expression]:
    """The port ends up where a key's field has one: the first two bytes of the register."""
    match = re.fullmatch(r"(inc|random) mod (\d+) offset (\d+)(?: << (\d+))?(?: \^ (\d+))?", rest)
    if match is None:
        raise ValueError(f"cannot be drawn: {rest!r}")
    kind, count, offset = match[1], int(match[2]), int(match[3])
    bits, xor = int(match[4] or 0), int(match[5] or 0)
    drawn = [("SREG", _DRAWN_REGISTER), ("DREG", _DRAWN_REGISTER), ("LEN", 4)]
    shift = struct.pack("=I", bits + _PORT_BITS)
    loads: list[Expression] = [
        ("numgen", _number(_DRAWN_REGISTER, kind, count, offset)),
        ("bitwise", [*drawn, ("OP", _SHIFT_LEFT), ("DATA", _value(shift))]),
    ]
    if xor:
        mask = struct.pack("=I", xor << _PORT_BITS)
        loads.append(_bitwise(_DRAWN_REGISTER, _DRAWN_REGISTER, b"\xff" * 4, mask))
    loads.append(("byteorder", [*drawn, ("OP", _TO_NETWORK_ORDER), ("SIZE", 4)]))
    return loads


def _every(rest: str) -> list[Expression]:
    kind, _, count, value = rest.split()
    return [
        ("numgen", _number(_REGISTER, kind, int(count), 0)),
        _compare(_EQUAL, struct.pack("=I", int(value))),
    ]


def _number(register: int, kind: str, count: int, offset: int) -> list[tuple[str, Any]]:
    number = [("DREG", register), ("MODULUS", count), ("TYPE", int(kind == "random"))]
    return [*number, ("OFFSET", offset)]


def _rewrite(target: str, source: str) -> list[Expression]:
    """The first field of a key lies in the first register, and so on."""
    loads = _load(source)[0] if source.startswith("(") else _look_up(source)
    for place, selector in enumerate(_fields(target)):
        _, field, _ = _SELECTORS[selector]
        loads.append(("payload", [("SREG", _REGISTER + place), *field, *_CHECKSUMS[selector]]))
    return loads


def _look_up(text: str, register: int = _REGISTER) -> list[Expression]:
    """``KEY map @MAP``: what the map says ends up where the key was."""
    key, _, name = text.partition(" map @")
    loads, _ = _load(key, register)
    return [*loads, ("lookup", [("SET", name), ("SREG", register), ("DREG", register)])]


def _load(key: str, register: int = _REGISTER) -> tuple[list[Expression], int]:
    """Load the fields of a key into registers; also the next free register."""
    loads: list[Expression] = []
    for selector in _fields(key):
        if selector.startswith("("):
            loads += _look_up(selector[1:-1], register)
            register += 1
        elif selector == "drawn":
            loads.append(_bitwise(_DRAWN_REGISTER, register, b"\xff" * 4, bytes(4)))
            register += 1
        elif selector in _SELECTORS:
            name, attributes, size_bytes = _SELECTORS[selector]
            loads.append((name, [("DREG", register), *attributes]))
            register += padded(size_bytes) // 4
        else:
            loads.append(_immediate(register, _address(selector)))
            register += 1
    return loads, register


def _address(text: str) -> bytes:
    try:
        return IPv4Address(text).packed
    except AddressValueError:
        raise ValueError(f"not a selector: {text!r}") from None


def _fields(key: str) -> Iterator[str]:
    """The fields of a key; one in parentheses may be a look-up with a key of its own."""
    for match in re.finditer(r"(\([^)]*\)|.+?)(?: \. |$)", key):
        yield match[1]


def padded(size_bytes: int) -> int:
    """To whole registers."""
    return (size_bytes + 3) & ~3
