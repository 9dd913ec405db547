# SPDX-License-Identifier: Apache-2.0
"""Packet-ins as events, packet-outs as frames."""

from __future__ import annotations

from dataclasses import replace

import pytest

from controller.core.commands import AnswerHost, Output, PacketOut, ResolveHost
from controller.core.events import HostLocated, SegmentReceived
from controller.core.pipeline import RESOLVER_MAC
from controller.core.segment import ACK, PSH, Endpoint, Segment
from controller.openflow import packets
from controller.wire.arp import arp_reply, arp_request, decode_arp, encode_arp
from controller.wire.frame import decode_frame
from controller.wire.neighbour import decode_neighbour, encode_neighbour, neighbour_reply, neighbour_request
from controller.wire.segment import decode_segment, encode_segment

MAC = "02:00:00:00:00:07"
OTHER = "02:00:00:00:00:01"
SEGMENT = Segment(Endpoint("10.0.0.3", 40_000), Endpoint("10.0.0.1", 80), 1, 2, ACK | PSH, 500, payload=b"x" * 3000)
OUT = (Output(1),)


def test_a_segment_becomes_an_event():
    frame = encode_segment(SEGMENT)
    event = packets.event_of(1, 4, 99, packets.decode_packet(frame, len(frame)))
    assert isinstance(event, SegmentReceived)
    assert (event.switch, event.port, event.cookie) == (1, 4, 99)
    assert event.segment.payload == SEGMENT.payload


def test_of_a_packet_too_long_for_a_message_the_beginning_is_kept():
    frame = encode_segment(SEGMENT)
    packet = packets.decode_packet(frame[:1000], len(frame))
    assert isinstance(packet, Segment)
    assert packet.payload == SEGMENT.payload[: 1000 - 54]


@pytest.mark.parametrize("frame", [b"", bytes(60), encode_segment(SEGMENT)[:40]])
def test_what_is_not_for_us_is_nothing(frame):
    assert packets.decode_packet(frame, len(frame)) is None
    assert packets.event_of(1, 4, 0, None) is None


@pytest.mark.parametrize(
    ("frame", "located"),
    [
        (encode_arp(arp_request(MAC, "10.0.0.1", "10.0.0.3")), ("10.0.0.3", MAC, "10.0.0.1")),
        (encode_arp(arp_request(MAC, "10.0.0.1", "10.0.0.3", 9)), ("10.0.0.3", MAC, "10.0.0.1", 9)),
        (encode_arp(arp_reply(arp_request(RESOLVER_MAC, "10.0.0.1"), MAC)), ("10.0.0.1", MAC)),
        (encode_neighbour(neighbour_request(MAC, "fd00::1", "fd00::3", 9)), ("fd00::3", MAC, "fd00::1", 9)),
        (encode_neighbour(neighbour_reply(neighbour_request(RESOLVER_MAC, "fd00::1"), MAC)), ("fd00::1", MAC)),
    ],
)
def test_hosts_are_located_by_what_they_say_of_themselves(frame, located):
    packet = packets.decode_packet(frame, len(frame))
    assert packets.event_of(1, 4, 0, packet) == HostLocated(1, 4, *located)


@pytest.mark.parametrize(
    "frame", [encode_arp(arp_request(MAC, "10.0.0.1")), encode_neighbour(neighbour_request(MAC, "fd00::1"))]
)
def test_a_probe_locates_nobody(frame):
    assert packets.event_of(1, 4, 0, packets.decode_packet(frame, len(frame))) is None


def test_a_frame_goes_out_as_it_is():
    assert packets.frames_of(PacketOut(1, b"frame", OUT)) == [b"frame"]


def test_a_segment_is_encoded():
    (frame,) = packets.frames_of(PacketOut(1, SEGMENT, OUT))
    assert decode_segment(frame).payload == SEGMENT.payload


@pytest.mark.parametrize("packet", [SEGMENT, encode_segment(SEGMENT)], ids=["segment", "frame"])
def test_a_long_payload_is_cut_to_the_mss(packet):
    frames = packets.frames_of(PacketOut(1, packet, OUT, mss=1460))
    pieces = [decode_segment(frame) for frame in frames]
    assert [len(piece.payload) for piece in pieces] == [1460, 1460, 80]
    assert b"".join(piece.payload for piece in pieces) == SEGMENT.payload


def test_a_short_segment_is_not_cut():
    segment = replace(SEGMENT, payload=b"short")
    assert packets.frames_of(PacketOut(1, segment, OUT, mss=1460)) == [encode_segment(segment)]


def test_hosts_are_asked_for_without_changing_anybodys_tables():
    arp = decode_arp(packets.encode_question(ResolveHost(1, "10.0.0.9")))
    assert arp.is_probe
    assert (arp.target, arp.eth_src, arp.eth_dst) == ("10.0.0.9", RESOLVER_MAC, "ff:ff:ff:ff:ff:ff")
    neighbour = decode_neighbour(packets.encode_question(ResolveHost(1, "fd00::9")))
    assert neighbour.is_probe
    assert neighbour.target == "fd00::9"
    assert decode_frame(packets.encode_question(ResolveHost(1, "fd00::9"))) == neighbour


@pytest.mark.parametrize("address", ["10.0.0.9", "fd00::9"])
def test_hosts_are_asked_for_on_their_vlan(address):
    assert decode_frame(packets.encode_question(ResolveHost(1, address, 42))).vlan == 42


def test_an_answer_is_the_one_that_the_host_would_give():
    arp = decode_arp(packets.encode_answer(AnswerHost(1, 3, "10.0.0.1", OTHER, "10.0.0.3", MAC, 42)))
    assert arp == arp_reply(arp_request(MAC, "10.0.0.1", "10.0.0.3", 42), OTHER)
    neighbour = decode_neighbour(packets.encode_answer(AnswerHost(1, 3, "fd00::1", OTHER, "fd00::3", MAC)))
    assert (neighbour.target, neighbour.mac, neighbour.dst) == ("fd00::1", OTHER, "fd00::3")
    assert (neighbour.eth_src, neighbour.eth_dst) == (OTHER, MAC)
