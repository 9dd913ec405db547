# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import dpkt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1Q, Ether

from controller.core import seq as serial
from controller.core.errors import LocalError, RemoteError
from controller.core.segment import ACK, CWR, FIN, PSH, RST, SYN, URG
from controller.wire.resegment import resegment
from controller.wire.segment import decode_segment, encode_segment
from controller.wire.tcp_options import encode_options
from tests.unit.wire.strategies import segments

ETHER = Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:01")
V4 = IP(src="10.0.0.3", dst="10.0.0.1", id=0xFFFF)


def are_checksums_right(frame):
    ip = dpkt.ethernet.Ethernet(frame).data
    while not isinstance(ip, dpkt.ip.IP | dpkt.ip6.IP6):
        ip = ip.data
    whole = bytes(ip.data)
    pseudo = ip.src + ip.dst + bytes((0, 6)) + len(whole).to_bytes(2, "big")
    header = bytes(ip)[: ip.hl * 4] if isinstance(ip, dpkt.ip.IP) else b""
    return dpkt.in_cksum(pseudo + whole) in (0, 0xFFFF) and (not header or dpkt.in_cksum(header) in (0, 0xFFFF))


@given(segments(st.binary(max_size=9000)), st.integers(41, 3000))
def test_the_pieces_are_the_segment(segment, mss):
    pieces = [decode_segment(frame) for frame in resegment(encode_segment(segment), mss)]
    room = mss - len(encode_options(segment.options))
    assert b"".join(piece.payload for piece in pieces) == segment.payload
    assert all(len(piece.payload) == room for piece in pieces[:-1])
    assert len(pieces[-1].payload) <= room
    assert bool(pieces[-1].payload) == bool(segment.payload)
    assert all(are_checksums_right(piece.frame) for piece in pieces)
    assert (pieces[0].seq, pieces[0].ip_id) == (segment.seq, segment.ip_id)
    for before, after in pairwise(pieces):
        assert after.seq == serial.add(before.seq, before.length)
    end = serial.add(pieces[-1].seq, pieces[-1].length)
    assert end == serial.add(segment.seq, segment.length)
    for index, piece in enumerate(pieces):
        is_first, is_last = index == 0, index == len(pieces) - 1
        for flag, is_kept in ((SYN | CWR, is_first), (FIN | PSH | RST, is_last)):
            assert piece.flags & flag == (segment.flags & flag if is_kept else 0)
        for name in ("src", "dst", "ack", "window", "options", "eth_src", "eth_dst", "vlan", "ttl", "tos"):
            assert getattr(piece, name) == getattr(segment, name)
        if segment.src.address.count("."):
            assert piece.ip_id == (segment.ip_id + index) & 0xFFFF


def test_the_urgent_pointer_names_the_same_byte_in_every_piece_before_it():
    frame = bytes(ETHER / V4 / TCP(flags="PAU", urgptr=250) / bytes(400))
    pieces = [decode_segment(piece) for piece in resegment(frame, 100)]
    assert [(bool(piece.flags & URG), piece.urgent) for piece in pieces] == [
        (True, 250),
        (True, 150),
        (True, 50),
        (False, 0),
    ]


def test_ip_id_and_sequence_number_wrap():
    frame = bytes(ETHER / V4 / TCP(flags="A", seq=0xFFFFFFFF) / b"ab")
    assert [(p.seq, p.ip_id) for p in map(decode_segment, resegment(frame, 1))] == [(0xFFFFFFFF, 0xFFFF), (0, 0)]


def test_a_frame_that_fits_comes_back_with_complete_checksums():
    whole = bytes(ETHER / V4 / TCP(flags="PA") / b"migrate")
    partial = whole[:50] + b"\x12\x34" + whole[52:]  # as a virtual port hands it over: the pseudo-header's sum only
    assert resegment(partial + b"padding", 1460) == [whole]


@pytest.mark.parametrize(
    ("packet", "overhead"),
    [
        (ETHER / IP(src="10.0.0.3", dst="10.0.0.1", options=[IPOption_RR()]) / TCP() / bytes(300), 4),
        (ETHER / Dot1Q(vlan=5) / IPv6(src="fd00::3", dst="fd00::1") / IPv6ExtHdrHopByHop() / TCP() / bytes(300), 8),
        (ETHER / V4 / TCP(options=[("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)]) / bytes(300), 12),
    ],
    ids=["IPv4 options", "IPv6 extension", "TCP options"],
)
def test_headers_are_copied_and_count_against_the_mss(packet, overhead):
    frame = bytes(packet)
    pieces = resegment(frame, 100)
    head = len(frame) - 300
    assert {len(piece) for piece in pieces[:-1]} == {head + 100 - overhead}
    assert all(are_checksums_right(piece) for piece in pieces)
    assert b"".join(piece[head:] for piece in pieces) == bytes(300)


def test_a_zero_urgent_pointer_behind_the_flag_stays():
    frame = bytes(ETHER / V4 / TCP(flags="AU", urgptr=0))
    assert decode_segment(resegment(frame, 100)[0]).flags == ACK | URG


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        bytes(ETHER / ARP()).ljust(60, b"\0"),
        bytes(ETHER / V4 / UDP() / bytes(20)),
        bytes(ETHER / IP(src="10.0.0.3", dst="10.0.0.1", len=30) / TCP()),
        bytes(ETHER / V4 / TCP(dataofs=4)),
        bytes(ETHER / V4 / TCP(dataofs=6)),
    ],
    ids=["nothing", "ARP", "UDP", "short", "offset too small", "offset too large"],
)
def test_what_is_no_segment_is_a_remote_error(frame):
    with pytest.raises(RemoteError):
        resegment(frame, 1460)


@pytest.mark.parametrize("mss", [0, -1, 12])
def test_an_mss_without_room_for_data_is_a_local_error(mss):
    frame = bytes(ETHER / V4 / TCP(options=[("Timestamp", (1, 2)), ("NOP", None), ("NOP", None)]) / b"ab")
    with pytest.raises(LocalError, match="MSS"):
        resegment(frame, mss)
