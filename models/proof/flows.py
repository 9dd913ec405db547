# SPDX-License-Identifier: Apache-2.0
"""Several flows: a packet of a flow is applied to that flow and to no other, while flows are added and removed.

This is what lets the other proofs speak of one flow: a step reads and writes the records of one flow only, and the
packets it takes are that flow's.  State of end h: `used[f]` (h ever named flow f), `alive[f]`, `local[f]` (its id),
`linked[f]` (the peer's id is known), `remote[f]`; packets of flow f carry `remote[f]` and are found by `local`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import z3

from models.proof.check import Obligation

FLOW = z3.DeclareSort("Flow")
_f, _g = z3.Consts("f g", FLOW)
_BOOL, _INT = z3.ArraySort(FLOW, z3.BoolSort()), z3.ArraySort(FLOW, z3.IntSort())


@dataclass(frozen=True)
class Names:
    """The flow table of one end."""

    used: z3.ArrayRef
    alive: z3.ArrayRef
    local: z3.ArrayRef
    linked: z3.ArrayRef
    remote: z3.ArrayRef


def _names(prefix: str) -> Names:
    return Names(
        **{
            f.name: z3.Const(f"{prefix}_{f.name}", _INT if f.name in ("local", "remote") else _BOOL)
            for f in fields(Names)
        }
    )


def table_invariant(me: Names, peer: Names) -> z3.BoolRef:
    """Ids are never given twice; what I hold for the peer's id is the peer's id of this flow."""
    return z3.And(
        z3.ForAll([_f, _g], z3.Implies(z3.And(me.used[_f], me.used[_g], me.local[_f] == me.local[_g]), _f == _g)),
        z3.ForAll([_f], z3.Implies(me.linked[_f], z3.And(me.used[_f], peer.used[_f], me.remote[_f] == peer.local[_f]))),
        z3.ForAll([_f], z3.Implies(me.alive[_f], me.used[_f])),
    )


def _named(me: Names, flow: z3.ExprRef, ident: z3.ArithRef) -> Names:
    """Give a flow a fresh id (random 64 bits, or drawn again if taken)."""
    return replace(
        me,
        used=z3.Store(me.used, flow, True),
        alive=z3.Store(me.alive, flow, True),
        local=z3.Store(me.local, flow, ident),
    )


def _linked(me: Names, flow: z3.ExprRef, ident: z3.ArithRef) -> Names:
    return replace(me, linked=z3.Store(me.linked, flow, True), remote=z3.Store(me.remote, flow, ident))


def flow_obligations() -> Iterator[Obligation]:
    a, b = _names("fa"), _names("fb")
    f, g = z3.Consts("f0 g0", FLOW)
    ident = z3.Int("ident")
    inv = z3.And(table_invariant(a, b), table_invariant(b, a))
    empty = [z3.ForAll([_f], z3.Not(z3.Or(n.used[_f], n.alive[_f], n.linked[_f]))) for n in (a, b)]
    yield Obligation("flows: initiation", tuple(empty), inv)
    fresh_a = z3.ForAll([_f], z3.Implies(a.used[_f], a.local[_f] != ident))
    fresh_b = z3.ForAll([_f], z3.Implies(b.used[_f], b.local[_f] != ident))
    steps = {
        "OPEN": (z3.And(z3.Not(a.used[f]), z3.Not(b.linked[f]), fresh_a), _named(a, f, ident), b),
        "RECV_SYN": (z3.And(a.used[f], z3.Not(b.used[f]), z3.Not(a.linked[f]), fresh_b), a, _linked(_named(b, f, ident), f, a.local[f])),
        # A SYN_ACK of flow f carries b's id of f and is found at a by the id that b holds for a's end of f.
        "RECV_SYN_ACK": (z3.And(b.linked[f], a.used[g], a.alive[g], a.local[g] == b.remote[f]), _linked(a, g, b.local[f]), b),
        "EXPIRE": (a.alive[f], replace(a, alive=z3.Store(a.alive, f, False)), b),
    }  # fmt: skip
    for name, (guard, a2, b2) in steps.items():
        yield Obligation(
            f"flows: {name} keeps ids apart", (inv, guard), z3.And(table_invariant(a2, b2), table_invariant(b2, a2))
        )
    yield Obligation(
        "flows: a packet of flow f is applied to flow f",
        (inv, a.linked[f], b.used[g], b.local[g] == a.remote[f]),
        f == g,
    )
