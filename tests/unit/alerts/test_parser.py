# SPDX-License-Identifier: Apache-2.0
import json
from base64 import b64encode
from dataclasses import replace

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from vectors.suricata import RECORD

from controller.alerts.parser import AlertParser
from controller.core.errors import RemoteError
from controller.core.events import AlertRaised
from controller.core.segment import Endpoint
from controller.wire.classification import decode_classifications
from controller.wire.snort_alert import SnortAlert, encode_snort_alert

CLASSES = decode_classifications("config classification: connection-migration,Move it,1\n")
PARSER = AlertParser(lambda: CLASSES)
PACKET = bytes(Ether() / IP(src="10.0.0.3", dst="10.0.0.1") / TCP(sport=4000, dport=11111, seq=77) / b"migrate")
DATAGRAM = bytes(Ether() / IP(src="10.0.0.3", dst="10.0.0.1") / UDP(sport=4000, dport=11111) / b"migrate")
SNORT = SnortAlert("MIGRATE", 1, 1_000_002, 3, 1, 2, 99.5, False, PACKET)
EXPECTED = AlertRaised(
    12.5,
    "snort2",
    1_000_002,
    1,
    3,
    "MIGRATE",
    "connection-migration",
    2,
    Endpoint("10.0.0.3", 4000),
    Endpoint("10.0.0.1", 11111),
    77,
    b"migrate",
    99.5,
)


def eve(packet=PACKET, **changes):
    record = {
        **RECORD,
        "timestamp": "1970-01-01T00:01:39.500000+0000",
        "alert": {**RECORD["alert"], "rev": 3, "category": "Move it", "severity": 2},
        "packet": b64encode(packet).decode(),
    }
    return json.dumps({**record, **changes}).encode()


def test_the_same_event_whichever_engine_spoke():
    assert PARSER.from_snort(encode_snort_alert(SNORT), 12.5) == EXPECTED
    snort3 = encode_snort_alert(replace(SNORT, is_snort3=True))
    assert PARSER.from_snort(snort3, 12.5) == replace(EXPECTED, engine="snort3")
    assert PARSER.from_eve(eve(), 12.5) == replace(EXPECTED, engine="suricata")


@pytest.mark.parametrize("packet", [b"", DATAGRAM], ids=["none", "UDP"])
def test_a_snort_alert_without_a_tcp_packet_names_no_ends(packet):
    event = PARSER.from_snort(encode_snort_alert(replace(SNORT, packet=packet)), 12.5)
    assert event == replace(EXPECTED, src=None, dst=None, seq=None, payload=b"")


@pytest.mark.parametrize(("src_port", "packet"), [(4001, PACKET), (4000, b"")], ids=["another's packet", "no packet"])
def test_eve_names_the_ends_and_a_packet_of_theirs_alone_adds_to_them(src_port, packet):
    event = PARSER.from_eve(eve(packet, src_port=src_port, payload=b64encode(b"stream").decode()), 12.5)
    assert (event.src.port, event.seq, event.payload) == (src_port, None, b"stream")


def test_eve_events_that_are_no_alerts_give_nothing():
    assert PARSER.from_eve(b'{"event_type":"stats"}', 1.0) is None


def test_without_classes_there_is_no_name():
    assert AlertParser().from_snort(encode_snort_alert(SNORT), 12.5).classtype == ""
    assert AlertParser().from_eve(eve(), 12.5).classtype == "Move it"


def test_garbage_is_a_remote_error():
    for parse in (PARSER.from_snort, PARSER.from_eve):
        with pytest.raises(RemoteError):
            parse(b"garbage", 1.0)
