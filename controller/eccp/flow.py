# SPDX-License-Identifier: Apache-2.0
"""One flow's life, moves and path validation: a pure function from (state, step) to (state, packets to send).

This is the whole of the protocol that the models and the proof speak of, rule by rule as in docs/eccp-protocol.md
section 4; keys, timers, sockets and byte counts live around it.  States are frozen and hashable, so the explorer
walks them exhaustively.  Addresses are opaque values that can only be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace

from controller.eccp.errors import LocalError
from controller.eccp.names import INITIAL_VERSION, PROBING, Action, FlowState, Message, PeerState
from controller.eccp.table import OPEN_STATES, check_called, check_transition

Place = Hashable  # an address as the flow sees it
MAX_VERSION = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Flow:
    """All that the protocol remembers of one flow (docs/eccp-protocol.md section 3).

    ``peer_`` is the active record (validated, in use), ``cand_`` the candidate record (challenged, unanswered; none
    when ``cand_addr`` is None).  A nonce of 0 means none.  ``highest_pn`` is the highest authenticated packet number
    that a probing packet of the peer had.
    """

    state: FlowState = FlowState.CLOSED
    own_version: int = INITIAL_VERSION
    own_addr: Place = None
    confirmed_version: int = 0
    peer_version: int = 0
    peer_addr: Place = None
    peer_nonce: int = 0
    cand_version: int = 0
    cand_addr: Place = None
    cand_nonce: int = 0
    highest_pn: int = -1
    known: bool = False  # this id was in use: it is never opened again, and its FIN is still answered

    @property
    def peer_state(self) -> PeerState:
        """`PeerState.VALIDATING` while there is a candidate."""
        return PeerState.SETTLED if self.cand_addr is None else PeerState.VALIDATING


@dataclass(frozen=True, slots=True)
class Step:
    """One input: an `Action` and what came with it.

    For RECV_ actions ``source`` is where the packet came from and ``version, pn, echo, nonce`` are its fields.
    ``challenge`` is a fresh nonce that the caller drew (so that this stays pure); it is used only if a new candidate
    comes to be.  For OPEN, ``source`` is the address called; for OPEN and MOVE, ``own`` is the new own address.
    ``everywhere`` says that pings stay unanswered (RETRANSMIT), or that data may go to a candidate too (SEND_DATA).
    """

    action: Action
    source: Place = None
    own: Place = None
    version: int = 0
    pn: int = 0
    echo: int = 0
    nonce: int = 0
    challenge: int = 0
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """One packet to send; ``everywhere``: to every address known, listed and rendezvous included."""

    message: Message
    to: Place
    version: int = 0
    echo: int = 0
    nonce: int = 0
    everywhere: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """New state, packets, and whether the peer's address was validated or a move of ours confirmed."""

    flow: Flow
    sends: tuple[Send, ...] = ()
    peer_moved: bool = False
    confirmed: bool = False


def step(flow: Flow, event: Step) -> Outcome:
    """Apply one step.  Raises `LocalError` when the *caller* may not do this now; received steps never raise."""
    check_called(flow.state, event.action)
    outcome = _HANDLERS[event.action](flow, event)
    check_transition(flow.state, flow.peer_state, event.action, outcome.flow.state, outcome.flow.peer_state)
    return outcome


def _is_open(flow: Flow) -> bool:
    return flow.state in OPEN_STATES


def _settled(flow: Flow) -> FlowState:
    return FlowState.MOVING if flow.own_version > flow.confirmed_version else FlowState.ESTABLISHED


def _without_candidate(flow: Flow) -> Flow:
    return replace(flow, cand_version=0, cand_addr=None, cand_nonce=0)


def _probe(flow: Flow, event: Step, message: Message) -> tuple[Flow, bool]:
    """The probing rule: the only way in which a candidate comes to be.  Returns whether a new one did."""
    if message not in PROBING or event.pn <= flow.highest_pn:
        return flow, False
    flow = replace(flow, highest_pn=event.pn)
    if event.version < max(flow.peer_version, flow.cand_version):
        return flow, False
    if (event.version, event.source) == (flow.peer_version, flow.peer_addr):
        return _without_candidate(flow), False
    if (event.version, event.source) == (flow.cand_version, flow.cand_addr):
        return flow, False
    challenged = replace(flow, cand_version=event.version, cand_addr=event.source, cand_nonce=event.challenge)
    return challenged, True


def _challenge(flow: Flow, message: Message = Message.RSYN_ACK) -> Send:
    return Send(message, flow.cand_addr, flow.own_version, flow.cand_version, flow.cand_nonce)


