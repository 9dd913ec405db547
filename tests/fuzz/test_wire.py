# SPDX-License-Identifier: Apache-2.0
"""Whatever the bytes: accept, or raise the remote-error class, nothing else.

`BATON_FUZZ=100000 python -m pytest tests/fuzz` runs that many examples of each instead of a short round.
"""

import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vectors.suricata import RECORD

from controller.alerts.packet import AlertPacket, decode_packet
from controller.alerts.parser import AlertParser
from controller.core.errors import RemoteError
from controller.core.events import AlertRaised, BackendFailed
from controller.core.segment import Segment
from controller.wire.arp import ArpMessage, decode_arp, encode_arp
from controller.wire.bus import FrameReader, encode_frame
from controller.wire.classification import decode_classifications
from controller.wire.eve import EveAlert, decode_eve
from controller.wire.event_record import decode_event
from controller.wire.frame import decode_frame
from controller.wire.neighbour import NeighbourMessage, decode_neighbour, encode_neighbour, neighbour_request
from controller.wire.resegment import resegment
from controller.wire.segment import decode_segment, encode_segment
from controller.wire.snort_alert import (
    NATIVE_TIME_SIZE,
    OPEN_APP_ID_SIZE,
    USUAL_SIZE,
    SnortAlert,
    decode_snort_alert,
    encode_snort_alert,
)
from controller.wire.tcp_options import decode_options, encode_options
from tests.unit.wire.strategies import PAYLOADS, segments

