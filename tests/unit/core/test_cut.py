# SPDX-License-Identifier: Apache-2.0
"""Moving a connection that is served: stop, measure, change over, go on; and undoing it at each step."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, DROP, FORWARD, GO_BACK, MACS, MIGRATE, ORIGIN, PORTS, TARGET, Demo, alert
from simulation.observe import KEY, OBSERVE, THIRD, connection_of, goes_on, move, observed, until
from simulation.peer import Capabilities

from controller.core import cut, seq
from controller.core.commands import FlowAdd, Rewrite
from controller.core.connection import Phase, State, kept
from controller.core.cookie import Cookie, Kind
from controller.core.events import (
    ConnectionClosed,
    MigrationCompleted,
    MigrationFailed,
    MigrationRequested,
    MigrationRolledBack,
    SegmentReceived,
    SwitchConnected,
    SwitchLost,
    TimerExpired,
    Verdict,
    VerdictReached,
)
from controller.core.rollback import UNDO_LIMIT
from controller.core.segment import ACK, FIN, SYN, ConnectionKey, Endpoint, Segment, TcpOptions, Timestamps
from controller.core.view import in_clients_view

FROZEN = (Phase.BRAKING, Phase.STOPPING, Phase.MEASURING, Phase.COMMITTING)


def test_observed_connection_is_served_at_once() -> None:
    """Nothing is held; the analyser gets copies of both directions."""
    demo, client = observed()
    assert demo.at_origin[0].received == b"hello "
    assert client.received == b"welcome "
    copies = [segment for _, place, segment in demo.trace if place == "port 99"]
    assert {segment.payload for segment in copies} >= {b"hello ", b"welcome "}
    goes_on(demo, client, demo.at_origin[0])


def test_moves_in_the_middle() -> None:
    """The old server's half is reset, the new one continues where it was cut."""
    demo, client = observed()
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    done = demo.happened(MigrationCompleted)[0]
    assert (done.origin, done.target) == ("server1", "server2")
    assert done.client_cut == client.send_next
    assert done.server_cut == client.recv_next
    assert 0 < done.frozen < cut.FREEZE_LIMIT
    assert demo.at_origin[0].state == "reset"
    assert [event.target for event in demo.happened(VerdictReached)] == ["server2"]
    goes_on(demo, client, demo.at_target[0])


def test_alert_during_the_handshake() -> None:
    """It is followed once the connection stands."""
    demo = Demo(policy=OBSERVE)
    client = demo.connect(seconds=0.000_4)
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)
    goes_on(demo, client, demo.at_target[0])


def test_there_and_back_and_on() -> None:
    """Origin, target, origin, target: the deltas compose."""
    demo, client = observed()
    places = {"server1": demo.at_origin, "server2": demo.at_target}
    for name in ("server2", "server1", "server2", "server1"):
        demo.peers = {ends: peer for ends, peer in demo.peers.items() if peer.state != "reset"}
        move(demo, name)
        assert demo.happened(MigrationCompleted)[-1].target == name
        goes_on(demo, client, places[name][-1])


def test_return_verdict() -> None:
    """An alert may send a connection home."""
    demo, client = observed()
    move(demo)
    demo.peers = {ends: peer for ends, peer in demo.peers.items() if peer.state != "reset"}
    demo.tell(alert(GO_BACK))
    demo.run(0.1)
    assert [(event.verdict, event.target) for event in demo.happened(VerdictReached)] == [(Verdict.RETURN, "server1")]
    goes_on(demo, client, demo.at_origin[-1])


@pytest.mark.parametrize("sid", [FORWARD, DROP, GO_BACK])
def test_verdicts_that_change_nothing(sid: int) -> None:
    """A served connection is only moved; home is where it is."""
    demo, client = observed()
    demo.tell(alert(sid))
    demo.run(0.1)
    assert not demo.happened(VerdictReached)
    goes_on(demo, client, demo.at_origin[0])


@pytest.mark.parametrize(("target", "reason"), [("nobody", "request"), ("server1", "target")])
def test_requests_that_cannot_be_met(target: str, reason: str) -> None:
    """An unknown server, and the one where it is."""
    demo, client = observed()
    move(demo, target)
    assert [event.reason for event in demo.happened(MigrationFailed)] == [reason]
    goes_on(demo, client, demo.at_origin[0])


