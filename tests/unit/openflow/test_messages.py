# SPDX-License-Identifier: Apache-2.0
"""Commands in bytes: equal to what the framework's own, slower encoder makes of the same message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from os_ken.ofproto import ofproto_protocol
from os_ken.ofproto import ofproto_v1_4 as ofp
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.core.commands import (
    Bundle,
    FinTimeout,
    FlowAdd,
    FlowDelete,
    Match,
    MeterAdd,
    Output,
    Port,
    Rewrite,
)
from controller.core.errors import LocalError
from controller.openflow import actions, messages, oxm

actions.register_with(parser)
DATAPATH = ofproto_protocol.ProtocolDesc(5)
XID = 0xCAFE

uint8, uint16, uint32, uint64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
mac = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))
ipv4, ipv6 = st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)
port = st.integers(1, 0xFFFFFF00)


def maybe(values):
    return st.none() | values


def matches_of(address, ether_type):
    return st.builds(
        Match,
        ether_type=st.just(ether_type),
        in_port=maybe(port),
        eth_src=maybe(mac),
        eth_dst=maybe(mac),
        vlan=maybe(st.integers(0, 4095)),
        ip_src=maybe(address),
        ip_dst=maybe(address),
        ip_proto=st.just(6),
        tcp_src=maybe(uint16),
        tcp_dst=maybe(uint16),
    )


matches = matches_of(ipv4, 0x0800) | matches_of(ipv6, 0x86DD) | st.builds(Match, in_port=maybe(port))
rewrites = st.builds(
    Rewrite,
    eth_src=maybe(mac),
    eth_dst=maybe(mac),
    ip_src=maybe(ipv4 | ipv6),
    ip_dst=maybe(ipv4 | ipv6),
    tcp_src=maybe(uint16),
    tcp_dst=maybe(uint16),
    ttl=maybe(st.integers(0, 255)),
    seq=st.integers(-(2**32), 2**32),
    ack=uint32,
    tsval=uint32,
    tsecr=uint32,
    window_shift=st.integers(-14, 14),
    window=maybe(uint16),
    ip_id=uint16,
)
outputs = st.builds(Output, port=port | st.sampled_from(Port), max_len=st.integers(0, messages.MAX_PACKET_IN))
action_lists = st.lists(rewrites | outputs | st.builds(FinTimeout, uint16, uint16), max_size=4).map(tuple)
flow_adds = st.builds(
    FlowAdd,
    switch=st.just(1),
    table=uint8,
    priority=uint16,
    match=matches,
    actions=action_lists,
    goto=maybe(uint8),
    meter=maybe(uint32),
    cookie=uint64,
    idle_timeout=uint16,
    hard_timeout=uint16,
    notify_removed=st.booleans(),
)
flow_deletes = st.builds(
    FlowDelete,
    switch=st.just(1),
    table=uint8,
    match=maybe(matches),
    priority=maybe(uint16),
    cookie=uint64,
    cookie_mask=uint64,
)


def reference_match(match):
    """The match as the framework builds it."""
    version = "6" if match.ether_type == 0x86DD else "4"
    fields = {
        "in_port": match.in_port,
        "eth_src": match.eth_src,
        "eth_dst": match.eth_dst,
        "eth_type": match.ether_type,
        "vlan_vid": None if match.vlan is None else match.vlan | 0x1000,
        "ip_proto": match.ip_proto,
        f"ipv{version}_src": match.ip_src,
        f"ipv{version}_dst": match.ip_dst,
        "tcp_src": match.tcp_src,
        "tcp_dst": match.tcp_dst,
    }
    return parser.OFPMatch(**{name: value for name, value in fields.items() if value is not None})


def reference_actions(action_list):
    """The actions as the framework builds them."""
    built = []
    for action in action_list:
        match action:
            case Output(port=number, max_len=max_len):
                if isinstance(number, Port):
                    number = getattr(ofp, f"OFPP_{number.name}")
                built.append(parser.OFPActionOutput(number, max_len))
            case FinTimeout(idle=idle, hard=hard):
                built.append(parser.NXActionFinTimeout(idle, hard))
            case Rewrite():
                built += reference_rewrite(action)
    return built


def reference_rewrite(rewrite):
    built = []
    for name in ("eth_src", "eth_dst", "ip_src", "ip_dst", "tcp_src", "tcp_dst"):
        value = getattr(rewrite, name)
        if value is not None:
            field = name.replace("ip_", "ipv6_" if ":" in value else "ipv4_") if name.startswith("ip_") else name
            built.append(parser.OFPActionSetField(**{field: value}))
    if rewrite.ttl is not None:
        built.append(parser.OFPActionSetNwTtl(rewrite.ttl))
    for name, up, down in (("seq", "IncTcpSeq", "DecTcpSeq"), ("ack", "IncTcpAck", "DecTcpAck")):
        amount = getattr(rewrite, name) % 2**32
        if getattr(rewrite, name):
            kind, value = (up, amount) if amount < 2**31 else (down, 2**32 - amount)
            built.append(getattr(parser, f"NXAction{kind}")(value))
    for name, kind in (("tsval", "IncTcpTsval"), ("tsecr", "IncTcpTsecr"), ("window_shift", "ShiftTcpWindow")):
        if getattr(rewrite, name):
            built.append(getattr(parser, f"NXAction{kind}")(getattr(rewrite, name)))
    if rewrite.window is not None:
        built.append(parser.NXActionSetTcpWindow(rewrite.window))
    if rewrite.ip_id:
        built.append(parser.NXActionIncIpId(rewrite.ip_id))
    return built


def reference_flow(flow):
    instructions = []
    if flow.meter is not None:
        instructions.append(parser.OFPInstructionMeter(flow.meter))
    if flow.actions:
        instructions.append(parser.OFPInstructionActions(ofp.OFPIT_APPLY_ACTIONS, reference_actions(flow.actions)))
    if flow.goto is not None:
        instructions.append(parser.OFPInstructionGotoTable(flow.goto))
    return parser.OFPFlowMod(
        DATAPATH,
        cookie=flow.cookie,
        table_id=flow.table,
        command=ofp.OFPFC_ADD,
        idle_timeout=flow.idle_timeout,
        hard_timeout=flow.hard_timeout,
        priority=flow.priority,
        buffer_id=ofp.OFP_NO_BUFFER,
        out_port=ofp.OFPP_ANY,
        out_group=ofp.OFPG_ANY,
        flags=ofp.OFPFF_SEND_FLOW_REM if flow.notify_removed else 0,
        match=reference_match(flow.match),
        instructions=instructions,
    )


def reference_delete(flow):
    return parser.OFPFlowMod(
        DATAPATH,
        cookie=flow.cookie,
        cookie_mask=flow.cookie_mask,
        table_id=flow.table,
        command=ofp.OFPFC_DELETE if flow.priority is None else ofp.OFPFC_DELETE_STRICT,
        priority=flow.priority or 0,
        buffer_id=ofp.OFP_NO_BUFFER,
        out_port=ofp.OFPP_ANY,
        out_group=ofp.OFPG_ANY,
        match=reference_match(flow.match or Match()),
        instructions=[],
    )


def serialized(message):
    message.set_xid(XID)
    message.serialize()
    return bytes(message.buf)


def split(stream):
    """Cut a byte stream into OpenFlow messages."""
    parts = []
    while stream:
        length = int.from_bytes(stream[2:4])
        parts.append(stream[:length])
        stream = stream[length:]
    return parts


@given(flow_adds)
def test_a_flow_is_encoded_as_by_the_framework(flow):
    assert messages.encode_flow(flow, XID) == serialized(reference_flow(flow))


@given(flow_deletes)
def test_a_deletion_is_encoded_as_by_the_framework(flow):
    assert messages.encode_flow_delete(flow, XID) == serialized(reference_delete(flow))


def test_a_deletion_without_a_table_asks_for_all():
    encoded = messages.encode_flow_delete(FlowDelete(1, cookie=5, cookie_mask=7), XID)
    assert encoded == serialized(reference_delete(FlowDelete(1, table=ofp.OFPTT_ALL, cookie=5, cookie_mask=7)))


@given(st.binary(max_size=200), action_lists, maybe(port))
def test_a_packet_out_is_encoded_as_by_the_framework(frame, action_list, in_port):
    action_list = (Output(1, 0), *action_list)  # without any the framework writes its header over the data
    message = parser.OFPPacketOut(
        DATAPATH,
        buffer_id=ofp.OFP_NO_BUFFER,
        in_port=ofp.OFPP_CONTROLLER if in_port is None else in_port,
        actions=reference_actions(action_list),
        data=frame,
    )
    assert messages.encode_packet_out(frame, action_list, in_port, XID) == serialized(message)


@given(uint32, uint32, uint32, st.booleans())
def test_a_meter_is_encoded_as_by_the_framework(meter, rate, burst, replace):
    message = parser.OFPMeterMod(
        DATAPATH,
        command=ofp.OFPMC_MODIFY if replace else ofp.OFPMC_ADD,
        flags=ofp.OFPMF_PKTPS | ofp.OFPMF_BURST,
        meter_id=meter,
        bands=[parser.OFPMeterBandDrop(rate, burst)],
    )
    assert messages.encode_meter(MeterAdd(1, meter, rate, burst), XID, replace=replace) == serialized(message)


def test_a_barrier_is_encoded_as_by_the_framework():
    assert messages.encode_barrier(XID) == serialized(parser.OFPBarrierRequest(DATAPATH))


@given(st.lists(flow_adds | flow_deletes, max_size=4).map(tuple), st.booleans())
def test_a_bundle_is_encoded_as_by_the_framework(changes, commit):
    flags = ofp.OFPBF_ATOMIC | ofp.OFPBF_ORDERED
    parts = split(messages.encode_bundle(Bundle(1, changes), 9, XID, commit=commit))
    ends = (ofp.OFPBCT_OPEN_REQUEST, ofp.OFPBCT_COMMIT_REQUEST if commit else ofp.OFPBCT_DISCARD_REQUEST)
    for part, kind in zip((parts[0], parts[-1]), ends, strict=True):
        assert part == serialized(parser.OFPBundleCtrlMsg(DATAPATH, 9, kind, flags, []))
    assert len(parts) == len(changes) + 2
    for part, change in zip(parts[1:-1], changes, strict=True):
        inner = reference_flow(change) if isinstance(change, FlowAdd) else reference_delete(change)
        expected = serialized(inner)
        assert part[:8] == bytes((5, ofp.OFPT_BUNDLE_ADD_MESSAGE)) + len(part).to_bytes(2) + XID.to_bytes(4)
        assert part[8:16] == (9).to_bytes(4) + bytes(2) + flags.to_bytes(2)
        assert part[16:] == expected + bytes(-len(expected) % 8)


def test_what_goes_to_the_controller_fits_a_message():
    encoded = messages.encode_actions((Output(Port.CONTROLLER),))
    assert int.from_bytes(encoded[8:10]) + 255 == 0xFFFF


@pytest.mark.parametrize(
    ("match", "fields"),
    [
        (Match(ip_src="10.0.0.1"), {"eth_type": 0x0800, "ipv4_src": "10.0.0.1"}),
        (Match(ip_dst="fd00::1"), {"eth_type": 0x86DD, "ipv6_dst": "fd00::1"}),
        (
            Match(ip_dst="10.0.0.1", tcp_dst=80),
            {"eth_type": 0x0800, "ip_proto": 6, "ipv4_dst": "10.0.0.1", "tcp_dst": 80},
        ),
        (Match(), {}),
    ],
)
def test_prerequisites_are_filled_in(match, fields):
    buffer = bytearray()
    parser.OFPMatch(**fields).serialize(buffer, 0)
    assert oxm.encode_match(match) == buffer


def test_tcp_flags_come_after_what_they_presuppose():
    """The framework sorts Nicira's field to the front, where a switch refuses it: the order is checked by itself."""
    encoded = oxm.encode_match(Match(ip_src="10.0.0.1", tcp_flags=(0x12, 0x02)))
    parsed = parser.OFPMatch.parser(encoded, 0)
    assert dict(parsed.items()) == {
        "eth_type": 0x0800,
        "ip_proto": 6,
        "ipv4_src": "10.0.0.1",
        "tcp_flags_nxm": (0x02, 0x02),
    }
    assert encoded.index(oxm.IP_PROTO) < encoded.index(oxm.NX_TCP_FLAGS)


