# SPDX-License-Identifier: Apache-2.0
"""What `ovs-ofctl -m snoop` prints is read: packets from their hex dumps, flow changes with their matches."""

import dpkt

from demo.openflow_log import read_messages

SYN = bytes(
    dpkt.ethernet.Ethernet(
        src=b"\2\0\0\0\0\3",
        dst=b"\2\0\0\0\0\1",
        data=dpkt.ip.IP(
            src=b"\x0a\0\0\3", dst=b"\x0a\0\0\1", p=6, data=dpkt.tcp.TCP(sport=40000, dport=11111, flags=2, seq=9)
        ),
    )
)


def dump(data):
    for start in range(0, len(data), 16):
        row = [f"{byte:02x}" for byte in data[start : start + 16]]
        yield f"{start:08x}  {' '.join(row[:8])}{'-' if row[8:] else ''}{' '.join(row[8:])}"


def test_packets_in_and_out_come_with_their_segments():
    lines = [
        "OFPT_PACKET_IN (OF1.4) (xid=0x0): table_id=1 total_len=54 in_port=3 (via action) data_len=54 (unbuffered)",
        "tcp,vlan_tci=0x0000,nw_src=10.0.0.3,nw_dst=10.0.0.1,tp_src=40000,tp_dst=11111,tcp_flags=syn tcp_csum:142a",
        *dump(SYN),
        "2026-01-02 10:00:00.123: OFPT_PACKET_OUT (OF1.4) (xid=0x7): in_port=CONTROLLER actions=output:2 data_len=54",
        "tcp,vlan_tci=0x0000",
        *dump(SYN),
    ]
    came, sent = read_messages(lines)
    assert (came.kind, sent.kind) == ("packet-in", "packet-out")
    assert (came.packet.src, came.packet.dst, came.packet.seq) == ("10.0.0.3:40000", "10.0.0.1:11111", 9)
    assert sent.packet.numbers == came.packet.numbers
    assert "actions=output:2" in sent.text


def test_flow_changes_alone_and_in_bundles_are_seen():
    lines = [
        "OFPT_FLOW_MOD (OF1.4) (xid=0x1): ADD table:1 priority=100,tcp,tp_src=40000,tp_dst=11111 actions=output:1",
        "OFPT_BUNDLE_ADD_MESSAGE (OF1.4) (xid=0x2):",
        " bundle_id=0x1 flags=atomic",
        "OFPT_FLOW_MOD (OF1.4) (xid=0x2): DEL table:1 tcp,tp_src=40000,tp_dst=11111 actions=drop",
        "OFPT_BARRIER_REQUEST (OF1.4) (xid=0x3):",
    ]
    assert [(m.kind, m.text.split()[0]) for m in read_messages(lines)] == [("flow-mod", "ADD"), ("flow-mod", "DEL")]


def test_what_is_no_tcp_and_what_is_cut_short_is_passed_over():
    arp = bytes(dpkt.ethernet.Ethernet(type=0x0806, data=bytes(dpkt.arp.ARP())))
    header = "OFPT_PACKET_IN (OF1.4) (xid=0x0): total_len=42 in_port=3 (via action) data_len=42 (unbuffered)"
    assert list(read_messages([header, *dump(arp), header, *dump(SYN[:30]), header, "rubbish"])) == []
    assert list(read_messages([])) == []
