# SPDX-License-Identifier: Apache-2.0
"""Every state meets every action: the machine stays within its table, and reaches all of it."""

import itertools

import pytest

from controller.eccp.errors import LocalError
from controller.eccp.flow import Flow, Step, step
from controller.eccp.names import Action, FlowState, Message, PeerState
from controller.eccp.peer_control import ACTIONS
from controller.eccp.table import CALLED, FLOW_TABLE, PEER_TABLE, TransitionError, check_transition, draw

RECEIVED = [action for action in Action if action.value.startswith("RECV_")]


def _flows() -> list[Flow]:
    """Flows of every state, settled and validating, with versions confirmed and not."""
    flows = [Flow(), Flow(known=True, peer_addr="p", own_addr="o", peer_version=1, confirmed_version=1)]
    for state, own, validating in itertools.product(set(FlowState) - {FlowState.CLOSED}, (1, 3), (False, True)):
        opening = state in {FlowState.SYN_SENT, FlowState.SYN_RECEIVED}
        if (state is FlowState.SYN_SENT and validating) or (state is FlowState.SYN_RECEIVED and not validating):
            continue
        if (state is FlowState.MOVING) != (own > 1) and state in {FlowState.MOVING, FlowState.ESTABLISHED}:
            continue
        flows.append(
            Flow(
                state=state,
                own_version=own,
                own_addr="o",
                confirmed_version=0 if state is FlowState.SYN_SENT else 1,
                peer_version=0 if opening else 2,
                peer_addr=None if state is FlowState.SYN_RECEIVED else "p",
                peer_nonce=0 if opening else 7,
                cand_version=3 if validating else 0,
                cand_addr="q" if validating else None,
                cand_nonce=8 if validating else 0,
                highest_pn=10,
                known=True,
            )
        )
    return flows


def _events(action: Action) -> list[Step]:
    values = itertools.product(("p", "q", "r"), (1, 2, 3, 4), (5, 11), (1, 3, 4), (7, 8, 9))
    return [
        Step(action, source=source, own="o", version=version, pn=pn, echo=echo, nonce=nonce, challenge=99)
        for source, version, pn, echo, nonce in values
    ]


def test_every_state_meets_every_received_message_without_an_error() -> None:
    for flow, action in itertools.product(_flows(), RECEIVED):
        for event in _events(action):
            outcome = step(flow, event)
            assert outcome.flow.own_version == flow.own_version
            assert outcome.flow.peer_version >= flow.peer_version
            assert outcome.flow.confirmed_version >= flow.confirmed_version


@pytest.mark.parametrize("action", sorted(CALLED))
def test_calls_are_possible_exactly_where_the_table_says(action: Action) -> None:
    for flow in _flows():
        event = Step(action, source="p", own="n", version=1)
        if (flow.state, action) in FLOW_TABLE and not (action is Action.OPEN and flow.known):
            step(flow, event)
        else:
            with pytest.raises(LocalError):
                step(flow, event)


def test_every_entry_of_the_table_is_reached() -> None:
    reached: set[tuple[FlowState, Action, FlowState]] = set()
    for flow, action in itertools.product(_flows(), Action):
        if (flow.state, action) not in FLOW_TABLE or (action is Action.OPEN and flow.known):
            continue
        for event in _events(action):
            reached.add((flow.state, action, step(flow, event).flow.state))
    wanted = {(state, action, after) for (state, action), afters in FLOW_TABLE.items() for after in afters}
    assert wanted - reached == set()


def test_a_step_outside_the_table_is_noticed() -> None:
    settled = PeerState.SETTLED
    with pytest.raises(TransitionError):
        check_transition(FlowState.SYN_SENT, settled, Action.MOVE, FlowState.MOVING, settled)
    with pytest.raises(TransitionError):
        check_transition(FlowState.MOVING, settled, Action.MOVE, FlowState.MOVING, PeerState.VALIDATING)


def test_peer_table_names_real_actions() -> None:
    assert {action for _, action in PEER_TABLE} <= set(Action)


def test_every_message_of_a_flow_has_a_kind_on_the_wire() -> None:
    assert {message for _, message in ACTIONS.values()} == set(Message) - {
        Message.COOKIE, Message.REGISTER, Message.RELAY
    }  # fmt: skip


def test_drawing_has_every_state() -> None:
    picture = draw()
    for state in FlowState:
        assert state.value in picture
