# SPDX-License-Identifier: Apache-2.0
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback

from controller.alerts.packet import AlertPacket, decode_packet
from controller.core.segment import Endpoint

V4 = IP(src="10.0.0.3", dst="10.0.0.1")
V6 = IPv6(src="fd00::3", dst="fd00::1")
DATA = TCP(sport=4000, dport=11111, seq=77, flags="PA") / b"migrate"
EXPECTED = AlertPacket(Endpoint("10.0.0.3", 4000), Endpoint("10.0.0.1", 11111), 77, b"migrate")
EXPECTED6 = AlertPacket(Endpoint("fd00::3", 4000), Endpoint("fd00::1", 11111), 77, b"migrate")


@pytest.mark.parametrize(
    ("packet", "link", "expected"),
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
def test_the_tcp_packet_is_found_behind_every_link_layer(packet, link, expected):
    assert decode_packet(bytes(packet), link) == expected


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