def _open(flow: Flow, event: Step) -> Outcome:
    if flow.known:
        raise LocalError("a flow id is never used again; open the flow under a new one")
    opened = replace(
        flow, state=FlowState.SYN_SENT, own_addr=event.own, peer_addr=event.source, confirmed_version=0, known=True
    )
    return Outcome(opened, (Send(Message.SYN, event.source, opened.own_version),))


def _recv_syn(flow: Flow, event: Step) -> Outcome:
    if flow.state is FlowState.CLOSED and not flow.known:
        flow = replace(
            flow,
            state=FlowState.SYN_RECEIVED,
            own_addr=event.own,
            confirmed_version=INITIAL_VERSION,
            known=True,
        )
    elif flow.state is not FlowState.SYN_RECEIVED:
        return Outcome(flow)
    flow, _ = _probe(flow, event, Message.SYN)
    if (event.version, event.source) == (flow.cand_version, flow.cand_addr):
        return Outcome(flow, (_challenge(flow, Message.SYN_ACK),))
    return Outcome(flow)


def _recv_syn_ack(flow: Flow, event: Step) -> Outcome:
    """Confirms the opening (or a move during it); its source is subject to the probing rule like any other."""
    answered = event.echo == flow.own_version
    if flow.state is FlowState.SYN_SENT and answered:
        flow = replace(
            flow, state=FlowState.ESTABLISHED, confirmed_version=flow.own_version, peer_version=INITIAL_VERSION
        )
    elif not _is_open(flow) or event.echo > flow.own_version:
        return Outcome(flow)
    confirmed = answered and flow.own_version > flow.confirmed_version
    if answered:
        flow = _confirm(flow)
    flow, is_new = _probe(flow, event, Message.SYN_ACK)
    sends = (_challenge(flow),) if is_new else ()
    if answered:
        sends = (Send(Message.ACK, event.source, flow.own_version, event.echo, event.nonce), *sends)
    return Outcome(flow, sends, confirmed=confirmed)


def _confirm(flow: Flow) -> Flow:
    state = FlowState.ESTABLISHED if flow.state is FlowState.MOVING else flow.state
    return replace(flow, state=state, confirmed_version=flow.own_version)


def _recv_ack(flow: Flow, event: Step) -> Outcome:
    """The only step that changes the peer's active address."""
    if flow.state is not FlowState.SYN_RECEIVED and not _is_open(flow):
        return Outcome(flow)
    if flow.cand_addr is None or (event.echo, event.nonce) != (flow.cand_version, flow.cand_nonce):
        return Outcome(flow)
    state = _settled(flow) if flow.state is FlowState.SYN_RECEIVED else flow.state
    active = replace(
        flow,
        state=state,
        peer_version=flow.cand_version,
        peer_addr=flow.cand_addr,
        peer_nonce=flow.cand_nonce,
    )
    return Outcome(_without_candidate(active), peer_moved=True)


def _move(flow: Flow, event: Step) -> Outcome:
    version = max(flow.own_version + 1, event.version)
    if version > MAX_VERSION:
        raise LocalError("the versions of this flow are used up; open another flow")
    state = FlowState.MOVING if flow.state is FlowState.ESTABLISHED else flow.state
    flow = replace(flow, state=state, own_version=version, own_addr=event.own)
    return Outcome(flow, _unanswered(flow, everywhere=False))


def _recv_rsyn(flow: Flow, event: Step) -> Outcome:
    if flow.state is not FlowState.SYN_RECEIVED and not _is_open(flow):
        return Outcome(flow)
    flow, _ = _probe(flow, event, Message.RSYN)
    place = (event.version, event.source)
    if place == (flow.cand_version, flow.cand_addr):
        return Outcome(flow, (_challenge(flow),))
    if place == (flow.peer_version, flow.peer_addr):
        answer = Send(Message.RSYN_ACK, event.source, flow.own_version, flow.peer_version, flow.peer_nonce)
        return Outcome(flow, (answer,))
    return Outcome(flow)


def _recv_rsyn_ack(flow: Flow, event: Step) -> Outcome:
    """Confirms exactly the newest own version: what answers an older one is void, and nobody waits for it."""
    if not _is_open(flow) or event.echo != flow.own_version:
        return Outcome(flow)
    confirmed = flow.own_version > flow.confirmed_version
    flow = _confirm(flow)
    answer = Send(Message.ACK, event.source, flow.own_version, event.echo, event.nonce)
    return Outcome(flow, (answer,), confirmed=confirmed)


