# SPDX-License-Identifier: Apache-2.0
"""Stopping a connection that has lost packets: gaps are filled before the cut, bytes behind it are sent again."""

from __future__ import annotations

import pytest
from simulation.demo import CLIENT, ORIGIN, PORTS, TARGET, Demo
from simulation.observe import KEY, OBSERVE, connection_of, goes_on, move, until
from simulation.peer import Capabilities

from controller.core import question, seq
from controller.core.connection import Answers, Attempt, Phase, Side, State
from controller.core.cookie import Cookie, Kind
from controller.core.events import (
    FlowRemoved,
    MigrationCompleted,
    MigrationFailed,
    MigrationRequested,
    MigrationRolledBack,
    SegmentReceived,
    SwitchConnected,
    SwitchLost,
    TimerExpired,
)
from controller.core.policy import CutPolicy
from controller.core.segment import ACK, RST, Endpoint, Segment, TcpOptions, Timestamps

CLIENT_PORT, ORIGIN_PORT = PORTS["10.0.0.3"], PORTS["10.0.0.1"]
PUNT = Cookie(Kind.PUNT).encode()
HERE, THERE = Endpoint("10.0.0.3", 1), Endpoint("10.0.0.1", 2)


def lossy(demo: Demo, port: int, lost: set[int]) -> None:
    """Lose the packets with data of these numbers (from 0) on their way out of a port."""
    transmit, count = demo.switch._transmit, [0]

    def leave(number: int, segment: Segment) -> None:
        if number == port and len(segment.payload) > 1:
            count[0] += 1
            if count[0] - 1 in lost:
                return
        transmit(number, segment)

    demo.switch._transmit = leave


def connected(can: Capabilities | None = None):
    """Return an observed connection with an exchange behind it."""
    demo = Demo(policy=OBSERVE, first=can, second=can)
    client = demo.connect(can)
    demo.say(client, b"hello ")
    demo.run(0.01)
    demo.say(demo.at_origin[0], b"welcome ")
    demo.run(0.01)
    return demo, client


@pytest.mark.parametrize("lost", [{0}, {1}, {2}, {0, 1, 2}])
def test_lost_on_the_way_to_the_server(lost: set[int]) -> None:
    """The client sends it again: to the old server, if that has told of later bytes, else to the target."""
    demo, client = connected(Capabilities())
    lossy(demo, ORIGIN_PORT, lost)
    demo.tell(MigrationRequested(demo.now, KEY, "server2"))
    until(demo, Phase.PROBING)
    demo.say(client, b"abc" * 1_000)
    demo.run(0.1)
    assert demo.happened(MigrationCompleted), demo.happened(MigrationRolledBack)
    demo.run(1.0)
    assert demo.at_origin[0].received + demo.at_target[0].received == b"hello " + b"abc" * 1_000
    goes_on_after_loss(demo, client)


@pytest.mark.parametrize("lost", [{0}, {1}, {0, 1}])
def test_lost_on_the_way_to_the_client(lost: set[int]) -> None:
    """The old server fills what the client has a gap before; nobody mixes its bytes with the target's."""
    demo, client = connected()
    lossy(demo, CLIENT_PORT, lost)
    demo.tell(MigrationRequested(demo.now, KEY, "server2"))
    until(demo, Phase.PROBING)
    demo.say(demo.at_origin[0], b"abc" * 1_000)
    demo.run(0.1)
    assert demo.happened(MigrationCompleted), demo.happened(MigrationRolledBack)
    assert client.received == b"welcome " + b"abc" * 1_000
    goes_on_after_loss(demo, client)


def goes_on_after_loss(demo: Demo, client) -> None:
    """Check that both ends still talk; what the loss itself cost is another matter."""
    client.retransmissions = demo.at_target[0].retransmissions = 0
    goes_on(demo, client, demo.at_target[0])


