# SPDX-License-Identifier: Apache-2.0
"""The table of connections: what a row says, which rows are meant, and pages of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, MACS, ORIGIN, POLICY, Demo
from simulation.peer import Capabilities

from controller.core import status
from controller.core.commands import ReadFlows
from controller.core.connection import Phase, State
from controller.core.events import (
    BarrierReplied,
    CommandRefused,
    ConnectionReported,
    FlowsReported,
    FoundFlow,
    MigrationRequested,
    StatusReported,
    StatusRequested,
    SwitchLost,
)
from controller.core.segment import ConnectionKey, Endpoint

KEY = ConnectionKey(CLIENT, ORIGIN)
OBSERVE = replace(POLICY, services=(replace(POLICY.services[0], gated=False),))
SIX = ConnectionKey(Endpoint("fd00::3", 4_000), Endpoint("fd00::1", 80))


def observed(clients: int) -> Demo:
    """Return a network in which that many connections are served by the origin."""
    demo = Demo(policy=OBSERVE)
    for number in range(clients):
        end = Endpoint(CLIENT.address, CLIENT.port + number)
        demo.dial(end, MACS[end.address], ORIGIN, MACS["10.0.0.1"], Capabilities(), None)
        demo.run(0.01)
    return demo


def ask(demo: Demo, **words: object) -> tuple[list[ConnectionReported], StatusReported]:
    """Ask for a page; return its rows and its end."""
    demo.events.clear()
    demo.tell(StatusRequested(0.0, "mine", **words))  # type: ignore[arg-type]
    if not demo.happened(StatusReported):
        demo.run(2.5 * demo.CONTROL_DELAY)
    rows = demo.happened(ConnectionReported)
    (end,) = demo.happened(StatusReported)
    assert {event.request for event in [*rows, end]} == {"mine"}
    return rows, end


def test_a_row() -> None:
    """Who, where, since when; during a migration also how far it has come."""
    demo = observed(1)
    demo.run(2.0)
    (row,), end = ask(demo)
    assert (row.connection, row.service, row.origin, row.server) == (KEY, "echo", "server1", "server1")
    assert (row.state, row.version, row.phase, row.target) == (State.SERVED.value, 0, None, None)
    assert 2.0 < row.age < 2.1
    assert (end.more, end.servers) == (False, (("server1", 1), ("server2", 0)))
    demo.tell(MigrationRequested(0.0, KEY, "server2"))
    (row,), _ = ask(demo)
    assert (row.server, row.phase, row.target) == ("server1", Phase.CONNECTING.value, "server2")
    demo.run(0.1)
    (row,), end = ask(demo)
    assert (row.origin, row.server, row.version) == ("server1", "server2", 1)
    assert end.servers == (("server1", 0), ("server2", 1))


def test_pages() -> None:
    """Every connection is on exactly one page, whatever page size is asked for."""
    demo = observed(7)
    seen: list[int] = []
    after, more = 0, True
    while more:
        rows, end = ask(demo, after=after, limit=3)
        assert end.servers == (("server1", len(rows)), ("server2", 0))
        seen += [row.number for row in rows]
        after, more = end.last, end.more
    assert seen == sorted(demo.engine.world.numbers)
    assert len(ask(demo, limit=-5)[0]) == 1
    assert len(ask(demo, limit=10**9)[0]) == 7


def test_a_page_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can ask for more than the controller wants to give at once."""
    monkeypatch.setattr(status, "PAGE", 2)
    rows, end = ask(observed(3), limit=100)
    assert (len(rows), end.more) == (2, True)


def test_the_look_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may be empty, and another follow: what is searched for stands further behind."""
    monkeypatch.setattr(status, "SCAN", 2)
    demo = observed(5)
    rows, end = ask(demo, match="40004")
    assert (rows, end.more, end.last, end.servers[0]) == ([], True, 2, ("server1", 2))
    rows, end = ask(demo, match="40004", after=4)
    assert (len(rows), end.more, end.last) == (1, False, 5)


def test_matching_rows() -> None:
    """By the client's port, and by how the name begins."""
    demo = observed(2)
    assert [row.connection for row in ask(demo, match="40000")[0]] == [KEY]
    assert len(ask(demo, match="10.0.0.3:4000")[0]) == 2
    assert ask(demo, match="10.0.0.4")[0] == []


