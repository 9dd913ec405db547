# SPDX-License-Identifier: Apache-2.0
"""The flow machine explored exhaustively; and faults put into it are found, or the exploration would prove nothing.

`BATON_EXPLORE=more` explores further (minutes).
"""

import os
from dataclasses import replace

import pytest

from controller.eccp.explore import explore
from controller.eccp.explore_space import Bounds
from controller.eccp.flow import Flow, Outcome, Step
from controller.eccp.flow import step as real_step
from controller.eccp.names import Action, FlowState

MORE = os.environ.get("BATON_EXPLORE") == "more"
SPACES = {
    "4 moves of an open flow": Bounds(moves=4),
    "2 moves with early data": Bounds(moves=2, early=True),
    "the opening, with a move": Bounds(moves=1, opened=False),
    "a move and a NAT that rebinds": Bounds(moves=1, rebinds=1),
    "a move and a copied packet": Bounds(moves=1, spoofs=1),
    "3 moves between two addresses": Bounds(moves=3, reuse=2, capacity=1),
    "opening, a move and closing": Bounds(moves=1, opened=False, closing=True, capacity=1),
}
if MORE:
    SPACES |= {
        "5 moves": Bounds(moves=5),
        "4 moves with early data": Bounds(moves=4, early=True),
        "2 moves and two rebindings": Bounds(moves=2, rebinds=2),
        "channels of 3": Bounds(moves=2, capacity=3),
        "the opening, with 2 moves": Bounds(moves=2, opened=False),
    }


@pytest.mark.timeout(3600 if MORE else 600)
@pytest.mark.parametrize("name", SPACES)
def test_no_reachable_state_is_unsafe_or_stuck(name: str) -> None:
    report = explore(SPACES[name])
    assert report.violations == []
    assert report.stuck == 0
    assert not report.truncated
    assert report.states > 500


def _accepts_old_answers(flow: Flow, event: Step) -> Outcome:
    """An RSYN-ACK for an older version confirms the newest."""
    if event.action is Action.RECV_RSYN_ACK and flow.state is FlowState.MOVING:
        event = replace(event, echo=flow.own_version)
    return real_step(flow, event)


def _waits_for_unfinished(flow: Flow, event: Step) -> Outcome:
    """Sequence semantics: while one move is being validated, a newer one is not looked at (cf. HIP, TCP-Migrate)."""
    busy = flow.cand_addr is not None and event.version > flow.cand_version
    if busy and event.action in {Action.RECV_RSYN, Action.RECV_DATA, Action.RECV_PING}:
        return Outcome(flow)
    return real_step(flow, event)


def _believes_any_ack(flow: Flow, event: Step) -> Outcome:
    """The nonce is not compared: an ACK for an older challenge validates the newest candidate."""
    if event.action is Action.RECV_ACK:
        event = replace(event, nonce=flow.cand_nonce, echo=flow.cand_version)
    return real_step(flow, event)


def _takes_old_packets(flow: Flow, event: Step) -> Outcome:
    """Packet numbers are not compared: a delayed packet opens a validation."""
    return real_step(replace(flow, highest_pn=-1), event)


def _goes_back(flow: Flow, event: Step) -> Outcome:
    """An RSYN of any version is taken for the newest."""
    if event.action is Action.RECV_RSYN and event.version < flow.peer_version:
        outcome = real_step(flow, replace(event, version=flow.peer_version))
        return replace(outcome, flow=replace(outcome.flow, peer_version=event.version))
    return real_step(flow, event)


def _never_repeats(flow: Flow, event: Step) -> Outcome:
    """A lost RSYN is not sent again."""
    return Outcome(flow) if event.action is Action.RETRANSMIT else real_step(flow, event)


@pytest.mark.parametrize(
    ("fault", "bounds"),
    [
        (_accepts_old_answers, Bounds(moves=3, reuse=2, data=False, capacity=1, sweep=False)),
        (_waits_for_unfinished, Bounds(moves=2, sweep=False)),
        (_goes_back, Bounds(moves=2, data=False, sweep=False)),
        (_never_repeats, Bounds(moves=1, sweep=False)),
        (_believes_any_ack, Bounds(moves=1, spoofs=1, sweep=False)),
    ],
)
def test_a_fault_is_found(fault, bounds: Bounds) -> None:  # type: ignore[no-untyped-def]
    assert explore(bounds, fault).violations


def test_old_packets_are_only_a_matter_of_time() -> None:
    """Without packet numbers a delayed packet only delays: each address is still validated before it is used."""
    assert explore(Bounds(moves=1, sweep=False), _takes_old_packets).violations == []