def test_a_gap_that_nobody_fills() -> None:
    """The client has bytes of the old server out of order: without the rest it cannot be given to the target."""
    demo, _ = connected()
    lossy(demo, CLIENT_PORT, {0} | set(range(2, 1_000)))
    demo.tell(MigrationRequested(demo.now, KEY, "server2"))
    until(demo, Phase.PROBING)
    demo.say(demo.at_origin[0], b"abc" * 1_000)
    demo.run(0.2)
    assert "rest" in demo.happened(MigrationRolledBack)[0].reason
    assert not demo.happened(MigrationCompleted)


def test_without_sack_a_connection_stays_where_it_is() -> None:
    """What an end holds behind a hole is unknown then: it would be joined to what the next server says."""
    demo, client = connected(Capabilities(sack=False))
    move(demo)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["options"]
    goes_on(demo, client, demo.at_origin[0])


def said(ack: int, *sack: tuple[int, int], payload: bytes = b"") -> Segment:
    """Return what an end says."""
    return Segment(HERE, THERE, 900, ack, ACK, 9, TcpOptions(sack=sack, timestamps=Timestamps(5, 6)), payload)


class Clock:
    """A world of which only the time matters."""

    now = 10.0


def stopped(rounds: int = 3) -> tuple[Attempt, Side, Answers]:
    """Return a migration that has asked so often, with an end that had 1,000 bytes."""
    attempt = Attempt(None, 1, Phase.MEASURING, CutPolicy.NOW, 0.0, 0.0, 0, round=rounds)  # type: ignore[arg-type]
    return attempt, Side(acked=1_000, next=900, heard=True, exact_at=10.0), Answers(base=1_000)


@pytest.mark.parametrize(
    ("void", "segment", "known"),
    [
        (0, said(1_000, (997, 998)), True),
        (1, said(1_000, (997, 998)), True),
        (2, said(1_000, (997, 998)), False),
        (0, said(1_000, (995, 996)), False),
        (0, said(1_000), False),
        (0, said(999, (997, 998)), False),
        (0, said(1_000, (996, 998)), False),
        (0, said(1_000, (1_200, 1_201)), False),
    ],
)
def test_which_answers_count(void: int, segment: Segment, known: bool) -> None:
    """Only an answer that names a question asked since something was last sent."""
    attempt, side, answers = stopped()
    answers.void = void
    question.hear(Clock(), attempt, side, answers, segment)  # type: ignore[arg-type]
    assert answers.known == known


def test_gaps_are_seen_and_forgotten() -> None:
    """The newest word counts."""
    attempt, side, answers = stopped()
    question.hear(Clock(), attempt, side, answers, said(1_000, (997, 998), (1_400, 1_500), (1_100, 1_200)))  # type: ignore[arg-type]
    assert answers.gap == 1_500
    question.hear(Clock(), attempt, side, answers, said(1_500))  # type: ignore[arg-type]
    assert answers.gap is None


def test_equal_answers_are_counted_once_a_question() -> None:
    """Data, other numbers, and repetitions within one question do not count."""
    attempt, side, answers = stopped(1)
    for number in range(1, 9):
        attempt.round = number
        for _ in range(3):
            question.hear(Clock(), attempt, side, answers, said(1_000, payload=b"x"))  # type: ignore[arg-type]
            question.hear(Clock(), attempt, side, answers, said(1_000))  # type: ignore[arg-type]
        assert answers.known == (number > question.UNMARKED)


def test_numbers_that_are_far_from_what_was_known() -> None:
    """A new place to ask from, and nothing said before counts."""
    attempt, side, answers = stopped()
    side.exact_at = 0.0
    question.hear(Clock(), attempt, side, answers, said(3_000_000_000, (997, 998)))  # type: ignore[arg-type]
    assert (answers.base, answers.void, answers.known, side.acked) == (None, 3, False, 3_000_000_000)


def test_what_is_kept_is_bounded() -> None:
    """And kept once."""
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.COMMITTING)
    connection = connection_of(demo)
    limit = OBSERVE.limits.held_bytes
    for at, size in ((0, limit - 5), (0, limit - 5), (limit, 10), (limit, 5)):
        piece = Segment(CLIENT, ORIGIN, seq.add(client.send_next, at), client.recv_next, ACK, 99, payload=b"x" * size)
        demo.tell(SegmentReceived(1, CLIENT_PORT, piece, PUNT))
    assert sorted(one.size for one in connection.held.values()) == [5, limit - 5]
    assert connection.held_bytes == limit


