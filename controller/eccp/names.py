# SPDX-License-Identifier: Apache-2.0
"""The names of ECCP's states, messages and actions, shared by the machine, the models and the proof.

Nothing but names: no logic, no numbers of the wire.  `docs/eccp-protocol.md` says what each one means;
`tests/unit/models/test_names.py` compares these with the Promela models, the Z3 proof and the table of the machine.
"""

from __future__ import annotations

from enum import Enum


class FlowState(str, Enum):
    """What a host knows of its *own* side of a flow."""

    CLOSED = "CLOSED"  # no such flow, or its end was acknowledged
    SYN_SENT = "SYN_SENT"  # opened here; the peer's flow id is not known yet
    SYN_RECEIVED = "SYN_RECEIVED"  # opened by the peer; its address is not validated yet
    ESTABLISHED = "ESTABLISHED"  # the peer has confirmed own_version
    MOVING = "MOVING"  # own_version > confirmed_version: RSYN is sent until it is confirmed
    CLOSING = "CLOSING"  # FIN is sent until it is acknowledged


class PeerState(str, Enum):
    """What a host knows of the *peer's* address; independent of FlowState, since both ends may move at once."""

    SETTLED = "SETTLED"  # no candidate address
    VALIDATING = "VALIDATING"  # a candidate address was challenged (SYN_ACK or RSYN_ACK) and has not answered yet


class Message(str, Enum):
    """Kinds of packets of a flow, then those of the rendezvous."""

    SYN = "SYN"
    SYN_ACK = "SYN_ACK"
    ACK = "ACK"
    RSYN = "RSYN"
    RSYN_ACK = "RSYN_ACK"
    PING = "PING"
    PONG = "PONG"
    DATA = "DATA"
    FIN = "FIN"
    FIN_ACK = "FIN_ACK"
    COOKIE = "COOKIE"  # stateless answer to a SYN under load; below the models
    REGISTER = "REGISTER"  # host -> rendezvous: "this flow is to be reached here"
    RELAY = "RELAY"  # rendezvous -> host: an RSYN and the source address it was seen from


class Action(str, Enum):
    """Steps of a host.  A RECV_ step is taken for an authenticated, not replayed message, and is defined in every state."""

    OPEN = "OPEN"
    RECV_SYN = "RECV_SYN"
    RECV_SYN_ACK = "RECV_SYN_ACK"
    RECV_ACK = "RECV_ACK"
    MOVE = "MOVE"
    RECV_RSYN = "RECV_RSYN"
    RECV_RSYN_ACK = "RECV_RSYN_ACK"
    SEND_PING = "SEND_PING"
    RECV_PING = "RECV_PING"
    RECV_PONG = "RECV_PONG"
    SEND_DATA = "SEND_DATA"
    RECV_DATA = "RECV_DATA"
    RETRANSMIT = "RETRANSMIT"
    CLOSE = "CLOSE"
    RECV_FIN = "RECV_FIN"
    RECV_FIN_ACK = "RECV_FIN_ACK"
    EXPIRE = "EXPIRE"  # no answer for the idle time, or FIN given up: the flow is forgotten


class Environment(str, Enum):
    """Steps of the network in the models; never in a host's trace."""

    LOSE = "LOSE"
    DUPLICATE = "DUPLICATE"
    REORDER = "REORDER"
    REBIND = "REBIND"  # a NAT gives the host another outer address; the host does not notice
    SPOOF = "SPOOF"  # somebody sends a copy of an authentic packet from another source address
    QUIESCE = "QUIESCE"  # moves and rebinding stop (premise of liveness)


# The packets that may open a validation of the peer's address (the probing rule); no other kind ever does.
PROBING: frozenset[Message] = frozenset({Message.SYN, Message.SYN_ACK, Message.RSYN, Message.PING, Message.DATA})
# Own version of each end when a flow is opened; a move takes any higher one.
INITIAL_VERSION = 1
