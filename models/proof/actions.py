# SPDX-License-Identifier: Apache-2.0
"""The transition relation of one ECCP flow for Z3: one entry per action of docs/eccp-protocol.md, section 4.

An action maps (state, who acts, fresh unknowns, rules) to (guard, next state).  It over-approximates the code where that
costs nothing: a probing packet may be received as any probing kind, and a SYN_ACK's challenge and packet number may be
combined at will.  Packet numbers are those of probing packets only (the others keep their order and play no part).
An RSYN answered from the active record repeats a challenge that was sent before, which changes nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import z3

from controller.eccp.names import INITIAL_VERSION, Action, Environment, FlowState
from models.proof.rules import RULES, Rules
from models.proof.state import ADDR, NONE, ST, End, Pair, mark

Next = tuple[z3.BoolRef, Pair]


@dataclass(frozen=True)
class Unknown:
    """What an action leaves open: the version of a move, a new address, which packet or challenge arrives, its source."""

    version: z3.ArithRef
    addr: z3.ExprRef
    pn: z3.ArithRef
    nonce: z3.ArithRef
    src: z3.ExprRef


def unknown(tag: str) -> Unknown:
    return Unknown(z3.Int(f"version_{tag}"), z3.Const(f"addr_{tag}", ADDR), z3.Int(f"pn_{tag}"),
                   z3.Int(f"nonce_{tag}"), z3.Const(f"src_{tag}", ADDR))  # fmt: skip


def other(who: str) -> str:
    return "b" if who == "a" else "a"


def _true(*_: object) -> z3.BoolRef:
    return z3.BoolVal(True)


def probe(s: Pair, who: str, pn: z3.ArithRef, src: z3.ExprRef, rules: Rules, when: z3.BoolRef | bool = True) -> Pair:
    """The probing rule at `who` for the peer's packet `pn` seen from `src`; nothing happens unless `when`."""
    end, peer = s.end(who), s.peer(who)
    version = z3.Select(peer.pver, pn)
    counts = z3.And(when, rules.counts(pn, end.hpn))
    heard = z3.And(counts, z3.Not(rules.too_old(version, end)))
    settled = z3.And(heard, rules.is_active(version, src, end))
    new = z3.And(heard, z3.Not(rules.is_active(version, src, end)), z3.Not(rules.is_candidate(version, src, end)),
                 rules.may_open(version, end))  # fmt: skip
    nonce = rules.nonce(end)
    at_once = z3.And(new, rules.trust_source())
    return s.put(
        who,
        hpn=z3.If(counts, rules.advances(pn, end.hpn), end.hpn),
        candv=z3.If(z3.Or(settled, at_once), NONE, z3.If(new, rules.cand_version(version, end), end.candv)),
        canda=z3.If(new, src, end.canda),
        candn=z3.If(new, nonce, end.candn),
        cspoof=z3.If(new, src != z3.Select(peer.psrc, pn), end.cspoof),
        peerv=z3.If(at_once, version, end.peerv),
        peera=z3.If(at_once, src, end.peera),
        nn=z3.If(z3.And(new, nonce >= end.nn), nonce + 1, end.nn),
        cver=z3.If(new, z3.Store(end.cver, nonce, rules.echo(version, end)), end.cver),
        cdst=z3.If(new, z3.Store(end.cdst, nonce, src), end.cdst),
    )


def _sent(s: Pair, who: str, pn: z3.ArithRef) -> z3.BoolRef:
    """The peer of `who` has sent packet pn."""
    return z3.And(pn >= 0, pn < s.peer(who).npn)


def _honest(s: Pair, who: str, x: Unknown) -> z3.BoolRef:
    return x.src == z3.Select(s.peer(who).psrc, x.pn)


def _emit(s: Pair, who: str) -> Pair:
    """Hand one probing packet to the network."""
    e = s.end(who)
    return s.put(who, npn=e.npn + 1, pver=z3.Store(e.pver, e.npn, e.own), psrc=z3.Store(e.psrc, e.npn, e.outer))


