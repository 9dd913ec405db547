# SPDX-License-Identifier: Apache-2.0
"""The table of connections: what a row says, which rows are meant, and pages of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, MACS, ORIGIN, POLICY, Demo
from simulation.peer import Capabilities

from controller.core import status
from controller.core.connection import Phase, State
from controller.core.events import ConnectionReported, MigrationRequested, StatusReported, StatusRequested
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
