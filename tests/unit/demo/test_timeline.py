# SPDX-License-Identifier: Apache-2.0
"""Journal and client's report become one story in milliseconds."""

from demo import timeline

REPORT = {
    "address": "10.0.0.1",
    "port": 11111,
    "local_port": 40000,
    "connecting": 10.0,
    "connected": 10.001,
    "exchanges": [
        {"request": "migrate", "server": "server2", "sent": 10.002, "first_byte": 10.010},
        {"request": "unanswered", "server": "", "sent": 10.1, "first_byte": 0.0},
    ],
}
RECORDS = [
    {"event": "AlertRaised", "time": 10.003, "message": "MIGRATE", "sid": 1, "engine": "suricata"},
    {"event": "TargetEstablished", "time": 10.005, "target": "server2"},
    {
        "event": "MigrationCompleted",
        "time": 10.006,
        "origin": "server1",
        "target": "server2",
        "client_delta": 3,
        "server_delta": (1 << 32) - 5,
    },
    {"event": "SwitchConnected", "time": 9.0},
]


def test_rows_are_in_order_and_count_from_the_connect():
    rows = timeline.tell(REPORT, RECORDS)
    assert [round(row.time * 1000) for row in rows] == [0, 1, 2, 3, 5, 6, 10, 100]
    assert [row.who for row in rows] == [*["client"] * 3, "analyser", "controller", "controller", "client", "client"]
    assert "first byte from server2, 8.0 ms after the request" in rows[6].what


def test_deltas_are_told_the_shorter_way_round():
    (row,) = [row for row in timeline.tell(REPORT, RECORDS) if "cutover" in row.what]
    assert "client's numbers +3, server's -5" in row.what


def test_the_parts_of_the_hand_off():
    parts = timeline.handoff(REPORT, RECORDS)
    assert {name: round(took, 3) for name, took in parts.items()} == {
        "request to alert (the analyser's part)": 1.0,
        "alert to established target": 2.0,
        "alert to cutover": 3.0,
        "alert to the target's first byte at the client": 7.0,
        "request to first byte": 8.0,
    }


def test_what_did_not_happen_is_not_told():
    assert timeline.handoff({"exchanges": []}, []) == {}
    assert "alert to cutover" not in timeline.handoff(REPORT, RECORDS[:1])
