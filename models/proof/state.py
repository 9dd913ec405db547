# SPDX-License-Identifier: Apache-2.0
"""The state of one ECCP flow as Z3 terms: two ends, the whole history of the network, ghosts.

A network that loses, duplicates, delays and reorders is "the set of everything ever sent": a packet may be
delivered at any later time, any number of times, or never.  So nothing is ever removed, and the network is a few arrays:

- a probing packet of an end is named by its packet number `pn`: `pver[pn]`, `psrc[pn]`; sent iff `pn < npn`;
- a challenge (SYN_ACK or RSYN_ACK) is named by its nonce: `cver[n]`, `cdst[n]`; sent iff `n < nn`;
- `acked[n]`: the peer has answered challenge n with an ACK.

Ghosts (read by the proof, never by the protocol): `was[v][a]`: this end had outer address a at version v;
`reached[v][a]`: a challenge was delivered to it at a while its version was v; `fresh`: packets from this number on were
sent since the last disturbance (move, rebinding, spoofed packet); `called`: address the initiator's SYN goes to.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import z3

from controller.eccp.names import FlowState

ADDR = z3.DeclareSort("Addr")
_TABLE = z3.ArraySort(z3.IntSort(), z3.ArraySort(ADDR, z3.BoolSort()))
# FlowState as a finite Z3 sort, built from the shared names.
STATE_SORT, _STATES = z3.EnumSort("FlowState", [s.value for s in FlowState])
ST: dict[FlowState, z3.ExprRef] = dict(zip(FlowState, _STATES, strict=True))

NONE = z3.IntVal(0)  # version of an absent candidate


@dataclass(frozen=True)
class End:
    """One end of the flow; every field is a Z3 term."""

    st: z3.ExprRef  # FlowState
    own: z3.ArithRef  # own_version
    conf: z3.ArithRef  # confirmed_version
    outer: z3.ExprRef  # address at which the world sees and reaches this end now (NAT included)
    called: z3.ExprRef  # ghost
    peerv: z3.ArithRef  # peer_version (0: no active record)
    peera: z3.ExprRef  # peer_addr
    candv: z3.ArithRef  # cand_version (0: SETTLED)
    canda: z3.ExprRef  # cand_addr
    candn: z3.ArithRef  # cand_nonce
    cspoof: z3.BoolRef  # ghost: the candidate's address came from a spoofed packet
    hpn: z3.ArithRef  # highest_pn
    npn: z3.ArithRef  # next packet number
    pver: z3.ArrayRef
    psrc: z3.ArrayRef
    nn: z3.ArithRef  # next nonce
    cver: z3.ArrayRef
    cdst: z3.ArrayRef
    acked: z3.ArrayRef
    was: z3.ArrayRef
    reached: z3.ArrayRef
    fresh: z3.ArithRef  # ghost

    @property
    def top(self) -> z3.ArithRef:
        """Highest version of the peer that this end holds an address for."""
        return z3.If(self.candv > self.peerv, self.candv, self.peerv)

    @property
    def open(self) -> z3.BoolRef:
        """ESTABLISHED, MOVING or CLOSING."""
        return z3.Or(*(self.st == ST[s] for s in (FlowState.ESTABLISHED, FlowState.MOVING, FlowState.CLOSING)))

    def is_in(self, state: FlowState) -> z3.BoolRef:
        return self.st == ST[state]

    def put(self, **changes: object) -> End:
        return replace(self, **changes)


@dataclass(frozen=True)
class Pair:
    """A flow: `a` opens it, `b` accepts it."""

    a: End
    b: End

    def end(self, who: str) -> End:
        return self.a if who == "a" else self.b

    def peer(self, who: str) -> End:
        return self.b if who == "a" else self.a

    def put(self, who: str, **changes: object) -> Pair:
        return replace(self, **{who: self.end(who).put(**changes)})

    def put_peer(self, who: str, **changes: object) -> Pair:
        return self.put("b" if who == "a" else "a", **changes)


_SORTS: dict[str, z3.SortRef] = {
    "st": STATE_SORT, "outer": ADDR, "called": ADDR, "peera": ADDR, "canda": ADDR, "cspoof": z3.BoolSort(),
    "pver": z3.ArraySort(z3.IntSort(), z3.IntSort()), "psrc": z3.ArraySort(z3.IntSort(), ADDR),
    "cver": z3.ArraySort(z3.IntSort(), z3.IntSort()), "cdst": z3.ArraySort(z3.IntSort(), ADDR),
    "acked": z3.ArraySort(z3.IntSort(), z3.BoolSort()), "was": _TABLE, "reached": _TABLE,
}  # fmt: skip


def symbolic(prefix: str) -> Pair:
    """A pair of ends about which nothing is known."""

    def end(who: str) -> End:
        return End(
            **{f.name: z3.Const(f"{prefix}_{who}_{f.name}", _SORTS.get(f.name, z3.IntSort())) for f in fields(End)}
        )

    return Pair(end("a"), end("b"))


def named(state: Pair, prefix: str) -> tuple[Pair, z3.BoolRef]:
    """Give every field of a computed state a name of its own: (the named state, what the names stand for)."""
    name = symbolic(prefix)
    equal = [
        getattr(name.end(who), f.name) == getattr(state.end(who), f.name)
        for who in ("a", "b") for f in fields(End)
        if not z3.eq(getattr(name.end(who), f.name), getattr(state.end(who), f.name))
    ]  # fmt: skip
    return name, z3.And(*equal)


def at(table: z3.ArrayRef, version: z3.ArithRef, addr: z3.ExprRef) -> z3.BoolRef:
    """table[version][addr]"""
    return z3.Select(z3.Select(table, version), addr)


def mark(table: z3.ArrayRef, version: z3.ArithRef, addr: z3.ExprRef) -> z3.ArrayRef:
    """`table` with table[version][addr] = true."""
    return z3.Store(table, version, z3.Store(z3.Select(table, version), addr, z3.BoolVal(True)))