def test_only_what_lies_before_a_gap_goes_to_the_old_server() -> None:
    """The rest is the next one's."""
    demo, client = connected()
    server = demo.at_origin[0]
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    demo.run(0.000_3)
    start = client.send_next
    server._ack = lambda now, duplicate=None: None  # type: ignore[method-assign]
    for at in (0, 10):
        piece = Segment(CLIENT, ORIGIN, seq.add(start, at), client.recv_next, ACK, 99, payload=b"0123456789")
        demo.tell(SegmentReceived(1, CLIENT_PORT, piece, PUNT))
    demo.trace.clear()
    told = Segment(ORIGIN, CLIENT, server.send_next, start, ACK, 99, TcpOptions(sack=((start + 5, start + 10),)))
    demo.tell(SegmentReceived(1, ORIGIN_PORT, told, PUNT))
    demo.run(0.000_4)
    passed = [s.payload for _, place, s in demo.trace if place == f"port {ORIGIN_PORT}" and len(s.payload) > 1]
    assert passed == [b"0123456789"]


def test_switch_away_while_a_freeze_is_undone() -> None:
    """It is undone again, with the first reason."""
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    demo.tell(SegmentReceived(1, PORTS["10.0.0.2"], Segment(TARGET, CLIENT, 1, 1, RST, 0)))
    assert connection_of(demo).attempt.phase is Phase.UNDOING
    demo.tell(SwitchLost(demo.now, 1))
    demo.switch.flows.clear()
    demo.tell(SwitchConnected(demo.now, 1, ()))
    demo.run(0.1)
    assert ["refused" in event.reason for event in demo.happened(MigrationRolledBack)] == [True]
    goes_on(demo, client, demo.at_origin[0])


def test_both_ends_close_at_once_in_a_freeze() -> None:
    """It is undone, they close, and the connection is forgotten."""
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    demo.run(0.000_1)
    for peer in (client, demo.at_origin[0]):
        demo.act(peer, lambda one: one.close(demo.now))
    demo.run(0.5)
    assert client.fin_received
    assert demo.at_origin[0].fin_received
    assert connection_of(demo).state is State.CLOSING
    assert connection_of(demo).attempt is None
    assert len(demo.happened(MigrationRolledBack)) == 1


def test_forgotten_while_a_freeze_is_undone() -> None:
    """Nothing is left of either."""
    demo, _ = connected()
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    demo.tell(SegmentReceived(1, PORTS["10.0.0.2"], Segment(TARGET, CLIENT, 1, 1, RST, 0)))
    number = connection_of(demo).number
    demo.tell(FlowRemoved(1, Cookie(Kind.PATH, 1, number).encode(), "idle", 0, 0))
    world = demo.engine.world
    assert not world.connections
    assert not world.targets
    assert not world.tokens


@pytest.mark.parametrize("port", [CLIENT_PORT, PORTS["10.0.0.2"]])
def test_the_word_that_reopens_is_lost(port: int) -> None:
    """It is said again long before a window probe would ask."""
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.COMMITTING)
    client.sending += b"waiting"
    transmit = demo.switch._transmit

    def leave(number: int, segment: Segment) -> None:
        if number != port or segment.payload:
            transmit(number, segment)

    demo.switch._transmit = leave
    demo.run(0.003)
    assert demo.happened(MigrationCompleted)
    demo.switch._transmit = transmit
    demo.run(0.01)
    assert demo.at_target[0].received == b"waiting"
    goes_on(demo, client, demo.at_target[0])


def test_no_reminder_while_the_next_migration_is_under_way() -> None:
    """Its freeze must not be ended by the one before."""
    demo, _ = connected()
    move(demo)
    version = connection_of(demo).version
    demo.tell(MigrationRequested(demo.now, KEY, "server1"))
    before = len(demo.trace)
    demo.tell(TimerExpired(KEY, version + 1, "remind"))
    demo.tell(TimerExpired(KEY, version, "remind"))
    assert len(demo.trace) == before
