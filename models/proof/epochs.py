# SPDX-License-Identifier: Apache-2.0
"""Why the Promela models may order places by (version, ghost epoch of the NAT) where the code orders packets by number.

The code lets a packet move an address only if its number is the highest so far.  The models have no packet numbers (they
would never repeat a state); they let it if its (version, epoch) is the highest so far, the epoch being a ghost that counts
rebindings.  Both decide alike, because versions and epochs only grow while packet numbers grow, and a place that was
left is not entered again under the same version and epoch.
"""

from __future__ import annotations

from collections.abc import Iterator

import z3

from models.proof.check import Obligation


def epoch_obligations() -> Iterator[Obligation]:
    version, epoch = z3.Function("ver", z3.IntSort(), z3.IntSort()), z3.Function("epoch", z3.IntSort(), z3.IntSort())
    pn, highest, top_v, top_e = z3.Ints("pn highest top_v top_e")

    def later(v1: z3.ArithRef, e1: z3.ArithRef, v2: z3.ArithRef, e2: z3.ArithRef) -> z3.BoolRef:
        return z3.Or(v1 > v2, z3.And(v1 == v2, e1 > e2))

    # The sender: neither its version nor its NAT's epoch ever goes back (stated for the two packets in question).
    def grows_from(i: z3.ArithRef, j: z3.ArithRef) -> z3.BoolRef:
        return z3.Implies(i <= j, z3.And(version(i) <= version(j), epoch(i) <= epoch(j)))

    grows = z3.And(grows_from(pn, highest), grows_from(highest, pn))
    # The recorder: what it holds is the place of the highest packet seen.
    holds = z3.And(highest >= 0, top_v == version(highest), top_e == epoch(highest))
    premises = (grows, holds, pn >= 0)
    by_number = z3.And(pn > highest, z3.Or(version(pn) != top_v, epoch(pn) != top_e))
    by_epoch = later(version(pn), epoch(pn), top_v, top_e)
    yield Obligation("epochs: the model opens a candidate exactly when the code does", premises, by_number == by_epoch)
    # ... and afterwards the recorder again holds the place of the highest packet seen.
    seen = z3.If(pn > highest, pn, highest)
    yield Obligation(
        "epochs: the records stay the same",
        premises,
        z3.And(z3.If(by_epoch, version(pn), top_v) == version(seen), z3.If(by_epoch, epoch(pn), top_e) == epoch(seen)),
    )
