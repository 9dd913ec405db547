# SPDX-License-Identifier: Apache-2.0
import dpkt
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback

from controller.alerts import packet
from controller.alerts.packet import AlertPacket, decode_packet
from controller.core.segment import Endpoint

V4 = IP(src="10.0.0.3", dst="10.0.0.1")
V6 = IPv6(src="fd00::3", dst="fd00::1")
DATA = TCP(sport=4000, dport=11111, seq=77, flags="PA") / b"migrate"
EXPECTED = AlertPacket(Endpoint("10.0.0.3", 4000), Endpoint("10.0.0.1", 11111), 77, b"migrate")
EXPECTED6 = AlertPacket(Endpoint("fd00::3", 4000), Endpoint("fd00::1", 11111), 77, b"migrate")


@pytest.mark.parametrize(
    ("data", "link", "expected"),
    [
        (Ether() / V4 / DATA, 1, EXPECTED),
        (Ether() / Dot1Q(vlan=5) / V4 / DATA, 1, EXPECTED),
        (Ether() / Dot1AD(vlan=9) / Dot1Q(vlan=5) / V4 / DATA, 1, EXPECTED),
        (Ether() / V6 / DATA, 1, EXPECTED6),
        (Ether() / V6 / IPv6ExtHdrHopByHop() / DATA, 1, EXPECTED6),
        (V4 / DATA, 101, EXPECTED),
        (V6 / DATA, 12, EXPECTED6),
        (V4 / DATA, 228, EXPECTED),
        (V6 / DATA, 229, EXPECTED6),
        (CookedLinux(proto=0x0800) / V4 / DATA, 113, EXPECTED),
        (CookedLinuxV2(proto=0x0800) / V4 / DATA, 276, EXPECTED),
        (Loopback(type=2) / V4 / DATA, 0, EXPECTED),
    ],
)
def test_the_tcp_packet_is_found_behind_every_link_layer(data, link, expected):
    assert decode_packet(bytes(data), link) == expected


@pytest.mark.parametrize("size", [900, 960, 970, 980, 1_460, 60_000])
@pytest.mark.parametrize("head", [Ether() / V4, Ether() / Dot1Q(vlan=5) / V6 / IPv6ExtHdrHopByHop()])
def test_large_payloads_are_whole(head, size):
    payload = bytes(number % 251 for number in range(size))
    found = decode_packet(bytes(head / TCP(flags="PA", options=[("Timestamp", (1, 2))]) / payload))
    assert found.payload == payload


def nested(header, levels):
    return bytes(Ether(type=0x86DD if len(header) == 40 else 0x0800)) + header * levels


@pytest.mark.parametrize(
    "data",
    [
        nested(bytes(IP(proto=4, len=65_000, src="10.0.0.3", dst="10.0.0.1", chksum=0)), 3_000),
        nested(bytes(IPv6(nh=41, plen=65_000)), 1_600),
        nested(bytes(IPv6(nh=60, plen=65_000)), 1) + b"\x3c\0\0\0\0\0\0\0" * 8_100,
        bytes(12) + b"\x81\0\0\1" * 16_000,
    ],
    ids=["IP in IP", "IPv6 in IPv6", "extension headers", "tags"],
)
def test_endless_headers_are_given_up_soon(data, monkeypatch):
    given = []
    monkeypatch.setitem(packet._LINKS, 1, lambda head: (given.append(len(head)), dpkt.ethernet.Ethernet(head))[1])
    assert decode_packet(data) is None
    assert given == [packet.HEADERS]


def test_whatever_the_parser_raises_means_that_there_is_none(monkeypatch):
    def faulty(data):
        raise RecursionError

    monkeypatch.setitem(packet._LINKS, 1, faulty)
    assert decode_packet(b"") is None


def test_a_packet_cut_off_by_the_capture_gives_what_is_there():
    assert decode_packet(bytes(Ether() / V4 / DATA)[:-3]) == EXPECTED._replace(payload=b"migr")


@pytest.mark.parametrize(
    ("data", "link"),
    [
        (b"", 1),
        (b"", 101),
        (bytes(Ether() / ARP()), 1),
        (bytes(Ether() / V4 / UDP()), 1),
        (bytes(Ether() / V4 / DATA)[:40], 1),
        (bytes(Ether() / IP(src="10.0.0.3", dst="10.0.0.1", frag=7) / DATA), 1),
        (bytes(Ether() / V4 / DATA), 147),
    ],
    ids=["nothing", "no IP", "ARP", "UDP", "half a header", "fragment", "unknown link"],
)
def test_without_a_readable_tcp_packet_there_is_none(data, link):
    assert decode_packet(data, link) is None
