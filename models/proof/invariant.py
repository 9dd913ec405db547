# SPDX-License-Identifier: Apache-2.0
"""The inductive invariant of ECCP, clause by clause, and the safety properties that follow from it.

Each clause speaks of a mover h and the recorder p, its peer; the invariant is every clause for both ways round.
"""

from __future__ import annotations

from collections.abc import Callable

import z3

from controller.eccp.names import INITIAL_VERSION, FlowState
from models.proof.state import ADDR, NONE, End, Pair, at

Clause = Callable[[Pair, str], z3.BoolRef]
_pn, _pn2, _n, _v = z3.Int("pn"), z3.Int("pn2"), z3.Int("n"), z3.Int("v")
_x = z3.Const("x", ADDR)


def _sent(h: End, pn: z3.ArithRef) -> z3.BoolRef:
    return z3.And(pn >= 0, pn < h.npn)


def ranges(s: Pair, who: str) -> z3.BoolRef:
    """Counters are where counters can be."""
    h, p = s.end(who), s.peer(who)
    return z3.And(h.own >= INITIAL_VERSION, h.conf >= 0, h.conf <= h.own, h.peerv >= 0, h.candv >= 0, h.npn >= 0, h.nn >= 0,
                  p.hpn >= -1, p.hpn < h.npn, h.fresh >= 0, h.fresh <= h.npn)  # fmt: skip


def phases(s: Pair, who: str) -> z3.BoolRef:
    """What the flow state says about versions and records."""
    h = s.end(who)
    fresh_flow = z3.And(h.peerv == 0, h.candv == NONE, h.nn == 0, h.hpn == -1)
    parts = [
        z3.Implies(h.is_in(FlowState.ESTABLISHED), h.conf == h.own),
        z3.Implies(h.is_in(FlowState.MOVING), h.conf < h.own),
        z3.Implies(z3.Or(h.is_in(FlowState.ESTABLISHED), h.is_in(FlowState.MOVING)), h.peerv >= 1),
    ]
    if who == "a":
        parts += [
            z3.Not(h.is_in(FlowState.SYN_RECEIVED)),
            z3.Implies(h.is_in(FlowState.SYN_SENT), z3.And(fresh_flow, h.conf == 0, h.peera == h.called)),
            z3.Implies(z3.And(h.is_in(FlowState.CLOSED), h.npn == 0), z3.And(fresh_flow, h.conf == 0, h.own == 1)),
            z3.Implies(h.npn == 0, h.is_in(FlowState.CLOSED)),
            z3.Implies(h.open, h.peerv >= 1),
            z3.Implies(h.peerv == 0, fresh_flow),
            z3.Implies(h.peerv >= 1, s.peer(who).hpn >= 0),
            z3.Implies(h.peerv >= 1, at(s.peer(who).reached, z3.IntVal(INITIAL_VERSION), h.called)),
        ]
    else:
        parts += [
            z3.Not(h.is_in(FlowState.SYN_SENT)),
            z3.Implies(h.is_in(FlowState.SYN_RECEIVED), z3.And(h.candv != NONE, h.conf >= 1, h.peerv == 0)),
            z3.Implies(h.hpn == -1, z3.And(fresh_flow, h.is_in(FlowState.CLOSED), h.own == 1, h.npn == 0)),
            z3.Implies(h.hpn >= 0, h.conf >= 1),
            z3.Implies(h.hpn >= 0, at(h.reached, z3.IntVal(INITIAL_VERSION), s.peer(who).called)),
        ]
    return z3.And(*parts)


def records(s: Pair, who: str) -> z3.BoolRef:
    """No record is ahead of the mover; a candidate is no older than the active record."""
    h, p = s.end(who), s.peer(who)
    return z3.And(p.top <= h.own, z3.Or(p.candv == NONE, p.candv >= p.peerv))


def packets(s: Pair, who: str) -> z3.BoolRef:
    """Versions grow with packet numbers; every packet came from a place its sender was at."""
    h = s.end(who)
    return z3.And(
        z3.ForAll([_pn], z3.Implies(_sent(h, _pn), z3.And(
            z3.Select(h.pver, _pn) >= INITIAL_VERSION, z3.Select(h.pver, _pn) <= h.own,
            at(h.was, z3.Select(h.pver, _pn), z3.Select(h.psrc, _pn)))),
            patterns=[z3.Select(h.pver, _pn), z3.Select(h.psrc, _pn)]),
        z3.ForAll([_pn, _pn2], z3.Implies(z3.And(_sent(h, _pn), _sent(h, _pn2), _pn <= _pn2),
                                          z3.Select(h.pver, _pn) <= z3.Select(h.pver, _pn2)),
                  patterns=[z3.MultiPattern(z3.Select(h.pver, _pn), z3.Select(h.pver, _pn2))]),
    )  # fmt: skip


def newest(s: Pair, who: str) -> z3.BoolRef:
    """The recorder's newest version is that of the highest packet number it has seen; before any, at most the first."""
    h, p = s.end(who), s.peer(who)
    return z3.And(
        z3.Implies(p.hpn >= 0, p.top == z3.Select(h.pver, p.hpn)), z3.Implies(p.hpn == -1, p.top <= INITIAL_VERSION)
    )


def challenges(s: Pair, who: str) -> z3.BoolRef:
    """A challenge echoes a version that the recorder then held; the candidate's own challenge is the candidate."""
    p = s.peer(who)
    return z3.And(
        z3.ForAll([_n], z3.Implies(z3.And(_n >= 0, _n < p.nn), z3.And(
            z3.Select(p.cver, _n) >= 1, z3.Select(p.cver, _n) <= p.top)), patterns=[z3.Select(p.cver, _n)]),
        z3.Implies(p.candv != NONE, z3.And(p.candn >= 0, p.candn < p.nn, z3.Select(p.cver, p.candn) == p.candv,
                                           z3.Select(p.cdst, p.candn) == p.canda)),
    )  # fmt: skip


