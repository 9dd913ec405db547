# SPDX-License-Identifier: Apache-2.0
"""Commands of the core as OpenFlow 1.4 messages, in bytes ready to send.

Pure: no framework, no socket. One command may take several messages (a bundle); all of one command share the
transaction id ``xid``, so an error from the switch names the command that caused it. Numbers in comments are sections
of the OpenFlow 1.4.0 specification; Nicira's extensions are described in Open vSwitch's ``ovs-actions(7)``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from controller.core.commands import (
    Action,
    Bundle,
    FinTimeout,
    FlowAdd,
    FlowDelete,
    Match,
    MeterAdd,
    Output,
    Port,
    ReadFlows,
    Rewrite,
)
from controller.core.errors import LocalError
from controller.core.facts import Facts
from controller.openflow import oxm
from controller.wire.address import encode_mac
from controller.wire.flow_note import encode_note

VERSION = 5
NO_BUFFER = 0xFFFFFFFF
ANY = 0xFFFFFFFF
ALL_TABLES = 0xFF
PORTS = {
    Port.IN_PORT: 0xFFFFFFF8,
    Port.TABLE: 0xFFFFFFF9,
    Port.NORMAL: 0xFFFFFFFA,
    Port.FLOOD: 0xFFFFFFFB,
    Port.CONTROLLER: 0xFFFFFFFD,
}
MAX_MESSAGE = 0xFFFF
# A packet-in that asks for all of a 64 KiB GSO packet would not fit its 16-bit length: leave room for the headers.
MAX_PACKET_IN = MAX_MESSAGE - 255

FLOW_MOD, PACKET_OUT, BARRIER_REQUEST, METER_MOD, BUNDLE_CONTROL, BUNDLE_ADD = 14, 13, 20, 29, 33, 34
MULTIPART_REQUEST, MULTIPART_REPLY, FLOW_STATS = 18, 19, 1
ROLE_REQUEST = 24
ADD, MODIFY, DELETE, DELETE_STRICT = 0, 1, 3, 4
BUNDLE_OPEN, BUNDLE_COMMIT, BUNDLE_DISCARD = 0, 4, 6
BUNDLE_FLAGS = 3  # atomic and ordered (7.3.9.4)
SEND_FLOW_REMOVED = 1
NO_MATCH = Match()
EMPTY_MATCH = struct.pack("!HH4x", 1, 4)

_FLOW = struct.Struct("!BBHI QQBBHHHIIIHH")
_PACKET_OUT = struct.Struct("!BBHI IIH6x")
_HEADER = struct.Struct("!BBHI")
_OUTPUT = struct.Struct("!HHIH6x")
_GOTO = struct.Struct("!HHB3x")
_APPLY = struct.Struct("!HH4x")
_METER = struct.Struct("!HHI")
_FLOW_REQUEST = struct.Struct("!BBHI HH4x B3xII4xQQ")
_NICIRA = struct.Struct("!HHIH6s")
_UINT32 = struct.Struct("!2xI")
SET_NW_TTL = 23
_SET_TTL = struct.Struct("!HHB3x")


def encode_flow(flow: FlowAdd, xid: int) -> bytes:
    """Return a flow-mod that adds the flow (7.3.4.1); raises LocalError for values that OpenFlow cannot carry."""
    match = oxm.encode_match(flow.match)
    instructions = b""
    if flow.meter is not None:
        instructions += _METER.pack(6, 8, flow.meter)
    if flow.actions:
        actions = encode_actions(flow.actions)
        if flow.facts is not None:
            actions += _encode_note(flow.facts)
        instructions += _APPLY.pack(4, 8 + len(actions)) + actions
    if flow.goto is not None:
        instructions += _GOTO.pack(1, 8, flow.goto)
    length = _FLOW.size + len(match) + len(instructions)
    flags = SEND_FLOW_REMOVED if flow.notify_removed else 0
    try:
        header = _FLOW.pack(
            VERSION,
            FLOW_MOD,
            length,
            xid,
            flow.cookie,
            0,
            flow.table,
            ADD,
            flow.idle_timeout,
            flow.hard_timeout,
            flow.priority,
            NO_BUFFER,
            ANY,
            ANY,
            flags,
            0,
        )
    except struct.error as error:
        raise LocalError(f"{flow}: {error}") from error
    return header + match + instructions


def encode_flow_delete(flow: FlowDelete, xid: int) -> bytes:
    """Return a flow-mod that deletes by match and cookie; a priority makes the match strict (7.3.4.1, 6.4)."""
    if flow.priority is not None and flow.table is None:
        raise LocalError("a strict deletion needs a table")
    match = oxm.encode_match(flow.match or NO_MATCH)
    command = DELETE if flow.priority is None else DELETE_STRICT
    table = ALL_TABLES if flow.table is None else flow.table
    length = _FLOW.size + len(match)
    try:
        header = _FLOW.pack(
            VERSION,
            FLOW_MOD,
            length,
            xid,
            flow.cookie,
            flow.cookie_mask,
            table,
            command,
            0,
            0,
            flow.priority or 0,
            NO_BUFFER,
            ANY,
            ANY,
            0,
            0,
        )
    except struct.error as error:
        raise LocalError(f"{flow}: {error}") from error
    return header + match


def encode_flow_request(request: ReadFlows, xid: int) -> bytes:
    """Return the request for a table's flows with a cookie (7.3.5.2)."""
    length = _FLOW_REQUEST.size + len(EMPTY_MATCH)
    return (
        _FLOW_REQUEST.pack(
            VERSION,
            MULTIPART_REQUEST,
            length,
            xid,
            FLOW_STATS,
            0,
            request.table,
            ANY,
            ANY,
            request.cookie,
            request.cookie_mask,
        )
        + EMPTY_MATCH
    )


