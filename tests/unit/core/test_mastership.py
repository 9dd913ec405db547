# SPDX-License-Identifier: Apache-2.0
"""Roles at switches: each state meets each input; two controllers and switches that say no, in any order."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.core.errors import TransitionError
from controller.core.mastership import (
    CLAIMS,
    NONE_HEARD,
    TABLE,
    Command,
    Complain,
    Demote,
    Input,
    Mastership,
    Promote,
    RaiseGeneration,
    RequestRole,
    Resign,
    Role,
    State,
    is_older,
)

S = 7


def state(one: Mastership) -> State:
    """Return how far the switch is."""
    return one.switches[S].state


def at(wanted: State, generation: int | None = 5) -> Mastership:
    """Return a controller with a switch in a state."""
    one = Mastership()
    one.connected(S)
    if wanted is State.ASKED:
        return one
    if wanted is State.REFUSED:
        one.handle(S, Input.UNSUPPORTED)
        return one
    if wanted in (State.YIELDING, State.STANDBY):
        one.answered(S, 3)
        if wanted is State.STANDBY:
            one.answered(S, 3)
        return one
    assert generation is not None
    one.elect(generation)
    one.answered(S, 3)
    if wanted is State.MASTER:
        one.answered(S, generation)
    return one


@pytest.mark.parametrize("wanted", State)
def test_the_states_can_be_reached(wanted: State) -> None:
    """What the other tests stand on."""
    assert state(at(wanted)) is wanted


def test_a_switch_that_has_gone_says_nothing() -> None:
    """Its answer was under way."""
    one = Mastership()
    assert one.answered(S, 3) == []
    assert one.switches == {}


def test_a_pair_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Instead of going on in a state that nobody has thought of."""
    monkeypatch.delitem(TABLE, (State.ASKED, Input.ANSWER))
    with pytest.raises(TransitionError):
        at(State.ASKED).answered(S, 3)


def test_every_state_meets_every_input() -> None:
    """No pair is missing."""
    assert TABLE.keys() == {(one, what) for one in State for what in Input}


def test_a_standby_yields() -> None:
    """It asks, and then says that it is a slave, with what the switch has heard."""
    one = Mastership()
    assert one.connected(S) == [RequestRole(S, Role.NOCHANGE, 0)]
    assert one.answered(S, 41) == [RequestRole(S, Role.SLAVE, 41)]
    assert one.answered(S, 41) == []
    assert state(one) is State.STANDBY


def test_a_switch_that_has_heard_nothing() -> None:
    """Generation 0 is older than any that is elected."""
    one = Mastership()
    one.connected(S)
    assert one.answered(S, NONE_HEARD) == [RequestRole(S, Role.SLAVE, 0)]
    one.answered(S, 0)
    assert one.elect(1) == [RequestRole(S, Role.MASTER, 1)]
    assert one.answered(S, 1) == [Promote(S)]


def test_a_master_claims_what_connects() -> None:
    """Each switch is asked first."""
    one = Mastership()
    assert one.elect(9) == []
    assert one.connected(S) == [RequestRole(S, Role.NOCHANGE, 0)]
    assert one.answered(S, NONE_HEARD) == [RequestRole(S, Role.MASTER, 9)]
    assert one.answered(S, 9) == [Promote(S)]
    assert one.elected
    one.lost(S)
    assert one.handle(S, Input.ANSWER) == []


def test_a_switch_that_has_heard_of_newer_generations() -> None:
    """What the controllers had agreed on was lost: they begin above it."""
    one = Mastership()
    one.connected(S)
    one.elect(1)
    assert one.answered(S, 57) == [RaiseGeneration(57)]
    assert one.elect(58) == [RequestRole(S, Role.MASTER, 58)]
    assert one.answered(S, 58) == [Promote(S)]


def test_a_generation_that_somebody_else_has_had() -> None:
    """It must be new; our own is known again where a switch comes back."""
    one = Mastership()
    one.elect(3)
    one.connected(S)
    assert one.answered(S, 3) == [RaiseGeneration(3)]
    one.elect(4)
    assert one.answered(S, 4) == [Promote(S)]
    one.lost(S)
    one.connected(S)
    assert one.answered(S, 4) == [RequestRole(S, Role.MASTER, 4)]


def test_a_claim_that_is_refused_as_old() -> None:
    """It asks again; where that goes on, somebody fights for the switch: give way."""
    one = at(State.CLAIMED)
    for _ in range(CLAIMS):
        assert one.handle(S, Input.STALE) == [RequestRole(S, Role.NOCHANGE, 0)]
        assert one.answered(S, 4) == [RequestRole(S, Role.MASTER, 5)]
    resigned, yielded = one.handle(S, Input.STALE)
    assert isinstance(resigned, Resign)
    assert yielded == RequestRole(S, Role.SLAVE, 4)


def test_a_standby_that_is_refused_as_old_asks_again() -> None:
    """A new master was faster."""
    one = at(State.YIELDING)
    assert one.handle(S, Input.STALE) == [RequestRole(S, Role.NOCHANGE, 0)]
    assert one.answered(S, 8) == [RequestRole(S, Role.SLAVE, 8)]


def test_a_switch_without_roles_is_not_used() -> None:
    """The operator is told what to do."""
    for wanted in (State.ASKED, State.YIELDING, State.CLAIMED):
        one = at(wanted)
        (complaint,) = one.handle(S, Input.UNSUPPORTED)
        assert isinstance(complaint, Complain)
        assert "one controller" in complaint.text
        assert one.elect(6) == []


