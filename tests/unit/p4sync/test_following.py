# SPDX-License-Identifier: Apache-2.0
"""Which flow's state goes where when connections migrate."""

from __future__ import annotations

import pytest

from controller.core import events
from controller.core.segment import ConnectionKey, Endpoint
from controller.p4sync.following import Following, SetVerdict, ShipFlow
from controller.p4sync.protocol import Verdict, flow_key

SERVICE = Endpoint("10.0.0.1", 80)
CONNECTION = ConnectionKey(Endpoint("10.0.9.9", 40000), SERVICE)
KEY = flow_key("10.0.9.9", 40000, 7)


def following() -> Following:
    return Following({"s1": "p1", "s2": "p2", "s3": "p2"}, {SERVICE: ("s1", 7)})


def started(origin: str = "s1", target: str = "s2", connection: ConnectionKey = CONNECTION) -> events.MigrationStarted:
    return events.MigrationStarted(0.0, connection, 3, origin, target)


def completed(origin: str, target: str) -> events.MigrationCompleted:
    return events.MigrationCompleted(0.0, CONNECTION, 3, origin, target, 0, 0, 0, 0)


def test_ahead_and_behind() -> None:
    app = following()
    assert app.handle(started()) == [ShipFlow("p1", "p2", KEY, False, CONNECTION, 3)]
    assert app.handle(completed("s1", "s2")) == [ShipFlow("p1", "p2", KEY, True, CONNECTION, 3)]
    assert app.handle(started("s2", "s1")) == [ShipFlow("p2", "p1", KEY, False, CONNECTION, 3)]


def arrived(is_there: bool = True, version: int = 3, ahead: bool = True) -> events.StateShipped | events.StateRejected:
    label = {"connection": CONNECTION, "version": version, "ahead": ahead}
    if is_there:
        return events.StateShipped(0.0, "p1", "p2", 1, 0, 0.01, **label)
    return events.StateRejected(0.0, "p1", "p2", "forged", **label)


ENDS = [
    events.MigrationFailed(0.0, CONNECTION, 3, "s2", "refused", ""),
    events.MigrationRolledBack(0.0, CONNECTION, 3, "s2", "deadline"),
    events.ConnectionClosed(0.0, CONNECTION, 3, "rst"),
]
BACK = ShipFlow("p2", "p1", KEY, True, CONNECTION, 3)


@pytest.mark.parametrize("end", ENDS)
def test_what_went_ahead_comes_back_once_it_is_there(end: object) -> None:
    app = following()
    assert app.handle(end) == []
    app.handle(started())
    assert app.handle(arrived()) == []
    assert app.handle(end) == [BACK]
    assert app.handle(end) == []
    app.handle(started())
    assert app.handle(end) == [], "it may still be on its way"
    assert app.handle(arrived(version=2)) == app.handle(arrived(ahead=False)) == []
    assert app.handle(arrived()) == [BACK]
    assert app.handle(arrived()) == []


@pytest.mark.parametrize("end", ENDS)
def test_what_was_rejected_has_nothing_to_come_back(end: object) -> None:
    app = following()
    app.handle(started())
    assert app.handle(arrived(False)) == app.handle(end) == []
    app.handle(started())
    assert app.handle(end) == app.handle(arrived(False)) == app.handle(arrived()) == []


def test_what_is_ahead_of_a_cutover_stays() -> None:
    app = following()
    app.handle(started())
    app.handle(arrived())
    app.handle(completed("s1", "s2"))
    assert app.handle(ENDS[2]) == app.handle(arrived()) == []


def test_verdicts_go_to_where_the_connection_is() -> None:
    def verdict(what: events.Verdict) -> events.VerdictReached:
        return events.VerdictReached(0.0, CONNECTION, 1, what, "sid 1")

    app = following()
    assert app.handle(verdict(events.Verdict.DROP)) == [SetVerdict("p1", KEY, Verdict.DROP)]
    app.handle(started())
    app.handle(completed("s1", "s2"))
    assert app.handle(verdict(events.Verdict.FORWARD)) == [SetVerdict("p2", KEY, Verdict.FORWARD)]
    app.handle(events.ConnectionClosed(0.0, CONNECTION, 3, "fin"))
    assert app.handle(verdict(events.Verdict.MIGRATE)) == [SetVerdict("p1", KEY, Verdict.FORWARD)]


def test_what_no_switch_counts_is_left_alone() -> None:
    app = following()
    six = ConnectionKey(Endpoint("fd00::9", 1), SERVICE)
    other = ConnectionKey(CONNECTION.client, Endpoint("10.0.0.1", 81))
    for event in (
        started(connection=six),
        started(connection=other),
        started("s2", "s3"),
        started("s1", "s9"),
        started("s9", "s1"),
        events.SwitchConnected(0.0, 1),
    ):
        assert app.handle(event) == []