def encode_packet_out(frame: bytes, actions: tuple[Action, ...], in_port: int | None, xid: int) -> bytes:
    """Return a packet-out (7.3.6); raises LocalError for a frame too long for one message."""
    encoded = encode_actions(actions)
    length = _PACKET_OUT.size + len(encoded) + len(frame)
    if length > MAX_MESSAGE:
        raise LocalError(f"a frame of {len(frame)} bytes does not fit one OpenFlow message: cut it to segments first")
    port = PORTS[Port.CONTROLLER] if in_port is None else in_port
    return _PACKET_OUT.pack(VERSION, PACKET_OUT, length, xid, NO_BUFFER, port, len(encoded)) + encoded + frame


def encode_barrier(xid: int) -> bytes:
    """Return a barrier request (7.3.7)."""
    return _HEADER.pack(VERSION, BARRIER_REQUEST, 8, xid)


def encode_role_request(role: int, generation: int, xid: int) -> bytes:
    """Return a request for a role, 0 to ask only (7.3.9 of OpenFlow 1.4.0; ``generation`` has 64 bits)."""
    return _HEADER.pack(VERSION, ROLE_REQUEST, 24, xid) + struct.pack("!I4xQ", role, generation)


def encode_meter(meter: MeterAdd, xid: int, *, replace: bool = False) -> bytes:
    """Return a meter-mod with one drop band counted in packets (7.3.4.4); ``replace`` changes a meter that exists."""
    try:
        band = struct.pack("!HHII4x", 1, 16, meter.rate, meter.burst)
        body = struct.pack("!HHI", MODIFY if replace else ADD, 2 | 4, meter.meter)
    except struct.error as error:
        raise LocalError(f"{meter}: {error}") from error
    return _HEADER.pack(VERSION, METER_MOD, 8 + len(body) + len(band), xid) + body + band


def encode_bundle(bundle: Bundle, number: int, xid: int, *, commit: bool = True) -> bytes:
    """Return a bundle's messages from open to commit (7.3.9), or to discard; ``number`` is unique to the connection.

    No answer has to be waited for in between: the switch takes them in order.
    """
    parts = [_bundle_control(number, BUNDLE_OPEN, xid)]
    for change in bundle.changes:
        inner = encode_flow(change, xid) if isinstance(change, FlowAdd) else encode_flow_delete(change, xid)
        padded = inner + bytes(-len(inner) % 8)
        parts.append(struct.pack("!BBHI I2xH", VERSION, BUNDLE_ADD, 16 + len(padded), xid, number, BUNDLE_FLAGS))
        parts.append(padded)
    parts.append(_bundle_control(number, BUNDLE_COMMIT if commit else BUNDLE_DISCARD, xid))
    return b"".join(parts)


def _bundle_control(number: int, kind: int, xid: int) -> bytes:
    """Return a bundle control message (7.3.9.1)."""
    return struct.pack("!BBHI IHH", VERSION, BUNDLE_CONTROL, 16, xid, number, kind, BUNDLE_FLAGS)


