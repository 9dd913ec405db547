# SPDX-License-Identifier: Apache-2.0
"""Sightings become steps: who sent a segment, where it went, who got a copy."""

from dataclasses import replace

from demo.capture import TcpPacket
from demo.openflow_log import Message
from demo.steps import Step, fold, join, relative

CLIENT, ORIGIN, TARGET = "10.0.0.3:40000", "10.0.0.1:11111", "10.0.0.2:22222"
SYN, RST, PSH, ACK = 2, 4, 8, 16
PORTS = {"1": "server1", "2": "server2", "3": "client", "4": "analyser"}


def packet(time, place, inward, src, dst, seq, ack, flags, payload=b""):
    return TcpPacket(time, place, inward, src, dst, seq % (1 << 32), ack % (1 << 32), flags, payload)


def steps_of(packets, messages=(), records=()):
    return join(packets, list(messages), records, CLIENT, PORTS, clock_offset=0.0)


def test_a_forwarded_segment_is_one_step_through_the_switch():
    syn = packet(1.0, "client", True, CLIENT, ORIGIN, 1000, 0, SYN)
    (step,) = steps_of([syn, replace(syn, time=1.001, place="server1", inward=False)])
    assert (step.path, step.label, step.kind) == (("client", "switch", "server1"), "SYN", "segment")
    assert step.numbers == ("seq 0", "")


def test_a_punted_segment_ends_at_the_controller():
    syn = packet(1.0, "client", True, CLIENT, ORIGIN, 1000, 0, SYN)
    (step,) = steps_of([syn], [Message("packet-in", replace(syn, place="controller"))])
    assert step.path == ("client", "switch", "controller")


def test_what_the_controller_sends_begins_there_and_flow_changes_lie_between():
    came = packet(1.0, "client", True, CLIENT, ORIGIN, 1000, 0, SYN)
    sent = packet(1.004, "server2", False, CLIENT, TARGET, 1000, 0, SYN)
    messages = [
        Message("packet-in", replace(came, place="controller")),
        Message("flow-mod", text="ADD table:1 tcp,tp_src=40000,tp_dst=11111 actions=drop"),
        Message("flow-mod", text="ADD table:1 tcp,tp_src=40001,tp_dst=11111 actions=drop"),
        Message("packet-out", replace(sent, place="controller"), "in_port=CONTROLLER actions=output:2"),
    ]
    steps = steps_of([came, sent], messages)
    assert [step.path for step in steps] == [
        ("client", "switch", "controller"),
        ("controller", "switch"),
        ("controller", "switch", "server2"),
    ]
    assert [step.kind for step in steps] == ["segment", "flows", "made"]
    assert steps[1].label == "1 flow change"
    assert 1.0 < steps[1].time < 1.004


def test_a_segment_out_of_the_table_is_known_by_its_content():
    held = packet(2.0, "controller", True, CLIENT, ORIGIN, 1001, 1, PSH | ACK, b"migrate\n")
    left = packet(2.0, "server2", False, CLIENT, TARGET, 1001, 999, PSH | ACK, b"migrate\n")
    (step,) = steps_of([left], [Message("packet-out", held, "in_port=3 actions=TABLE")])
    assert (step.path, step.kind) == (("controller", "switch", "server2"), "made")


def test_copies_are_told_from_the_way():
    data = packet(1.0, "client", True, CLIENT, ORIGIN, 1001, 1, PSH | ACK, b"hello\n")
    seen = [data, replace(data, time=1.001, place="server1", inward=False)]
    seen += [replace(data, time=1.002, place="analyser", inward=False)]
    (step,) = steps_of(seen, [Message("packet-in", replace(data, place="controller"))])
    assert step.path == ("client", "switch", "server1")
    assert step.copies == ("controller", "analyser")


