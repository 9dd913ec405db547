# SPDX-License-Identifier: Apache-2.0
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.errors import RemoteError
from controller.wire.snort_alert import (
    NATIVE_TIME_SIZE,
    OPEN_APP_ID_SIZE,
    USUAL_SIZE,
    SnortAlert,
    decode_snort_alert,
    encode_snort_alert,
)
from tests.unit.wire.strategies import U32

ALERT = SnortAlert("MIGRATE", 1, 1_000_002, 3, 4, 5, 1_700_000_000.25, False, b"a packet")
SIZES = (USUAL_SIZE, OPEN_APP_ID_SIZE, NATIVE_TIME_SIZE)
ALERTS = st.builds(
    SnortAlert,
    st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=100).filter(lambda text: '"' not in text),
    U32,
    st.integers(1, (1 << 32) - 1),
    U32,
    U32,
    U32,
    st.integers(0, (1 << 32) - 1).map(float),
    st.booleans(),
    st.binary(max_size=65_535),
)


@given(ALERTS, st.sampled_from(SIZES))
def test_an_alert_survives_the_round_trip_of_every_build(alert, size):
    datagram = encode_snort_alert(alert, size)
    assert len(datagram) == size
    assert decode_snort_alert(datagram) == alert
    assert decode_snort_alert(memoryview(datagram)) == alert


def test_the_usual_layout_is_snorts_own():
    # a build of the C structure: message, pcap header, offsets, packet, padding, event
    fields = (b"MIGRATE", 1_700_000_000, 250_000, 8, 8, 0, 14, 34, 54, 0, b"a packet")
    event = (1, 1_000_002, 3, 4, 5, 1, 1, 1_700_000_000, 250_000)
    assert decode_snort_alert(struct.pack("=256s9I65535sx9I", *fields, *event)) == ALERT


def test_a_build_with_the_c_librarys_own_times_is_read():
    head = struct.pack("=256sqqII5I", b"MIGRATE", 1_700_000_000, 250_000, 8, 8, 0, 14, 34, 54, 0)
    event = struct.pack("=7I4xqq", 1, 1_000_002, 3, 4, 5, 1, 1, 1_700_000_000, 250_000)
    datagram = (head + b"a packet").ljust(65_840, b"\0") + event
    assert decode_snort_alert(datagram) == ALERT


def test_without_a_packet_the_time_is_the_events():
    alert = replace(ALERT, packet=b"", raised_at=1_600_000_000.5)
    datagram = bytearray(encode_snort_alert(alert))
    struct.pack_into("=II", datagram, 256, 7, 7)
    assert decode_snort_alert(datagram) == alert


@pytest.mark.parametrize(("raw", "message", "is_snort3"), [
    (b'"MIGRATE"', "MIGRATE", True),
    (b"MIGRATE", "MIGRATE", False),
    (b'"', '"', False),
    (b'""', "", True),
    (b"", "", False),
    (b"\xff\xfe", "\ufffd\ufffd", False),
    (b"x" * 256, "x" * 256, False),
])  # fmt: skip
def test_quotes_tell_snort_3(raw, message, is_snort3):
    datagram = bytearray(encode_snort_alert(ALERT))
    datagram[:256] = raw.ljust(256, b"\0")
    alert = decode_snort_alert(datagram)
    assert (alert.message, alert.is_snort3) == (message, is_snort3)


@pytest.mark.parametrize("size", [0, 1, 36, USUAL_SIZE - 1, USUAL_SIZE + 1, NATIVE_TIME_SIZE + 1, OPEN_APP_ID_SIZE + 1])
def test_any_other_size_is_a_remote_error(size):
    with pytest.raises(RemoteError, match=f"datagram of {size} bytes"):
        decode_snort_alert(bytes(size))


def test_a_packet_longer_than_its_room_is_a_remote_error():
    datagram = bytearray(encode_snort_alert(ALERT))
    struct.pack_into("=I", datagram, 264, 65_536)
    with pytest.raises(RemoteError, match="65536 bytes"):
        decode_snort_alert(datagram)


def test_an_alert_of_no_rule_is_a_remote_error():
    with pytest.raises(RemoteError, match="no rule"):
        decode_snort_alert(bytes(USUAL_SIZE))
