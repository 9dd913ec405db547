# SPDX-License-Identifier: Apache-2.0
"""Both machines against paper switches: whatever is lost, repeated or dies, every count is somewhere, once."""

from __future__ import annotations

import os
from random import Random

import pytest
from property.p4sync.world import Faults, World, calm, key_of

from controller.p4sync import inputs
from controller.p4sync.destination import State as There
from controller.p4sync.outputs import Result
from controller.p4sync.plan import Flows, Plan, Round
from controller.p4sync.protocol import Array, Mode, Phase
from controller.p4sync.source import State as Here

HISTORIES = int(os.environ.get("BATON_HISTORIES", "150"))
FLOWS = 40
ROUNDS = tuple(
    Round(array, mode, 0, 1023 if array is Array.CLIENTS else 65535)
    for mode in (Mode.OCCUPIED, Mode.CHANGED)
    for array in (Array.CLIENTS, Array.FLOWS)
)
STORM = Faults(loss=0.1, duplication=0.1, reordering=0.1)
BAD = Faults(0.1, 0.1, 0.1, token_loss=0.05, message_loss=0.05, write_doubt=0.1)


def settle(world: World) -> None:
    """Let the session come to its end on both sides, in calm weather. Raises AssertionError if it does not."""
    world.faults = calm(world.faults)
    for _ in range(400):
        world.run(world.now + 0.25)
        if world.outcomes and world.destination.state is There.IDLE:
            world.run(world.now + 1)
            return
    state = world.source.state if world.source else None
    raise AssertionError(f"not over: {state}, {world.destination.state}, {world.outcomes}")


def plan_of(random: Random) -> Plan:
    kind = random.randrange(3)
    if kind == 0:
        return Plan(ROUNDS, release=random.random() < 0.5)
    if kind == 1:
        return Plan((Flows(tuple(key_of(flow) for flow in random.sample(range(FLOWS + 5), 6))),), release=True)
    return Plan((ROUNDS[0], ROUNDS[3]))


def check(world: World) -> None:
    """What was sent is held once, and where the outcome says. What a restart took is nobody's fault."""
    outcome = world.outcomes[-1]
    assert world.a.out.phase is Phase.IDLE, "the next session finds the source free"
    assert (world.a.sync_out, world.b.sync_in, world.b.marks) == (set(), set(), {}), "no key is left behind"
    assert (outcome.result is Result.COMMITTED) <= (outcome.session in world.committed_at_b)
    if world.lost["a"] or world.lost["b"]:
        held = world.held(world.a, world.b)
        assert all(held[what] <= number for what, number in world.sent.items()), "nothing was counted twice"
        return
    assert world.held(world.a, world.b) == world.sent
    if outcome.result is Result.ABORTED:
        assert world.held(world.a) == world.sent, "an aborted session leaves everything at the source"
        assert world.held(world.b) == {}


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_every_update_counts_once_under_traffic_in_a_storm(seed: int) -> None:
    world = World(seed, STORM, plan_of(Random(seed)))
    world.traffic("a", 2000, 0.5, FLOWS)
    world.run(0.2)
    world.start()
    world.run(1.0)
    settle(world)
    assert world.outcomes[-1].result is Result.COMMITTED
    check(world)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_lost_tokens_messages_and_writes_are_mended(seed: int) -> None:
    world = World(seed, BAD, plan_of(Random(seed)))
    world.traffic("a", 1000, 1.0, FLOWS)
    world.run(0.2)
    world.start()
    world.run(4.0)
    settle(world)
    check(world)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_an_agent_dies_at_any_moment_and_another_goes_on(seed: int) -> None:
    random = Random(seed)
    world = World(seed, BAD if seed % 2 else STORM, plan_of(random))
    world.traffic("a", 1000, 0.6, FLOWS)
    world.run(0.2)
    world.start()
    for _ in range(random.randrange(1, 4)):
        world.run(world.now + random.choice([0.002, 0.01, 0.05, 0.3]) * random.random())
        world.kill_agent(random.choice("ab"), random.uniform(0.0, 0.5))
    world.run(world.now + 1)
    settle(world)
    check(world)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_an_agent_dies_while_the_decision_is_made(seed: int) -> None:
    random = Random(seed)
    world = World(seed, STORM, Plan(ROUNDS, release=True))
    world.traffic("a", 1000, 0.6, FLOWS)
    world.run(0.2)
    world.start()
    while world.source.state is not Here.DECIDING:
        world.run(world.now + 0.0001)
    world.run(world.now + random.uniform(0, 0.008))
    world.kill_agent("a" if seed % 3 else "b", random.uniform(0.0, 0.5))
    settle(world)
    check(world)


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_switch_is_cut_off_or_dies_at_any_moment(seed: int) -> None:
    random = Random(seed)
    world = World(seed, STORM, plan_of(random))
    world.traffic("a", 1000, 0.6, FLOWS)
    world.run(0.2)
    world.start()
    for _ in range(random.randrange(1, 3)):
        world.run(world.now + random.choice([0.002, 0.01, 0.05, 0.3]) * random.random())
        world.cut(random.choice("ab"), random.uniform(0.05, 1.0), restart=random.random() < 0.5)
    world.run(world.now + 1)
    settle(world)
    check(world)
    outcome = world.outcomes[-1]
    if world.lost["a"] and not world.lost["b"]:
        assert outcome.result is not Result.ABORTED or not outcome.packets, "a loss is called a loss"
    if world.lost["b"] and not world.lost["a"] and outcome.result is Result.ABORTED:
        assert world.held(world.a) == world.sent


@pytest.mark.parametrize("moment", [0.001 * n for n in range(0, 40, 2)])
def test_a_cancelled_session_leaves_both_switches_as_before(moment: float) -> None:
    world = World(1, STORM, Plan(ROUNDS, release=True))
    world.traffic("a", 2000, 0.5, FLOWS)
    world.run(0.2)
    world.start()
    world.run(world.now + moment)
    world._tell("a", inputs.Cancelled("no longer wanted"))
    settle(world)
    check(world)


def test_both_outcomes_occur() -> None:
    """The histories with deaths reach commits and aborts alike: else they would prove little."""
    results = set()
    for seed in range(40):
        random = Random(seed)
        world = World(seed, STORM, plan_of(random))
        world.traffic("a", 1000, 0.6, FLOWS)
        world.run(0.2)
        world.start()
        world.run(world.now + random.choice([0.002, 0.01, 0.05, 0.3]) * random.random())
        world.kill_agent(random.choice("ab"), 0.1)
        world.run(world.now + 1)
        settle(world)
        results.add(world.outcomes[-1].result)
    assert results >= {Result.COMMITTED, Result.ABORTED}


def test_a_session_that_is_full_is_committed_and_says_so() -> None:
    """8,192 packets, both halves of the bitmap, with losses: what did not fit is still at the source."""
    twice = (Round(Array.FLOWS, Mode.ALL), Round(Array.FLOWS, Mode.ALL))
    world = World(3, STORM, Plan((*twice, Round(Array.CLIENTS, Mode.ALL))))
    world.traffic("a", 1000, 0.3, FLOWS)
    world.run(0.4)
    world.start()
    world.run(5)
    settle(world)
    outcome = world.outcomes[-1]
    assert (outcome.result, outcome.packets, outcome.full) == (Result.COMMITTED, 8192, True)
    assert {kind for kind, _ in world.held(world.b)} == {"flow"}
    assert {kind for kind, _ in world.held(world.a)} == {"client"}
    check(world)