def _send_to_active(flow: Flow, event: Step, message: Message) -> Outcome:
    if flow.peer_addr is None:  # closed before the opener's address was validated
        return Outcome(flow)
    return Outcome(flow, (Send(message, flow.peer_addr, flow.own_version, nonce=event.nonce),))


def _send_data(flow: Flow, event: Step) -> Outcome:
    """To the active address; early data also to a candidate that an announced move (a higher version) has opened.

    Sending changes nothing here, and a packet's destination nothing at the receiver: what it may learn is its source.
    """
    outcome = _send_to_active(flow, event, Message.DATA)
    if not event.everywhere or flow.cand_addr is None or flow.cand_version <= flow.peer_version:
        return outcome
    return Outcome(flow, (*outcome.sends, Send(Message.DATA, flow.cand_addr, flow.own_version)))


def _recv_ping(flow: Flow, event: Step) -> Outcome:
    if not _is_open(flow):
        return Outcome(flow)
    flow, is_new = _probe(flow, event, Message.PING)
    pong = Send(Message.PONG, event.source, flow.own_version, nonce=event.nonce)
    return Outcome(flow, (pong, _challenge(flow)) if is_new else (pong,))


def _recv_data(flow: Flow, event: Step) -> Outcome:
    if not _is_open(flow):
        return Outcome(flow)
    flow, is_new = _probe(flow, event, Message.DATA)
    return Outcome(flow, (_challenge(flow),) if is_new else ())


def _unanswered(flow: Flow, *, everywhere: bool) -> tuple[Send, ...]:
    sends: list[Send] = []
    validating = flow.cand_addr is not None
    if flow.state is FlowState.SYN_SENT:
        sends.append(Send(Message.SYN, flow.peer_addr, flow.own_version))
    elif flow.state is FlowState.SYN_RECEIVED:
        if validating:
            sends.append(_challenge(flow, Message.SYN_ACK))
    elif flow.state is FlowState.CLOSING:
        places = dict.fromkeys(p for p in (flow.peer_addr, flow.cand_addr) if p is not None)
        sends += [Send(Message.FIN, place, flow.own_version) for place in places]
    elif flow.state is FlowState.MOVING or (flow.state is FlowState.ESTABLISHED and everywhere):
        sends.append(Send(Message.RSYN, None, flow.own_version, everywhere=True))
    if validating and _is_open(flow):
        sends.append(_challenge(flow))
    return tuple(sends)


def _close(flow: Flow, event: Step) -> Outcome:
    if flow.state is FlowState.SYN_SENT:
        return _forget(flow, event)
    closing = replace(flow, state=FlowState.CLOSING)
    places = dict.fromkeys(p for p in (flow.peer_addr, flow.cand_addr) if p is not None)
    return Outcome(closing, tuple(Send(Message.FIN, place, flow.own_version) for place in places))


def _recv_fin(flow: Flow, event: Step) -> Outcome:
    if not flow.known or flow.state is FlowState.SYN_SENT:
        return Outcome(flow)
    return Outcome(_forget(flow, event).flow, (Send(Message.FIN_ACK, event.source, flow.own_version),))


def _forget(flow: Flow, event: Step) -> Outcome:
    return Outcome(_without_candidate(replace(flow, state=FlowState.CLOSED)))


_HANDLERS: dict[Action, Callable[[Flow, Step], Outcome]] = {
    Action.OPEN: _open,
    Action.RECV_SYN: _recv_syn,
    Action.RECV_SYN_ACK: _recv_syn_ack,
    Action.RECV_ACK: _recv_ack,
    Action.MOVE: _move,
    Action.RECV_RSYN: _recv_rsyn,
    Action.RECV_RSYN_ACK: _recv_rsyn_ack,
    Action.SEND_PING: lambda flow, event: _send_to_active(flow, event, Message.PING),
    Action.RECV_PING: _recv_ping,
    Action.RECV_PONG: lambda flow, event: Outcome(flow),
    Action.SEND_DATA: _send_data,
    Action.RECV_DATA: _recv_data,
    Action.RETRANSMIT: lambda flow, event: Outcome(flow, _unanswered(flow, everywhere=event.everywhere)),
    Action.CLOSE: _close,
    Action.RECV_FIN: _recv_fin,
    Action.RECV_FIN_ACK: lambda flow, event: _forget(flow, event) if flow.state is FlowState.CLOSING else Outcome(flow),
    Action.EXPIRE: _forget,
}
