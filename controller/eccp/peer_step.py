# SPDX-License-Identifier: Apache-2.0
"""Taking a step of the flow machine for a flow: send, time, trace and report what follows from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.eccp import peer_data_out, peer_open, peer_timers, peer_transmit
from controller.eccp.connection import FlowEntry
from controller.eccp.flow import Flow, Outcome, Step
from controller.eccp.flow import step as flow_step
from controller.eccp.names import Action, FlowState, Message
from controller.eccp.outputs import ConnectionEnded, FlowClosed, OwnMoveConfirmed, PeerAddressValidated, TraceRow
from controller.eccp.table import OPEN_STATES
from controller.wire.eccp import Address

if TYPE_CHECKING:
    from controller.eccp.peer import Peer


def apply(
    peer: Peer,
    entry: FlowEntry,
    event: Step,
    now: float,
    *,
    received: Message | None = None,
    relayed: bool = False,
) -> Outcome:
    """Take one step of the flow machine; send, time and report what follows from it."""
    before = entry.flow
    if entry.seen_pn > before.highest_pn:
        before = replace(before, highest_pn=entry.seen_pn)
    outcome = flow_step(before, event)
    entry.flow = outcome.flow
    if outcome.peer_moved:
        entry.generation += 1
        entry.budget.clear()
    reply_own = event.own if received is not None else None
    sent = [
        record
        for send in outcome.sends
        for record in peer_transmit.transmit(peer, entry, send, reply_own if send.to == event.source else None)
    ]
    if peer.trace is not None:
        peer.trace(TraceRow(entry.name, event.action, event, received, relayed, tuple(sent), entry.flow))
    _report(peer, entry, before, outcome, now)
    peer_timers.after_step(peer, entry, before, now)
    return outcome


def _report(peer: Peer, entry: FlowEntry, before: Flow, outcome: Outcome, now: float) -> None:
    after = outcome.flow
    number = entry.connection.number
    if before.state not in OPEN_STATES and after.state in OPEN_STATES:
        peer_open.opened(peer, entry, now)
    elif outcome.peer_moved:
        address = after.peer_addr
        assert isinstance(address, Address)
        peer.notify(PeerAddressValidated(number, entry.local_id, after.peer_version, address))
        peer_data_out.resend_lost(peer, entry, now)
    elif after.cand_addr is not None and (before.cand_addr, before.cand_version) != (
        after.cand_addr,
        after.cand_version,
    ):
        peer_data_out.send_early(peer, entry, now)
    if outcome.confirmed and before.state is FlowState.MOVING:
        elapsed = now - entry.began_at
        if entry.attempt == 0:  # Karn: an answer to a repeated RSYN says nothing about the RTT
            entry.rtt = entry.rtt.with_sample(elapsed)
        own = after.own_addr
        assert isinstance(own, Address)
        peer.notify(OwnMoveConfirmed(number, entry.local_id, after.own_version, own, elapsed))
    if before.state is not FlowState.CLOSED and after.state is FlowState.CLOSED:
        peer.notify(FlowClosed(number, entry.local_id))
        if not entry.connection.ended and all(e.flow.state is FlowState.CLOSED for e in entry.connection.flows):
            entry.connection.ended = True
            peer.notify(ConnectionEnded(number))


def close(peer: Peer, entry: FlowEntry, now: float, *, whole: bool) -> None:
    """CLOSE one flow; ``whole`` says so for all of the connection."""
    if entry.flow.state in {FlowState.CLOSED, FlowState.CLOSING}:
        return
    entry.closing_whole = whole
    entry.attempt = 0
    entry.began_at = now
    apply(peer, entry, Step(Action.CLOSE), now)
