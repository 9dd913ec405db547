# SPDX-License-Identifier: Apache-2.0
"""Which of several switches rewrites: by the settings, by their marks, by the connections in them, or the first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from simulation.demo import CLIENT, ORIGIN, POLICY, TARGET, Demo

from controller.core.commands import Bundle, Command, FlowAdd, Output, PacketOut, Port, Publish
from controller.core.connection import Phase
from controller.core.cookie import Cookie, Kind, decode_cookie
from controller.core.engine import Engine
from controller.core.events import (
    FlowsReported,
    FoundFlow,
    HostLocated,
    MigrationRequested,
    SegmentReceived,
    SwitchAssigned,
    SwitchConnected,
    SwitchLost,
)
from controller.core.pipeline import CONNECTIONS, forwarding
from controller.core.policy import Policy
from controller.core.segment import ACK, SYN, ConnectionKey, Segment

SYN_SEGMENT = Segment(CLIENT, ORIGIN, 1, 0, SYN, 100, eth_dst="02:00:00:00:00:01")
STANDING = Cookie(Kind.SYN).encode()


class Switches:
    """Any number of switches that remember what they were told, and an engine that can be restarted."""

    def __init__(self, policy: Policy = POLICY) -> None:
        self.policy = policy
        self.tables: dict[int, dict[object, FlowAdd]] = {}
        self.restart()

    def restart(self) -> None:
        """A new controller, which knows nothing."""
        self.engine = Engine(self.policy)
        self.assigned: list[tuple[int, bool]] = []
        self.tokens: dict[int, int] = {}

    def tell(self, event: object) -> list[Command]:
        """Give the engine an event; let the switches do what it says."""
        commands = self.engine.handle(event, 1.0)
        for command in commands:
            if isinstance(command, Publish) and isinstance(command.event, SwitchAssigned):
                self.assigned.append((command.event.switch, command.event.rewrites))
            elif isinstance(command, FlowAdd):
                self._add(command)
            elif isinstance(command, Bundle):
                for change in command.changes:
                    if isinstance(change, FlowAdd):
                        self._add(change)
                        continue
                    table = self.tables[change.switch]
                    for key in [key for key, flow in table.items() if flow.cookie == change.cookie]:
                        del table[key]
        return commands

    def _add(self, flow: FlowAdd) -> None:
        self.tables[flow.switch][flow.table, flow.priority, flow.match] = flow

    def begin(self, number: int) -> None:
        """A switch connects, and is asked for its flows; number 9 has the analyser's port."""
        self.tables.setdefault(number, {})
        self.tell(SwitchConnected(1.0, number, ((str(self.policy.analyser_port), 4),) if number == 9 else ()))
        self.tokens[number] = self.engine.world.readings[number].token

    def report(self, number: int) -> None:
        """It answers."""
        flows = [flow for flow in self.tables[number].values() if flow.table == CONNECTIONS]
        self.tell(FlowsReported(number, self.tokens[number], tuple(FoundFlow(f, 0, 0) for f in flows), more=False))

    def connect(self, *numbers: int) -> None:
        """Switches connect, one after the other."""
        for number in numbers:
            self.begin(number)
            self.report(number)

    @property
    def rewriting(self) -> set[int]:
        """Which switches are set up to take connections in hand."""
        return {number for number, table in self.tables.items() if STANDING in {f.cookie for f in table.values()}}

    def forwards(self, number: int) -> bool:
        """Return whether all that a switch holds is what forwards."""
        adds = [change for change in forwarding(number).changes if isinstance(change, FlowAdd)]
        return sorted(self.tables[number].values(), key=lambda f: -f.table) == adds


def test_the_first_rewrites_and_the_others_forward() -> None:
    """Without a word in the settings."""
    switches = Switches()
    switches.connect(5, 3, 4)
    assert switches.rewriting == {5}
    assert switches.forwards(3)
    assert switches.forwards(4)
    assert switches.assigned == [(5, True), (3, False), (4, False)]


@pytest.mark.parametrize("order", [(3, 4, 5), (5, 4, 3), (4, 5, 3)])
def test_switches_remember_what_they_were(order: tuple[int, ...]) -> None:
    """Whichever finds the next controller first."""
    switches = Switches()
    switches.connect(5, 3, 4)
    switches.restart()
    switches.connect(*order)
    assert switches.rewriting == {5}
    assert dict(switches.assigned) == {5: True, 3: False, 4: False}


@pytest.mark.parametrize("answers", [(3, 5), (5, 3)])
def test_answers_in_any_order(answers: tuple[int, int]) -> None:
    """All are there before the first has answered."""
    switches = Switches()
    switches.connect(5, 3)
    switches.restart()
    switches.begin(3)
    switches.begin(5)
    for number in answers:
        switches.report(number)
    assert switches.rewriting == {5}
    assert dict(switches.assigned) == {5: True, 3: False}


def test_a_forwarding_switch_takes_over_only_where_none_was_told_to() -> None:
    """One that forwards by its mark stays so; one that was only second takes its place."""
    switches = Switches()
    switches.connect(5, 3)
    del switches.tables[5]
    switches.restart()
    switches.begin(3)
    switches.begin(6)
    switches.report(6)
    switches.report(3)
    assert switches.rewriting == {6}
    assert switches.assigned == [(6, False), (3, False), (6, True)]


@pytest.mark.parametrize("order", [(3, 9), (9, 3)])
def test_the_switch_with_the_analyser_rewrites(order: tuple[int, int]) -> None:
    """Traffic has to pass there; one that is idle gives way to it."""
    switches = Switches()
    switches.connect(*order)
    assert switches.rewriting == {9}
    switches.restart()
    switches.connect(*order)
    assert dict(switches.assigned) == {9: True, 3: False}
    assert switches.rewriting == {9}