@pytest.mark.parametrize(
    ("key", "text", "meant"),
    [
        (KEY, "", True),
        (KEY, "40000", True),
        (KEY, "4000", False),
        (KEY, "10.0", True),
        (KEY, "10.0.0.3", True),
        (KEY, "10.0.0.3:40000", True),
        (KEY, "10.0.0.3:40000>10.0.0.1:11111", True),
        (KEY, "10.0.0.3:40000>10.0.0.1:111111", False),
        (KEY, "10.0.0.31", False),
        (KEY, "0.0.3", False),
        (SIX, "fd00::3", False),
        (SIX, "[fd00::3]:4000", True),
        (SIX, "4000", True),
        (SIX, "123456", False),
    ],
)
def test_what_is_meant(key: ConnectionKey, text: str, meant: bool) -> None:
    """A number of up to five digits is a port; all else is the beginning of a name."""
    assert status.is_meant(key, text) is meant


def counted(demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every flow of the switch have carried 1,000 bytes."""
    report = demo.switch._report

    def count(event: object) -> None:
        if isinstance(event, FlowsReported):
            flows = tuple(FoundFlow(found.flow, 1, 1_000) for found in event.flows)
            event = replace(event, flows=(*flows, FoundFlow(replace(flows[0].flow, cookie=5), 1, 9)) if flows else ())
        report(event)

    monkeypatch.setattr(demo.switch, "_report", count)


def test_bytes_of_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of the flows that stand, whatever versions have failed since."""
    demo = observed(2)
    counted(demo, monkeypatch)
    assert [row.bytes for row in ask(demo)[0]] == [2_000, 2_000]
    demo.listeners.clear()
    demo.tell(MigrationRequested(0.0, KEY, "server2"))
    demo.run(1.0)
    (row, _), _ = ask(demo)
    assert (row.version, row.bytes) == (1, 2_000)


def test_without_a_switch_there_are_no_bytes() -> None:
    """The page comes all the same, at once if the switch is known to be away."""
    demo = observed(1)
    demo.events.clear()
    demo.tell(StatusRequested(0.0, "mine"))
    assert not demo.events
    demo.tell(SwitchLost(demo.now, 2))
    assert not demo.events
    demo.tell(SwitchLost(demo.now, 1))
    assert [row.bytes for row in demo.happened(ConnectionReported)] == [None]
    (row,), end = ask(demo)
    assert (row.bytes, end.more) == (None, False)
    assert not demo.engine.world.answers


def test_a_switch_that_takes_no_commands() -> None:
    """Nobody waits for ever."""
    demo = observed(1)
    demo.events.clear()
    demo.tell(StatusRequested(0.0, "mine"))
    (token,) = demo.engine.world.answers
    demo.tell(CommandRefused(1, token, "not connected"))
    assert demo.happened(StatusReported)


def test_a_gate_that_is_shut_has_carried_nothing() -> None:
    """Its flows are not those of a path."""
    demo = Demo()
    demo.connect()
    (row,), _ = ask(demo)
    assert (row.state, row.bytes) == (State.GATED.value, None)


def test_each_switch_is_asked_for_its_own() -> None:
    """A page may hold connections of several."""
    demo = observed(2)
    other = demo.engine.world.numbers[2]
    other.switch = 2
    demo.engine.world.ports[2] = {}
    demo.events.clear()
    commands = demo.engine.handle(StatusRequested(0.0, "mine"), demo.now)
    assert sorted(c.switch for c in commands if isinstance(c, ReadFlows)) == [1, 2]
    first, second = demo.engine.world.answers
    assert not demo.engine.handle(BarrierReplied(1, first), demo.now)
    assert len(demo.engine.handle(BarrierReplied(2, second), demo.now)) == 3
