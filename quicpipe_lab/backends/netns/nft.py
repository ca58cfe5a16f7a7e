"""From a Table in nft's language to netlink messages, through pyroute2's encoders.

This knows the part of the language that the lab's own rules use, and refuses everything else:

    SELECTOR [!=] VALUE             meta and ct state only
    KEY [!=] @SET                   KEY is SELECTOR . SELECTOR ...
    SELECTOR set SELECTOR map @MAP
    snat to KEY map @MAP
    update @SET { KEY }
    update @MAP { KEY : KEY }
    masquerade [fully-random] | notrack | accept | drop
"""

import socket
import struct
from typing import Any

from quicpipe_lab.backends.netns.blueprint import Chain, Set, Table
from quicpipe_lab.backends.netns.encoders import (
    encode,
    netlink,
    nfnetlink,
    nftsocket,
)
from quicpipe_lab.backends.netns.netlink import Datagram, Request, carry_out, datagram

NETLINK_NETFILTER = 12
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11

# Of each type, its number in nft and its size.
_TYPES = {"ipv4_addr": (7, 4), "inet_service": (13, 2), "ifname": (41, 16)}
_HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
_VERDICTS = {"drop": 0, "accept": 1}
_CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}

# The kernel's registers, four bytes each; a key of several fields lies in one after the other.
_VERDICT_REGISTER, _REGISTER = 0, 8
_EQUAL, _UNEQUAL = 0, 1

# Netlink's header, nfnetlink's, and the header of the one attribute.
_BEFORE_FIRST_ELEMENT_BYTES = 16 + 4 + 4
_encoded_expressions: dict[str, bytes] = {}


class _EncodedRule(nfnetlink.nfgen_msg):  # type: ignore[misc, name-defined]
    """pyroute2's ``nft_rule_msg``, but with a list of expressions that is encoded already."""

    nla_map = (
        ("NFTA_RULE_UNSPEC", "none"),
        ("NFTA_RULE_TABLE", "asciiz"),
        ("NFTA_RULE_CHAIN", "asciiz"),
        ("NFTA_RULE_HANDLE", "be64"),
        ("NFTA_RULE_EXPRESSIONS", "cdata"),
    )


Expression = tuple[str, list[tuple[str, Any]]]
"""The kernel's name of an expression, and its attributes less their common prefix."""

