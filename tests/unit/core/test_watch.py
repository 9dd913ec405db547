# SPDX-License-Identifier: Apache-2.0
"""The cut policy ``quiet``: no request is torn and no answer lost, or the connection stays where it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, MIGRATE, ORIGIN, PORTS, TARGET, Demo, alert
from simulation.observe import KEY, OBSERVE, THIRD, connection_of, goes_on, move, until

from controller.core import watch
from controller.core.connection import Phase
from controller.core.cookie import Cookie, Kind
from controller.core.events import (
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
from controller.core.segment import ACK, RST, Segment

QUIET = replace(
    OBSERVE, services=(replace(OBSERVE.services[0], cut_policy=CutPolicy.QUIET, quiet_timeout=1.0, name="quiet"),)
)
COPY = Cookie(Kind.COPY).encode()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first silence be as short as any: one test is about it."""
    monkeypatch.setattr(watch, "FIRST_QUIET", watch.QUIET_FOR)


def connected():
    """Return a network whose service waits for quiet moments, and a client that has had an answer."""
    demo = Demo(policy=QUIET)
    client = demo.connect()
    demo.say(client, b"hello ")
    demo.run(0.01)
    demo.say(demo.at_origin[0], b"welcome ")
    demo.run(0.01)
    return demo, client


def nothing_left(demo: Demo) -> None:
    """Check that nobody is overheard any more."""
    assert not [flow for flow in demo.switch.flows.values() if flow.priority in (150, 200) and flow.table == 1]


def test_a_quiet_connection_moves_soon() -> None:
    """Nothing is under way."""
    demo, client = connected()
    move(demo)
    done = demo.happened(MigrationCompleted)[0]
    assert done.client_cut == client.send_next
    nothing_left(demo)
    goes_on(demo, client, demo.at_target[0])


def test_by_alert_and_after_a_pause() -> None:
    """Old numbers are asked for."""
    demo, client = connected()
    demo.run(3.0)
    demo.tell(alert(MIGRATE))
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)
    goes_on(demo, client, demo.at_target[0])


def test_back_again() -> None:
    """From a target, too."""
    demo, client = connected()
    move(demo)
    demo.peers = {ends: peer for ends, peer in demo.peers.items() if peer.state != "reset"}
    move(demo, "server1")
    assert [event.target for event in demo.happened(MigrationCompleted)] == ["server2", "server1"]
    goes_on(demo, client, demo.at_origin[-1])


def test_waits_for_the_answer() -> None:
    """A request that was overheard is the old server's, and so is its answer."""
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.WATCHING)
    demo.run(0.001)
    demo.say(client, b"question")
    demo.run(0.3)
    assert connection_of(demo).attempt.phase is Phase.WATCHING
    demo.say(demo.at_origin[0], b"answer")
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)
    assert demo.at_origin[0].received == b"hello question"
    assert client.received == b"welcome answer"
    goes_on(demo, client, demo.at_target[0])


def test_a_request_that_slips_in_before_the_measurement() -> None:
    """It went to the old server: the watch goes on until its answer is there."""
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    demo.say(client, b"question")
    demo.run(0.1)
    assert connection_of(demo).attempt.phase is Phase.WATCHING
    assert demo.at_origin[0].received == b"hello question"
    demo.say(demo.at_origin[0], b"answer")
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)
    assert not demo.happened(MigrationRolledBack)
    goes_on(demo, client, demo.at_target[0])


def test_a_request_behind_the_cut() -> None:
    """It goes whole to the target."""
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    demo.run(0.000_5)
    demo.say(client, b"question")
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)
    assert demo.at_origin[0].received == b"hello "
    assert demo.at_target[0].received == b"question"


def test_acknowledgements_of_the_last_moment() -> None:
    """Nothing is asked by them."""
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    word = Segment(CLIENT, ORIGIN, client.send_next, client.recv_next, ACK, 99)
    demo.tell(SegmentReceived(1, PORTS["10.0.0.3"], word, COPY))
    assert connection_of(demo).attempt.phase is Phase.MEASURING


