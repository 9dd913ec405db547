# SPDX-License-Identifier: Apache-2.0
"""Liveness by a ranking argument: when disturbances stop, both ends come to know where the other is.

Premise (after QUIESCE): no move, no rebinding, no spoofing, no close; both ends open; packets sent again and again to an
address at which an end is are delivered again and again; and *somebody can be found*: a rendezvous or a live listed
address leads to one of the ends, or one end has heard from the other since the last disturbance.

Rank of direction h -> p (what p knows of h), a natural number:
    3  p has seen no packet of h's present place        helpful step: p receives an RSYN (PING, DATA) of h
    2  p has, and challenges it                         helpful step: h receives the challenge
    1  h has answered                                   helpful step: p receives the ACK
    0  p's active address is h's present one
Obligations: no step raises a rank; while the sum is not 0 some helpful step is enabled (and stays so until taken: its
packet is sent again and again), and each helpful step lowers a rank.  So at most six helpful deliveries end at 0, and 0 stays.
"""

from __future__ import annotations

from collections.abc import Iterator

import z3

from controller.eccp.names import FlowState
from models.proof.actions import ACTIONS, DISTURBING, other, recv_ack, recv_rsyn, recv_rsyn_ack, retransmit, unknown
from models.proof.check import Obligation
from models.proof.invariant import invariant
from models.proof.rules import RULES, Rules
from models.proof.state import NONE, Pair, named, symbolic

anchor = {"a": z3.Bool("anchor_a"), "b": z3.Bool("anchor_b")}  # a rendezvous or a live listed address leads to this end


def rank(s: Pair, who: str) -> z3.ArithRef:
    """How far the peer is from knowing where `who` is."""
    h, p = s.end(who), s.peer(who)
    return z3.If(
        p.hpn < h.fresh,
        z3.IntVal(3),
        z3.If(p.candv == NONE, z3.IntVal(0), z3.If(z3.Select(p.acked, p.candn), z3.IntVal(1), z3.IntVal(2))),
    )


def path(s: Pair, who: str) -> z3.BoolRef:
    """An RSYN of `who`, sent to every address it knows, can reach the peer."""
    h, p = s.end(who), s.peer(who)
    return z3.Or(h.peera == p.outer, z3.And(h.candv != NONE, h.canda == p.outer), anchor[other(who)])


def findable(s: Pair) -> z3.BoolRef:
    return z3.Or(anchor["a"], anchor["b"], rank(s, "a") <= 2, rank(s, "b") <= 2)


def both_open(s: Pair) -> z3.BoolRef:
    return z3.And(s.a.open, s.b.open)


def liveness_obligations(rules: Rules = RULES) -> Iterator[Obligation]:
    s = symbolic("s")
    base = (invariant(s), both_open(s))
    for name, step in ACTIONS.items():
        if name in DISTURBING:
            continue
        for who in ("a", "b"):
            guard, after = step(s, who, unknown("x"), rules)
            t, is_t = named(after, "t")
            calm = z3.And(rank(t, "a") <= rank(s, "a"), rank(t, "b") <= rank(s, "b"), both_open(t))
            yield Obligation(f"{name.value}({who}) raises no rank", (*base, guard, is_t), calm)
    for h in ("a", "b"):
        p = other(h)
        x = unknown("x")
        guard, after = retransmit(s, h, x, rules)
        t, is_t = named(after, "t")
        pn = t.end(h).npn - 1
        yield Obligation(f"{h} can always send a fresh packet", base, guard)
        yield Obligation(
            f"... which shows its present place ({h})",
            (*base, guard, is_t),
            z3.And(
                pn >= t.end(h).fresh,
                z3.Select(t.end(h).pver, pn) == s.end(h).own,
                z3.Select(t.end(h).psrc, pn) == s.end(h).outer,
            ),
        )

        delivered = z3.And(s.end(h).fresh <= x.pn, x.pn < s.end(h).npn, x.src == z3.Select(s.end(h).psrc, x.pn))
        yield from _helpful(s, h, 3, p, recv_rsyn, z3.And(delivered, path(s, h)), rules)
        yield from _helpful(s, h, 2, h, recv_rsyn_ack, x.nonce == s.end(p).candn, rules)
        yield from _helpful(s, h, 1, p, recv_ack, x.nonce == s.end(p).candn, rules)
        yield Obligation(f"an end that was heard can be reached ({h})", (*base, rank(s, h) <= 2), path(s, p))
        yield Obligation(
            f"rank 0 is success ({h})",
            (*base, rank(s, h) == 0),
            z3.And(
                s.end(p).peera == s.end(h).outer,
                s.end(p).peerv == s.end(h).own,
                z3.Not(s.end(h).is_in(FlowState.MOVING)),
            ),
        )
    enabled = [z3.Or(z3.And(rank(s, h) == 3, path(s, h)), rank(s, h) == 2, rank(s, h) == 1) for h in ("a", "b")]
    yield Obligation(
        "a helpful step is enabled until both are known",
        (*base, findable(s), rank(s, "a") + rank(s, "b") > 0),
        z3.Or(*enabled),
    )


def _helpful(
    s: Pair, h: str, level: int, actor: str, step: object, choice: z3.BoolRef, rules: Rules
) -> Iterator[Obligation]:
    """Step `actor` with unknown x such that `choice`: enabled at rank `level` of h, and lowers it."""
    x = unknown("x")
    guard, after = step(s, actor, x, rules)
    t, is_t = named(after, "t")
    premises = (invariant(s), both_open(s), rank(s, h) == level, choice)
    yield Obligation(f"rank {level} of {h}: the helpful step is enabled", premises, guard)
    yield Obligation(f"rank {level} of {h}: the helpful step lowers it", (*premises, is_t), rank(t, h) < level)
