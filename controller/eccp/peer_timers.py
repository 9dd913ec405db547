# SPDX-License-Identifier: Apache-2.0
"""Time: retransmission with backoff, keep-alive probes, giving up, forgetting."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from controller.eccp import peer_step
from controller.eccp.connection import Connection, FlowEntry
from controller.eccp.flow import Flow, Step
from controller.eccp.names import Action, FlowState, PeerState
from controller.eccp.outputs import ConnectionFailed, PathLost
from controller.eccp.rtt import CHALLENGE_MAX, MAX_TIMEOUT
from controller.eccp.scheduler import Policy

if TYPE_CHECKING:
    from controller.eccp.peer import Peer

MEASURE_EVERY = 1.0  # seconds between RTT samples of each flow where the choice of flow rests on them
_OPENING = frozenset({FlowState.SYN_SENT, FlowState.SYN_RECEIVED})


def arm(peer: Peer, entry: FlowEntry) -> None:
    """Put the flow's earliest deadline on the heap."""
    deadlines = [at for at in (entry.retransmit_at, entry.ping_at, entry.expire_at) if at is not None]
    earliest = min(deadlines) if deadlines else None
    if earliest is None:
        entry.armed = None
    elif entry.armed is None or earliest < entry.armed:
        entry.armed = earliest
        heapq.heappush(peer.timers, (earliest, entry.local_id, entry))
    # a later deadline needs no new place: the timer fires early once, finds nothing due, and is armed again


def after_step(peer: Peer, entry: FlowEntry, before: Flow, now: float) -> None:
    """Set deadlines after a step of the flow machine."""
    after = entry.flow
    settings = peer.settings
    if after.state is FlowState.CLOSED:
        entry.retransmit_at = entry.ping_at = None
        if before.state is not FlowState.CLOSED:
            entry.expire_at = now + settings.linger
    else:
        if _is_unanswered(entry):
            if _progressed(before, after):
                entry.attempt = 0
                entry.retransmit_at = None
            if entry.retransmit_at is None:
                entry.retransmit_at = now + _timeout(entry)
        else:
            entry.attempt = 0
            entry.retransmit_at = None
        if before.state is not after.state:
            limits = {
                FlowState.SYN_SENT: settings.open_timeout,
                FlowState.SYN_RECEIVED: settings.open_timeout,
                FlowState.CLOSING: settings.close_timeout,
            }
            entry.expire_at = now + limits.get(after.state, settings.idle_timeout)
    arm(peer, entry)


def _is_unanswered(entry: FlowEntry) -> bool:
    flow = entry.flow
    waiting = flow.state in {FlowState.SYN_SENT, FlowState.SYN_RECEIVED, FlowState.MOVING, FlowState.CLOSING}
    return waiting or entry.lost or flow.peer_state is PeerState.VALIDATING


def _progressed(before: Flow, after: Flow) -> bool:
    """A new question was asked: its backoff starts afresh."""
    return (before.own_version, before.cand_version, before.cand_addr, before.state) != (
        after.own_version,
        after.cand_version,
        after.cand_addr,
        after.state,
    )


def _timeout(entry: FlowEntry) -> float:
    only_challenge = entry.flow.state is FlowState.ESTABLISHED and not entry.lost
    return entry.rtt.timeout(entry.attempt, CHALLENGE_MAX if only_challenge else MAX_TIMEOUT)


def heard(peer: Peer, entry: FlowEntry, now: float) -> None:
    """An authentic packet came in: the path lives."""
    entry.heard_at = now
    entry.unheard_since = None
    entry.pings_unanswered = 0
    if entry.lost:
        entry.lost = False
        if not _is_unanswered(entry):
            entry.retransmit_at = None
    if entry.is_open:
        entry.ping_at = now + peer.settings.keepalive
        if _is_measured(peer, entry.connection):
            entry.ping_at = min(entry.ping_at, max(now, entry.ping_sent_at + MEASURE_EVERY))
        entry.expire_at = max(entry.expire_at or 0.0, now + peer.settings.close_timeout)
        if entry.flow.state is not FlowState.CLOSING:
            entry.expire_at = now + peer.settings.idle_timeout
        arm(peer, entry)


