# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.layers.l2 import ARP, Dot1Q, Ether

from controller.core.errors import LocalError, RemoteError
from controller.wire.arp import (
    BROADCAST,
    NO_MAC,
    REPLY,
    REQUEST,
    ArpMessage,
    arp_reply,
    arp_request,
    decode_arp,
    encode_arp,
)
from tests.unit.wire.strategies import MACS, addresses

MESSAGES = st.builds(
    ArpMessage,
    st.sampled_from((REQUEST, REPLY)),
    MACS,
    addresses(4),
    MACS,
    addresses(4),
    MACS,
    MACS,
    st.none() | st.integers(0, 4095),
)


@given(MESSAGES)
def test_a_message_survives_the_round_trip_and_an_oracle_reads_the_same(message):
    frame = encode_arp(message)
    assert len(frame) >= 60
    assert decode_arp(frame) == message
    arp = Ether(frame)[ARP]
    assert (arp.op, arp.hwsrc, arp.psrc, arp.hwdst, arp.pdst) == (
        message.operation,
        message.sender_mac,
        message.sender,
        message.target_mac,
        message.target,
    )


def test_a_request_asks_everybody():
    request = arp_request("02:00:00:00:00:09", "10.0.0.1", "10.0.0.9", vlan=5)
    assert (request.eth_dst, request.target_mac, request.vlan) == (BROADCAST, NO_MAC, 5)
    assert not request.is_probe
    assert arp_request("02:00:00:00:00:09", "10.0.0.1").is_probe


def test_a_reply_goes_back_to_who_asked():
    request = arp_request("02:00:00:00:00:03", "10.0.0.1", "10.0.0.3", vlan=5)
    reply = arp_reply(request, "02:00:00:00:00:01")
    assert reply == ArpMessage(
        REPLY,
        "02:00:00:00:00:01",
        "10.0.0.1",
        "02:00:00:00:00:03",
        "10.0.0.3",
        "02:00:00:00:00:01",
        "02:00:00:00:00:03",
        5,
    )
    assert not reply.is_probe


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (bytes(Ether() / IP(dst="10.0.0.1")), "not ARP"),
        (bytes(Ether(dst=BROADCAST) / ARP())[:41], "ends inside"),
        (bytes(Ether(dst=BROADCAST) / Dot1Q(vlan=1) / ARP())[:45], "ends inside"),
        (
            bytes(Ether(dst=BROADCAST) / ARP(hwtype=6, hwlen=6, plen=4) / bytes(20)),
            "other addresses",
        ),
        (bytes(Ether(dst=BROADCAST) / ARP(hwlen=8) / bytes(20)), "other addresses"),
        (bytes(Ether(dst=BROADCAST) / ARP(op=3)), "operation 3"),
    ],
)
def test_anything_else_is_a_remote_error(frame, reason):
    with pytest.raises(RemoteError, match=reason):
        decode_arp(frame)


@pytest.mark.parametrize("change", [{"sender": "fd00::1"}, {"target": "fd00::1"}, {"operation": 3}, {"vlan": 4096}])
def test_an_impossible_field_is_a_local_error(change):
    with pytest.raises(LocalError):
        encode_arp(replace(arp_request("02:00:00:00:00:09", "10.0.0.1"), **change))
