# SPDX-License-Identifier: Apache-2.0
"""What ECCP's hosts say to each other: message kinds, addresses, and one frozen dataclass a message."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from controller.core.errors import RemoteError

MAGIC = 0xEC
HEADER = struct.Struct("!BBHQQ")
HEADER_SIZE = HEADER.size
TAG_SIZE = 16
PADDED_SIZE = 1200  # a SYN or RSYN fills this, so that 3x its size is worth three segments of early data
MAX_VERSION = 2**64 - 1
MAX_ADDRESSES = 16
MAX_COOKIE = 64


class MalformedMessageError(RemoteError):
    """The bytes are not a message of this protocol."""


class Kind(IntEnum):
    """Message kinds; the numbers are on the wire and stay."""

    SYN = 1
    COOKIE = 2
    SYN_ACK = 3
    ACK = 4
    RSYN = 5
    RSYN_ACK = 6
    PING = 7
    PONG = 8
    FLOW_SYN = 9
    FLOW_SYN_ACK = 10
    FIN = 11
    FIN_ACK = 12
    FORWARD = 13  # host -> rendezvous: pass this RSYN on
    RELAY = 14  # rendezvous -> host: an RSYN and where it came from
    DATA = 16  # sealed slice of an inner packet
    DATA_MAC = 17  # clear slice under a MAC
    DATA_PLAIN = 18  # clear slice; may never move an address


CLEAR_KINDS = frozenset({Kind.SYN, Kind.COOKIE})
# ``aux`` of data: a bit for what is sent again, 7 bits of slice index, 7 of slice count.
RESENT, INDEX_ONE, COUNT_MASK = 0x8000, 0x80, 0x7F
PADDED_KINDS = frozenset({Kind.SYN, Kind.RSYN, Kind.FLOW_SYN})
WITH_KEY_EXCHANGE = 1  # bit of ``aux``: a Noise message stands, in clear, before the sealed part
DATA_KINDS = frozenset({Kind.DATA, Kind.DATA_MAC, Kind.DATA_PLAIN})
KIND_OF_BYTE: dict[int, Kind] = {int(kind): kind for kind in Kind}


class Address(NamedTuple):
    """A UDP endpoint: textual IP address and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Header(NamedTuple):
    """The 20 clear bytes: ``aux`` is 0 or as the constants above say."""

    kind: Kind
    aux: int
    flow: int
    number: int


@dataclass(frozen=True, slots=True)
class Syn:
    """First message of a connection, in clear; ``noise`` is Noise XX message 1."""

    service: int
    flow: int
    version: int
    cookie: bytes
    noise: bytes


@dataclass(frozen=True, slots=True)
class Cookie:
    """Answer to a SYN under load, in clear: send the SYN again with this cookie."""

    cookie: bytes


@dataclass(frozen=True, slots=True)
class SynAck:
    """Challenge to the opener's address; ``echo`` is the version of the SYN."""

    echo: int
    nonce: int


@dataclass(frozen=True, slots=True)
class Ack:
    """Third message of an opening or a move: ``echo`` and ``nonce`` of what it answers."""

    echo: int
    nonce: int


@dataclass(frozen=True, slots=True)
class Rsyn:
    """ "My address for this flow is where this came from"; ``addresses`` are further places to reach the sender."""

    generation: int = 0
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class RsynAck:
    """Answer to an RSYN, or a challenge after an unannounced address change."""

    echo: int
    nonce: int


@dataclass(frozen=True, slots=True)
class Ping:
    """Keep-alive and RTT probe."""

    nonce: int


@dataclass(frozen=True, slots=True)
class Pong:
    """Answer to a `Ping`."""

    nonce: int


@dataclass(frozen=True, slots=True)
class FlowSyn:
    """Open another flow of an existing connection; ``flow`` (clear, before the sealed part) is the sender's id."""

    flow: int


@dataclass(frozen=True, slots=True)
class FlowSynAck:
    """Accept a `FlowSyn`; ``flow`` is the answerer's id."""

    flow: int
    echo: int
    nonce: int


@dataclass(frozen=True, slots=True)
class Fin:
    """End one flow, or with ``whole`` the connection with all its flows."""

    whole: bool
    reason: int = 0


@dataclass(frozen=True, slots=True)
class FinAck:
    """Answer to `Fin`."""

    whole: bool


@dataclass(frozen=True, slots=True)
class Forward:
    """To a rendezvous: pass ``datagram`` on to the host with this identity (32 bytes)."""

    identity: bytes
    datagram: bytes


@dataclass(frozen=True, slots=True)
class Relay:
    """From a rendezvous: ``datagram`` reached it from ``source``."""

    source: Address
    datagram: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """Payload of Noise messages 2 and 3: who I am and where else I am.

    ``flow`` is the sender's flow id, ``identity`` its Ed25519 key (32 bytes, or empty with a pre-shared key only),
    ``signature`` (64 bytes or empty) is over the handshake hash, ``inner`` the stable addresses inside the tunnel.
    """

    flow: int
    identity: bytes = b""
    signature: bytes = b""
    sealed_data: bool = True
    generation: int = 0
    addresses: tuple[Address, ...] = ()
    inner: tuple[IPv4Address | IPv6Address, ...] = field(default=())


Message = (
    Syn | Cookie | SynAck | Ack | Rsyn | RsynAck | Ping | Pong | FlowSyn | FlowSynAck | Fin | FinAck | Forward | Relay
)
