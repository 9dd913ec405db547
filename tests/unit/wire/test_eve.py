# SPDX-License-Identifier: Apache-2.0
import json

import pytest
from vectors.suricata import RECORD

from controller.core.errors import RemoteError
from controller.core.segment import Endpoint
from controller.wire.eve import EveAlert, decode_eve


def line(**changes):
    return json.dumps({**RECORD, **changes}).encode()


def alert_line(**changes):
    return line(alert={**RECORD["alert"], **changes})


def test_an_alert_with_everything():
    alert = decode_eve(line())
    assert alert == EveAlert(
        "MIGRATE",
        1,
        1000002,
        2,
        "Move the connection to another server",
        1,
        1795182591.545346,
        Endpoint("10.0.0.3", 4000),
        Endpoint("10.0.0.1", 11111),
        b"migrate",
        alert.packet,
        1,
    )
    assert alert.packet.endswith(b"migrate")


def test_an_alert_with_the_least():
    least = {"event_type": "alert", "timestamp": RECORD["timestamp"], "alert": {"signature_id": 7}}
    alert = decode_eve(json.dumps(least))
    assert (alert.sid, alert.gid, alert.message, alert.src, alert.payload, alert.link) == (7, 1, "", None, b"", 1)


def test_ipv6_addresses_become_canonical():
    alert = decode_eve(line(src_ip="fd00:0000:0000:0000:0000:0000:0000:0001"))
    assert alert.src == Endpoint("fd00::1", 4000)


def test_other_protocols_have_no_ends():
    alert = decode_eve(line(proto="UDP"))
    assert (alert.src, alert.dst) == (None, None)


@pytest.mark.parametrize("kind", ["flow", "stats", "http"])
def test_other_events_are_passed_over(kind):
    assert decode_eve(json.dumps({"event_type": kind})) is None


def test_halves_of_characters_are_replaced():
    assert decode_eve(alert_line(signature="a\ud800b")).message == "a?b"


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"{}",
        b'"alert"',
        b"\xff",
        b"[" * 100_000,
        b'{"event_type": 7}',
        b"9" * 5_000,
        line(alert=7),
        line(alert={}),
        alert_line(signature_id=-1),
        alert_line(signature_id=1 << 32),
        alert_line(signature_id="7"),
        alert_line(signature_id=True),
        alert_line(signature=7),
        line(timestamp="soon"),
        line(timestamp=7),
        line(timestamp="0001-01-01T00:00:00"),
        line(proto=6),
        line(src_ip="somewhere"),
        line(src_ip=7),
        line(src_port=65_536),
        line(src_port=None),
        line(payload="@@@@"),
        line(payload="YQ"),
        line(payload="é"),
        line(packet=7),
        line(packet_info=7),
        line(packet_info={"linktype": "Ethernet"}),
    ],
)
def test_anything_else_is_a_remote_error(text):
    with pytest.raises(RemoteError):
        decode_eve(text)
