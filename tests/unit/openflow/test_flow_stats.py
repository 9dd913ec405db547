# SPDX-License-Identifier: Apache-2.0
"""Flow statistics in bytes: the reverse of what makes the flows, and nothing that a stranger's flow could break."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from os_ken.ofproto import ofproto_protocol
from os_ken.ofproto import ofproto_v1_4_parser as parser

from controller.core.commands import FinTimeout, FlowAdd, Match, Output, Port, ReadFlows, Rewrite
from controller.core.errors import RemoteError
from controller.core.events import FoundFlow
from controller.core.facts import Facts
from controller.openflow import flow_stats, messages, oxm

FACTS = Facts(1, 2, "02:00:00:00:00:01", "02:00:00:00:00:02", 3, 4, 64, 0, 5.0)
uint8, uint16, uint32, uint64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
mac = st.binary(min_size=6, max_size=6).map(lambda octets: octets.hex(":"))
ipv4, ipv6 = st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)
port = st.integers(1, 0xFFFFFF00)
outputs = st.builds(Output, port) | st.just(Output(Port.CONTROLLER, 256)) | st.sampled_from(Port).map(Output)


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
        tcp_flags=maybe(st.sampled_from([(2, 18), (1, 1), (0, 4)])),
    )


def rewrites_of(address):
    edits = st.builds(
        Rewrite,
        eth_src=maybe(mac),
        eth_dst=maybe(mac),
        ip_src=maybe(address),
        ip_dst=maybe(address),
        tcp_src=maybe(uint16),
        tcp_dst=maybe(uint16),
        ttl=maybe(st.integers(0, 255)),
        seq=uint32,
        ack=uint32,
        tsval=uint32,
        tsecr=uint32,
        window_shift=st.integers(-14, 14),
        window=maybe(uint16),
        ip_id=uint16,
    )
    return edits.filter(lambda edit: edit != Rewrite())


def flows_of(address, ether_type):
    step = st.tuples(rewrites_of(address), outputs) | st.tuples(outputs)
    steps = st.lists(step, min_size=1, max_size=3).map(lambda steps: sum(steps, ()))
    return st.builds(
        FlowAdd,
        switch=st.just(0),
        table=uint8,
        priority=uint16,
        match=matches_of(address, ether_type),
        actions=st.just(()) | steps | st.builds(lambda rest: (FinTimeout(9, 0), *rest), steps),
        goto=maybe(uint8),
        meter=maybe(uint32),
        cookie=uint64,
        idle_timeout=uint16,
        hard_timeout=uint16,
        notify_removed=st.booleans(),
        facts=st.none() | st.just(FACTS),
    )


flows = flows_of(ipv4, 0x0800) | flows_of(ipv6, 0x86DD)


def told(flow, packets=0, count=0):
    """Return the statistics of a flow as a switch would tell them: the flow-mod's match and instructions in a frame."""
    message = messages.encode_flow(flow, 1)
    match = oxm.encode_match(flow.match)
    rest = message[48 + len(match) :]
    head = struct.pack(
        "!HBxIIHHHHHxxQQQ",
        48 + len(match) + len(rest),
        flow.table,
        7,
        8,
        flow.priority,
        flow.idle_timeout,
        flow.hard_timeout,
        1 if flow.notify_removed else 0,
        0,
        flow.cookie,
        packets,
        count,
    )
    return head + match + rest


@given(st.lists(st.tuples(flows, uint64, uint64), max_size=4))
def test_round_trip(rows):
    """Every flow that we can make is read back as what made it."""
    body = b"".join(told(*row) for row in rows)
    expected = [FoundFlow(replace(flow, facts=flow.facts if flow.actions else None), p, b) for flow, p, b in rows]
    assert list(flow_stats.decode_flows(body)) == expected


PLAIN = FlowAdd(0, 1, 100, Match(ether_type=0x0800, ip_proto=6), (Output(1),))


@pytest.mark.parametrize(
    "action",
    [
        parser.OFPActionPushVlan(),
        parser.OFPActionSetField(ip_dscp=1),
        parser.NXActionResubmit(1),
        parser.OFPActionGroup(1),
    ],
)
def test_flows_of_others_are_left_out(action):
    """What no command of ours can say is nobody's business here; the flows around it are read."""
    packed = bytearray()
    action.serialize(packed, 0)
    one = told(PLAIN)
    longer = struct.pack("!HH4x", 4, 8 + 16 + len(packed)) + one[-16:] + packed
    stranger = struct.pack("!H", len(one) - 24 + len(longer)) + one[2:-24] + longer
    assert flow_stats.decode_flows(told(PLAIN) + stranger + told(PLAIN)) == (FoundFlow(PLAIN, 0, 0),) * 2


def test_another_match_or_note():
    """A match on UDP is somebody else's; a note of another make says nothing."""
    udp = bytes.fromhex("80001e02") + b"\0\7"
    assert flow_stats.decode_match(udp) is None
    field = struct.pack("!HH4x", 1, 4 + len(udp)) + udp
    match = field[:4] + udp + bytes(-len(field[:4] + udp) % 8)
    head = told(PLAIN)[:48]
    stranger = struct.pack("!H", 48 + len(match)) + head[2:] + match
    assert flow_stats.decode_flows(stranger) == ()
    note = bytes.fromhex("ffff0010000023200008") + b"hello!"
    assert flow_stats.decode_actions(note) == ((), None)


@pytest.mark.parametrize(
    "body",
    [b"\0", b"\0\1" + bytes(60), told(PLAIN)[:-1], told(PLAIN)[:-24] + bytes(24), told(PLAIN)[:-16] + bytes(16)],
    ids=["half a length", "too short", "cut", "no instruction", "no action"],
)
def test_broken_statistics(body):
    """Refused with the project's own error."""
    with pytest.raises(RemoteError):
        flow_stats.decode_flows(body)


@given(st.binary(max_size=300), st.integers(0, 150))
def test_random_bytes(noise, at):
    """Accept, or say that it is wrong; nothing else, and it ends."""
    good = told(replace(PLAIN, actions=(Rewrite(seq=1, ip_dst="10.0.0.1"), Output(2)), facts=FACTS))
    body = good[:at] + noise + good[at + len(noise) :]
    try:
        flow_stats.decode_flows(body)
    except RemoteError:
        return


def test_the_request_is_the_frameworks_own():
    request = ReadFlows(1, 1, 0xBA7 << 52, 0xFFF << 52, 5)
    datapath = ofproto_protocol.ProtocolDesc(5)
    theirs = parser.OFPFlowStatsRequest(datapath, 0, 1, cookie=request.cookie, cookie_mask=request.cookie_mask)
    theirs.xid = 7
    theirs.serialize()
    assert messages.encode_flow_request(request, 7) == bytes(theirs.buf)
