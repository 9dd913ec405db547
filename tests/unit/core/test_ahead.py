# SPDX-License-Identifier: Apache-2.0
"""The cutover waits until the connection's state is in the switch before the target."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation import gate, observe
from simulation.demo import CLIENT, MACS, MIGRATE, ORIGIN, PORTS, TARGET, Demo, alert
from simulation.p4_state import follow, holding, told

from controller.core.connection import Phase, State
from controller.core.events import (
    ConnectionClosed,
    MigrationCompleted,
    MigrationFailed,
    MigrationRequested,
    MigrationStarted,
    StateFollowed,
    StateShipped,
    TargetEstablished,
)
from controller.core.policy import Hold
from controller.core.segment import ACK, FIN, RST, Segment


def started(demo: Demo) -> MigrationStarted:
    return demo.happened(MigrationStarted)[-1]


def gated(hold: Hold = Hold.STAY, fate=lambda event: None, **more):
    """Return a gated connection whose migration waits, the client, and what has arrived when."""
    demo = Demo(policy=holding(hold), **more)
    arrivals = follow(demo, fate)
    return demo, gate.begin(demo), arrivals


def awaiting(demo: Demo) -> None:
    gate.until(demo, Phase.AWAITING)
    demo.run(0.05)
    assert gate.attempt_of(demo).phase is Phase.AWAITING
    assert demo.happened(TargetEstablished)
    assert demo.at_target[0].received == demo.at_origin[0].received == b""


def test_a_gated_connection_is_held_until_its_state_is_there() -> None:
    demo, client, _ = gated()
    awaiting(demo)
    demo.tell(told(started(demo), demo.now, True))
    demo.run(0.05)
    assert demo.happened(MigrationCompleted)
    assert (demo.at_target[0].received, demo.at_origin[0].received) == (gate.REQUEST, b"")
    demo.say(demo.at_target[0], b"answer")
    demo.run(0.5)
    assert client.received == b"answer"
    assert client.retransmissions == 0


def test_a_served_connection_goes_on_meanwhile() -> None:
    demo, client = observe.observed()
    demo.tell(StateFollowed(demo.now, ("echo",), ("server1", "server2")))
    observe.move(demo)
    assert observe.connection_of(demo).attempt.phase is Phase.AWAITING
    demo.say(client, b"question")
    demo.run(0.01)
    assert demo.at_origin[0].received.endswith(b"question")
    demo.say(demo.at_origin[0], b"answer")
    demo.run(0.01)
    assert client.received.endswith(b"answer")
    demo.tell(told(started(demo), demo.now, True))
    demo.run(0.1)
    assert observe.connection_of(demo).path.server.name == "server2"
    observe.goes_on(demo, client, demo.at_target[0])


@pytest.mark.parametrize("arrives", [True, False])
def test_state_that_is_told_before_the_target_stands(arrives: bool) -> None:
    demo, client, _ = gated(fate=lambda event: (0.0, arrives))
    demo.run(0.1)
    if arrives:
        assert demo.at_target[0].received == gate.REQUEST
    else:
        gate.served_by_origin(demo, client)
        (failed,) = demo.happened(MigrationFailed)
        assert (failed.reason, failed.detail) == ("state", "forged")


@pytest.mark.parametrize(("told_at", "detail"), [(0.1, "forged"), (None, "not there within 0.3 s")])
def test_without_its_state_a_connection_stays(told_at: float | None, detail: str) -> None:
    demo, client, _ = gated(fate=lambda event: None if told_at is None else (told_at, False))
    gate.served_by_origin(demo, client)
    (failed,) = demo.happened(MigrationFailed)
    assert (failed.reason, failed.detail) == ("state", detail)
    assert demo.at_target[0].state == "reset"


@pytest.mark.parametrize("told_at", [0.0, 0.1, None])
def test_without_its_state_a_connection_goes_where_that_is_wanted(told_at: float | None) -> None:
    demo, _, _ = gated(Hold.GO, lambda event: None if told_at is None else (told_at, False))
    demo.run(0.25)
    assert bool(demo.happened(MigrationCompleted)) is (told_at is not None)
    demo.run(0.25)
    assert demo.at_target[0].received == gate.REQUEST


@pytest.mark.parametrize(
    ("hold", "services", "servers"),
    [
        (Hold.OFF, ("echo",), ("server1", "server2")),
        (Hold.STAY, ("other",), ("server1", "server2")),
        (Hold.STAY, ("echo",), ("server1",)),
        (Hold.STAY, (), ()),
    ],
)
def test_what_is_not_followed_is_not_waited_for(hold, services, servers) -> None:
    demo = Demo(policy=holding(hold))
    demo.tell(StateFollowed(demo.now, services, servers))
    gate.begin(demo)
    demo.run(0.05)
    assert demo.at_target[0].received == gate.REQUEST


def test_only_its_own_state_counts() -> None:
    """Not what follows a cutover, not that of an older migration, of another connection, or of nobody."""
    demo, _, _ = gated()
    awaiting(demo)
    mine = told(started(demo), demo.now, True)
    other = mine.connection._replace(client=TARGET)
    for event in (
        replace(mine, ahead=False),
        replace(mine, version=mine.version - 1),
        replace(mine, connection=other),
        replace(mine, connection=None),
    ):
        demo.tell(event)
        demo.run(0.001)
        assert gate.attempt_of(demo).phase is Phase.AWAITING
    demo.tell(mine)
    demo.run(0.05)
    assert demo.happened(MigrationCompleted)
    demo.tell(mine)
    demo.tell(told(started(demo), demo.now, False))
    demo.run(0.5)
    assert not demo.happened(MigrationFailed)


def test_the_last_step_has_its_deadline_after_the_wait() -> None:
    """The client never acknowledges what the origin said: the cut is given up, not sooner and not never."""
    demo, _, _ = gated()
    awaiting(demo)
    connection = gate.connection_of(demo)
    connection.origin.next += 1  # something that the client has not had
    demo.run(0.09)
    since = demo.now
    demo.tell(told(started(demo), demo.now, True))
    assert gate.attempt_of(demo).phase is Phase.COMMITTING
    demo.run(0.1)
    assert not demo.happened(MigrationFailed), "the deadline of before the wait is over"
    demo.run(0.1)
    (failed,) = demo.happened(MigrationFailed)
    assert failed.reason == "timeout"
    assert failed.time - since == pytest.approx(connection.service.handshake_timeout)


@pytest.mark.parametrize(("flags", "reason"), [(RST | ACK, "refused"), (FIN | ACK, "closed")])
def test_a_target_that_ends_while_it_waits(flags: int, reason: str) -> None:
    demo, client, _ = gated()
    awaiting(demo)
    server = demo.at_target[0]
    word = Segment(TARGET, CLIENT, server.send_next, server.recv_next, flags, 100, eth_src=MACS["10.0.0.2"])
    demo.switch.receive(PORTS["10.0.0.2"], word)
    demo.run(0.01)
    gate.served_by_origin(demo, client)
    assert [event.reason for event in demo.happened(MigrationFailed)] == [reason]


def test_a_client_that_resets_while_it_waits() -> None:
    demo, client, _ = gated()
    awaiting(demo)
    demo.switch.receive(3, Segment(CLIENT, ORIGIN, client.send_next, 0, RST, 0))
    demo.run(1.0)
    assert [event.reason for event in demo.happened(ConnectionClosed)] == ["rst"]
    assert not demo.engine.world.connections
    assert not demo.engine.world.targets
    assert {demo.at_origin[0].state, demo.at_target[0].state} == {"reset"}


def test_a_newer_wish_does_not_wait() -> None:
    demo, client = observe.observed()
    demo.tell(StateFollowed(demo.now, ("echo",), ("server1", "server2")))
    observe.move(demo)
    assert observe.connection_of(demo).attempt.phase is Phase.AWAITING
    demo.tell(MigrationRequested(demo.now, observe.KEY, "server1"))
    demo.run(0.1)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["superseded", "target"]
    observe.goes_on(demo, client, demo.at_origin[0])


def test_quiet_comes_after_the_state() -> None:
    demo, _ = observe.observed()
    demo.tell(StateFollowed(demo.now, ("echo",), ("server1", "server2")))
    demo.tell(MigrationRequested(demo.now, observe.KEY, "server2", "quiet"))
    demo.run(0.01)
    assert observe.connection_of(demo).attempt.phase is Phase.AWAITING
    demo.tell(told(started(demo), demo.now, True))
    assert observe.connection_of(demo).attempt.phase is Phase.WATCHING
    demo.run(0.5)
    assert demo.happened(MigrationCompleted)


def test_a_controller_that_dies_meanwhile() -> None:
    """The next one finds a connection that is served, or whose gate is shut, and a half-made one at the target."""
    demo, client = observe.observed()
    demo.tell(StateFollowed(demo.now, ("echo",), ("server1", "server2")))
    observe.move(demo)
    demo.kill()
    demo.run(0.1)
    demo.restart()
    demo.run(1.0)
    assert observe.connection_of(demo).state is State.SERVED
    assert demo.at_target[0].state == "reset"
    observe.goes_on(demo, client, demo.at_origin[0])


def test_the_rules_verdict_is_known_before_the_state_is_asked_for() -> None:
    """`VerdictReached` is told before `MigrationStarted`, so the verdict is set before the entry is shipped."""
    demo = Demo(policy=holding())
    follow(demo)
    client = demo.connect()
    demo.say(client, gate.REQUEST)
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    told_in_order = [type(event).__name__ for event in demo.events]
    assert told_in_order.index("VerdictReached") < told_in_order.index("MigrationStarted")


def test_shipped_is_no_input_for_strangers() -> None:
    demo = Demo(policy=holding())
    demo.tell(StateShipped(demo.now, "p1", "p2", 1, 0, 0.1))
    assert not demo.happened(MigrationCompleted)