def test_requests_for_nobody() -> None:
    """An unknown connection, and one whose verdict is awaited."""
    demo = Demo()
    stranger = ConnectionKey(CLIENT, CLIENT)
    demo.tell(MigrationRequested(demo.now, stranger, "server2"))
    demo.say(demo.connect(), b"x")
    demo.run(0.01)
    demo.tell(MigrationRequested(demo.now, KEY, "server2"))
    assert [event.connection for event in demo.happened(MigrationFailed)] == [stranger, KEY]


@pytest.mark.parametrize("phase", [Phase.PROBING, *FROZEN[:3]])
def test_a_newer_wish_supersedes(phase: Phase) -> None:
    """Versions: the older attempt is undone at once."""
    demo, client = observed()
    demo.add_host(THIRD.address, "02:00:00:00:00:04", 4)
    third = demo.listen(THIRD, "02:00:00:00:00:04", Capabilities())
    move(demo, seconds=0)
    until(demo, phase)
    move(demo, "server3")
    failures = demo.happened(MigrationFailed) + demo.happened(MigrationRolledBack)
    assert [event.target for event in failures] == ["server2"]
    assert "superseded" in failures[0].reason
    assert [(event.target, event.version) for event in demo.happened(MigrationCompleted)] == [("server3", 2)]
    goes_on(demo, client, third[0])


@pytest.mark.parametrize("wish", ["server3", "server2"])
def test_a_wish_during_the_last_step(wish: str) -> None:
    """What cannot be stopped is finished, then the wish is followed."""
    demo, client = observed()
    demo.add_host(THIRD.address, "02:00:00:00:00:04", 4)
    third = demo.listen(THIRD, "02:00:00:00:00:04", Capabilities())
    move(demo, seconds=0)
    until(demo, Phase.COMMITTING)
    move(demo, wish)
    assert demo.happened(MigrationCompleted)[-1].target == wish
    goes_on(demo, client, third[0] if wish == "server3" else demo.at_target[0])


@pytest.mark.parametrize("phase", FROZEN)
def test_target_dies_during_the_freeze(phase: Phase) -> None:
    """It resets: the freeze is undone, the old server goes on."""
    demo, client = observed()
    move(demo, seconds=0)
    until(demo, phase)
    demo.tell(SegmentReceived(1, PORTS["10.0.0.2"], Segment(TARGET, CLIENT, 1, 1, 4, 0)))
    demo.run(0.01)
    if phase is Phase.COMMITTING:
        demo.run(0.1)
    assert len(demo.happened(MigrationRolledBack)) == 1
    goes_on(demo, client, demo.at_origin[0])


@pytest.mark.parametrize("kind", [Kind.PATH, Kind.PUNT])
def test_switch_refuses_during_the_freeze(kind: Kind) -> None:
    """The brake or the final flows."""
    demo, client = observed()

    def refuse(flow: FlowAdd) -> str | None:
        new = flow.match.ip_src == TARGET.address and flow.cookie >> 48 & 0xF == Kind.PATH
        return "table full" if (new if kind is Kind.PATH else flow.priority == 200) else None

    demo.switch.refuse = refuse
    move(demo, seconds=0.3)
    assert demo.happened(MigrationRolledBack)
    goes_on(demo, client, demo.at_origin[0])


def test_frozen_too_long() -> None:
    """An end that does not answer: after the limit the old server goes on, before any retransmission timeout."""
    demo, client = observed()
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    server = demo.at_origin[0]
    receive, server.receive = server.receive, lambda now, segment: None  # type: ignore[method-assign]
    demo.run(cut.FREEZE_LIMIT)
    server.receive = receive  # type: ignore[method-assign]
    demo.run(0.01)
    assert "rest" in demo.happened(MigrationRolledBack)[0].reason
    goes_on(demo, client, server)


