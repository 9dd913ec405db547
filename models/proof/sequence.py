# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with sequence numbers instead of versions: a stuck state, reachable, that nothing ever leaves.

Sequence semantics ("received 0 to N-1, cannot skip ahead"): a move takes the next number, and the peer takes up number
N only when the handshake of N-1 is finished.  A host that moves again before it finished is then never heard again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import z3

from controller.eccp.names import Action
from models.proof.actions import ACTIONS, all_steps, initial, unknown
from models.proof.check import Obligation
from models.proof.liveness import path, rank
from models.proof.rules import RULES, Rules
from models.proof.state import NONE, Pair, named, symbolic

SEQUENCE_RULES = replace(
    RULES,
    next_version=lambda new, old: new == old + 1,
    may_open=lambda version, end: z3.And(end.candv == NONE, version == end.peerv + 1),
)

OPENING = ((Action.OPEN, "a"), (Action.RECV_SYN, "b"), (Action.RECV_SYN_ACK, "a"), (Action.RECV_ACK, "b"))
MOVE_TWICE = (
    *OPENING,
    (Action.MOVE, "a"),
    (Action.RETRANSMIT, "a"),
    (Action.RECV_RSYN, "b"),
    (Action.MOVE, "a"),
    (Action.RETRANSMIT, "a"),
)
HEAL = ((Action.RECV_RSYN, "b"), (Action.RECV_RSYN_ACK, "a"), (Action.RECV_ACK, "b"))
BOTH_MOVE = (*OPENING, (Action.MOVE, "a"), (Action.MOVE, "b"))


def stuck(s: Pair) -> z3.BoolRef:
    """b waits for the end of a handshake that a, which has moved on, will never finish."""
    return z3.And(
        s.b.candv >= 1, s.b.peerv < s.b.candv, s.a.own > s.b.candv,
        s.b.candn >= 0, s.b.candn < s.b.nn, z3.Select(s.b.cver, s.b.candn) == s.b.candv,
        z3.Not(z3.Select(s.b.acked, s.b.candn)),
    )  # fmt: skip


def forever_obligations(rules: Rules = SEQUENCE_RULES) -> Iterator[Obligation]:
    """No step of anybody leaves the stuck state, and in it b sends to a place that a has left."""
    s = symbolic("s")
    for name, who, step in all_steps(rules):
        guard, after = step(s, who, unknown("x"), rules)
        t, is_t = named(after, "t")
        yield Obligation(f"sequence semantics: {name}({who}) leaves it stuck", (stuck(s), guard, is_t), stuck(t))
    yield Obligation("sequence semantics: stuck is stale", (stuck(s),), s.b.peerv < s.a.own)


def run(script: Sequence[tuple[Action, str]], rules: Rules, goal: object) -> tuple[str, list[str]]:
    """Ask Z3 for a run of `script` from the initial state that ends in `goal`: ("sat", readable steps) or ("unsat", [])."""
    solver = z3.Solver()
    s = symbolic("r0")
    solver.add(initial(s))
    states, unknowns = [s], []
    for i, (action, who) in enumerate(script, 1):
        x = unknown(f"r{i}")
        guard, after = ACTIONS[action](states[-1], who, x, rules)
        t, is_t = named(after, f"r{i}")
        solver.add(guard, is_t)
        states.append(t)
        unknowns.append(x)
    solver.add(goal(states[-1]))
    answer = str(solver.check())
    if answer != "sat":
        return answer, []
    model = solver.model()

    def show(t: z3.ExprRef) -> str:
        return str(model.eval(t, model_completion=True))

    lines = []
    for (action, who), t in zip(script, states[1:], strict=True):
        me, peer = t.end(who), t.peer(who)
        lines.append(f"{action.value}({who}): own={show(me.own)} confirmed={show(me.conf)} at {show(me.outer)}; "
                     f"holds of the peer: active {show(me.peerv)}, candidate {show(me.candv)}; peer is at version {show(peer.own)}")  # fmt: skip
    return answer, lines


def distinct_places(s: Pair) -> z3.BoolRef:
    """No address of one end is where the other end now is known to be (no lucky reuse of addresses)."""
    return z3.And(s.b.peera != s.a.outer, s.a.peera != s.b.outer, s.b.canda != s.a.outer, s.a.canda != s.b.outer)


def lost(s: Pair) -> z3.BoolRef:
    """Both moved at once and neither knows a place of the other: only a rendezvous or a listed address helps."""
    return z3.And(rank(s, "a") == 3, rank(s, "b") == 3, z3.Not(path(s, "a")), z3.Not(path(s, "b")), distinct_places(s))


def stuck_apart(s: Pair) -> z3.BoolRef:
    return z3.And(stuck(s), s.b.peera != s.a.outer, s.b.canda != s.a.outer, s.a.outer != s.b.outer)


def found(s: Pair) -> z3.BoolRef:
    return rank(s, "a") == 0