def encode_actions(actions: tuple[Action, ...]) -> bytes:
    """Return an action list in the order given (7.2.4); raises LocalError for values that no action can hold."""
    try:
        return b"".join([_ENCODERS[type(action)](action) for action in actions])
    except (OverflowError, struct.error) as error:
        raise LocalError(f"{actions}: {error}") from error


def _encode_output(output: Output) -> bytes:
    """Return an output action; what goes to the controller is cut so that the packet-in fits a message."""
    port = PORTS[output.port] if isinstance(output.port, Port) else output.port
    return _OUTPUT.pack(0, 16, port, min(output.max_len, MAX_PACKET_IN))


def _encode_fin_timeout(timeout: FinTimeout) -> bytes:
    """Return Nicira's ``fin_timeout`` (subtype 19)."""
    return _nicira(19, struct.pack("!HH2x", timeout.idle, timeout.hard))


def _encode_rewrite(rewrite: Rewrite) -> bytes:
    """Return the set-field and Nicira actions of one rewrite."""
    parts: list[bytes] = []
    if rewrite.eth_src is not None:
        parts.append(_set_field(oxm.ETH_SRC + encode_mac(rewrite.eth_src)))
    if rewrite.eth_dst is not None:
        parts.append(_set_field(oxm.ETH_DST + encode_mac(rewrite.eth_dst)))
    if rewrite.ip_src is not None:
        parts.append(_set_field(oxm.encode_address(rewrite.ip_src, oxm.IPV4_SRC, oxm.IPV6_SRC)))
    if rewrite.ip_dst is not None:
        parts.append(_set_field(oxm.encode_address(rewrite.ip_dst, oxm.IPV4_DST, oxm.IPV6_DST)))
    if rewrite.tcp_src is not None:
        parts.append(_set_field(oxm.TCP_SRC + rewrite.tcp_src.to_bytes(2)))
    if rewrite.tcp_dst is not None:
        parts.append(_set_field(oxm.TCP_DST + rewrite.tcp_dst.to_bytes(2)))
    if rewrite.ttl is not None:
        parts.append(_SET_TTL.pack(SET_NW_TTL, 8, rewrite.ttl))
    if rewrite.seq:
        parts.append(_shift_number(80, 81, rewrite.seq))
    if rewrite.ack:
        parts.append(_shift_number(82, 83, rewrite.ack))
    if rewrite.tsval:
        parts.append(_nicira(84, _UINT32.pack(rewrite.tsval & 0xFFFFFFFF)))
    if rewrite.tsecr:
        parts.append(_nicira(85, _UINT32.pack(rewrite.tsecr & 0xFFFFFFFF)))
    if rewrite.window_shift:
        parts.append(_nicira(86, struct.pack("!b5x", rewrite.window_shift)))
    if rewrite.window is not None:
        parts.append(_nicira(87, struct.pack("!H4x", rewrite.window)))
    if rewrite.ip_id:
        parts.append(_nicira(88, struct.pack("!H4x", rewrite.ip_id & 0xFFFF)))
    return b"".join(parts)


def _encode_note(facts: Facts) -> bytes:
    """Return Nicira's ``note`` (subtype 8): it does nothing, and comes back with the flow's statistics."""
    try:
        note = encode_note(facts)
    except struct.error as error:
        raise LocalError(f"{facts}: {error}") from error
    length = (10 + len(note) + 7) // 8 * 8
    return struct.pack("!HHIH", 0xFFFF, length, 0x2320, 8) + note + bytes(length - 10 - len(note))


def _shift_number(increase: int, decrease: int, amount: int) -> bytes:
    """Return the increasing or decreasing action, whichever has the smaller number: flow dumps stay readable."""
    amount &= 0xFFFFFFFF
    if amount <= 0x7FFFFFFF:
        return _nicira(increase, _UINT32.pack(amount))
    return _nicira(decrease, _UINT32.pack(0x100000000 - amount))


def _set_field(field: bytes) -> bytes:
    """Return a set-field action around one OXM TLV, padded to 8 bytes."""
    length = 4 + len(field)
    padding = -length % 8
    return struct.pack("!HH", 25, length + padding) + field + bytes(padding)


def _nicira(subtype: int, body: bytes) -> bytes:
    """Return a Nicira action of 16 bytes."""
    return _NICIRA.pack(0xFFFF, 16, 0x2320, subtype, body)


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    Output: _encode_output,
    Rewrite: _encode_rewrite,
    FinTimeout: _encode_fin_timeout,
}