def answers(s: Pair, who: str) -> z3.BoolRef:
    """An ACK exists only for a challenge that reached the mover, at that address and at that version."""
    h, p = s.end(who), s.peer(who)
    knows = h.peerv >= 1 if who == "a" else z3.BoolVal(True)
    return z3.ForAll([_n], z3.Implies(z3.Select(p.acked, _n), z3.And(
        _n >= 0, _n < p.nn, knows, at(h.reached, z3.Select(p.cver, _n), z3.Select(p.cdst, _n)))),
        patterns=[z3.Select(p.acked, _n)])  # fmt: skip


def history(s: Pair, who: str) -> z3.BoolRef:
    """The ghosts tell the truth: where the mover is, it was; where it was reached, it was."""
    h = s.end(who)
    return z3.And(
        at(h.was, h.own, h.outer),
        z3.ForAll([_v, _x], z3.Implies(at(h.reached, _v, _x), at(h.was, _v, _x)), patterns=[at(h.reached, _v, _x)]),
        z3.ForAll([_v, _x], z3.Implies(at(h.was, _v, _x), _v <= h.own), patterns=[at(h.was, _v, _x)]),
    )


def validated(s: Pair, who: str) -> z3.BoolRef:
    """The active address is one at which the mover was reached at that version."""
    h, p = s.end(who), s.peer(who)
    return z3.Implies(p.peerv >= 1, at(h.reached, p.peerv, p.peera))


def candidate_true(s: Pair, who: str) -> z3.BoolRef:
    """A candidate that nobody spoofed is an address the mover had at that version."""
    h, p = s.end(who), s.peer(who)
    return z3.Implies(z3.And(p.candv != NONE, z3.Not(p.cspoof)), at(h.was, p.candv, p.canda))


def confirmed(s: Pair, who: str) -> z3.BoolRef:
    """What the mover holds for confirmed, the recorder holds."""
    h, p = s.end(who), s.peer(who)
    if who == "a":
        return h.conf <= p.top
    return z3.And(z3.Or(h.conf <= 1, h.conf <= p.top), z3.Implies(h.peerv >= 1, p.peerv >= 1))


def answered(s: Pair, who: str) -> z3.BoolRef:
    """What the mover has answered for, or the recorder has activated, the mover holds for confirmed."""
    h, p = s.end(who), s.peer(who)
    return z3.And(
        p.peerv <= h.conf,
        z3.ForAll(
            [_n], z3.Implies(z3.Select(p.acked, _n), z3.Select(p.cver, _n) <= h.conf), patterns=[z3.Select(p.acked, _n)]
        ),
    )


def since_disturbance(s: Pair, who: str) -> z3.BoolRef:
    """Packets since the last disturbance show the mover's present place, and one of them seen fixes the record on it."""
    h, p = s.end(who), s.peer(who)
    here = z3.Or(z3.And(p.candv == h.own, p.canda == h.outer),
                 z3.And(p.candv == NONE, p.peerv == h.own, p.peera == h.outer))  # fmt: skip
    return z3.And(
        z3.ForAll([_pn], z3.Implies(z3.And(h.fresh <= _pn, _pn < h.npn), z3.And(
            z3.Select(h.pver, _pn) == h.own, z3.Select(h.psrc, _pn) == h.outer)),
            patterns=[z3.Select(h.pver, _pn), z3.Select(h.psrc, _pn)]),
        z3.Implies(p.hpn >= h.fresh, here),
    )  # fmt: skip


CLAUSES: tuple[Clause, ...] = (
    ranges, phases, records, packets, newest, challenges, answers, history, validated, candidate_true, confirmed, answered,
    since_disturbance,
)  # fmt: skip


def invariant(s: Pair) -> z3.BoolRef:
    return z3.And(*(clause(s, who) for clause in CLAUSES for who in ("a", "b")))


def handshake_complete(s: Pair, who: str) -> z3.BoolRef:
    """Safety, mover's side: ESTABLISHED means that the peer holds, as candidate or active record, this very version,
    at an address where the flow was reached at it, or (not yet answered) an address the mover had at it."""
    h, p = s.end(who), s.peer(who)
    active = z3.And(p.peerv == h.own, at(h.reached, h.own, p.peera))
    candidate = z3.And(p.candv == h.own, z3.Or(p.cspoof, at(h.was, h.own, p.canda)))
    return z3.Implies(h.is_in(FlowState.ESTABLISHED), z3.Or(active, candidate))


def active_reachable(s: Pair, who: str) -> z3.BoolRef:
    """Safety, recorder's side: packets are sent only to where the mover was reached at that version, never ahead of it."""
    h, p = s.end(who), s.peer(who)
    return z3.Implies(p.open, z3.Or(p.peerv == 0, z3.And(at(h.reached, p.peerv, p.peera), p.peerv <= h.own)))


SAFETY: tuple[Clause, ...] = (handshake_complete, active_reachable)


def never_back(s: Pair, t: Pair, who: str) -> z3.BoolRef:
    """Safety of a step: no version, no confirmation, no highest packet number ever goes back."""
    h, g = s.end(who), t.end(who)
    return z3.And(g.own >= h.own, g.conf >= h.conf, g.peerv >= h.peerv, g.top >= h.top, g.hpn >= h.hpn)
