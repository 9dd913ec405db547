# SPDX-License-Identifier: Apache-2.0
"""A fixed point for any number of moves, any number of messages in flight: abstract versions away, and let Z3 judge that.

Of all that the network holds and of all version numbers, an abstract state keeps three facts about what the recorder p knows
of the mover h: `rank` 0..3 (how far p is from h's present place, models/proof/liveness.py), `moving` (h is MOVING) and
`holds` (p's newest version is h's present one).  `TABLE` says what each action may do to them.  It over-approximates: it
allows more than can happen (all versions older than the present one are one, every message ever sent may be in flight).
`obligations` asks Z3, action by action, whether every concrete step is in the table; `reach` explores the table to its
fixed point; `promela` writes the same table as models/eccp_abstract.pml, which SPIN explores to the same states.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import z3

from controller.eccp.names import FlowState
from models.proof.actions import ACTIONS, other, unknown
from models.proof.check import Obligation, discharge_all
from models.proof.invariant import invariant
from models.proof.liveness import both_open, rank
from models.proof.state import Pair, named, symbolic


class Facts(NamedTuple):
    """The abstract state of one direction, mover to recorder."""

    rank: int
    moving: bool
    holds: bool


ALL = tuple(Facts(*f) for f in product(range(4), (False, True), (False, True)))
START = frozenset({Facts(0, False, True), Facts(2, False, True), Facts(1, False, True), Facts(3, False, True)})


def _keep(f: Facts) -> set[Facts]:
    return {f}


def _move(f: Facts) -> set[Facts]:
    return {Facts(3, True, False)}


def _disturb(f: Facts) -> set[Facts]:
    """Rebinding: the place changes, the version does not."""
    return {f._replace(rank=3)}


def _probe(f: Facts) -> set[Facts]:
    """A packet of the present place is new only at rank 3 (if the place is not known from before: addresses come back);
    a stale packet may still bring a version, or nothing."""
    if f.rank < 3:
        return {f, f._replace(rank=0)} if f.rank else {f}
    known = set() if f.moving else {Facts(1, False, True), Facts(0, False, True)}
    return {f, f._replace(holds=True), Facts(2, f.moving, True)} | known


def _spoof(f: Facts) -> set[Facts]:
    return {f._replace(rank=3), f._replace(rank=3, holds=True)}


def _challenged(f: Facts) -> set[Facts]:
    """Confirms only what the recorder holds; answers the present candidate or an older challenge."""
    out = {f}
    if f.holds:
        out |= {f._replace(moving=False)}
        if f.rank == 2:
            out |= {Facts(1, False, True)}
    return out


def _settled(f: Facts) -> set[Facts]:
    return {f._replace(rank=0)} if f.rank == 1 else {f}


# Action -> (effect when the mover takes it, effect when the recorder takes it); what is not named keeps every fact.
TABLE = {
    "MOVE": (_move, _keep), "REBIND": (_disturb, _keep), "SPOOF": (_keep, _spoof),
    "RECV_RSYN": (_keep, _probe), "RECV_PING": (_keep, _probe), "RECV_DATA": (_keep, _probe),
    "RECV_RSYN_ACK": (_challenged, _keep), "RECV_SYN_ACK": (_challenged, _probe), "RECV_ACK": (_keep, _settled),
}  # fmt: skip
ENDS = frozenset({"OPEN", "RECV_SYN", "CLOSE", "RECV_FIN", "RECV_FIN_ACK", "EXPIRE"})  # before and after an open flow


def allowed(action: str, by_mover: bool, f: Facts) -> set[Facts]:
    return TABLE.get(action, (_keep, _keep))[0 if by_mover else 1](f)


def facts(s: Pair, who: str) -> tuple[z3.ArithRef, z3.BoolRef, z3.BoolRef]:
    h, p = s.end(who), s.peer(who)
    return rank(s, who), h.is_in(FlowState.MOVING), p.top == h.own


def _is(s: Pair, who: str, f: Facts) -> z3.BoolRef:
    level, moving, holds = facts(s, who)
    return z3.And(level == f.rank, moving == f.moving, holds == f.holds)


def obligations() -> Iterator[Obligation]:
    """For each action, end, direction and reachable abstract state: every concrete successor is one that the table allows."""
    s = symbolic("s")
    base = (invariant(s), both_open(s), *(z3.Not(e.is_in(FlowState.CLOSING)) for e in (s.a, s.b)))
    for mover in ("a", "b"):
        yield Obligation(
            f"opened flows start in the table ({mover})",
            (*base, *_opened(s)),
            z3.Or(*(_is(s, mover, f) for f in START)),
        )
    for name, step in ACTIONS.items():
        if name.value in ENDS:
            continue
        for actor, mover in product(("a", "b"), repeat=2):
            guard, after = step(s, actor, unknown("x"), _rules())
            t, is_t = named(after, "t")
            for f in sorted(reach()):
                targets = allowed(name.value, actor == mover, f)
                yield Obligation(f"{name.value}({actor}) on {mover}->{other(mover)} at {tuple(f)}", (*base, guard, is_t, _is(s, mover, f)),
                                 z3.Or(*(_is(t, mover, g) for g in sorted(targets))))  # fmt: skip


def _opened(s: Pair) -> tuple[z3.BoolRef, ...]:
    return tuple(e.is_in(FlowState.ESTABLISHED) for e in (s.a, s.b))


def _rules() -> object:
    from models.proof.rules import RULES

    return RULES


def reach() -> frozenset[Facts]:
    """Every abstract state that the table reaches from START."""
    seen, todo = set(START), list(START)
    while todo:
        f = todo.pop()
        for action in TABLE:
            for g in allowed(action, True, f) | allowed(action, False, f):
                if g not in seen:
                    seen.add(g)
                    todo.append(g)
    return frozenset(seen)


def is_safe(f: Facts) -> bool:
    """A completed handshake (not MOVING) means that the peer holds this very version."""
    return f.moving or f.holds


def promela() -> str:
    """The table as a Promela model: one process, both directions, each action's allowed successors."""
    lines = [
        "/* SPDX-License-Identifier: Apache-2.0", " *",
        " * Written by `python -m models.proof.abstraction --promela` from its TABLE: the version abstraction of ECCP, whose soundness",
        " * Z3 checks action by action.  Any number of moves, any number of messages in flight.  state = 4 * rank + 2 * moving + holds.",
        " *   spin -a models/eccp_abstract.pml && gcc -O2 -DSAFETY -o pan pan.c && ./pan -E    a fixed point, no error", " */",
        "byte facts[2];", "", "inline go(d, to) { facts[d] = to; assert((facts[d] & 2) || (facts[d] & 1)) }", "",
        "inline direction(d) {", "    if",
    ]  # fmt: skip
    moves = {(a, f, g) for a in TABLE for f in reach() for g in allowed(a, True, f) | allowed(a, False, f) if f != g}
    for action, f, g in sorted(moves):
        lines.append(f"    :: facts[d] == {_code(f)} -> go(d, {_code(g)})  /* {action} */")
    starts = sorted(_code(f) for f in START)
    lines += ["    fi", "}", "", "init {"]
    for d in (0, 1):
        lines.append("    if " + " ".join(f":: facts[{d}] = {c}" for c in starts) + " fi;")
    lines += ["    do", "    :: atomic { direction(0) }", "    :: atomic { direction(1) }", "    od", "}", ""]
    return "\n".join(lines)


def _code(f: Facts) -> int:
    return 4 * f.rank + 2 * f.moving + f.holds


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m models.proof.abstraction", description=__doc__)
    parser.add_argument("--promela", action="store_true", help="print models/eccp_abstract.pml")
    if parser.parse_args(argv).promela:
        sys.stdout.write(promela())
        return 0
    todo = list(obligations())
    failed = [v for v in discharge_all(todo) if not v.proved]
    for verdict in failed:
        print(f"  NOT SOUND ({verdict.answer}): {verdict.name}")
    states = reach()
    unsafe = [f for f in states if not is_safe(f)]
    print(f"Abstraction: {len(todo) - len(failed)} of {len(todo)} obligations proved; fixed point of {len(states)} states a direction, "
          f"{len(unsafe)} unsafe")  # fmt: skip
    return 1 if failed or unsafe else 0


if __name__ == "__main__":
    sys.exit(main())