@pytest.mark.parametrize(
    "match",
    [
        Match(tcp_dst=80),
        Match(tcp_flags=(2, 2)),
        Match(ip_proto=17, ip_src="10.0.0.1", tcp_dst=80),
        Match(ip_src="10.0.0.1", ip_dst="fd00::1"),
        Match(ether_type=0x0806, ip_src="10.0.0.1"),
        Match(ip_src="10.0.0.1", tcp_dst=65_536),
        Match(ip_src="ten"),
        Match(eth_src="02:00"),
        Match(in_port=-1),
    ],
)
def test_a_match_that_cannot_be_is_refused(match):
    with pytest.raises(LocalError):
        messages.encode_flow(FlowAdd(1, 0, 1, match), XID)


@pytest.mark.parametrize(
    "call",
    [
        lambda: messages.encode_flow(FlowAdd(1, 256, 1, Match()), XID),
        lambda: messages.encode_flow(FlowAdd(1, 0, 1, Match(), (Rewrite(tcp_dst=65_536),)), XID),
        lambda: messages.encode_flow(FlowAdd(1, 0, 1, Match(), (Rewrite(window_shift=200),)), XID),
        lambda: messages.encode_flow_delete(FlowDelete(1, priority=5), XID),
        lambda: messages.encode_flow_delete(FlowDelete(1, table=0, cookie=-1), XID),
        lambda: messages.encode_meter(MeterAdd(1, 1, -1, 0), XID),
        lambda: messages.encode_packet_out(bytes(65_530), (Output(1),), None, XID),
    ],
)
def test_values_that_no_message_can_hold_are_refused(call):
    with pytest.raises(LocalError):
        call()
