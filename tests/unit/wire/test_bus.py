# SPDX-License-Identifier: Apache-2.0
import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.errors import LocalError, RemoteError
from controller.core.events import AlertRaised, BackendFailed, ConnectionClosed
from controller.core.segment import ConnectionKey, Endpoint
from controller.wire.bus import LARGEST, FrameReader, encode_frame

KEY = ConnectionKey(Endpoint("10.0.0.3", 4000), Endpoint("fd00::1", 11111))
EVENTS = [
    BackendFailed(1.5, "server1", "no answer"),
    ConnectionClosed(2.0, KEY, 3, "fin"),
    AlertRaised(3.0, "suricata", 1, 1, 1, "MIGRATE", "c", 1, KEY.client, None, 7, b"\0\xff" * 30),
]


@given(st.lists(st.sampled_from(EVENTS), max_size=6), st.lists(st.integers(1, 300), min_size=1))
def test_events_survive_a_stream_cut_anywhere(events, sizes):
    stream = b"".join(map(encode_frame, events))
    reader, seen, at, turn = FrameReader(), [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        seen += reader.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert seen == events
    assert not reader.is_amid_frame


def test_a_large_event_in_the_usual_pieces():
    event = AlertRaised(3.0, "snort2", 1, 1, 1, "MIGRATE", "c", 1, KEY.client, None, 7, bytes(65_535))
    stream = encode_frame(event)
    reader = FrameReader()
    pieces = [stream[at : at + 65_536] for at in range(0, len(stream), 65_536)]
    assert [reader.feed(piece) for piece in pieces] == [[], [event]]


def test_a_stream_that_ends_amid_a_frame_is_told():
    reader = FrameReader()
    assert reader.feed(encode_frame(EVENTS[0])[:-1]) == []
    assert reader.is_amid_frame


@pytest.mark.parametrize(
    "data",
    [
        (LARGEST + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\0\0\2{}",
        b'\0\0\0\x1e{"event":"Nothing","schema":1}',
        encode_frame(EVENTS[0]).replace(b'"schema":1', b'"schema":2'),
        encode_frame(BackendFailed(10**400, "", "")),
    ],
)
def test_what_cannot_be_is_a_remote_error(data):
    with pytest.raises(RemoteError):
        FrameReader().feed(data)


def test_an_event_too_large_to_send_is_a_local_error():
    with pytest.raises(LocalError, match="BackendFailed of"):
        encode_frame(BackendFailed(1.0, "server1", "x" * LARGEST))
