# SPDX-License-Identifier: Apache-2.0
"""The decisions of ECCP, one function each, so that a mutant replaces one decision and nothing else.

Each stands for a condition in docs/eccp-protocol.md section 4.  `RULES` are the protocol's; `models/mutants.py` and the
proof of the stuck state under sequence semantics use `dataclasses.replace` on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import z3

Term = Any  # a Z3 expression
Test = Callable[..., Any]


@dataclass(frozen=True)
class Rules:
    """Conditions and choices as functions of Z3 terms."""

    next_version: Test  # MOVE: may `new` follow `old`?
    move_state: Test  # MOVE: is an ESTABLISHED flow now MOVING?
    counts: Test  # probing rule: is this packet number new?
    advances: Test  # probing rule: next highest_pn
    too_old: Test  # rule 1
    is_active: Test  # rule 2
    is_candidate: Test  # rule 3
    may_open: Test  # rule 4: may a candidate be opened (version, end)
    cand_version: Test  # rule 4: version written into the candidate
    nonce: Test  # rule 4: nonce of the new candidate
    echo: Test  # rule 4: version echoed by the challenge
    trust_source: Test  # rule 4: is the active address changed at once?
    confirms: Test  # RECV_RSYN_ACK / RECV_SYN_ACK: does the echo confirm?
    answers: Test  # ... and is it answered with an ACK?
    ack_settles: Test  # RECV_ACK: does (nonce, echo) belong to the candidate?
    settled_addr: Test  # RECV_ACK: address that becomes active
    settled_version: Test  # RECV_ACK: version that becomes active
    first_addr: Test  # RECV_SYN_ACK in SYN_SENT: active address (called, source)
    drop_candidate: Test  # may a timer drop the candidate?


RULES = Rules(
    next_version=lambda new, old: new > old,
    move_state=lambda: z3.BoolVal(True),
    counts=lambda pn, highest: pn > highest,
    advances=lambda pn, highest: pn,
    too_old=lambda version, end: version < end.top,
    is_active=lambda version, src, end: z3.And(version == end.peerv, src == end.peera),
    is_candidate=lambda version, src, end: z3.And(version == end.candv, src == end.canda),
    may_open=lambda version, end: z3.BoolVal(True),
    cand_version=lambda version, end: version,
    nonce=lambda end: end.nn,
    echo=lambda version, end: version,
    trust_source=lambda: z3.BoolVal(False),
    confirms=lambda echo, own: echo == own,
    answers=lambda echo, own: echo == own,
    ack_settles=lambda nonce, echo, end: z3.And(nonce == end.candn, echo == end.candv),
    settled_addr=lambda end, src: end.canda,
    settled_version=lambda end: end.candv,
    first_addr=lambda called, src: called,
    drop_candidate=lambda: z3.BoolVal(False),
)
