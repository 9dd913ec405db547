# SPDX-License-Identifier: Apache-2.0
"""What a session ships: rounds over ranges of an array, and single flows; how much that is, and how it is split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from controller.p4sync.errors import ControlError
from controller.p4sync.protocol import BLOCK, ENTRIES, GRAIN, SEQUENCES, Array, Mode, entry_of, runs_of

LAST = ENTRIES - 1


@dataclass(frozen=True, slots=True)
class Round:
    """Blocks ``first`` to ``last`` (entries) of an array, those that ``mode`` wants."""

    array: Array
    mode: Mode
    first: int = 0
    last: int = LAST

    def __post_init__(self) -> None:
        """Refuse a range that the switch would refuse."""
        if not 0 <= self.first <= self.last <= LAST or self.first % GRAIN or (self.last + 1) % GRAIN:
            raise ControlError(
                f"range {self.first}-{self.last}: begin at a multiple of {GRAIN} and end one below another,"
                f" between 0 and {LAST}"
            )

    @property
    def blocks(self) -> int:
        """Return how many packets it makes at most."""
        return (self.last + 1 - self.first) // BLOCK[self.array]


@dataclass(frozen=True, slots=True)
class Flows:
    """Single flows, by key."""

    keys: tuple[int, ...]

    @property
    def blocks(self) -> int:
        """Return how many packets it makes at most."""
        return len(self.keys)


Step = Round | Flows


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of a session, in order; ``release``: the source forgets flows that have not counted again."""

    steps: tuple[Step, ...]
    release: bool = False

    @property
    def blocks(self) -> int:
        """Return how many packets it makes at most."""
        return sum(step.blocks for step in self.steps)


def drain() -> Plan:
    """Everything a switch has ever counted, then once more what changed meanwhile; the source forgets it."""
    rounds = [Round(array, mode) for mode in (Mode.OCCUPIED, Mode.CHANGED) for array in (Array.FLOWS, Array.CLIENTS)]
    return Plan(tuple(rounds), release=True)


def changes() -> Plan:
    """What changed since it was last shipped; the flows stay known at the source."""
    return Plan((Round(Array.FLOWS, Mode.CHANGED), Round(Array.CLIENTS, Mode.CHANGED)))


def whole_array(array: Array, mode: Mode = Mode.ALL, first: int = 0, last: int = LAST) -> Plan:
    """One array or a range of it, then once more what changed meanwhile."""
    return Plan((Round(array, mode, first, last), Round(array, Mode.CHANGED, first, last)))


def single_flows(keys: Iterable[int], release: bool) -> Plan:
    """Some flows; after their cutover they are released."""
    return Plan((Flows(tuple(keys)),), release)


def split(plan: Plan) -> list[Plan]:
    """Return plans that each fit a session's packets, in order, whatever is in the switch.

    Rounds of changes are counted as they are: a session that they overfill is ended early, and another one follows.
    """
    plans: list[Plan] = []
    steps: list[Step] = []
    left = SEQUENCES
    for step in (part for whole in plan.steps for part in _parts(whole)):
        size = 0 if isinstance(step, Round) and step.mode is Mode.CHANGED else step.blocks
        if size > left:
            plans.append(Plan(tuple(steps), plan.release))
            steps, left = [], SEQUENCES
        steps.append(step)
        left -= size
    if steps:
        plans.append(Plan(tuple(steps), plan.release))
    return plans


def _parts(step: Step) -> list[Step]:
    if isinstance(step, Round):
        return [step]
    keys = step.keys
    return [Flows(keys[start : start + SEQUENCES]) for start in range(0, len(keys), SEQUENCES)]


def avoiding(plan: Plan, conflicts: frozenset[int], keys: Iterable[int]) -> Plan:
    """Return the plan without the flows in ``conflicts``.

    Groups of 128 entries with a conflict in them are shipped flow by flow; ``keys`` are the flows that the source has.
    """
    groups = {entry_of(key) // GRAIN for key in conflicts}
    wanted = sorted(key for key in keys if key not in conflicts and entry_of(key) // GRAIN in groups)
    steps: list[Step] = []
    for step in plan.steps:
        if isinstance(step, Flows):
            steps.append(Flows(tuple(key for key in step.keys if key not in conflicts)))
        elif step.array is Array.CLIENTS:
            steps.append(step)
        else:
            inside = range(step.first // GRAIN, (step.last + 1) // GRAIN)
            clear = runs_of(group for group in inside if group not in groups)
            steps += [Round(step.array, step.mode, g * GRAIN, (g + n) * GRAIN - 1) for g, n in clear]
            own = tuple(key for key in wanted if step.first <= entry_of(key) <= step.last)
            steps.append(Flows(own))
    return Plan(tuple(step for step in steps if step.blocks), plan.release)


def record_of(plan: Plan) -> dict[str, Any]:
    """Return a plan as JSON."""
    steps: list[dict[str, Any]] = [
        {"flows": list(step.keys)}
        if isinstance(step, Flows)
        else {"array": step.array, "mode": step.mode, "first": step.first, "last": step.last}
        for step in plan.steps
    ]
    return {"steps": steps, "release": plan.release}


def plan_of(record: Any) -> Plan:
    """Return the plan that JSON says; raises ControlError."""
    try:
        if set(record) - {"steps", "release"}:
            raise ValueError(f"unknown: {', '.join(sorted(set(record) - {'steps', 'release'}))}")
        steps = tuple(_step_of(step) for step in record["steps"])
        release = record.get("release", False)
        if not steps or not isinstance(release, bool):
            raise ValueError("it needs at least one step, and a release of true or false")
        return Plan(steps, release)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ControlError(f"not a plan: {error!r}; see docs/p4sync.md") from error


def _step_of(record: Any) -> Step:
    if "flows" in record:
        keys = record["flows"]
        if not isinstance(keys, Sequence) or not all(isinstance(key, int) and 0 < key < 1 << 64 for key in keys):
            raise ValueError("flows are numbers of 64 bits")
        return Flows(tuple(keys))
    first, last = record.get("first", 0), record.get("last", LAST)
    if not isinstance(first, int) or not isinstance(last, int):
        raise ValueError("first and last are numbers")
    return Round(Array(record["array"]), Mode(record.get("mode", Mode.ALL)), first, last)
