# SPDX-License-Identifier: Apache-2.0
"""Two controllers, one switch: which role this one has at each switch (OpenFlow 1.4 section 6.3.5).

Who is to be master is elected elsewhere, and has a *generation*, greater than that of every master before it. Here the
switches are told, and what they say is understood: a switch refuses a generation older than the newest it has heard, so
a master that was thought dead and wakes up can do no harm. ``TABLE`` lists what every state does on every input.

A switch that is new is asked which generation it has heard before anything is claimed: where what the controllers had
agreed on was lost, the switch still knows, and the next generation begins above it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum

from controller.core.errors import TransitionError

NONE_HEARD = (1 << 64) - 1
"""What a switch says that has heard of no generation."""
HALF = 1 << 63
WHOLE = 1 << 64
CLAIMS = 5
"""Claims in a row that a switch may refuse as old until the controller gives way: others have agreed otherwise."""


def is_older(one: int, other: int) -> bool:
    """Return whether a generation is older than another, as switches compare them: modulo 2^64."""
    return (one - other) % WHOLE >= HALF


class Role(IntEnum):
    """A controller's role, as the protocol numbers them."""

    NOCHANGE = 0
    EQUAL = 1
    MASTER = 2
    SLAVE = 3


class State(Enum):
    """How far a switch is."""

    ASKED = "asked"
    """It was asked which generation it has heard."""
    YIELDING = "yielding"
    """It was told that we are a slave."""
    STANDBY = "standby"
    CLAIMED = "claimed"
    """It was told that we are its master."""
    MASTER = "master"
    REFUSED = "refused"
    """It has no roles: we can neither be its only master nor stand by."""


class Input(Enum):
    """What can happen between us and a switch."""

    ANSWER = "answer"
    STALE = "stale"
    UNSUPPORTED = "unsupported"
    DEPOSED = "deposed"
    """It says that somebody else is its master."""
    ELECTED = "elected"
    RESIGNED = "resigned"


# ---- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestRole:
    """Tell a switch our role (``NOCHANGE``: only ask)."""

    switch: int
    role: Role
    generation: int


@dataclass(frozen=True, slots=True)
class Promote:
    """We are the switch's master now."""

    switch: int


@dataclass(frozen=True, slots=True)
class Demote:
    """We are the switch's master no more."""

    switch: int


@dataclass(frozen=True, slots=True)
class RaiseGeneration:
    """A switch has heard of this generation, newer than ours: elect us again, with one above it."""

    above: int


@dataclass(frozen=True, slots=True)
class Resign:
    """Somebody else is master, whatever was elected: give way for a while."""

    reason: str


@dataclass(frozen=True, slots=True)
class Complain:
    """Tell the operator."""

    text: str


Command = RequestRole | Promote | Demote | RaiseGeneration | Resign | Complain


# ---- the machine -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Known:
    """One switch: its state, the generation that it has heard, and how often in a row it has refused ours as old."""

    state: State = State.ASKED
    heard: int = NONE_HEARD
    stale: int = 0


