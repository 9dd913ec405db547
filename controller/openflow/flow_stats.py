# SPDX-License-Identifier: Apache-2.0
"""Reads flow statistics: what ``messages.py`` and ``oxm.py`` write, read back as the command that would write it.

The framework's own reader takes a millisecond for a flow and would stop every app for minutes over a large table. This
one takes its place for OpenFlow 1.4; all other multipart messages stay the framework's. What a flow holds that no
command of ours can say makes it somebody else's: it is left out.
"""

from __future__ import annotations

import struct
from typing import Any

from controller.core.commands import Action, FinTimeout, FlowAdd, Match, Output, Port, Rewrite
from controller.core.errors import RemoteError
from controller.core.events import FoundFlow
from controller.core.facts import Facts
from controller.openflow import framework, oxm
from controller.openflow.messages import (
    FLOW_STATS,
    MAX_PACKET_IN,
    MULTIPART_REPLY,
    PORTS,
    SEND_FLOW_REMOVED,
    SET_NW_TTL,
)
from controller.wire.address import decode_ip, decode_mac
from controller.wire.flow_note import decode_note

HEADERS = 16
"""Bytes of a multipart reply before its body (7.3.5)."""
MORE = 1
GOTO_TABLE, APPLY_ACTIONS, METER = 1, 4, 6
OUTPUT, SET_FIELD, EXPERIMENTER = 0, 25, 0xFFFF
NICIRA = 0x2320

_STATS = struct.Struct("!HB9xHHHHHxxQQQ")
_PAIR = struct.Struct("!HH")
_UINT32 = struct.Struct("!2xI")
_PORTS = {number: port for port, number in PORTS.items()}
_TEXT = {
    oxm.ETH_DST: ("eth_dst", decode_mac),
    oxm.ETH_SRC: ("eth_src", decode_mac),
    oxm.IPV4_SRC: ("ip_src", decode_ip),
    oxm.IPV4_DST: ("ip_dst", decode_ip),
    oxm.IPV6_SRC: ("ip_src", decode_ip),
    oxm.IPV6_DST: ("ip_dst", decode_ip),
}
_NUMBERS = {
    oxm.IN_PORT: "in_port",
    oxm.ETH_TYPE: "ether_type",
    oxm.IP_PROTO: "ip_proto",
    oxm.TCP_SRC: "tcp_src",
    oxm.TCP_DST: "tcp_dst",
    oxm.ICMPV4_TYPE: "icmpv4_type",
    oxm.ICMPV6_TYPE: "icmpv6_type",
}
_SHIFTS = {80: ("seq", 1), 81: ("seq", -1), 82: ("ack", 1), 83: ("ack", -1), 84: ("tsval", 1), 85: ("tsecr", 1)}


def decode_flows(body: bytes) -> tuple[FoundFlow, ...]:
    """Return the flows of a reply's body (7.3.5.2), without those that are not ours.

    Raises RemoteError for a body that breaks the format.
    """
    found = []
    position = 0
    try:
        while position < len(body):
            (length,) = struct.unpack_from("!H", body, position)
            if length < _STATS.size or position + length > len(body):
                raise RemoteError(f"a flow of {length} bytes at {position} of {len(body)}")
            flow = _decode_flow(body[position : position + length])
            if flow is not None:
                found.append(flow)
            position += length
    except (struct.error, IndexError, ValueError) as error:
        raise RemoteError(f"not flow statistics: {error}") from error
    return tuple(found)


def _decode_flow(data: bytes) -> FoundFlow | None:
    """Return one flow, or None for one that is not ours."""
    _, table, priority, idle, hard, flags, _, cookie, packets, count = _STATS.unpack_from(data)
    _, match_length = _PAIR.unpack_from(data, _STATS.size)
    match = decode_match(data[_STATS.size + 4 : _STATS.size + match_length])
    position = _STATS.size + (match_length + 7) // 8 * 8
    actions: tuple[Action, ...] = ()
    goto = meter = facts = None
    while position < len(data):
        kind, length = _PAIR.unpack_from(data, position)
        if length < 8:
            raise RemoteError(f"an instruction of {length} bytes")
        if kind == APPLY_ACTIONS:
            actions, facts = decode_actions(data[position + 8 : position + length])
        elif kind == GOTO_TABLE:
            goto = data[position + 4]
        elif kind == METER:
            (meter,) = struct.unpack_from("!I", data, position + 4)
        position += length
    if match is None or actions is None:
        return None
    notify = bool(flags & SEND_FLOW_REMOVED)
    flow = FlowAdd(0, table, priority, match, actions, goto, meter, cookie, idle, hard, notify, facts=facts)
    return FoundFlow(flow, packets, count)


