# SPDX-License-Identifier: Apache-2.0
"""The transitions of a flow as data: which state each action may lead to, from every state.

The tables are the reference that the machine is checked against at each step, that tests walk (every state meets
every action) and that `draw` turns into a diagram.  They follow docs/eccp-protocol.md, section 4.  Two machines run
side by side and never wait for each other: the host's own side (`FLOW_TABLE`) and what it knows of the peer's address
(`PEER_TABLE`).
"""

from __future__ import annotations

from controller.eccp.errors import LocalError
from controller.eccp.names import Action, FlowState, PeerState

S = FlowState
A = Action

# Received packets and timers that a state does not expect change nothing.  These actions are the caller's own doing:
# in a state where they are not listed, they are an error.
CALLED = frozenset({A.OPEN, A.MOVE, A.SEND_PING, A.SEND_DATA, A.CLOSE, A.EXPIRE})
OPEN_STATES = frozenset({S.ESTABLISHED, S.MOVING, S.CLOSING})

FLOW_TABLE: dict[tuple[FlowState, Action], frozenset[FlowState]] = {
    (S.CLOSED, A.OPEN): frozenset({S.SYN_SENT}),
    (S.CLOSED, A.RECV_SYN): frozenset({S.SYN_RECEIVED, S.CLOSED}),
    (S.CLOSED, A.RECV_FIN): frozenset({S.CLOSED}),
    (S.SYN_SENT, A.RECV_SYN_ACK): frozenset({S.ESTABLISHED, S.SYN_SENT}),
    (S.SYN_SENT, A.MOVE): frozenset({S.SYN_SENT}),
    (S.SYN_SENT, A.RETRANSMIT): frozenset({S.SYN_SENT}),
    (S.SYN_SENT, A.CLOSE): frozenset({S.CLOSED}),
    (S.SYN_SENT, A.EXPIRE): frozenset({S.CLOSED}),
    (S.SYN_RECEIVED, A.RECV_SYN): frozenset({S.SYN_RECEIVED}),
    (S.SYN_RECEIVED, A.RECV_ACK): frozenset({S.ESTABLISHED, S.MOVING, S.SYN_RECEIVED}),
    (S.SYN_RECEIVED, A.RECV_RSYN): frozenset({S.SYN_RECEIVED}),
    (S.SYN_RECEIVED, A.RECV_FIN): frozenset({S.CLOSED}),
    (S.SYN_RECEIVED, A.MOVE): frozenset({S.SYN_RECEIVED}),
    (S.SYN_RECEIVED, A.RETRANSMIT): frozenset({S.SYN_RECEIVED}),
    (S.SYN_RECEIVED, A.CLOSE): frozenset({S.CLOSING}),
    (S.SYN_RECEIVED, A.EXPIRE): frozenset({S.CLOSED}),
    (S.ESTABLISHED, A.RECV_SYN_ACK): frozenset({S.ESTABLISHED}),
    (S.ESTABLISHED, A.RECV_ACK): frozenset({S.ESTABLISHED}),
    (S.ESTABLISHED, A.RECV_RSYN): frozenset({S.ESTABLISHED}),
    (S.ESTABLISHED, A.RECV_RSYN_ACK): frozenset({S.ESTABLISHED}),
    (S.ESTABLISHED, A.RECV_PING): frozenset({S.ESTABLISHED}),
    (S.ESTABLISHED, A.RECV_PONG): frozenset({S.ESTABLISHED}),
    (S.ESTABLISHED, A.RECV_DATA): frozenset({S.ESTABLISHED}),
    (S.ESTABLISHED, A.RECV_FIN): frozenset({S.CLOSED}),
    (S.ESTABLISHED, A.SEND_PING): frozenset({S.ESTABLISHED}),
    (S.ESTABLISHED, A.SEND_DATA): frozenset({S.ESTABLISHED}),
    (S.ESTABLISHED, A.MOVE): frozenset({S.MOVING}),
    (S.ESTABLISHED, A.RETRANSMIT): frozenset({S.ESTABLISHED}),
    (S.ESTABLISHED, A.CLOSE): frozenset({S.CLOSING}),
    (S.ESTABLISHED, A.EXPIRE): frozenset({S.CLOSED}),
    (S.MOVING, A.RECV_SYN_ACK): frozenset({S.ESTABLISHED, S.MOVING}),
    (S.MOVING, A.RECV_ACK): frozenset({S.MOVING}),
    (S.MOVING, A.RECV_RSYN): frozenset({S.MOVING}),
    (S.MOVING, A.RECV_RSYN_ACK): frozenset({S.ESTABLISHED, S.MOVING}),
    (S.MOVING, A.RECV_PING): frozenset({S.MOVING}),
    (S.MOVING, A.RECV_PONG): frozenset({S.MOVING}),
    (S.MOVING, A.RECV_DATA): frozenset({S.MOVING}),
    (S.MOVING, A.RECV_FIN): frozenset({S.CLOSED}),
    (S.MOVING, A.SEND_PING): frozenset({S.MOVING}),
    (S.MOVING, A.SEND_DATA): frozenset({S.MOVING}),
    (S.MOVING, A.MOVE): frozenset({S.MOVING}),
    (S.MOVING, A.RETRANSMIT): frozenset({S.MOVING}),
    (S.MOVING, A.CLOSE): frozenset({S.CLOSING}),
    (S.MOVING, A.EXPIRE): frozenset({S.CLOSED}),
    (S.CLOSING, A.RECV_SYN_ACK): frozenset({S.CLOSING}),
    (S.CLOSING, A.RECV_ACK): frozenset({S.CLOSING}),
    (S.CLOSING, A.RECV_RSYN): frozenset({S.CLOSING}),
    (S.CLOSING, A.RECV_RSYN_ACK): frozenset({S.CLOSING}),
    (S.CLOSING, A.RECV_PING): frozenset({S.CLOSING}),
    (S.CLOSING, A.RECV_PONG): frozenset({S.CLOSING}),
    (S.CLOSING, A.RECV_DATA): frozenset({S.CLOSING}),
    (S.CLOSING, A.RECV_FIN): frozenset({S.CLOSED}),
    (S.CLOSING, A.RECV_FIN_ACK): frozenset({S.CLOSED}),
    (S.CLOSING, A.SEND_PING): frozenset({S.CLOSING}),
    (S.CLOSING, A.SEND_DATA): frozenset({S.CLOSING}),
    (S.CLOSING, A.MOVE): frozenset({S.CLOSING}),
    (S.CLOSING, A.RETRANSMIT): frozenset({S.CLOSING}),
    (S.CLOSING, A.EXPIRE): frozenset({S.CLOSED}),
}