def test_somebody_else_is_master() -> None:
    """The switch says so: its commands are not ours any more."""
    one = at(State.MASTER)
    demoted, resigned = one.handle(S, Input.DEPOSED)
    assert demoted == Demote(S)
    assert isinstance(resigned, Resign)
    assert one.resign() == [RequestRole(S, Role.SLAVE, 5)]
    assert not one.elected
    one.answered(S, 6)
    assert state(one) is State.STANDBY


def test_a_master_steps_down() -> None:
    """The election says so: every switch is told."""
    one = at(State.MASTER)
    one.connected(S + 1)
    one.answered(S + 1, 5)
    assert one.resign() == [Demote(S), RequestRole(S, Role.SLAVE, 5), RequestRole(S + 1, Role.SLAVE, 5)]


@given(st.integers(0, 2**64 - 1), st.integers(1, 2**63 - 1))
def test_generations_wrap(generation: int, more: int) -> None:
    """Switches compare them modulo 2^64."""
    later = (generation + more) % 2**64
    assert is_older(generation, later)
    assert not is_older(later, generation)
    assert not is_older(generation, generation)


class Switch:
    """A switch's part in it: who is master, and the newest generation."""

    def __init__(self, heard: int) -> None:
        self.heard = heard
        self.roles = [Role.EQUAL, Role.EQUAL]

    def ask(self, who: int, request: RequestRole) -> tuple[Input, list[int]]:
        """Answer a controller; return also who is deposed by it."""
        deposed = []
        if request.role is not Role.NOCHANGE:
            if self.heard != NONE_HEARD and is_older(request.generation, self.heard):
                return Input.STALE, []
            self.heard = request.generation
            if request.role is Role.MASTER and self.roles[1 - who] is Role.MASTER:
                self.roles[1 - who] = Role.SLAVE
                deposed = [1 - who]
            self.roles[who] = request.role
        return Input.ANSWER, deposed


class Two:
    """Two controllers, three switches, messages that take their time but keep their order on each connection."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.controllers = [Mastership(), Mastership()]
        self.switches = {number: Switch(self.chance.choice([NONE_HEARD, 0, 40])) for number in (1, 2, 3)}
        self.generation = 0
        self.holder: int | None = None
        self.queues: dict[tuple[int, int, bool], deque[RequestRole | tuple[Input, RequestRole | None, int]]] = {}
        self.newest: dict[tuple[int, int], RequestRole] = {}
        self.ours: list[set[int]] = [set(), set()]

    def do(self, who: int, commands: list[Command]) -> None:
        """Carry out what a controller says."""
        for command in commands:
            match command:
                case RequestRole():
                    self.newest[who, command.switch] = command
                    self.queues.setdefault((who, command.switch, True), deque()).append(command)
                case Promote(switch):
                    self.ours[who].add(switch)
                case Demote(switch):
                    self.ours[who].discard(switch)
                case RaiseGeneration(above):
                    if self.holder == who:
                        self.generation = max(self.generation, above) + 1
                        self.do(who, self.controllers[who].elect(self.generation))
                case Resign():
                    self.do(who, self.controllers[who].resign())
                    if self.holder == who:
                        self.holder = None
                case Complain():
                    raise AssertionError(command)

    def elect(self, who: int) -> None:
        """The file says who is master; the other one notices sooner or later."""
        self.generation += 1
        self.holder = who
        self.do(who, self.controllers[who].elect(self.generation))

    def step(self) -> bool:
        """Deliver one message; return whether there was one."""
        ready = [key for key, queue in self.queues.items() if queue]
        if not ready:
            return False
        who, number, _ = key = self.chance.choice(ready)
        message = self.queues[key].popleft()
        if isinstance(message, RequestRole):
            said, deposed = self.switches[number].ask(who, message)
            back = self.queues.setdefault((who, number, False), deque())
            back.append((said, message, self.switches[number].heard))
            for other in deposed:
                self.queues.setdefault((other, number, False), deque()).append((Input.DEPOSED, None, 0))
            return True
        said, request, heard = message
        if request is not None and self.newest[who, number] is not request:
            return True  # to an older request
        one = self.controllers[who]
        self.do(who, one.answered(number, heard) if said is Input.ANSWER else one.handle(number, said))
        return True


@given(st.integers(0, 2**32))
def test_in_the_end_one_is_master_of_all(seed: int) -> None:
    """However elections, connections and messages fall: who was elected last has every switch, the other none."""
    two = Two(seed)
    for who in (0, 1):
        for number in two.switches:
            two.do(who, two.controllers[who].connected(number))
    for _ in range(two.chance.randrange(60)):
        what = two.chance.random()
        if what < 0.1:
            two.elect(two.chance.randrange(2))
        elif what < 0.15:
            who = 1 - two.holder if two.holder is not None else two.chance.randrange(2)
            two.do(who, two.controllers[who].resign())
        else:
            two.step()
    winner = two.chance.randrange(2)
    for _ in range(10):  # one that gives way is asked again, as after its pause
        if two.holder != winner:
            two.elect(winner)
        two.do(1 - winner, two.controllers[1 - winner].resign())
        while two.step():
            pass
    assert two.holder == winner
    assert {number for number, switch in two.switches.items() if switch.roles[winner] is Role.MASTER} == {1, 2, 3}
    assert two.ours[winner] == {1, 2, 3}
    assert all(switch.roles[1 - winner] is Role.SLAVE for switch in two.switches.values())