def test_frozen_in_the_last_step() -> None:
    """The switch does not confirm: nobody knows which flows stand, so nothing is undone until it comes back."""
    demo, client = observed()
    carry_out = demo.switch.carry_out
    move(demo, seconds=0)
    until(demo, Phase.COMMITTING)
    demo.switch.carry_out = lambda command: None  # type: ignore[method-assign]
    demo.run(2 * cut.FREEZE_LIMIT)
    demo.switch.carry_out = carry_out  # type: ignore[method-assign]
    assert not demo.happened(MigrationRolledBack)
    demo.tell(SwitchLost(demo.now, 1))
    demo.tell(SwitchConnected(demo.now, 1, ()))
    demo.run(0.05)
    assert demo.happened(MigrationRolledBack)
    goes_on(demo, client, demo.at_origin[0])


@pytest.mark.parametrize("who", ["client", "server"])
@pytest.mark.parametrize("pause", [0.0, 0.000_2])
def test_close_during_the_freeze(who: str, pause: float) -> None:
    """Whoever closes: the freeze is undone and the FIN arrives without a retransmission."""
    demo, client = observed()
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    demo.run(pause)
    assert connection_of(demo).attempt.phase is Phase.MEASURING
    first, second = (client, demo.at_origin[0]) if who == "client" else (demo.at_origin[0], client)
    demo.act(first, lambda peer: peer.close(demo.now))
    demo.run(0.1)
    assert second.fin_received
    assert demo.happened(MigrationRolledBack)
    demo.act(second, lambda peer: peer.close(demo.now))
    demo.run(0.1)
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["fin"]
    assert client.retransmissions == 0


def test_data_at_every_step() -> None:
    """What either end has under way when the freeze begins, and what it sends while it lasts."""
    for phase in (Phase.CONNECTING, Phase.PROBING, *FROZEN):
        demo, client = observed()
        demo.say(client, b"a" * 5_000)
        demo.say(demo.at_origin[0], b"b" * 5_000)
        move(demo, seconds=0)
        until(demo, phase)
        client.peer_window = max(client.peer_window, 3_000)
        demo.say(client, b"c" * 2_000)
        if phase is not Phase.COMMITTING:
            demo.at_origin[0].peer_window = max(demo.at_origin[0].peer_window, 3_000)
            demo.say(demo.at_origin[0], b"d" * 2_000)
        demo.run(0.3)
        assert demo.happened(MigrationCompleted), phase
        joined = demo.at_origin[0].received + demo.at_target[0].received
        assert joined == b"hello " + b"a" * 5_000 + b"c" * 2_000
        answers = b"welcome " + b"b" * 5_000 + (b"" if phase is Phase.COMMITTING else b"d" * 2_000)
        assert client.received == answers
        goes_on(demo, client, demo.at_target[0])


def test_what_the_old_server_says_behind_the_cut_is_dropped() -> None:
    """Nobody would acknowledge it: the target's bytes have those numbers now."""
    demo, client = observed()
    move(demo, seconds=0)
    until(demo, Phase.COMMITTING)
    server = demo.at_origin[0]
    server.peer_window = 3_000
    demo.say(server, b"too late")
    demo.run(0.1)
    assert client.received == b"welcome "
    goes_on(demo, client, demo.at_target[0])


@pytest.mark.parametrize("timestamps", [True, False])
def test_numbers_too_old_to_compare_with(timestamps: bool) -> None:
    """After a pause nobody knows how far a stream has come: the first question is harmless at any number."""
    can = Capabilities(timestamps=timestamps)
    demo = Demo(policy=OBSERVE, first=can, second=can)
    client = demo.connect(can)
    demo.say(client, b"hello ")
    demo.run(0.01)
    demo.say(demo.at_origin[0], b"welcome ")
    demo.run(5.0)
    demo.trace.clear()
    connection_of(demo).client.next = connection_of(demo).origin.acked = 5
    connection_of(demo).client.acked = connection_of(demo).origin.next = 5
    newest = client.ts_recent
    move(demo)
    asked = [
        s for _, place, s in demo.trace if place == f"port {PORTS['10.0.0.3']}" and s.src == ORIGIN and not s.window
    ]
    assert len(asked[0].payload) == timestamps
    if timestamps:
        assert seq.is_before(asked[0].options.timestamps.value, newest)
    assert demo.happened(MigrationCompleted)
    goes_on(demo, client, demo.at_target[0])