_STAY = frozenset({PeerState.SETTLED})
_BOTH = frozenset({PeerState.SETTLED, PeerState.VALIDATING})
_KEEP = frozenset({PeerState.VALIDATING})

# A pair that is not listed leaves the peer's state as it is.
PEER_TABLE: dict[tuple[PeerState, Action], frozenset[PeerState]] = {
    (PeerState.SETTLED, A.RECV_SYN): _BOTH,
    (PeerState.SETTLED, A.RECV_SYN_ACK): _BOTH,
    (PeerState.SETTLED, A.RECV_RSYN): _BOTH,
    (PeerState.SETTLED, A.RECV_PING): _BOTH,
    (PeerState.SETTLED, A.RECV_DATA): _BOTH,
    (PeerState.VALIDATING, A.RECV_SYN): _KEEP,
    (PeerState.VALIDATING, A.RECV_SYN_ACK): _BOTH,
    (PeerState.VALIDATING, A.RECV_RSYN): _BOTH,
    (PeerState.VALIDATING, A.RECV_PING): _BOTH,
    (PeerState.VALIDATING, A.RECV_DATA): _BOTH,
    (PeerState.VALIDATING, A.RECV_ACK): _BOTH,
    (PeerState.VALIDATING, A.RECV_FIN): _STAY,
    (PeerState.VALIDATING, A.RECV_FIN_ACK): _BOTH,
    (PeerState.VALIDATING, A.EXPIRE): _STAY,
}


class TransitionError(AssertionError):
    """The machine took a step that its table does not allow: a fault in this program, never in its input."""


def check_called(state: FlowState, action: Action) -> None:
    """Raise `LocalError` if the caller may not take ``action`` in ``state``."""
    if action in CALLED and (state, action) not in FLOW_TABLE:
        raise LocalError(f"{action.value} is not possible while the flow is {state.value}")


def check_transition(
    state: FlowState, peer: PeerState, action: Action, next_state: FlowState, next_peer: PeerState
) -> None:
    """Raise `TransitionError` unless both tables allow the step."""
    if next_state not in FLOW_TABLE.get((state, action), (state,)):
        raise TransitionError(f"{state.value} --{action.value}--> {next_state.value} is not in the table")
    if next_peer not in PEER_TABLE.get((peer, action), (peer,)):
        raise TransitionError(f"{peer.value} --{action.value}--> {next_peer.value} is not in the table")


def draw() -> str:
    """The flow table as Graphviz text (``dot -Tsvg``): one edge a state pair, labelled with its actions."""
    edges: dict[tuple[FlowState, FlowState], list[str]] = {}
    for (state, action), successors in FLOW_TABLE.items():
        for successor in successors - {state}:
            edges.setdefault((state, successor), []).append(action.value)
    rows = []
    for (state, successor), labels in sorted(edges.items()):
        label = "\\n".join(sorted(labels))
        rows.append(f'  {state.value} -> {successor.value} [label="{label}"];')
    return "digraph flow {\n  node [shape=box];\n" + "\n".join(rows) + "\n}\n"