def decode_match(fields: bytes) -> Match | None:
    """Return what OXM TLVs match, or None where they say what a ``Match`` cannot."""
    values: dict[str, Any] = {}
    position = 0
    while position < len(fields):
        header = fields[position : position + 4]
        end = position + 4 + fields[position + 3]
        value = fields[position + 4 : end]
        if header in _NUMBERS:
            values[_NUMBERS[header]] = int.from_bytes(value)
        elif header in _TEXT:
            name, decode = _TEXT[header]
            values[name] = decode(value)
        elif header == oxm.VLAN_VID:
            values["vlan"] = int.from_bytes(value) & ~oxm.VLAN_PRESENT
        elif header == oxm.NX_TCP_FLAGS:
            values["tcp_flags"] = struct.unpack("!HH", value)
        else:
            return None
        position = end
    return Match(**values)


def decode_actions(data: bytes) -> tuple[tuple[Action, ...] | None, Facts | None]:
    """Return an action list, its edits up to each output gathered into one ``Rewrite``, and the note among them.

    None stands for a list that holds what no command of ours can say.
    """
    actions: list[Action] = []
    edits: dict[str, Any] = {}
    facts: Facts | None = None
    position = 0
    while position < len(data):
        kind, length = _PAIR.unpack_from(data, position)
        body = data[position + 4 : position + length]
        position += length
        if length < 8:
            raise RemoteError(f"an action of {length} bytes")
        if kind == SET_FIELD and body[:4] in _TEXT:
            name, decode = _TEXT[body[:4]]
            edits[name] = decode(body[4 : 4 + body[3]])
        elif kind == SET_FIELD and body[:4] in (oxm.TCP_SRC, oxm.TCP_DST):
            edits[_NUMBERS[body[:4]]] = int.from_bytes(body[4:6])
        elif kind == EXPERIMENTER and int.from_bytes(body[:4]) == NICIRA and body[5] == 8:
            facts = _facts(body[6:])
        elif kind == EXPERIMENTER and int.from_bytes(body[:4]) == NICIRA and body[5] == 19:
            actions.append(FinTimeout(*_PAIR.unpack_from(body, 6)))
        elif kind == EXPERIMENTER and int.from_bytes(body[:4]) == NICIRA and _take_edit(body[5], body[6:], edits):
            pass
        elif kind == SET_NW_TTL:
            edits["ttl"] = body[0]
        elif kind == OUTPUT:
            if edits:
                actions.append(Rewrite(**edits))
                edits = {}
            port, max_len = struct.unpack_from("!IH", body)
            is_whole = port != PORTS[Port.CONTROLLER] or max_len >= MAX_PACKET_IN
            actions.append(Output(_PORTS.get(port, port), 65_535 if is_whole else max_len))
        else:
            return None, facts
    if edits:
        actions.append(Rewrite(**edits))
    return tuple(actions), facts


def _take_edit(subtype: int, body: bytes, edits: dict[str, Any]) -> bool:
    """Add one of our own edits to those gathered; return whether it was one."""
    if subtype in _SHIFTS:
        name, sign = _SHIFTS[subtype]
        edits[name] = sign * int(_UINT32.unpack_from(body)[0]) & 0xFFFFFFFF
    elif subtype == 86:
        (edits["window_shift"],) = struct.unpack_from("!b", body)
    elif subtype == 87:
        (edits["window"],) = struct.unpack_from("!H", body)
    elif subtype == 88:
        (edits["ip_id"],) = struct.unpack_from("!H", body)
    else:
        return False
    return True


def _facts(note: bytes) -> Facts | None:
    """Return what a note says, or None for one of another make."""
    try:
        return decode_note(note)
    except RemoteError:
        return None


def read_multipart(datapath: Any, version: int, kind: int, length: int, xid: int, buffer: bytearray) -> Any:
    """Return the framework's message of a multipart reply; of flow statistics, with the body left as bytes."""
    parser = framework.ofproto_v1_4_parser
    type_, flags = _PAIR.unpack_from(buffer, 8)
    if type_ != FLOW_STATS:
        return parser.OFPMultipartReply.parser(datapath, version, kind, length, xid, buffer)
    message = parser.OFPFlowStatsReply(datapath)
    message.set_headers(version, kind, length, xid)
    message.buf, message.body, message.flags = bytes(buffer), bytes(buffer[HEADERS:length]), flags
    return message


def register() -> None:
    """Let the framework read multipart replies of OpenFlow 1.4 with this reader."""
    framework.ofproto_v1_4_parser._MSG_PARSERS[MULTIPART_REPLY] = read_multipart