def test_half_closed_connections_stay() -> None:
    """A FIN before the cut: refused."""
    demo, client = observed()
    demo.act(client, lambda peer: peer.close(demo.now))
    demo.run(0.01)
    move(demo)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["closing"]


def test_stragglers_before_the_freeze() -> None:
    """Packets that outdated megaflows punt while the target is being asked go through the tables."""
    demo, client = observed()
    demo.listeners.pop(TARGET)
    move(demo, seconds=0.001)
    server = demo.at_origin[0]
    client.timestamps = server.timestamps = False
    late = Segment(CLIENT, ORIGIN, client.send_next, client.recv_next, ACK, 99, payload=b"x", eth_dst=MACS["10.0.0.1"])
    demo.tell(SegmentReceived(1, 3, late, Cookie(Kind.PUNT).encode()))
    back = Segment(ORIGIN, CLIENT, server.send_next, server.recv_next, ACK, 99, payload=b"y", eth_dst=MACS["10.0.0.3"])
    demo.tell(SegmentReceived(1, 1, back, Cookie(Kind.PATH).encode()))
    demo.run(0.01)
    assert server.received == b"hello x"
    assert client.received == b"welcome y"


def test_small_windows_are_refused() -> None:
    """A window that the origin's scale cannot tell would be shown as zero for ever."""
    demo, client = observed(first=Capabilities(window_scale=14), second=Capabilities(window_scale=0, window=9_000))
    move(demo)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["window"]
    goes_on(demo, client, demo.at_origin[0])


def test_old_timers_of_a_freeze() -> None:
    """Each kind, when its time has gone by."""
    demo, client = observed()
    move(demo)
    version = connection_of(demo).version
    for kind in ("retry", "deadline", "braked", "ask", "frozen"):
        demo.tell(TimerExpired(KEY, version, kind))
    assert connection_of(demo).state is State.SERVED
    goes_on(demo, client, demo.at_target[0])


@pytest.mark.parametrize(
    ("segment", "edit", "expected"),
    [
        ({"flags": ACK, "ack": 5}, {"ack": 2**32 - 6}, {"ack": 2**32 - 1}),
        ({"flags": SYN, "ack": 0}, {"ack": 7, "window_shift": 3}, {"ack": 0, "window": 10}),
        ({"flags": ACK}, {"window_shift": -2}, {"window": 2}),
        ({"flags": ACK}, {"window_shift": 14}, {"window": 65_535}),
        ({"flags": ACK}, {"window": 0}, {"window": 0}),
        ({"flags": ACK}, {"ip_src": "1.2.3.4", "tcp_dst": 9}, {"src": ("1.2.3.4", 1), "dst": ("10.0.0.2", 9)}),
        (
            {"flags": SYN, "options": TcpOptions(timestamps=Timestamps(4, 5))},
            {"tsval": 1, "tsecr": 1},
            {"options": TcpOptions(timestamps=Timestamps(5, 5))},
        ),
        (
            {"flags": ACK, "options": TcpOptions(timestamps=Timestamps(4, 5), sack=((1, 2),))},
            {"tsecr": 2, "ack": 10},
            {"options": TcpOptions(timestamps=Timestamps(4, 7), sack=((11, 12),)), "ack": 10},
        ),
    ],
)
def test_view(segment: dict[str, object], edit: dict[str, object], expected: dict[str, object]) -> None:
    """The edits mean what the switch's actions mean."""
    whole = Segment(Endpoint("10.0.0.1", 1), Endpoint("10.0.0.2", 2), 1, 0, 0, 10)
    after = in_clients_view(replace(whole, **segment), Rewrite(**edit))  # type: ignore[arg-type]
    for name, value in expected.items():
        assert getattr(after, name) == value


def measuring(demo: Demo) -> None:
    """Bring a migration to where both ends are asked, with both ends deaf, so that only what a test says is heard."""
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    for peer in (demo.peers[CLIENT, ORIGIN], demo.at_origin[0]):
        peer.receive = lambda now, segment: None  # type: ignore[method-assign]
    demo.run(0.001)


PUNT = Cookie(Kind.PUNT).encode()


