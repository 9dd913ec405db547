# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import Ether

from controller.core.errors import LocalError, RemoteError
from controller.wire.neighbour import (
    ADVERTISEMENT,
    OVERRIDE,
    SOLICITATION,
    SOLICITED,
    NeighbourMessage,
    decode_neighbour,
    encode_neighbour,
    neighbour_reply,
    neighbour_request,
)
from tests.unit.wire.strategies import MACS, U8, addresses

ETHER = Ether(src="02:00:00:00:00:03", dst="33:33:ff:00:00:01")
LINK = IPv6(src="fd00::3", dst="ff02::1:ff00:1", hlim=255)
UNICAST = addresses(16).filter(lambda address: not address.startswith("ff"))


@st.composite
def messages(draw):
    kind = draw(st.sampled_from((SOLICITATION, ADVERTISEMENT)))
    return NeighbourMessage(
        kind,
        draw(addresses(16)),
        draw(addresses(16)),
        draw(UNICAST),
        draw(st.none() | MACS),
        draw(MACS),
        draw(MACS),
        draw(U8) if kind == ADVERTISEMENT else 0,
        draw(st.none() | st.integers(0, 4095)),
    )


@given(messages())
def test_a_message_survives_the_round_trip(message):
    assert decode_neighbour(encode_neighbour(message)) == message


def test_an_oracle_writes_the_same_solicitation():
    request = neighbour_request("02:00:00:00:00:03", "fd00::1", "fd00::3")
    oracle = ETHER / LINK / ICMPv6ND_NS(tgt="fd00::1") / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:03")
    assert encode_neighbour(request) == bytes(oracle)


def test_an_oracle_writes_the_same_advertisement():
    request = neighbour_request("02:00:00:00:00:03", "fd00::1", "fd00::3")
    oracle = (
        Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:03")
        / IPv6(src="fd00::1", dst="fd00::3", hlim=255)
        / ICMPv6ND_NA(tgt="fd00::1", R=0, S=1, O=1)
        / ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:01")
    )
    assert encode_neighbour(neighbour_reply(request, "02:00:00:00:00:01")) == bytes(oracle)


def test_a_probe_names_no_sender_and_is_answered_to_all():
    probe = neighbour_request("02:00:00:00:00:03", "fd00::1")
    assert probe.is_probe
    assert probe.mac is None
    reply = neighbour_reply(probe, "02:00:00:00:00:01")
    assert (reply.dst, reply.eth_dst, reply.flags, reply.is_probe) == ("ff02::1", "33:33:00:00:00:01", OVERRIDE, False)


def test_an_asker_that_leaves_its_address_out_is_answered_by_the_frame():
    request = replace(neighbour_request("02:00:00:00:00:03", "fd00::1", "fd00::3"), mac=None)
    reply = neighbour_reply(request, "02:00:00:00:00:01")
    assert (reply.eth_dst, reply.flags) == ("02:00:00:00:00:03", SOLICITED | OVERRIDE)


def test_other_options_are_passed_over():
    frame = bytes(
        ETHER / LINK / ICMPv6ND_NS(tgt="fd00::1") / ICMPv6NDOptMTU() / ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:07")
    )
    assert decode_neighbour(frame).mac == "02:00:00:00:00:07"


REFUSED = {
    "nothing": (b"", "Ethernet"),
    "IPv4": (bytes(ETHER / IP(proto=58) / bytes(24)), "not a neighbour"),
    "TCP": (bytes(ETHER / LINK / TCP() / bytes(20)), "not a neighbour"),
    "short": (bytes(ETHER / IPv6(src="fd00::3", dst="fd00::1", nh=58, hlim=255) / bytes(23)), "not a neighbour"),
    "echo": (bytes(ETHER / LINK / ICMPv6EchoRequest(data=bytes(20))), "type 128"),
    "code": (bytes(ETHER / LINK / ICMPv6ND_NS(tgt="fd00::1", code=1)), "code 1"),
    "routed": (bytes(ETHER / IPv6(src="fd00::3", dst="fd00::1", hlim=254) / ICMPv6ND_NS(tgt="fd00::1")), "beyond"),
    "checksum": (bytes(ETHER / LINK / ICMPv6ND_NS(tgt="fd00::1", cksum=1)), "checksum"),
    "multicast": (bytes(ETHER / LINK / ICMPv6ND_NS(tgt="ff02::1")), "multicast"),
    "option of no length": (bytes(ETHER / LINK / ICMPv6ND_NS(tgt="fd00::1") / b"\1\0\0\0\0\0\0\0"), "overruns"),
    "option too long": (bytes(ETHER / LINK / ICMPv6ND_NS(tgt="fd00::1") / b"\1\2\0\0\0\0\0\0"), "overruns"),
    "half an option": (bytes(ETHER / LINK / ICMPv6ND_NS(tgt="fd00::1") / b"\1"), "overruns"),
}


@pytest.mark.parametrize(("frame", "reason"), REFUSED.values(), ids=REFUSED)
def test_anything_else_is_a_remote_error(frame, reason):
    with pytest.raises(RemoteError, match=reason):
        decode_neighbour(frame)


@pytest.mark.parametrize(
    "change", [{"src": "10.0.0.1"}, {"target": "10.0.0.1"}, {"kind": 133}, {"flags": 256}, {"mac": "02"}]
)
def test_an_impossible_field_is_a_local_error(change):
    with pytest.raises(LocalError):
        encode_neighbour(replace(neighbour_request("02:00:00:00:00:03", "fd00::1"), **change))