def do_open(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    e = s.end(who)
    guard = z3.And(e.is_in(FlowState.CLOSED), e.npn == 0, who == "a")
    return guard, _emit(s.put(who, st=ST[FlowState.SYN_SENT], peera=x.addr, called=x.addr), who)


def recv_syn(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    e, peer = s.end(who), s.peer(who)
    is_new = z3.And(e.is_in(FlowState.CLOSED), e.hpn == -1, peer.called == e.outer)
    guard = z3.And(who == "b", _sent(s, who, x.pn), _honest(s, who, x), z3.Or(is_new, e.is_in(FlowState.SYN_RECEIVED)))
    took = s.put(
        who,
        st=ST[FlowState.SYN_RECEIVED],
        conf=z3.If(is_new, z3.IntVal(INITIAL_VERSION), e.conf),
        reached=z3.If(is_new, mark(e.reached, e.own, e.outer), e.reached),
    )
    return guard, _emit(probe(took, who, x.pn, x.src, rules), who)  # the SYN_ACK is a probing packet


def _challenged(s: Pair, who: str, x: Unknown, rules: Rules, when: z3.BoolRef) -> Pair:
    """Challenge x.nonce of the peer was delivered to `who`: confirm and answer as the rules say."""
    e, peer = s.end(who), s.peer(who)
    echo = z3.Select(peer.cver, x.nonce)
    confirms, answers = z3.And(when, rules.confirms(echo, e.own)), z3.And(when, rules.answers(echo, e.own))
    done = z3.Or(e.is_in(FlowState.MOVING), e.is_in(FlowState.SYN_SENT))
    s = s.put(
        who,
        conf=z3.If(confirms, e.own, e.conf),
        st=z3.If(z3.And(confirms, done), ST[FlowState.ESTABLISHED], e.st),
        reached=z3.If(when, mark(e.reached, e.own, e.outer), e.reached),
    )
    return s.put_peer(who, acked=z3.If(answers, z3.Store(peer.acked, x.nonce, z3.BoolVal(True)), peer.acked))


def _arrives(s: Pair, who: str, x: Unknown) -> z3.BoolRef:
    """The peer has sent challenge x.nonce, to the address at which `who` is now."""
    peer = s.peer(who)
    return z3.And(x.nonce >= 0, x.nonce < peer.nn, z3.Select(peer.cdst, x.nonce) == s.end(who).outer)


def recv_syn_ack(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    e, peer = s.end(who), s.peer(who)
    first = e.is_in(FlowState.SYN_SENT)
    echo = z3.Select(peer.cver, x.nonce)
    guard = z3.And(who == "a", _arrives(s, who, x), _sent(s, who, x.pn), _honest(s, who, x),
                   z3.Or(e.open, z3.And(first, rules.confirms(echo, e.own))))  # fmt: skip
    s = _challenged(s, who, x, rules, z3.BoolVal(True))
    e = s.end(who)
    # Challenge 0 of the initiator: an RSYN that equals its first record is answered with nonce 0.
    addr = rules.first_addr(e.called, x.src)
    s = s.put(
        who,
        peerv=z3.If(first, z3.IntVal(INITIAL_VERSION), e.peerv),
        peera=z3.If(first, addr, e.peera),
        nn=z3.If(first, z3.IntVal(1), e.nn),
        cver=z3.If(first, z3.Store(e.cver, 0, z3.IntVal(INITIAL_VERSION)), e.cver),
        cdst=z3.If(first, z3.Store(e.cdst, 0, addr), e.cdst),
    )
    return guard, probe(s, who, x.pn, x.src, rules)


def recv_rsyn_ack(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    return z3.And(s.end(who).open, _arrives(s, who, x)), _challenged(s, who, x, rules, z3.BoolVal(True))


def recv_ack(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    e = s.end(who)
    echo = z3.Select(e.cver, x.nonce)
    guard = z3.And(z3.Or(e.open, e.is_in(FlowState.SYN_RECEIVED)), e.candv != NONE, x.nonce >= 0, x.nonce < e.nn,
                   z3.Select(e.acked, x.nonce), rules.ack_settles(x.nonce, echo, e))  # fmt: skip
    settle = z3.If(e.own > e.conf, ST[FlowState.MOVING], ST[FlowState.ESTABLISHED])
    return guard, s.put(
        who,
        peerv=rules.settled_version(e), peera=rules.settled_addr(e, x.src), candv=NONE,
        st=z3.If(e.is_in(FlowState.SYN_RECEIVED), settle, e.st),
    )  # fmt: skip


def move(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    e = s.end(who)
    guard = z3.And(z3.Not(e.is_in(FlowState.CLOSED)), rules.next_version(x.version, e.own))
    starts = z3.And(e.is_in(FlowState.ESTABLISHED), rules.move_state())
    return guard, s.put(
        who, own=x.version, outer=x.addr, fresh=e.npn, was=mark(e.was, x.version, x.addr),
        st=z3.If(starts, ST[FlowState.MOVING], e.st),
    )  # fmt: skip


def recv_probe(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    e = s.end(who)
    return z3.And(e.open, _sent(s, who, x.pn), _honest(s, who, x)), probe(s, who, x.pn, x.src, rules)


def recv_rsyn(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    e = s.end(who)
    able = z3.Or(e.open, e.is_in(FlowState.SYN_RECEIVED))
    return z3.And(able, _sent(s, who, x.pn), _honest(s, who, x)), probe(s, who, x.pn, x.src, rules)


def send(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    return s.end(who).open, _emit(s, who)


def retransmit(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    return z3.Not(s.end(who).is_in(FlowState.CLOSED)), _emit(s, who)


def recv_pong(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    return s.end(who).open, s


def close(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    e = s.end(who)
    abandons = e.is_in(FlowState.SYN_SENT)
    return z3.Not(z3.Or(e.is_in(FlowState.CLOSED), e.is_in(FlowState.CLOSING))), s.put(
        who, st=z3.If(abandons, ST[FlowState.CLOSED], ST[FlowState.CLOSING])
    )


def ends(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    """FIN, FIN_ACK or expiry: allowed at any time, whatever the peer does."""
    return z3.Not(s.end(who).is_in(FlowState.CLOSED)), s.put(who, st=ST[FlowState.CLOSED])


def rebind(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    e = s.end(who)
    return z3.BoolVal(True), s.put(who, outer=x.addr, fresh=e.npn, was=mark(e.was, e.own, x.addr))


def spoof(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    """A copy of any packet of the peer arrives at `who` from any source address."""
    e = s.end(who)
    able = z3.Or(e.open, e.is_in(FlowState.SYN_RECEIVED))
    s = s.put_peer(who, fresh=s.peer(who).npn)
    return z3.And(able, _sent(s, who, x.pn)), probe(s, who, x.pn, x.src, rules)


def drop_candidate(s: Pair, who: str, x: Unknown, rules: Rules) -> Next:
    """Not a step of the protocol (its guard is false); a mutant enables it."""
    return rules.drop_candidate(), s.put(who, candv=NONE)


Step = Callable[[Pair, str, Unknown, Rules], Next]

ACTIONS: dict[Action | Environment, Step] = {
    Action.OPEN: do_open,
    Action.RECV_SYN: recv_syn,
    Action.RECV_SYN_ACK: recv_syn_ack,
    Action.RECV_ACK: recv_ack,
    Action.MOVE: move,
    Action.RECV_RSYN: recv_rsyn,
    Action.RECV_RSYN_ACK: recv_rsyn_ack,
    Action.SEND_PING: send,
    Action.RECV_PING: recv_probe,
    Action.RECV_PONG: recv_pong,
    Action.SEND_DATA: send,
    Action.RECV_DATA: recv_probe,
    Action.RETRANSMIT: retransmit,
    Action.CLOSE: close,
    Action.RECV_FIN: ends,
    Action.RECV_FIN_ACK: ends,
    Action.EXPIRE: ends,
    Environment.REBIND: rebind,
    Environment.SPOOF: spoof,
}
# After QUIESCE none of these happens: the premise of liveness.
DISTURBING: frozenset[Action | Environment] = frozenset(
    {
        Action.MOVE,
        Action.CLOSE,
        Action.RECV_FIN,
        Action.RECV_FIN_ACK,
        Action.EXPIRE,
        Environment.REBIND,
        Environment.SPOOF,
    }
)


def initial(s: Pair) -> z3.BoolRef:
    """Nobody has sent anything; each end has some address."""
    never = z3.K(z3.IntSort(), z3.BoolVal(False))
    nowhere = z3.K(z3.IntSort(), z3.K(ADDR, z3.BoolVal(False)))

    def end(e: End) -> z3.BoolRef:
        return z3.And(
            e.is_in(FlowState.CLOSED), e.own == INITIAL_VERSION, e.conf == 0, e.peerv == 0, e.candv == 0, e.hpn == -1,
            e.npn == 0, e.nn == 0, e.fresh == 0, e.acked == never, e.reached == nowhere,
            e.was == mark(nowhere, z3.IntVal(INITIAL_VERSION), e.outer),
        )  # fmt: skip

    return z3.And(end(s.a), end(s.b))


def all_steps(rules: Rules = RULES) -> list[tuple[str, str, Step]]:
    """(name, who acts, step) of every action at both ends, the mutants' extra step included."""
    steps = [(name.value, who, step) for name, step in ACTIONS.items() for who in ("a", "b")]
    if z3.is_true(rules.drop_candidate()):
        steps += [("DROP_CANDIDATE", who, drop_candidate) for who in ("a", "b")]
    return steps
