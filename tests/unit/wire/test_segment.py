# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import dpkt
import pytest
from hypothesis import given
from scapy.layers.inet import IP, TCP, UDP, IPOption_RR
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether

from controller.core.errors import LocalError, RemoteError
from controller.core.segment import ACK, CWR, ECE, SYN, Endpoint, Segment, TcpOptions, Timestamps
from controller.wire.segment import decode_segment, encode_segment
from tests.unit.wire.strategies import segments

ETHER = Ether(src="02:00:00:00:00:03", dst="02:00:00:00:00:01")


def ipv4(**fields):
    return IP(src="10.0.0.3", dst="10.0.0.1", id=77, ttl=9, tos=2, **fields)


def ipv6(**fields):
    return IPv6(src="fd00::3", dst="fd00::1", hlim=9, tc=2, **fields)


V4, V6 = ipv4(), ipv6()
TCP_DATA = TCP(sport=40000, dport=11111, seq=1, ack=2, flags="PA", window=500) / b"migrate"


@given(segments())
def test_a_segment_survives_the_round_trip(segment):
    frame = encode_segment(segment)
    assert decode_segment(frame) == replace(segment, frame=frame)


@given(segments())
def test_an_oracle_reads_the_same_and_finds_the_checksums_right(segment):
    link = dpkt.ethernet.Ethernet(encode_segment(segment))
    ip = link.data
    while not isinstance(ip, dpkt.ip.IP | dpkt.ip6.IP6):
        ip = ip.data
    tcp = ip.data
    assert (tcp.sport, tcp.dport, tcp.seq, tcp.ack) == (segment.src.port, segment.dst.port, segment.seq, segment.ack)
    assert (tcp.flags & 0xFF, tcp.win, tcp.urp, bytes(tcp.data)) == (
        segment.flags,
        segment.window,
        segment.urgent,
        segment.payload,
    )
    whole = bytes(tcp)
    pseudo = ip.src + ip.dst + bytes((0, 6)) + len(whole).to_bytes(2, "big")
    assert dpkt.in_cksum(pseudo + whole) in (0, 0xFFFF)
    if isinstance(ip, dpkt.ip.IP):
        assert dpkt.in_cksum(bytes(ip)[:20]) in (0, 0xFFFF)
        assert (ip.ttl, ip.tos, ip.id, ip.df, ip.len) == (segment.ttl, segment.tos, segment.ip_id, 1, 20 + len(whole))
    else:
        assert (ip.hlim, ip.plen) == (segment.ttl, len(whole))
    assert [tag.id for tag in getattr(link, "vlan_tags", [])] == ([] if segment.vlan is None else [segment.vlan])


EXPECTED = Segment(
    Endpoint("10.0.0.3", 40000),
    Endpoint("10.0.0.1", 11111),
    1,
    2,
    0x18,
    500,
    payload=b"migrate",
    eth_src="02:00:00:00:00:03",
    eth_dst="02:00:00:00:00:01",
    ttl=9,
    tos=2,
    ip_id=77,
)
EXPECTED6 = replace(EXPECTED, src=Endpoint("fd00::3", 40000), dst=Endpoint("fd00::1", 11111), ip_id=0)
AUTHENTICATION = AH(payloadlen=1, nh=6, icv=b"")  # 12 bytes: AH counts units of four, less two

ACCEPTED = {
    "plain": (ETHER / V4 / TCP_DATA, EXPECTED),
    "Ethernet padding": (ETHER / V4 / TCP_DATA / b"", EXPECTED),
    "VLAN with priority": (ETHER / Dot1Q(vlan=5, prio=3) / V4 / TCP_DATA, replace(EXPECTED, vlan=5)),
    "priority tag": (ETHER / Dot1Q(vlan=0, prio=3) / V4 / TCP_DATA, replace(EXPECTED, vlan=0)),
    "two tags": (ETHER / Dot1AD(vlan=9) / Dot1Q(vlan=5) / V4 / TCP_DATA, replace(EXPECTED, vlan=9)),
    "old two tags": (
        Ether(src=ETHER.src, dst=ETHER.dst, type=0x9100) / Dot1Q(vlan=9) / Dot1Q(vlan=5) / V4 / TCP_DATA,
        replace(EXPECTED, vlan=9),
    ),
    "IPv4 options": (ETHER / ipv4(options=[IPOption_RR()]) / TCP_DATA, EXPECTED),
    "IPv6": (ETHER / V6 / TCP_DATA, EXPECTED6),
    "hop-by-hop": (ETHER / V6 / IPv6ExtHdrHopByHop() / TCP_DATA, EXPECTED6),
    "two extensions": (ETHER / V6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / TCP_DATA, EXPECTED6),
    "spent routing header": (ETHER / V6 / IPv6ExtHdrRouting(segleft=0) / TCP_DATA, EXPECTED6),
    "atomic fragment": (ETHER / V6 / IPv6ExtHdrFragment(nh=6) / TCP_DATA, EXPECTED6),
    "authentication header": (ETHER / ipv6(nh=51) / AUTHENTICATION / TCP_DATA, EXPECTED6),
}


@pytest.mark.parametrize(("packet", "expected"), ACCEPTED.values(), ids=ACCEPTED)
def test_headers_of_every_kind_are_read(packet, expected):
    frame = bytes(packet)
    assert decode_segment(frame) == replace(expected, frame=frame)


def test_bytes_behind_the_packet_are_not_payload():
    frame = bytes(ETHER / V4 / TCP_DATA) + b"padding"
    assert decode_segment(frame).payload == b"migrate"


