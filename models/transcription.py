# SPDX-License-Identifier: Apache-2.0
"""The transition table of docs/eccp-protocol.md section 4, executable: what a step may do to a flow, and may send.

Written from the page alone and sharing no code with `controller.eccp.flow`, so that the two can disagree.  Choices that
the protocol leaves open (the version of a move, a new address, a fresh nonce) are read off the step that is judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from controller.eccp.names import INITIAL_VERSION, Action, FlowState, Message, PeerState


@dataclass(frozen=True, slots=True)
class Record:
    """Section 3: the state of one flow at one host.  `cand_version` 0 means that there is no candidate."""

    flow_state: FlowState = FlowState.CLOSED
    own_version: int = INITIAL_VERSION
    own_addr: str | None = None
    confirmed_version: int = 0
    peer_version: int = 0
    peer_addr: str | None = None
    peer_nonce: int = 0
    cand_version: int = 0
    cand_addr: str | None = None
    cand_nonce: int = 0
    highest_pn: int = -1
    known: bool = False  # the id was in use

    @property
    def peer_state(self) -> PeerState:
        return PeerState.VALIDATING if self.cand_version else PeerState.SETTLED


class Arrival(NamedTuple):
    """The message of a RECV_ step."""

    kind: Message
    version: int
    pn: int
    src: str
    echo: int = 0
    nonce: int = 0


class Choice(NamedTuple):
    """What the step chose: a fresh nonce, the version and address after a move or opening, the address called."""

    nonce: int
    version: int
    addr: str | None
    called: str | None


class Packet(NamedTuple):
    """A packet that a step may send.  `dst` None: any address known of the peer, listed ones and rendezvous included."""

    kind: Message
    version: int
    dst: str | None
    echo: int = 0
    nonce: int = 0


Effect = Callable[[Record, Arrival | None, Choice], tuple[Record, list[Packet]]]
Guard = Callable[[Record, Arrival | None], bool]

_S = FlowState
OPEN = frozenset({_S.ESTABLISHED, _S.MOVING, _S.CLOSING})
ANY = frozenset(FlowState) - {_S.CLOSED}


def probing_rule(r: Record, m: Arrival, fresh: int) -> tuple[Record, bool]:
    """Rules 1 to 4; whether a candidate was opened."""
    if m.pn <= r.highest_pn:
        return r, False
    r = replace(r, highest_pn=m.pn)
    if m.version < max(r.peer_version, r.cand_version):
        return r, False
    if (m.version, m.src) == (r.peer_version, r.peer_addr):
        return replace(r, cand_version=0, cand_addr=None, cand_nonce=0), False
    if (m.version, m.src) == (r.cand_version, r.cand_addr):
        return r, False
    return replace(r, cand_version=m.version, cand_addr=m.src, cand_nonce=fresh), True


def _challenge(r: Record, kind: Message) -> Packet:
    return Packet(kind, r.own_version, r.cand_addr, r.cand_version, r.cand_nonce)


def _answer(r: Record, m: Arrival) -> Packet:
    return Packet(Message.ACK, r.own_version, m.src, m.echo, m.nonce)


def _open(r: Record, m: Arrival | None, c: Choice) -> tuple[Record, list[Packet]]:
    r = replace(r, flow_state=_S.SYN_SENT, own_version=INITIAL_VERSION, own_addr=c.addr, confirmed_version=0,
                peer_addr=c.called, peer_version=0, known=True)  # fmt: skip
    return r, [Packet(Message.SYN, r.own_version, r.peer_addr)]


def _first_syn(r: Record, m: Arrival, c: Choice) -> tuple[Record, list[Packet]]:
    r = replace(r, flow_state=_S.SYN_RECEIVED, own_addr=c.addr, confirmed_version=INITIAL_VERSION, known=True)
    r, _ = probing_rule(r, m, c.nonce)
    return r, [_challenge(r, Message.SYN_ACK)]


def _again_syn(r: Record, m: Arrival, c: Choice) -> tuple[Record, list[Packet]]:
    r, _ = probing_rule(r, m, c.nonce)
    return r, [_challenge(r, Message.SYN_ACK)] if (m.version, m.src) == (r.cand_version, r.cand_addr) else []


def _confirm(r: Record) -> Record:
    return replace(
        r, confirmed_version=r.own_version, flow_state=_S.ESTABLISHED if r.flow_state is _S.MOVING else r.flow_state
    )


def _first_syn_ack(r: Record, m: Arrival, c: Choice) -> tuple[Record, list[Packet]]:
    r = replace(r, flow_state=_S.ESTABLISHED, confirmed_version=r.own_version, peer_version=INITIAL_VERSION)
    answer = _answer(r, m)
    r, opened = probing_rule(r, m, c.nonce)
    return r, [answer, *([_challenge(r, Message.RSYN_ACK)] if opened else [])]


def _again_syn_ack(r: Record, m: Arrival, c: Choice) -> tuple[Record, list[Packet]]:
    r = _confirm(r)
    answer = _answer(r, m)
    r, opened = probing_rule(r, m, c.nonce)
    return r, [answer, *([_challenge(r, Message.RSYN_ACK)] if opened else [])]


def _probe_only(r: Record, m: Arrival, c: Choice) -> tuple[Record, list[Packet]]:
    r, opened = probing_rule(r, m, c.nonce)
    return r, [_challenge(r, Message.RSYN_ACK)] if opened else []


def _activate(r: Record, m: Arrival, c: Choice) -> tuple[Record, list[Packet]]:
    state = r.flow_state
    if state is _S.SYN_RECEIVED:
        state = _S.MOVING if r.own_version > r.confirmed_version else _S.ESTABLISHED
    return replace(r, flow_state=state, peer_version=r.cand_version, peer_addr=r.cand_addr, peer_nonce=r.cand_nonce,
                   cand_version=0, cand_addr=None, cand_nonce=0), []  # fmt: skip


def _move(r: Record, m: Arrival | None, c: Choice) -> tuple[Record, list[Packet]]:
    state = _S.MOVING if r.flow_state is _S.ESTABLISHED else r.flow_state
    r = replace(r, own_version=c.version, own_addr=c.addr, flow_state=state)
    return r, retransmissions(r)


def _rsyn(r: Record, m: Arrival, c: Choice) -> tuple[Record, list[Packet]]:
    r, _ = probing_rule(r, m, c.nonce)
    place = (m.version, m.src)
    if place == (r.cand_version, r.cand_addr):
        return r, [_challenge(r, Message.RSYN_ACK)]
    if place == (r.peer_version, r.peer_addr):
        return r, [Packet(Message.RSYN_ACK, r.own_version, m.src, m.version, r.peer_nonce)]
    return r, []


def _rsyn_ack(r: Record, m: Arrival, c: Choice) -> tuple[Record, list[Packet]]:
    r = _confirm(r)
    return r, [_answer(r, m)]


def _ping(r: Record, m: Arrival, c: Choice) -> tuple[Record, list[Packet]]:
    r, opened = probing_rule(r, m, c.nonce)
    pong = Packet(Message.PONG, r.own_version, m.src, 0, m.nonce)
    return r, [pong, *([_challenge(r, Message.RSYN_ACK)] if opened else [])]


def retransmissions(r: Record) -> list[Packet]:
    """Everything that a flow in this state may send again."""
    out: list[Packet] = []
    if r.flow_state is _S.SYN_SENT:
        out.append(Packet(Message.SYN, r.own_version, r.peer_addr))
    if r.flow_state is _S.SYN_RECEIVED and r.cand_version:
        out.append(_challenge(r, Message.SYN_ACK))
    if r.flow_state in (_S.ESTABLISHED, _S.MOVING):
        out.append(Packet(Message.RSYN, r.own_version, None))
    if r.flow_state in OPEN and r.cand_version:
        out.append(_challenge(r, Message.RSYN_ACK))
    if r.flow_state is _S.CLOSING:
        out += [Packet(Message.FIN, r.own_version, addr) for addr in (r.peer_addr, r.cand_addr) if addr is not None]
    return out


def _retransmit(r: Record, m: Arrival | None, c: Choice) -> tuple[Record, list[Packet]]:
    return r, retransmissions(r)


def _closing(r: Record, m: Arrival | None, c: Choice) -> tuple[Record, list[Packet]]:
    r = replace(r, flow_state=_S.CLOSING)
    return r, [Packet(Message.FIN, r.own_version, addr) for addr in (r.peer_addr, r.cand_addr) if addr is not None]


def _closed(r: Record, m: Arrival | None, c: Choice) -> tuple[Record, list[Packet]]:
    return replace(r, flow_state=_S.CLOSED, cand_version=0, cand_addr=None, cand_nonce=0), []


def _fin(r: Record, m: Arrival, c: Choice) -> tuple[Record, list[Packet]]:
    return _closed(r, m, c)[0], [Packet(Message.FIN_ACK, r.own_version, m.src)]


def _nothing(r: Record, m: Arrival | None, c: Choice) -> tuple[Record, list[Packet]]:
    return r, []


def _always(r: Record, m: Arrival | None) -> bool:
    return True


def _echo_is_own(r: Record, m: Arrival) -> bool:
    return m.echo == r.own_version


def _answers_candidate(r: Record, m: Arrival) -> bool:
    return bool(r.cand_version) and (m.echo, m.nonce) == (r.cand_version, r.cand_nonce)


class Row(NamedTuple):
    """One line of the table."""

    action: Action
    states: frozenset[FlowState]
    guard: Guard
    effect: Effect


def _send(kind: Message) -> Effect:
    return lambda r, m, c: (r, [Packet(kind, r.own_version, r.peer_addr, 0, c.nonce if kind is Message.PING else 0)])


def _send_data(r: Record, m: Arrival | None, c: Choice) -> tuple[Record, list[Packet]]:
    """To the active address, and early data to the candidate of an announced move."""
    places = [r.peer_addr, *([r.cand_addr] if r.cand_version > r.peer_version else [])]
    return r, [Packet(Message.DATA, r.own_version, addr) for addr in places if addr is not None]


_A = Action
TABLE: tuple[Row, ...] = (
    Row(_A.OPEN, frozenset({_S.CLOSED}), lambda r, m: not r.known, _open),
    Row(_A.RECV_SYN, frozenset({_S.CLOSED}), lambda r, m: not r.known, _first_syn),
    Row(_A.RECV_SYN, frozenset({_S.SYN_RECEIVED}), _always, _again_syn),
    Row(_A.RECV_SYN_ACK, frozenset({_S.SYN_SENT}), _echo_is_own, _first_syn_ack),
    Row(_A.RECV_SYN_ACK, OPEN, _echo_is_own, _again_syn_ack),
    Row(_A.RECV_SYN_ACK, OPEN, lambda r, m: m.echo < r.own_version, _probe_only),
    Row(_A.RECV_ACK, OPEN | {_S.SYN_RECEIVED}, _answers_candidate, _activate),
    Row(_A.MOVE, ANY, _always, _move),
    Row(_A.RECV_RSYN, OPEN | {_S.SYN_RECEIVED}, _always, _rsyn),
    Row(_A.RECV_RSYN_ACK, OPEN, _echo_is_own, _rsyn_ack),
    Row(_A.SEND_PING, OPEN, _always, _send(Message.PING)),
    Row(_A.SEND_DATA, OPEN, _always, _send_data),
    Row(_A.RECV_PING, OPEN, _always, _ping),
    Row(_A.RECV_DATA, OPEN, _always, _probe_only),
    Row(_A.RECV_PONG, OPEN, _always, _nothing),
    Row(_A.RETRANSMIT, ANY, _always, _retransmit),
    Row(_A.CLOSE, frozenset({_S.SYN_SENT}), _always, _closed),
    Row(_A.CLOSE, frozenset({_S.SYN_RECEIVED, _S.ESTABLISHED, _S.MOVING}), _always, _closing),
    Row(_A.RECV_FIN, OPEN | {_S.SYN_RECEIVED}, _always, _fin),
    Row(_A.RECV_FIN, frozenset({_S.CLOSED}), lambda r, m: r.known, _fin),
    Row(_A.RECV_FIN_ACK, frozenset({_S.CLOSING}), _always, _closed),
    Row(_A.EXPIRE, ANY, _always, _closed),
)
# Taken by the host itself: where the table has no row, it must not take them.
LOCAL = frozenset({_A.OPEN, _A.MOVE, _A.SEND_PING, _A.SEND_DATA, _A.RETRANSMIT, _A.CLOSE, _A.EXPIRE})


def successor(
    before: Record, action: Action, arrival: Arrival | None, choice: Choice, table: tuple[Row, ...] = TABLE
) -> tuple[Record, list[Packet]] | None:
    """The state after the step and everything it may send; None if the host may not take it."""
    for row in table:
        if row.action is action and before.flow_state in row.states and row.guard(before, arrival):
            return row.effect(before, arrival, choice)
    return None if action in LOCAL else (before, [])
