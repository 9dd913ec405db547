# SPDX-License-Identifier: Apache-2.0
"""What the protocol machine hands to the edge: datagrams to send, packets for the tunnel, and notices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from controller.eccp.names import Action, Message
from controller.wire.eccp import Address

Buffer = bytes | bytearray | memoryview


class Datagram(NamedTuple):
    """One UDP send from socket ``own`` to ``to``.

    ``parts`` are to be sent back to back; if ``segment`` is not 0 they are many datagrams of ``segment`` bytes each
    (the last may be shorter), for UDP GSO.
    """

    own: Address
    to: Address
    parts: Sequence[Buffer]
    segment: int = 0


class Delivery(NamedTuple):
    """One inner packet for the tunnel: ``parts`` begin with a virtio_net_hdr; ``connection`` is where it came from."""

    connection: int
    parts: Sequence[Buffer]


class SentRecord(NamedTuple):
    """One protocol packet as a trace shows it."""

    message: Message
    version: int
    number: int
    own: object
    to: object
    echo: int = 0
    nonce: int = 0


@dataclass(frozen=True, slots=True)
class ConnectionEstablished:
    """A handshake is complete; ``identity`` is the peer's Ed25519 key, or a hash of its static key without one."""

    connection: int
    identity: bytes
    initiator: bool


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """A handshake or a connection was given up; ``reason`` is a sentence for the user."""

    connection: int
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectionEnded:
    """Every flow of the connection is closed."""

    connection: int


@dataclass(frozen=True, slots=True)
class FlowOpened:
    """A flow can carry data."""

    connection: int
    flow: int


@dataclass(frozen=True, slots=True)
class OwnMoveConfirmed:
    """The peer knows our address at ``version``; ``seconds`` passed since the move began."""

    connection: int
    flow: int
    version: int
    own: Address
    seconds: float


@dataclass(frozen=True, slots=True)
class FirstData:
    """The first data has come to our new address, ``seconds`` after the move began."""

    connection: int
    flow: int
    version: int
    seconds: float


@dataclass(frozen=True, slots=True)
class PeerAddressValidated:
    """The peer answered a challenge at ``address``; data goes there now."""

    connection: int
    flow: int
    version: int
    address: Address


@dataclass(frozen=True, slots=True)
class PathLost:
    """Nothing was heard on a flow for several probes; it is searched for at every listed address."""

    connection: int
    flow: int


@dataclass(frozen=True, slots=True)
class FlowClosed:
    """A flow ended."""

    connection: int
    flow: int


Notice = (
    ConnectionEstablished
    | ConnectionFailed
    | ConnectionEnded
    | FlowOpened
    | OwnMoveConfirmed
    | FirstData
    | PeerAddressValidated
    | PathLost
    | FlowClosed
)


class TraceRow(NamedTuple):
    """One step of the flow machine, for conformance traces; ``flow`` is the opener's id."""

    flow: int
    action: Action
    step: object
    received: Message | None
    via_relay: bool
    sent: tuple[SentRecord, ...]
    after: object
