# SPDX-License-Identifier: Apache-2.0
"""A TCP segment and the Ethernet and IP facts around it, as values.

The codec (``controller.wire``) makes them from frames and turns them back; the core only reads and replaces fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = 1, 2, 4, 8, 16, 32, 64, 128


class Endpoint(NamedTuple):
    """An IP address in text form and a TCP port."""

    address: str
    port: int

    def __str__(self) -> str:
        """Return ``10.0.0.1:80`` or ``[fd00::1]:80``."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class ConnectionKey(NamedTuple):
    """What names a connection everywhere: the client's end and the service address that the client dialled."""

    client: Endpoint
    service: Endpoint

    def __str__(self) -> str:
        """Return ``client>service``."""
        return f"{self.client}>{self.service}"


class Timestamps(NamedTuple):
    """The RFC 7323 timestamps option."""

    value: int
    echo: int


@dataclass(frozen=True, slots=True)
class TcpOptions:
    """TCP options in parsed form; what has no field of its own stays raw in ``others`` as (kind, body) pairs."""

    mss: int | None = None
    window_scale: int | None = None
    sack_permitted: bool = False
    sack: tuple[tuple[int, int], ...] = ()
    timestamps: Timestamps | None = None
    others: tuple[tuple[int, bytes], ...] = ()


NO_OPTIONS = TcpOptions()


@dataclass(frozen=True, slots=True)
class Segment:
    """One TCP segment; ``window`` is the raw field, ``frame`` holds the bytes it was decoded from, if any."""

    src: Endpoint
    dst: Endpoint
    seq: int
    ack: int
    flags: int
    window: int
    options: TcpOptions = NO_OPTIONS
    payload: bytes = b""
    eth_src: str = "00:00:00:00:00:00"
    eth_dst: str = "00:00:00:00:00:00"
    vlan: int | None = None
    ttl: int = 64
    tos: int = 0
    ip_id: int = 0
    urgent: int = 0
    frame: bytes | None = None

    @property
    def length(self) -> int:
        """Return how much sequence space the segment takes: payload bytes, SYN and FIN count one each."""
        return len(self.payload) + bool(self.flags & SYN) + bool(self.flags & FIN)

    def has(self, flag: int) -> bool:
        """Return whether all bits of ``flag`` are set."""
        return self.flags & flag == flag


@dataclass(frozen=True, slots=True)
class IcmpError:
    """An ICMP error about a TCP segment: who tells whom, and the ends and number of the segment that it quotes.

    ``frame`` holds the bytes that it was decoded from; what else stands in them stays.
    """

    src: str
    dst: str
    about_src: Endpoint
    about_dst: Endpoint
    seq: int
    eth_src: str
    eth_dst: str
    frame: bytes
