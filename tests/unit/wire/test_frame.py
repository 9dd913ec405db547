# SPDX-License-Identifier: Apache-2.0
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from controller.core.errors import RemoteError
from controller.wire.arp import decode_arp
from controller.wire.frame import decode_frame
from controller.wire.neighbour import encode_neighbour, neighbour_request
from controller.wire.segment import decode_segment


def test_each_kind_goes_to_its_codec():
    tcp = bytes(Ether() / Dot1Q(vlan=7) / IP(dst="10.0.0.1") / TCP() / b"x")
    arp = bytes(Ether(dst="ff:ff:ff:ff:ff:ff") / ARP(pdst="10.0.0.1"))
    request = neighbour_request("02:00:00:00:00:03", "fd00::1")
    assert decode_frame(tcp) == decode_segment(tcp)
    assert decode_frame(arp) == decode_arp(arp)
    assert decode_frame(encode_neighbour(request)) == request


@pytest.mark.parametrize("frame", [b"", bytes(60), bytes(Ether() / IP(dst="10.0.0.1") / UDP())])
def test_any_other_is_a_remote_error(frame):
    with pytest.raises(RemoteError):
        decode_frame(frame)