def test_reserved_header_bits_are_left_out():
    frame = bytes(ETHER / V4 / TCP(flags="SECN"))
    assert decode_segment(frame).flags == SYN | ECE | CWR


def test_options_are_parsed():
    frame = bytes(ETHER / V4 / TCP(flags="A", options=[("NOP", None), ("NOP", None), ("Timestamp", (8, 9))]))
    assert decode_segment(frame).options == TcpOptions(timestamps=Timestamps(8, 9))


REFUSED = {
    "nothing": (b"", "Ethernet"),
    "half an Ethernet header": (bytes(ETHER)[:13], "Ethernet"),
    "half a tag": (bytes(ETHER / Dot1Q(vlan=5))[:17], "VLAN tag"),
    "endless tags": (bytes(12) + b"\x81\x00\x00\x01" * 20, "VLAN tag"),
    "ARP": (bytes(ETHER / ARP()).ljust(60, b"\0"), "not IP"),
    "UDP": (bytes(ETHER / V4 / UDP()), "not TCP"),
    "short IPv4": (bytes(ETHER / V4)[:33], "IPv4 header"),
    "version 5": (bytes(ETHER / ipv4(version=5) / TCP_DATA), "version 5"),
    "IPv4 header of 16 bytes": (bytes(ETHER / ipv4(ihl=4) / TCP_DATA), "16 bytes"),
    "IPv4 length below its header": (bytes(ETHER / ipv4(len=19) / TCP_DATA), "packet of 19"),
    "IPv4 length zero": (bytes(ETHER / ipv4(len=0) / TCP_DATA), "packet of 0"),
    "first IPv4 fragment": (bytes(ETHER / ipv4(flags="MF") / TCP_DATA), "fragment"),
    "later IPv4 fragment": (bytes(ETHER / ipv4(frag=9) / TCP_DATA), "fragment"),
    "IPv4 longer than the frame": (bytes(ETHER / V4 / TCP_DATA)[:-1], "are there"),
    "short IPv6": (bytes(ETHER / V6)[:53], "IPv6 header"),
    "IPv6 of version 4": (bytes(ETHER / ipv6(version=4) / TCP_DATA), "version 4"),
    "IPv6 longer than the frame": (bytes(ETHER / V6 / TCP_DATA)[:-1], "are there"),
    "IPv6 fragment": (bytes(ETHER / V6 / IPv6ExtHdrFragment(nh=6, m=1) / TCP_DATA), "fragment"),
    "routing under way": (
        bytes(ETHER / V6 / IPv6ExtHdrRouting(segleft=1, addresses=["fd00::9"]) / TCP_DATA),
        "source-routed",
    ),
    "half an extension": (bytes(ETHER / ipv6(nh=0, plen=4) / b"\6\0\0\0"), "extension"),
    "extension beyond the packet": (bytes(ETHER / ipv6(nh=0, plen=8) / b"\6\xff\0\0\0\0\0\0"), "its own"),
    "half a TCP header": (bytes(ETHER / ipv4(len=39) / TCP_DATA), "TCP header"),
    "data offset 4": (bytes(ETHER / V4 / TCP(dataofs=4)), "TCP header of 16"),
    "data offset beyond the packet": (bytes(ETHER / V4 / TCP(dataofs=6)), "TCP header of 24"),
}


@pytest.mark.parametrize(("frame", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_a_whole_tcp_segment_is_a_remote_error(frame, reason):
    with pytest.raises(RemoteError, match=reason):
        decode_segment(frame)


def test_a_capture_cut_short_is_read_on_request():
    frame = bytes(ETHER / V4 / TCP_DATA)[:-3]
    assert decode_segment(frame, partial=True).payload == b"migr"
    with pytest.raises(RemoteError, match="TCP header"):
        decode_segment(frame[:50], partial=True)


def test_what_a_segment_has_no_field_for_is_taken_from_its_frame():
    original = decode_segment(bytes(ETHER / Dot1AD(vlan=9, prio=2) / Dot1Q(vlan=5, prio=3) / V4 / TCP_DATA))
    answer = replace(original, src=original.dst, dst=original.src, flags=ACK, payload=b"")
    tags = Ether(encode_segment(answer))
    assert (tags[Dot1AD].vlan, tags[Dot1AD].prio, tags[Dot1Q].vlan, tags[Dot1Q].prio) == (9, 2, 5, 3)
    moved = Ether(encode_segment(replace(answer, vlan=6)))
    assert (moved[Dot1Q].vlan, moved[Dot1Q].prio, moved[Dot1Q].type) == (6, 0, 0x0800)
    assert Ether(encode_segment(replace(answer, vlan=None))).type == 0x0800


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 1 << 32},
        {"seq": -1},
        {"window": 65_536},
        {"flags": 256},
        {"flags": -1},
        {"tos": 256},
        {"ttl": 256},
        {"ip_id": 65_536},
        {"vlan": 4096},
        {"vlan": -1},
        {"src": Endpoint("10.0.0.3", 65_536)},
        {"src": Endpoint("fd00::1", 1)},
        {"src": Endpoint("somewhere", 1)},
        {"eth_src": "02:00"},
        {"payload": bytes(65_516)},
    ],
    ids=str,
)
def test_what_no_header_can_hold_is_a_local_error(change):
    with pytest.raises(LocalError):
        encode_segment(replace(EXPECTED, **change))


def test_an_ipv6_payload_beyond_its_length_field_is_a_local_error():
    with pytest.raises(LocalError):
        encode_segment(replace(EXPECTED6, payload=bytes(65_520)))