# How a selector is loaded into a register: the expression, and the size of what it loads.
_SELECTORS: dict[str, tuple[str, list[tuple[str, Any]], int]] = {
    "iifname": ("meta", [("KEY", 6)], 16),
    "oifname": ("meta", [("KEY", 7)], 16),
    "meta l4proto": ("meta", [("KEY", 16)], 1),
    "ct state": ("ct", [("KEY", 0)], 4),
    "ct original ip saddr": ("ct", [("KEY", 19), ("DIRECTION", 0)], 4),
    "ct original proto-src": ("ct", [("KEY", 11), ("DIRECTION", 0)], 2),
    "ip saddr": ("payload", [("BASE", 1), ("OFFSET", 12), ("LEN", 4)], 4),
    "ip daddr": ("payload", [("BASE", 1), ("OFFSET", 16), ("LEN", 4)], 4),
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


def add_table(table: Table) -> Datagram:
    """A transaction that adds the table whole."""
    return _transaction([_new_table(table.name), *_contents(table)])


def replace_table(table: Table) -> Datagram:
    """A transaction that puts the table in the place of one of its name, or of none."""
    delete = encode(
        _message(nftsocket.nft_table_msg, [("NFTA_TABLE_NAME", table.name)]),
        _kind(nftsocket.NFT_MSG_DELTABLE),
        0,
        f"deleting nftables table {table.name!r}",
    )
    return _transaction([_new_table(table.name), delete, _new_table(table.name), *_contents(table)])


def commit(transaction: Datagram) -> None:
    """In the network namespace that the process is in. Raises NetlinkError."""
    carry_out([transaction])


def expressions(statement: str) -> list[Expression]:
    """The kernel's expressions for one statement. Raises ValueError."""
    head, _, rest = statement.partition(" ")
    if head in _VERDICTS:
        verdict = {
            "attrs": [("NFTA_DATA_VERDICT", {"attrs": [("NFTA_VERDICT_CODE", _VERDICTS[head])]})]
        }
        return [("immediate", [("DREG", _VERDICT_REGISTER), ("DATA", verdict)])]
    if head == "notrack":
        return [("notrack", [])]
    if head == "masquerade":
        flags = ("NF_NAT_RANGE_PROTO_RANDOM_FULLY",) if rest == "fully-random" else ()
        return [("masq", [("FLAGS", flags)] if flags else [])]
    if head == "update":
        return _update(rest)
    if head == "snat":
        return _translate_source(rest.removeprefix("to "))
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
    loads, _ = _load(left)
    if left == "ct state":
        mask = struct.pack("=I", sum(_CT_STATES[state] for state in right.split(",")))
        loads.append(
            (
                "bitwise",
                [
                    ("SREG", _REGISTER),
                    ("DREG", _REGISTER),
                    ("LEN", 4),
                    ("MASK", _value(mask)),
                    ("XOR", _value(bytes(4))),
                ],
            )
        )
        return [*loads, _compare(_UNEQUAL, bytes(4))]
    return [*loads, _compare(_UNEQUAL if operator else _EQUAL, _constant(left, right))]


def _constant(selector: str, text: str) -> bytes:
    if selector == "meta l4proto":
        return bytes([{"udp": socket.IPPROTO_UDP}[text]])
    if selector in ("iifname", "oifname"):
        return text.strip('"').encode().ljust(16, b"\0")
    raise ValueError(f"{selector!r} is not compared with constants")


def _compare(operator: int, value: bytes) -> Expression:
    return ("cmp", [("SREG", _REGISTER), ("OP", operator), ("DATA", _value(value))])


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


def _translate_source(rest: str) -> list[Expression]:
    loads = _look_up(rest)
    attributes = [("TYPE", 0), ("FAMILY", socket.AF_INET)]
    attributes += [("REG_ADDR_MIN", _REGISTER), ("REG_PROTO_MIN", _REGISTER + 1)]
    return [*loads, ("nat", attributes)]


def _rewrite(target: str, source: str) -> list[Expression]:
    _, place, _ = _SELECTORS[target]
    write = [("SREG", _REGISTER), *place, *_CHECKSUMS[target]]
    return [*_look_up(source), ("payload", write)]


def _look_up(text: str) -> list[Expression]:
    """``KEY map @MAP``: what the map says ends up where the key was."""
    key, _, name = text.partition(" map @")
    loads, _ = _load(key)
    return [*loads, ("lookup", [("SET", name), ("SREG", _REGISTER), ("DREG", _REGISTER)])]


def _load(key: str, register: int = _REGISTER) -> tuple[list[Expression], int]:
    """Load the fields of a key into registers; also the next free register."""
    loads: list[Expression] = []
    for selector in key.split(" . "):
        if selector not in _SELECTORS:
            raise ValueError(f"not a selector: {selector!r}")
        name, attributes, size_bytes = _SELECTORS[selector]
        loads.append((name, [("DREG", register), *attributes]))
        register += _padded(size_bytes) // 4
    return loads, register


def _padded(size_bytes: int) -> int:
    return (size_bytes + 3) & ~3


def _contents(table: Table) -> list[Request]:
    requests = [_new_set(table.name, one, number + 1) for number, one in enumerate(table.sets)]
    requests += [_new_chain(table.name, chain) for chain in table.chains]
    for chain in table.chains:
        requests += [_new_rule(table.name, chain.name, rule) for rule in chain.rules]
    return requests


def _new_table(name: str) -> Request:
    message = _message(nftsocket.nft_table_msg, [("NFTA_TABLE_NAME", name)])
    return encode(
        message, _kind(nftsocket.NFT_MSG_NEWTABLE), netlink.NLM_F_CREATE, f"nftables table {name!r}"
    )


def _new_set(table: str, one: Set, number: int) -> Request:
    key_type, key_size_bytes = _concatenation(one.key)
    attributes = [
        ("NFTA_SET_TABLE", table),
        ("NFTA_SET_NAME", one.name),
        ("NFTA_SET_KEY_TYPE", key_type),
        ("NFTA_SET_KEY_LEN", key_size_bytes),
        ("NFTA_SET_ID", number),
        ("NFTA_SET_TIMEOUT", one.timeout_s * 1000),
        ("NFTA_SET_DESC", {"attrs": [("NFTA_SET_DESC_SIZE", 65535)]}),
    ]
    flags = ["NFT_SET_TIMEOUT", "NFT_SET_EVAL"]
    if one.data:
        flags.append("NFT_SET_MAP")
        data_type, data_size_bytes = _concatenation(one.data)
        attributes += [
            ("NFTA_SET_DATA_TYPE", data_type),
            ("NFTA_SET_DATA_LEN", data_size_bytes),
        ]
    attributes.append(("NFTA_SET_FLAGS", flags))
    message = _message(nftsocket.nft_set_msg, attributes)
    return encode(
        message, _kind(nftsocket.NFT_MSG_NEWSET), netlink.NLM_F_CREATE, f"nftables set {one.name!r}"
    )


def _concatenation(types: list[str]) -> tuple[int, int]:
    """nft's number for a type of several fields (6 bits each), and the size in registers."""
    if len(types) == 1:
        return _TYPES[types[0]]
    number = 0
    for name in types:
        number = number << 6 | _TYPES[name][0]
    return number, sum(_padded(_TYPES[name][1]) for name in types)


def _new_chain(table: str, chain: Chain) -> Request:
    hook = [("NFTA_HOOK_HOOKNUM", _HOOKS[chain.hook]), ("NFTA_HOOK_PRIORITY", chain.priority)]
    message = _message(
        nftsocket.nft_chain_msg,
        [
            ("NFTA_CHAIN_TABLE", table),
            ("NFTA_CHAIN_NAME", chain.name),
            ("NFTA_CHAIN_HOOK", {"attrs": hook}),
            ("NFTA_CHAIN_TYPE", chain.kind),
            ("NFTA_CHAIN_POLICY", _VERDICTS["accept"]),
        ],
    )
    return encode(
        message,
        _kind(nftsocket.NFT_MSG_NEWCHAIN),
        netlink.NLM_F_CREATE,
        f"nftables chain {chain.name!r}",
    )


def _new_rule(table: str, chain: str, rule: list[str]) -> Request:
    encoded = b"".join(
        _encode_expression(expression)
        for statement in rule
        for expression in expressions(statement)
    )
    message = _message(
        _EncodedRule,
        [
            ("NFTA_RULE_TABLE", table),
            ("NFTA_RULE_CHAIN", chain),
            ("NFTA_RULE_EXPRESSIONS", encoded),
        ],
    )
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_APPEND
    purpose = f"nftables rule {' '.join(rule)!r}"
    return encode(message, _kind(nftsocket.NFT_MSG_NEWRULE), flags, purpose)


def _encode_expression(expression: Expression) -> bytes:
    """As one element of a rule's list. Most are in several rules, and encoding takes its time."""
    key = repr(expression)
    if key not in _encoded_expressions:
        name, attributes = expression
        prefix = f"NFTA_{name.upper()}_"
        content = {"attrs": [(prefix + attribute, value) for attribute, value in attributes]}
        element: list[tuple[str, Any]] = [("NFTA_EXPR_NAME", name)]
        if attributes:
            element.append(("NFTA_EXPR_DATA", content))
        rule = _message(nftsocket.nft_rule_msg, [("NFTA_RULE_EXPRESSIONS", [{"attrs": element}])])
        rule.encode()
        _encoded_expressions[key] = bytes(rule.data)[_BEFORE_FIRST_ELEMENT_BYTES:]
    return _encoded_expressions[key]


def _message(kind: type, attributes: list[tuple[str, Any]]) -> Any:
    message = kind()
    message["nfgen_family"] = socket.AF_INET
    message["attrs"] = attributes
    return message


def _kind(number: int) -> int:
    return int(nfnetlink.NFNL_SUBSYS_NFTABLES) << 8 | number


def _transaction(requests: list[Request]) -> Datagram:
    """What lies between the two is done at once or not at all."""
    limited = [
        _limit(_BATCH_BEGIN, "beginning an nftables transaction"),
        *requests,
        _limit(_BATCH_END, "committing an nftables transaction"),
    ]
    # The end of the transaction is not a message that could be acknowledged.
    return datagram(NETLINK_NETFILTER, limited, last=len(limited) - 2)


def _limit(kind: int, purpose: str) -> Request:
    message = nfnetlink.nfgen_msg()
    message["res_id"] = nfnetlink.NFNL_SUBSYS_NFTABLES
    return encode(message, kind, 0, purpose)
