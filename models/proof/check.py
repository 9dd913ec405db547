# SPDX-License-Identifier: Apache-2.0
"""Ask Z3 for one obligation: is `conclusion` true wherever `premises` are?"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import z3

from models.proof.actions import all_steps, initial, unknown
from models.proof.invariant import CLAUSES, SAFETY, invariant, never_back
from models.proof.rules import RULES, Rules
from models.proof.state import Pair, named, symbolic

TIMEOUT_MS = 20_000


@dataclass(frozen=True)
class Obligation:
    """A named proof obligation: `premises` entail `conclusion`."""

    name: str
    premises: tuple[z3.BoolRef, ...]
    conclusion: z3.BoolRef


@dataclass(frozen=True)
class Verdict:
    name: str
    proved: bool
    answer: str  # "unsat" (proved), "sat" (refuted) or "unknown"
    seconds: float


def discharge(ob: Obligation, timeout_ms: int = TIMEOUT_MS) -> Verdict:
    """Prove one obligation; `unknown` counts as not proved."""
    solver = z3.SimpleSolver()
    # E-matching alone: it ends at once where the premises do not suffice, instead of searching for a model.
    solver.set("timeout", timeout_ms, "smt.auto_config", False, "smt.mbqi", False)
    solver.add(*ob.premises)
    solver.add(z3.Not(ob.conclusion))
    start = time.perf_counter()
    answer = str(solver.check())
    return Verdict(ob.name, answer == "unsat", answer, time.perf_counter() - start)


def _both(clause: object, s: Pair) -> z3.BoolRef:
    return z3.And(clause(s, "a"), clause(s, "b"))


def safety_obligations(rules: Rules = RULES) -> Iterator[Obligation]:
    """Initiation, consecution of every clause under every action, monotony of every action, safety from the invariant."""
    s = symbolic("s")
    for clause in CLAUSES:
        yield Obligation(f"initiation: {clause.__name__}", (initial(s),), _both(clause, s))
    inv = invariant(s)
    for name, who, step in all_steps(rules):
        guard, after = step(s, who, unknown("x"), rules)
        t, is_after = named(after, "t")
        guard = z3.And(guard, is_after)
        for clause in CLAUSES:
            yield Obligation(f"{name}({who}) keeps {clause.__name__}", (inv, guard), _both(clause, t))
        yield Obligation(f"{name}({who}) takes no version back", (inv, guard),
                         z3.And(never_back(s, t, "a"), never_back(s, t, "b")))  # fmt: skip
    for prop in SAFETY:
        yield Obligation(f"safety: {prop.__name__}", (inv,), _both(prop, s))


def discharge_all(obligations: Iterable[Obligation], timeout_ms: int = TIMEOUT_MS) -> Iterator[Verdict]:
    for ob in obligations:
        yield discharge(ob, timeout_ms)


def first_failure(obligations: Iterable[Obligation], timeout_ms: int = TIMEOUT_MS) -> Verdict | None:
    """The first obligation that is not proved, or None."""
    return next((v for v in discharge_all(obligations, timeout_ms) if not v.proved), None)