class Mastership:
    """Our role at each switch; ``generation`` is the one that we were elected with, or None."""

    def __init__(self) -> None:
        """Begin as a standby, with no switch."""
        self.generation: int | None = None
        self.switches: dict[int, Known] = {}
        self._accepted = False
        """Whether a switch has heard of our generation from us: elsewhere it has to be new."""
        self._out: list[Command] = []

    @property
    def elected(self) -> bool:
        """Tell whether this controller is to be the master."""
        return self.generation is not None

    def connected(self, switch: int) -> list[Command]:
        """A switch is there (again)."""
        self.switches[switch] = Known()
        self._out.append(RequestRole(switch, Role.NOCHANGE, 0))
        return self._taken()

    def lost(self, switch: int) -> list[Command]:
        """A switch has gone; who uses it notices that without us."""
        self.switches.pop(switch, None)
        return self._taken()

    def answered(self, switch: int, generation: int) -> list[Command]:
        """A switch has answered the newest request with a generation that it has heard."""
        known = self.switches.get(switch)
        if known is not None:
            known.heard = generation
        return self.handle(switch, Input.ANSWER)

    def elect(self, generation: int) -> list[Command]:
        """We are to be the master, with this generation (again, with a newer one)."""
        self.generation = generation
        self._accepted = False
        return self._all(Input.ELECTED)

    def resign(self) -> list[Command]:
        """We are not to be the master any more."""
        self.generation = None
        return self._all(Input.RESIGNED)

    def handle(self, switch: int, what: Input) -> list[Command]:
        """Do what the table says; nothing for a switch that has gone. Raises TransitionError for a missing pair."""
        known = self.switches.get(switch)
        if known is not None:
            handler = TABLE.get((known.state, what))
            if handler is None:
                raise TransitionError(known.state, what)
            known.state = handler(self, switch, known)
        return self._taken()

    def _all(self, what: Input) -> list[Command]:
        return [command for switch in list(self.switches) for command in self.handle(switch, what)]

    def _taken(self) -> list[Command]:
        out, self._out = self._out, []
        return out

    # ---- what is done ----

    def _decide(self, switch: int, known: Known) -> State:
        """It is known what the switch has heard: claim it, or yield."""
        if self.generation is None:
            return self._yield(switch, known)
        if known.heard != NONE_HEARD and not self._is_ours(self.generation, known.heard):
            self._out.append(RaiseGeneration(known.heard))
            return State.STANDBY  # being elected again claims it
        return self._claim(switch, known)

    def _is_ours(self, generation: int, heard: int) -> bool:
        """Return whether a generation can be claimed with where another one was heard."""
        return is_older(heard, generation) or (heard == generation and self._accepted)

    def _claim(self, switch: int, known: Known) -> State:
        assert self.generation is not None
        self._out.append(RequestRole(switch, Role.MASTER, self.generation))
        return State.CLAIMED

    def _yield(self, switch: int, known: Known) -> State:
        # With what it has heard already: a standby neither knows nor makes generations.
        self._out.append(RequestRole(switch, Role.SLAVE, 0 if known.heard == NONE_HEARD else known.heard))
        return State.YIELDING

    def _stay(self, switch: int, known: Known) -> State:
        return known.state

    def _settle(self, switch: int, known: Known) -> State:
        return State.STANDBY

    def _take(self, switch: int, known: Known) -> State:
        """The switch has accepted us as its master."""
        known.stale, self._accepted = 0, True
        self._out.append(Promote(switch))
        return State.MASTER

    def _ask(self, switch: int, known: Known) -> State:
        """It has heard of a newer generation since: which one?"""
        known.stale += 1
        if self.generation is not None and known.stale > CLAIMS:
            known.stale = 0
            self._out.append(Resign(f"switch {switch:016x} has a master that we do not know, with newer generations"))
            return self._yield(switch, known)
        self._out.append(RequestRole(switch, Role.NOCHANGE, 0))
        return State.ASKED

    def _refuse(self, switch: int, known: Known) -> State:
        self._out.append(
            Complain(
                f"switch {switch:016x} has no controller roles: two controllers cannot share it. Leave [standby] out "
                "of the settings and run one controller, or use the Open vSwitch that 'make setup' builds"
            )
        )
        return State.REFUSED

    def _give_way(self, switch: int, known: Known) -> State:
        """Somebody else was accepted."""
        if known.state is State.MASTER:
            self._out.append(Demote(switch))
        self._out.append(Resign(f"switch {switch:016x} has another master now"))
        return State.STANDBY

    def _step_down(self, switch: int, known: Known) -> State:
        if known.state is State.MASTER:
            self._out.append(Demote(switch))
        return self._yield(switch, known)


Handler = Callable[[Mastership, int, Known], State]

_ORDER = (State.ASKED, State.YIELDING, State.STANDBY, State.CLAIMED, State.MASTER, State.REFUSED)
_decide, _stay, _settle = Mastership._decide, Mastership._stay, Mastership._settle
_take, _ask, _refuse, _claim = Mastership._take, Mastership._ask, Mastership._refuse, Mastership._claim
_give_way, _step_down, _yield = Mastership._give_way, Mastership._step_down, Mastership._yield
_ROWS: dict[Input, tuple[Handler, ...]] = {
    Input.ANSWER: (_decide, _settle, _stay, _take, _stay, _stay),
    Input.STALE: (_ask, _ask, _stay, _ask, _stay, _stay),
    Input.UNSUPPORTED: (_refuse, _refuse, _stay, _refuse, _stay, _stay),
    Input.DEPOSED: (_stay, _stay, _stay, _give_way, _give_way, _stay),
    Input.ELECTED: (_stay, _decide, _decide, _decide, _stay, _stay),
    Input.RESIGNED: (_stay, _stay, _yield, _step_down, _step_down, _stay),
}
TABLE: dict[tuple[State, Input], Handler] = {
    (state, row): handler for row, handlers in _ROWS.items() for state, handler in zip(_ORDER, handlers, strict=True)
}