def _is_measured(peer: Peer, connection: Connection) -> bool:
    return peer.settings.policy is Policy.LOWEST_RTT and len(connection.flows) > 1


def measure(peer: Peer, connection: Connection, now: float) -> None:
    """A flow has opened: where the choice of flow rests on RTTs, those of all are measured from now on."""
    if _is_measured(peer, connection):
        for entry in connection.flows:
            if entry.is_open:
                entry.ping_at = now
                arm(peer, entry)


def heard_candidate(peer: Peer, entry: FlowEntry, now: float) -> None:
    """The address in question is alive, and the answer to its challenge still due: ask again soon."""
    soon = now + entry.rtt.timeout()
    if entry.retransmit_at is None or entry.retransmit_at > soon:
        entry.attempt = 0
        entry.retransmit_at = soon
        arm(peer, entry)


def sent_data(peer: Peer, entry: FlowEntry, now: float) -> None:
    """Data went out and nothing was heard since: if that lasts, ask whether anybody is there."""
    entry.unheard_since = now
    probe_at = now + max(peer.settings.probe_after, 2 * entry.rtt.timeout())
    if entry.ping_at is None or probe_at < entry.ping_at:
        entry.ping_at = probe_at
        arm(peer, entry)


def fire(peer: Peer, entry: FlowEntry, now: float) -> None:
    """The flow's timer: do what is due and arm it again."""
    if entry.local_id not in peer.flows:
        return
    if entry.expire_at is not None and entry.expire_at <= now:
        _expire(peer, entry, now)
    elif entry.retransmit_at is not None and entry.retransmit_at <= now:
        entry.attempt += 1
        entry.retransmit_at = now + _timeout(entry)
        peer_step.apply(peer, entry, Step(Action.RETRANSMIT, everywhere=entry.lost), now)
    elif entry.ping_at is not None and entry.ping_at <= now:
        ping(peer, entry, now)
    if entry.local_id in peer.flows:
        arm(peer, entry)


def ping(peer: Peer, entry: FlowEntry, now: float) -> None:
    """Probe the path; after several probes without an answer it counts as lost."""
    settings = peer.settings
    if not entry.is_open:
        entry.ping_at = None
        return
    if entry.pings_unanswered >= settings.probes_until_lost and not entry.lost:
        entry.lost = True
        entry.attempt = 0
        entry.retransmit_at = now + entry.rtt.timeout()
        peer.notify(PathLost(entry.connection.number, entry.local_id))
        peer_step.apply(peer, entry, Step(Action.RETRANSMIT, everywhere=True), now)
    entry.pings_unanswered += 1
    entry.ping_nonce = peer.draw_nonce()
    entry.ping_sent_at = now
    entry.ping_at = now + min(entry.rtt.timeout(entry.pings_unanswered), settings.keepalive)
    peer_step.apply(peer, entry, Step(Action.SEND_PING, nonce=entry.ping_nonce), now)


def _expire(peer: Peer, entry: FlowEntry, now: float) -> None:
    connection = entry.connection
    state = entry.flow.state
    entry.expire_at = None
    if state is not FlowState.CLOSED:
        peer_step.apply(peer, entry, Step(Action.EXPIRE), now)
    if state in _OPENING and not connection.established:
        why = (
            f"no answer within {peer.settings.open_timeout:g} s: is the peer's daemon up, is UDP let through, "
            "and do both ends know each other's identity or pre-shared key?"
        )
        if connection.initiator:  # a stranger's unfinished opening is nobody's news
            peer.notify(ConnectionFailed(connection.number, why))
        peer.drop_flow(entry)
    elif state is FlowState.CLOSED:
        peer.drop_flow(entry)