def test_a_server_that_may_be_thinking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its request came before the watch: its answer, within the first silence, is not lost."""
    monkeypatch.setattr(watch, "FIRST_QUIET", 0.05)
    demo, client = connected()
    demo.say(client, b"question")
    demo.run(0.001)
    move(demo, seconds=0.02)
    assert connection_of(demo).attempt.phase is Phase.WATCHING
    demo.say(demo.at_origin[0], b"answer")
    demo.run(0.02)
    assert demo.happened(MigrationCompleted)
    assert client.received == b"welcome answer"
    goes_on(demo, client, demo.at_target[0])


def test_never_quiet() -> None:
    """The deadline: the connection stays where it is."""
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.WATCHING)
    demo.run(0.001)
    demo.say(client, b"question")
    demo.run(1.2)
    assert [(event.reason, event.target) for event in demo.happened(MigrationFailed)] == [("timeout", "server2")]
    assert "quiet" in demo.happened(MigrationFailed)[0].detail
    nothing_left(demo)
    goes_on(demo, client, demo.at_origin[0])


def test_too_busy_to_be_overheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up before the controller has no time for anything else."""
    monkeypatch.setattr(watch, "MOST", 20)
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.WATCHING)
    demo.run(0.001)
    demo.say(client, b"x" * 50_000)
    demo.run(0.1)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["busy"]
    nothing_left(demo)
    assert demo.at_origin[0].received == b"hello " + b"x" * 50_000


def test_a_command_may_ask_for_another_moment() -> None:
    """In each direction; a wish keeps its own; an unknown one is refused."""
    demo, client = connected()
    demo.tell(MigrationRequested(demo.now, KEY, "server2", "noon"))
    assert "noon" in demo.happened(MigrationFailed)[0].detail
    demo.say(client, b"question")
    demo.run(0.01)
    demo.tell(MigrationRequested(demo.now, KEY, "server2", "now"))
    seen = set()
    for _ in range(1_000):
        demo.run(0.000_02)
        attempt = connection_of(demo).attempt
        seen.add(attempt.phase if attempt is not None else None)
    assert Phase.BRAKING in seen
    assert Phase.WATCHING not in seen
    assert demo.happened(MigrationCompleted)


def test_a_wish_keeps_its_moment() -> None:
    """What cannot be stopped is finished, then the wish waits for a quiet moment."""
    demo, client = connected()
    demo.add_host(THIRD.address, "02:00:00:00:00:04", 4)
    third = demo.listen(THIRD, "02:00:00:00:00:04", demo.at_origin[0].can)
    demo.tell(MigrationRequested(demo.now, KEY, "server2", "now"))
    until(demo, Phase.COMMITTING)
    demo.tell(MigrationRequested(demo.now, KEY, "server3"))
    until_watching = [connection_of(demo).wish]
    assert until_watching[0][1] is CutPolicy.QUIET
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)[-1].target == "server3"
    goes_on(demo, client, third[0])


@pytest.mark.parametrize("how", ["reset", "refused", "away", "newer"])
def test_failures_while_watching(how: str) -> None:
    """The connection has not been stopped: it goes on."""
    demo, client = connected()
    if how == "refused":
        demo.switch.refuse = lambda flow: "table full" if flow.priority == 150 else None
    move(demo, seconds=0)
    until(demo, Phase.WATCHING)
    if how == "reset":
        demo.tell(SegmentReceived(1, PORTS["10.0.0.2"], Segment(TARGET, CLIENT, 1, 1, RST, 0)))
    elif how == "away":
        demo.tell(SwitchLost(demo.now, 1))
        demo.tell(SwitchConnected(demo.now, 1, ()))
    elif how == "newer":
        move(demo, "server2", 0)
        demo.peers = {ends: peer for ends, peer in demo.peers.items() if ends[0] != TARGET}
        demo.run(0.1)
        assert demo.happened(MigrationCompleted)
    demo.run(0.01)
    assert len(demo.happened(MigrationFailed)) == 1
    assert not demo.happened(MigrationRolledBack)
    demo.run(0.01)
    nothing_left(demo)
    goes_on(demo, client, demo.at_target[-1] if how == "newer" else demo.at_origin[0])


def test_a_copy_that_was_lost_is_asked_for() -> None:
    """What both ends have is asked again, now and then."""
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.WATCHING)
    demo.run(0.002)
    connection_of(demo).client.acked -= 3
    demo.run(0.02)
    assert connection_of(demo).attempt.phase is Phase.WATCHING
    demo.run(0.2)
    assert demo.happened(MigrationCompleted)
    goes_on(demo, client, demo.at_target[0])


def test_a_timer_of_an_earlier_try() -> None:
    """It does not end the freeze of a later one."""
    demo, client = connected()
    move(demo, seconds=0)
    until(demo, Phase.MEASURING)
    demo.tell(TimerExpired(KEY, connection_of(demo).version, "frozen"))
    demo.run(0.1)
    assert demo.happened(MigrationCompleted)
    goes_on(demo, client, demo.at_target[0])
