# SPDX-License-Identifier: Apache-2.0
"""A switch that went away, with or without its flows, gets what it needs again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import MACS, ORIGIN, Demo
from simulation.gate import GATED, KEY, REQUEST, attempt_of, begin, served_by_origin, until

from controller.core import seq
from controller.core.commands import FlowAdd
from controller.core.connection import Phase, State
from controller.core.events import (
    MigrationFailed,
    SwitchConnected,
    SwitchLost,
    TimerExpired,
)


@pytest.mark.parametrize("phase", GATED)
def test_switch_reconnects_empty_during_a_migration(phase: Phase) -> None:
    """The migration is given up, the origin serves."""
    demo = Demo(located=False)
    demo.add_host("10.0.0.1", MACS["10.0.0.1"], 1)
    client = begin(demo)
    if phase is not Phase.LOCATING:
        demo.add_host("10.0.0.2", MACS["10.0.0.2"], 2)
        until(demo, phase)
    demo.tell(SwitchLost(demo.now, 1))
    demo.switch.flows.clear()
    demo.tell(SwitchConnected(demo.now, 1, (("ids0", 99),)))
    served_by_origin(demo, client)
    assert "away" in demo.happened(MigrationFailed)[0].detail


def test_switch_reconnects_empty() -> None:
    """Connections in every other state get their flows again."""
    demo = Demo()
    client = begin(demo)
    demo.run(0.1)
    flows = set(demo.switch.flows)
    demo.tell(SwitchLost(demo.now, 1))
    demo.switch.flows.clear()
    demo.tell(SwitchConnected(demo.now, 1, (("ids0", 99),)))
    demo.run(0.1)
    assert set(demo.switch.flows) == {key for key in flows if demo_flow_is_lasting(key, demo)}
    demo.say(client, b" again")
    demo.run(0.1)
    assert demo.at_target[0].received == REQUEST + b" again"


def demo_flow_is_lasting(key: tuple[int, int, object], demo: Demo) -> bool:
    """Return whether a flow of the first life is still needed: all but the silence of the origin's reset half."""
    return getattr(key[2], "ip_src", None) != ORIGIN.address or key[0] == 0 or key[1] != 100


@pytest.mark.parametrize("state", [State.GATED, State.HELD, State.CLOSING])
def test_switch_reconnects_in_other_states(state: State) -> None:
    """Gate or lingering flows come back as they were."""
    demo = Demo()
    client = demo.connect()
    if state is State.HELD:
        demo.say(client, b"x")
        demo.run(0.001)
    elif state is State.CLOSING:
        for peer in (client, demo.at_origin[0]):
            demo.act(peer, lambda one: one.close(demo.now))
            demo.run(0.1)
    connection = demo.engine.world.connections[KEY]
    assert connection.state is state
    flows = without_facts(demo)
    demo.switch.flows.clear()
    demo.tell(SwitchConnected(demo.now, 1, (("ids0", 99),)))
    demo.run(0.01)
    assert without_facts(demo) == flows


def without_facts(demo: Demo) -> dict[object, FlowAdd]:
    """Return the switch's flows without their notes: more is known by the time they are made again."""
    return {key: replace(flow, facts=None) for key, flow in demo.switch.flows.items()}


def test_connections_of_other_switches_are_left_alone() -> None:
    """Tokens too."""
    demo = Demo()
    begin(demo)
    until(demo, Phase.COMMITTING)
    demo.tell(SwitchLost(demo.now, 2))
    demo.tell(SwitchConnected(demo.now, 2, ()))
    assert demo.engine.world.tokens
    assert not demo.engine.world.mirror(2)


def test_timers_of_older_versions() -> None:
    """A deadline of an earlier migration does not end this one."""
    demo = Demo()
    begin(demo)
    demo.tell(TimerExpired(KEY, 0, "deadline"))
    assert attempt_of(demo) is not None


def test_client_that_never_acknowledges_the_origin() -> None:
    """The server's cut cannot be made: the origin goes on."""
    demo = Demo()
    client = begin(demo)
    connection = demo.engine.world.connections[KEY]
    connection.origin.next = seq.add(connection.origin.next, 3)
    until(demo, Phase.COMMITTING)
    served_by_origin(demo, client)
    assert [event.reason for event in demo.happened(MigrationFailed)] == ["timeout"]
