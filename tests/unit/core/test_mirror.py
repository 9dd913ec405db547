# SPDX-License-Identifier: Apache-2.0
"""The mirrored depth: copies up to about a number of bytes, then the switch only forwards."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import Demo
from simulation.observe import KEY, OBSERVE, connection_of, goes_on, move

from controller.core.commands import ReadFlows
from controller.core.events import FlowRemoved, FlowsReported, FoundFlow, SwitchConnected, SwitchLost
from controller.core.policy import CutPolicy

DEPTH = 10_000


class Counting(Demo):
    """A network whose switch tells how much its flows have carried, as a test sets it."""

    carried = 0
    looks = 0
    answers = True

    def _carry_out(self, command: object) -> None:
        if isinstance(command, ReadFlows) and command.cookie & 0xFFFFFFFF:
            self.looks += 1
            flows = [f for f in self.switch.flows.values() if f.cookie & command.cookie_mask == command.cookie]
            if self.answers:
                told = tuple(FoundFlow(flow, 1, self.carried // 2) for flow in flows)
                self._report(FlowsReported(1, command.token, told, more=False))
            return
        super()._carry_out(command)


def copied(demo: Demo) -> bool:
    """Return whether the analyser gets what is said now."""
    demo.trace.clear()
    demo.say(demo.peers[KEY.client, KEY.service], b"look at this")
    demo.run(0.01)
    return any(place == "port 99" and segment.payload for _, place, segment in demo.trace)


def observed(depth: int = DEPTH, cut_policy: CutPolicy = CutPolicy.NOW) -> Counting:
    """Return a network with an observed connection."""
    service = replace(OBSERVE.services[0], mirror_bytes=depth, cut_policy=cut_policy)
    demo = Counting(policy=replace(OBSERVE, services=(service,)))
    demo.connect(seconds=0.01)
    return demo


@pytest.mark.parametrize("cut_policy", CutPolicy)
def test_copies_end_at_the_depth(cut_policy: CutPolicy) -> None:
    """Then the connection goes on without them, and nobody looks any more; whether it is overheard or not."""
    demo = observed(cut_policy=cut_policy)
    assert copied(demo)
    demo.carried = DEPTH - 10
    demo.run(0.2)
    assert copied(demo)
    demo.carried = DEPTH
    demo.run(5.0)
    assert not copied(demo)
    looks = demo.looks
    demo.run(60.0)
    assert demo.looks == looks
    goes_on(demo, demo.peers[KEY.client, KEY.service], demo.at_origin[0])


def test_silent_connections_are_seldom_looked_at() -> None:
    """Less and less often."""
    demo = observed()
    demo.run(600.0)
    assert 10 < demo.looks < 40
    assert copied(demo)


def test_everything_is_copied_where_no_depth_is_set() -> None:
    """0: nobody looks."""
    demo = observed(depth=0)
    demo.carried = 10**9
    demo.run(60.0)
    assert demo.looks == 0
    assert copied(demo)


@pytest.mark.parametrize("while_looking", [True, False])
def test_a_connection_that_moves(while_looking: bool) -> None:
    """The final flows make no copies: nothing is to be done."""
    demo = observed()
    demo.run(0.03)
    if while_looking:
        demo.answers = False
        demo.run(0.03)
    move(demo)
    world = demo.engine.world
    for token in list(world.looks):
        demo.tell(FlowsReported(1, token, (FoundFlow(next(iter(demo.switch.flows.values())), 1, DEPTH),), more=False))
    demo.run(60.0)
    assert not world.looks
    goes_on(demo, demo.peers[KEY.client, KEY.service], demo.at_target[0])


def test_the_depth_is_reached_during_a_migration_that_fails() -> None:
    """It is looked at again afterwards."""
    demo = observed()
    demo.listeners.clear()
    demo.run(0.02)
    demo.carried = DEPTH
    move(demo, seconds=0.03)
    assert connection_of(demo).attempt is not None
    assert demo.looks == 1
    demo.run(1.0)
    assert connection_of(demo).attempt is None
    assert not copied(demo)


def test_switch_away() -> None:
    """The question is asked again when it is back."""
    demo = observed()
    demo.answers = False
    demo.run(0.1)
    demo.tell(SwitchLost(demo.now, 2))
    demo.tell(SwitchLost(demo.now, 1))
    demo.answers, demo.carried = True, DEPTH
    demo.run(1.0)
    demo.tell(SwitchConnected(demo.now, 1, (("ids0", 99),)))
    demo.run(1.0)
    assert not copied(demo)


def test_connections_that_are_over() -> None:
    """No answer brings one back."""
    demo = observed()
    demo.answers = False
    demo.run(0.1)
    world = demo.engine.world
    (token,) = world.looks
    number = connection_of(demo).number
    demo.tell(
        FlowRemoved(
            1, next(f.cookie for f in demo.switch.flows.values() if f.cookie & 0xFFFFFFFF == number), "idle", 0, 0
        )
    )
    flow = next(iter(demo.switch.flows.values()))
    demo.tell(FlowsReported(1, token, (FoundFlow(flow, 1, DEPTH),), more=False))
    assert not world.looks
    demo.run(1.0)
    assert not world.connections