ROUND = settings(
    max_examples=int(os.environ.get("BATON_FUZZ", "300")),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@st.composite
def damaged(draw, originals):
    """Bytes of a real message, with some of them changed, cut off, or put in."""
    data = bytearray(draw(originals))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        change = draw(st.sampled_from(("set", "cut", "insert", "delete")))
        if change == "set" and data:
            data[place] = draw(st.integers(0, 255))
        elif change == "cut":
            del data[place:]
        elif change == "insert":
            data[place:place] = draw(st.binary(max_size=12))
        else:
            del data[place : place + draw(st.integers(1, 8))]
    return bytes(data)


FRAMES = st.one_of(
    segments().map(encode_segment),
    st.builds(
        ArpMessage,
        st.sampled_from((1, 2)),
        *(st.just("02:00:00:00:00:01"), st.just("10.0.0.1")) * 2,
        *(st.just("02:00:00:00:00:01"),) * 2,
    ).map(encode_arp),
    st.just(encode_neighbour(neighbour_request("02:00:00:00:00:01", "fd00::1", "fd00::2"))),
)
BYTES = st.binary(max_size=200) | damaged(FRAMES)


def accepts(decode, data, *kinds):
    """What `decode` made of the bytes, one of `kinds`; None if it refused them as it may."""
    try:
        made = decode(data)
    except RemoteError:
        return None
    assert isinstance(made, kinds)
    return made


@ROUND
@given(BYTES)
def test_frames(data):
    accepts(decode_frame, data, Segment, ArpMessage, NeighbourMessage)
    accepts(decode_arp, data, ArpMessage)
    accepts(decode_neighbour, data, NeighbourMessage)
    segment = accepts(decode_segment, data, Segment)
    partial = accepts(lambda frame: decode_segment(frame, partial=True), data, Segment)
    if segment is not None:
        assert partial == segment
        again = decode_segment(encode_segment(segment))
        for name in (
            "src",
            "dst",
            "seq",
            "ack",
            "flags",
            "window",
            "options",
            "payload",
            "vlan",
            "ttl",
            "tos",
            "urgent",
        ):
            assert getattr(again, name) == getattr(segment, name)


@ROUND
@given(BYTES, st.integers(41, 70_000))
def test_resegmenting(data, mss):
    segment = accepts(decode_segment, data, Segment)
    try:
        frames = resegment(data, mss + 65_536)  # room for any headers
    except RemoteError:
        assert segment is None
        return
    if segment is not None:
        assert b"".join(decode_segment(frame).payload for frame in frames) == segment.payload


@ROUND
@given(st.binary(max_size=40) | damaged(segments().map(lambda segment: encode_options(segment.options))))
def test_tcp_options(data):
    try:
        options = decode_options(data[:40])
    except RemoteError:
        return
    assert decode_options(encode_options(options)) == options


@st.composite
def snort_datagrams(draw):
    """An alert of any build, its fields and packet damaged, its size perhaps wrong."""
    frame = draw(damaged(segments(PAYLOADS).map(encode_segment)))
    alert = SnortAlert("MIGRATE", 1, draw(st.integers(0, 9)), 1, 1, 1, 5.0, draw(st.booleans()), frame)
    data = bytearray(encode_snort_alert(alert, draw(st.sampled_from((USUAL_SIZE, OPEN_APP_ID_SIZE, NATIVE_TIME_SIZE)))))
    for start, end in ((0, 320), (65_820, len(data))):
        for place in draw(st.lists(st.integers(start, end - 1), max_size=4)):
            data[place] = draw(st.integers(0, 255))
    if draw(st.booleans()):
        del data[draw(st.integers(0, len(data))) :]
    return bytes(data) + bytes(draw(st.sampled_from((0, 0, 0, 1, 64))))


@ROUND
@given(st.binary(max_size=100) | snort_datagrams())
def test_snort_datagrams(data):
    accepts(decode_snort_alert, data, SnortAlert)
    accepts(lambda datagram: AlertParser().from_snort(datagram, 1.0), data, AlertRaised)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
EVE_KEYS = (
    *("timestamp", "event_type", "src_ip", "src_port", "dest_ip", "dest_port", "proto"),
    *("alert", "payload", "packet", "packet_info"),
)


@st.composite
def eve_lines(draw):
    """A record with some values replaced by anything JSON can say, then damaged as bytes."""
    record = dict(RECORD)
    for key in draw(st.lists(st.sampled_from(EVE_KEYS), max_size=3)):
        record[key] = draw(JSON)
    for key in draw(st.lists(st.sampled_from(tuple(RECORD["alert"])), max_size=2)):
        if isinstance(record["alert"], dict):
            record["alert"] = {**record["alert"], key: draw(JSON)}
    return json.dumps(record).encode()


@ROUND
@given(eve_lines() | damaged(eve_lines()) | JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=99))
def test_eve_lines(line):
    accepts(decode_eve, line, EveAlert, type(None))
    accepts(lambda text: AlertParser().from_eve(text, 1.0), line, AlertRaised, type(None))


@ROUND
@given(BYTES, st.sampled_from((0, 1, 12, 101, 113, 228, 229, 276, 999)))
def test_packets_of_alerts(data, link):
    packet = decode_packet(data, link)
    assert packet is None or isinstance(packet, AlertPacket)


@ROUND
@given(st.text() | st.text(alphabet="config las:,-123\n").map(lambda text: "config classification: " + text))
def test_classification_files(text):
    classes = decode_classifications(text)
    assert all(classes.by_number(number) for number in range(1, len(classes.names) + 1))


BUS_FRAMES = st.builds(
    BackendFailed, st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=9), st.text(max_size=9)
).map(encode_frame)


@ROUND
@given(st.binary(max_size=99) | damaged(BUS_FRAMES) | JSON.map(lambda value: json.dumps(value).encode()))
def test_bus_frames(data):
    accepts(FrameReader().feed, data, list)
    accepts(FrameReader().feed, len(data).to_bytes(4, "big") + data, list)
    accepts(decode_event, data, object)


@pytest.mark.parametrize("size", [0, 1, 4_095, USUAL_SIZE - 1, USUAL_SIZE + 1, 100_000, 1 << 20])
def test_datagrams_of_any_size(size):
    for octet in (b"\0", b"\xff", b"{"):
        assert accepts(lambda datagram: AlertParser().from_snort(datagram, 1.0), octet * size, AlertRaised) is None