def test_data_during_the_measurement() -> None:
    """The server's goes on to the client with its window closed; the client's is for the next server."""
    demo, client = observed()
    server = demo.at_origin[0]
    measuring(demo)
    demo.trace.clear()
    request = Segment(CLIENT, ORIGIN, client.send_next, client.recv_next, ACK, 99, payload=b"more")
    demo.tell(SegmentReceived(1, 3, request, PUNT))
    answer = Segment(ORIGIN, CLIENT, server.send_next, server.recv_next, ACK, 99, payload=b"more too")
    demo.tell(SegmentReceived(1, 1, answer, PUNT))
    demo.run(0.001)
    passed = {(place, s.payload, s.window) for _, place, s in demo.trace if len(s.payload) > 1}
    assert passed == {("port 3", b"more too", 0)}
    connection = connection_of(demo)
    assert connection.attempt.phase is Phase.MEASURING
    assert connection.held_bytes == len(b"more")
    demo.run(cut.DRAIN)
    demo.tell(SegmentReceived(1, 1, answer, PUNT))
    assert len(connection.attempt.kept) == 1


@pytest.mark.parametrize("from_client", [True, False])
def test_fin_during_the_measurement(from_client: bool) -> None:
    """Seen by the controller alone: the freeze is undone, then the FIN goes on its way."""
    demo, client = observed()
    server = demo.at_origin[0]
    measuring(demo)
    demo.trace.clear()
    fin = Segment(CLIENT, ORIGIN, client.send_next, client.recv_next, ACK | FIN, 99)
    if not from_client:
        fin = Segment(ORIGIN, CLIENT, server.send_next, server.recv_next, ACK | FIN, 99)
    demo.tell(SegmentReceived(1, 3 if from_client else 1, fin, PUNT))
    assert connection_of(demo).attempt.phase is Phase.UNDOING
    demo.run(2 * UNDO_LIMIT)
    assert demo.happened(MigrationRolledBack)
    place = "port 1" if from_client else "port 3"
    assert [s.flags for _, where, s in demo.trace if where == place and s.flags & FIN] == [ACK | FIN]


def test_what_is_held_while_committing() -> None:
    """New data only; acknowledgements and repetitions of what the old server has had mean nothing."""
    demo, client = observed()
    move(demo, seconds=0)
    until(demo, Phase.COMMITTING)
    connection = connection_of(demo)
    said = Segment(CLIENT, ORIGIN, client.send_next, client.recv_next, ACK, 99)
    for segment in (said, replace(said, seq=client.send_next - 3, payload=b"old")):
        demo.tell(SegmentReceived(1, 3, segment, PUNT))
        assert not connection.held
    demo.tell(SegmentReceived(1, 3, replace(said, payload=b"new"), PUNT))
    assert connection.held_bytes == 3


def test_the_handshakes_deadline_does_not_end_a_freeze() -> None:
    """The freeze has one of its own."""
    demo, client = observed()
    move(demo, seconds=0)
    until(demo, Phase.COMMITTING)
    demo.tell(TimerExpired(KEY, connection_of(demo).version, "deadline"))
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)
    goes_on(demo, client, demo.at_target[0])


def test_a_late_copy_of_what_the_old_server_had_means_nothing() -> None:
    """The client was overheard while it was being stopped; only who waits for a quiet moment goes back to that."""
    demo, client = observed()
    measuring(demo)
    copy = Segment(CLIENT, ORIGIN, client.send_next, client.recv_next, ACK, 99, payload=b"late")
    demo.tell(SegmentReceived(1, 3, copy, Cookie(Kind.COPY).encode()))
    assert connection_of(demo).attempt.phase is Phase.MEASURING
    assert not connection_of(demo).held


@pytest.mark.parametrize("blocks", [(), ((5, 9),)])
def test_what_is_kept_speaks_of_no_gaps(blocks):
    """By the time that it goes on, its SACK blocks are out of date; without any it stays the frame that it was."""
    segment = Segment(CLIENT, ORIGIN, 1, 2, ACK, 100, payload=b"x", options=TcpOptions(sack=blocks), frame=b"a frame")
    packet = kept(SegmentReceived(1, 3, segment, 0), segment)
    assert (packet.port, packet.size, packet.clock, packet.ack) == (3, 1, None, 2)
    expected = replace(segment, options=TcpOptions(), frame=None) if blocks else b"a frame"
    assert packet.packet == expected
