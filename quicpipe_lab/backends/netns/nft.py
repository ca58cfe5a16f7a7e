"""From a Table to the netlink messages that make it, through pyroute2's encoders.

What a rule's statements become is in statements.py.
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
from quicpipe_lab.backends.netns.statements import VERDICTS, Expression, expressions, padded

NETLINK_NETFILTER = 12
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
# Netlink's header (with NLM_F_REQUEST) and nfnetlink's: family, version, resource.
_CONNTRACK_FLUSH = struct.Struct("=IHHIIBBH")
_CONNTRACK_DELETE = 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_DELETE

_FAMILIES = {"inet": 1, "ip": socket.AF_INET, "ip6": socket.AF_INET6}
# Of each type, its number in nft and its size.
_TYPES = {"ipv4_addr": (7, 4), "ipv6_addr": (8, 16), "inet_service": (13, 2), "ifname": (41, 16)}
_HOOKS = {"prerouting": 0, "input": 1, "forward": 2, "output": 3, "postrouting": 4}
# Where a prefix is not the expression's name.
_PREFIXES = {"numgen": "NG"}

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


def add_table(table: Table) -> Datagram:
    """A transaction that adds the table whole."""
    return _transaction([_new_table(table), *_contents(table)])


def replace_table(table: Table) -> Datagram:
    """A transaction that puts the table in the place of one of its name, or of none."""
    delete = encode(
        _message(nftsocket.nft_table_msg, [("NFTA_TABLE_NAME", table.name)], table.family),
        _kind(nftsocket.NFT_MSG_DELTABLE),
        0,
        f"deleting nftables table {table.name!r}",
    )
    return _transaction([_new_table(table), delete, _new_table(table), *_contents(table)])


def commit(transaction: Datagram) -> None:
    """In the network namespace that the process is in. Raises NetlinkError."""
    carry_out([transaction])


def flush_conntrack() -> None:
    """Forget every flow of that namespace, whatever its family: a deletion that names none."""
    message = _CONNTRACK_FLUSH.pack(_CONNTRACK_FLUSH.size, _CONNTRACK_DELETE, 1, 0, 0, 0, 0, 0)
    carry_out([datagram(NETLINK_NETFILTER, [(message, "emptying conntrack")])])


def _contents(table: Table) -> list[Request]:
    requests = [_new_set(table, one, number + 1) for number, one in enumerate(table.sets)]
    requests += [_new_chain(table, chain) for chain in table.chains]
    for chain in table.chains:
        requests += [_new_rule(table, chain.name, rule) for rule in chain.rules]
    return requests


def _new_table(table: Table) -> Request:
    message = _message(nftsocket.nft_table_msg, [("NFTA_TABLE_NAME", table.name)], table.family)
    purpose = f"nftables table {table.name!r}"
    return encode(message, _kind(nftsocket.NFT_MSG_NEWTABLE), netlink.NLM_F_CREATE, purpose)


def _new_set(table: Table, one: Set, number: int) -> Request:
    key_type, key_size_bytes = _concatenation(one.key)
    attributes = [
        ("NFTA_SET_TABLE", table.name),
        ("NFTA_SET_NAME", one.name),
        ("NFTA_SET_KEY_TYPE", key_type),
        ("NFTA_SET_KEY_LEN", key_size_bytes),
        ("NFTA_SET_ID", number),
        ("NFTA_SET_TIMEOUT", one.timeout_s * 1000),
        ("NFTA_SET_DESC", {"attrs": [("NFTA_SET_DESC_SIZE", one.size)]}),
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
    message = _message(nftsocket.nft_set_msg, attributes, table.family)
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
    return number, sum(padded(_TYPES[name][1]) for name in types)


def _new_chain(table: Table, chain: Chain) -> Request:
    attributes: list[tuple[str, Any]] = [
        ("NFTA_CHAIN_TABLE", table.name),
        ("NFTA_CHAIN_NAME", chain.name),
    ]
    if chain.kind:
        hook = [("NFTA_HOOK_HOOKNUM", _HOOKS[chain.hook]), ("NFTA_HOOK_PRIORITY", chain.priority)]
        attributes += [
            ("NFTA_CHAIN_HOOK", {"attrs": hook}),
            ("NFTA_CHAIN_TYPE", chain.kind),
            ("NFTA_CHAIN_POLICY", VERDICTS["accept"]),
        ]
    message = _message(nftsocket.nft_chain_msg, attributes, table.family)
    return encode(
        message,
        _kind(nftsocket.NFT_MSG_NEWCHAIN),
        netlink.NLM_F_CREATE,
        f"nftables chain {chain.name!r}",
    )


def _new_rule(table: Table, chain: str, rule: list[str]) -> Request:
    encoded = b"".join(
        _encode_expression(expression)
        for statement in rule
        for expression in expressions(statement)
    )
    message = _message(
        _EncodedRule,
        [
            ("NFTA_RULE_TABLE", table.name),
            ("NFTA_RULE_CHAIN", chain),
            ("NFTA_RULE_EXPRESSIONS", encoded),
        ],
        table.family,
    )
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_APPEND
    purpose = f"nftables rule {' '.join(rule)!r}"
    return encode(message, _kind(nftsocket.NFT_MSG_NEWRULE), flags, purpose)


def _encode_expression(expression: Expression) -> bytes:
    """As one element of a rule's list. Most are in several rules, and encoding takes its time."""
    key = repr(expression)
    if key not in _encoded_expressions:
        name, attributes = expression
        prefix = f"NFTA_{_PREFIXES.get(name, name.upper())}_"
        content = {"attrs": [(prefix + attribute, value) for attribute, value in attributes]}
        element: list[tuple[str, Any]] = [("NFTA_EXPR_NAME", name)]
        if attributes:
            element.append(("NFTA_EXPR_DATA", content))
        rule = _message(nftsocket.nft_rule_msg, [("NFTA_RULE_EXPRESSIONS", [{"attrs": element}])])
        rule.encode()
        _encoded_expressions[key] = bytes(rule.data)[_BEFORE_FIRST_ELEMENT_BYTES:]
    return _encoded_expressions[key]


def _message(kind: type, attributes: list[tuple[str, Any]], family: str = "ip") -> Any:
    message = kind()
    message["nfgen_family"] = _FAMILIES[family]
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