def test_a_busy_switch_does_not_give_way() -> None:
    """The one with the analyser's port comes too late."""
    switches = Switches()
    switches.connect(3)
    opened(switches, 3)
    switches.connect(9)
    assert switches.rewriting == {3}


def test_a_switch_that_is_lost_is_waited_for() -> None:
    """Its connections are in it."""
    switches = Switches()
    switches.connect(5)
    switches.tell(SwitchLost(1.0, 5))
    switches.connect(3, 5)
    assert switches.rewriting == {5}
    assert dict(switches.assigned) == {5: True, 3: False}


def opened(switches: Switches, number: int) -> None:
    """A connection begins at a switch."""
    switches.tell(HostLocated(number, 1, ORIGIN.address, "02:00:00:00:00:01"))
    switches.tell(SegmentReceived(number, 3, SYN_SEGMENT, STANDING))
    assert any(flow.cookie & 0xFFFFFFFF for flow in switches.tables[number].values())


def test_connections_count_more_than_who_was_first() -> None:
    """A switch that holds connections goes on, whatever came before it."""
    switches = Switches()
    switches.connect(5)
    opened(switches, 5)
    for key in [key for key, flow in switches.tables[5].items() if decode_cookie(flow.cookie) == (Kind.REWRITES, 0, 0)]:
        del switches.tables[5][key]
    switches.restart()
    switches.connect(3, 5)
    assert switches.rewriting == {5}
    assert switches.forwards(3)


def test_two_that_hold_connections_both_go_on() -> None:
    """Neither is made to stand still."""
    switches = Switches()
    switches.connect(5)
    opened(switches, 5)
    five, switches.tables = switches.tables[5], {}
    switches.restart()
    switches.connect(3)
    opened(switches, 3)
    switches.tables[5] = five
    switches.connect(5)
    assert switches.rewriting == {3, 5}


def test_the_settings_say_which() -> None:
    """At once, whatever the switches were before."""
    switches = Switches()
    switches.connect(5, 3)
    switches.policy = replace(POLICY, rewriting=frozenset({3, 9}))
    switches.restart()
    switches.begin(5)
    switches.begin(3)
    assert switches.rewriting == {3}
    assert switches.forwards(5)
    switches.report(5)
    switches.report(3)
    assert switches.assigned == [(5, False), (3, True)]


def packets(commands: Iterable[Command]) -> list[PacketOut]:
    """Return the packets among commands."""
    return [command for command in commands if isinstance(command, PacketOut)]


def test_what_a_forwarding_switch_hands_over_goes_its_way() -> None:
    """It was under way when the switch was told to forward only; copies have passed already."""
    switches = Switches()
    switches.connect(5, 3)
    (out,) = packets(switches.tell(SegmentReceived(3, 7, SYN_SEGMENT, STANDING)))
    assert (out.switch, out.in_port, out.actions, out.packet) == (3, 7, (Output(Port.TABLE),), SYN_SEGMENT)
    copy = SegmentReceived(3, 7, replace(SYN_SEGMENT, flags=ACK), Cookie(Kind.COPY).encode())
    assert not packets(switches.tell(copy))
    assert not switches.engine.world.connections


def test_a_syn_does_not_go_round_two_switches() -> None:
    """Both in a row rewrite, as the settings want it: the second must not send it back to the first."""
    switches = Switches(replace(POLICY, rewriting=frozenset({3, 5})))
    switches.connect(3, 5)
    opened(switches, 3)
    for flags in (SYN, ACK):
        event = SegmentReceived(5, 2, replace(SYN_SEGMENT, flags=flags), STANDING)
        assert not packets(switches.tell(event))
    back = Segment(ORIGIN, CLIENT, 9, 2, SYN | ACK, 100)
    assert not packets(switches.tell(SegmentReceived(5, 1, back, Cookie(Kind.PUNT).encode())))


def test_a_target_is_heard_at_the_switch_of_its_connection() -> None:
    """Another one that rewrites sees its answer as well, on the way there."""
    observed = replace(POLICY.services[0], gated=False)
    demo = Demo(policy=replace(POLICY, services=(observed,), rewriting=frozenset({1, 2})))
    demo.connect()
    key = ConnectionKey(CLIENT, ORIGIN)
    demo.tell(MigrationRequested(demo.now, key, "server2"))
    attempt = demo.engine.world.connections[key].attempt
    answer = Segment(TARGET, CLIENT, 9, attempt.syn_seq + 1, SYN | ACK, 100)
    demo.tell(SegmentReceived(2, 1, answer, Cookie(Kind.PUNT).encode()))
    assert attempt.phase is Phase.CONNECTING


def test_one_that_has_gone_and_gives_way_is_told_nothing() -> None:
    """It is not there to be told; when it comes back it asks for its place like any other."""
    switches = Switches()
    switches.connect(5)
    switches.tell(SwitchLost(1.0, 5))
    switches.connect(9)
    assert switches.assigned == [(5, True), (9, True)]
    switches.connect(5)
    assert switches.rewriting == {9}
    assert switches.assigned[2:] == [(5, False)]


def test_one_switch_still_drops_what_it_does_not_know() -> None:
    """The mark of a rewriting switch passes nothing."""
    demo = Demo()
    (mark,) = (flow for flow in demo.switch.flows.values() if decode_cookie(flow.cookie) == (Kind.REWRITES, 0, 0))
    assert (mark.table, mark.priority, mark.actions, mark.goto) == (CONNECTIONS, 0, (), None)