def test_pure_acknowledgements_are_told_apart_by_the_shift_of_the_data():
    shift = 5_000
    answer = packet(1.0, "server2", True, TARGET, CLIENT, 10, 1001, PSH | ACK, b"answer")
    acks = [packet(1.1 + n / 100, "client", True, CLIENT, ORIGIN, 1001, 10 + shift + n, ACK) for n in range(3)]
    out = [
        replace(p, time=p.time + 0.2, place="server2", inward=False, dst=TARGET, ack=p.ack - shift) for p in acks[1:]
    ]
    arrived = replace(answer, time=1.001, place="client", inward=False, src=ORIGIN, seq=answer.seq + shift)
    steps = steps_of([answer, arrived, *acks, *out])
    assert [step.path for step in steps] == [
        ("server2", "switch", "client"),
        ("client", "switch"),
        ("client", "switch", "server2"),
        ("client", "switch", "server2"),
    ]


def test_a_shift_that_wraps_around_is_the_same_shift():
    request = packet(1.0, "client", True, CLIENT, ORIGIN, -2, 7, PSH | ACK, b"ask")
    asked = replace(request, time=1.001, place="server2", inward=False, dst=TARGET, seq=3)
    ack = packet(1.01, "server2", True, TARGET, CLIENT, 7, 6, ACK)
    acked = replace(ack, time=1.011, place="client", inward=False, src=ORIGIN, ack=1)
    assert [step.path for step in steps_of([request, asked, ack, acked])] == [
        ("client", "switch", "server2"),
        ("server2", "switch", "client"),
    ]


def test_a_retransmission_says_so():
    data = packet(1.0, "client", True, CLIENT, ORIGIN, 1001, 1, PSH | ACK, b"hello")
    first, second = steps_of([data, replace(data, time=1.3)])
    assert "(again)" not in first.label
    assert "(again)" in second.label


def test_of_a_held_segment_and_its_retransmission_the_later_one_came_through():
    data = packet(1.0, "client", True, CLIENT, ORIGIN, 1001, 1, PSH | ACK, b"hello")
    again = replace(data, time=1.2)
    out = replace(data, time=1.201, place="server2", inward=False, dst=TARGET)
    steps = steps_of([data, again, out], [Message("packet-in", replace(data, place="controller"))])
    assert [step.path for step in steps] == [("client", "switch", "controller"), ("client", "switch", "server2")]


def test_other_connections_are_left_out():
    other = packet(1.0, "client", True, "10.0.0.3:40001", ORIGIN, 1, 0, SYN)
    record = {"event": "ConnectionOpened", "time": 1.0, "connection": f"10.0.0.3:40001>{ORIGIN}", "origin": "x"}
    assert steps_of([other], [Message("packet-in", other)], [record]) == []


def test_the_journal_gives_notes_and_alerts():
    records = [
        {"event": "AlertRaised", "time": 2.0, "src": CLIENT, "dst": ORIGIN, "message": "MIGRATE", "sid": 7},
        {"event": "AlertRaised", "time": 2.1, "src": ORIGIN, "dst": CLIENT, "message": "ECHO", "sid": 8},
        {"event": "MigrationStarted", "time": 3.0, "connection": f"{CLIENT}>{ORIGIN}", "target": "server2"},
        {"event": "SwitchConnected", "time": 1.0, "switch": 1},
    ]
    steps = join([], [], records, CLIENT, PORTS, clock_offset=100.0)
    assert steps == [
        Step(102.0, ("analyser", "controller"), "alert: MIGRATE (sid 7)", "alert"),
        Step(103.0, ("controller",), "migration to server2 begins", "note"),
    ]


def test_long_runs_are_folded_and_nothing_else():
    down, up = ("server2", "switch", "client"), ("client", "switch", "server2")
    syn = Step(0.0, up, "SYN", "segment")
    run = [Step(1 + n / 1000, down if n % 2 else up, "x", "segment", bytes=100 * (n % 2)) for n in range(10)]
    later = Step(2.0, up, "later", "segment")
    folded = fold([syn, *run, later])
    assert folded[:3] == [syn, *run[:2]]
    assert folded[3].label == "8 more segments, 400 B"
    assert folded[3].path == down
    assert folded[4:] == [later]
    assert fold([syn, *run[:4], later]) == [syn, *run[:4], later]


def test_relative_times_begin_at_zero():
    steps = [Step(5.0, ("client",), "a", "note"), Step(5.5, ("client",), "b", "note")]
    assert [step.time for step in relative(steps)] == [0.0, 0.5]
    assert relative([]) == []
