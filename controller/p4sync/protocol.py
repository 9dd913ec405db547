# SPDX-License-Identifier: Apache-2.0
"""Names and numbers of `docs/p4sync-protocol.md`: tables, tokens, reports, and the state that they carry."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address

ENTRIES = 65_536
"""Entries of each array."""
SEQUENCES = 8_192
"""Packets that a session holds."""
HALF_BITMAP = 4_096
"""Packets in one half of the destination's bitmap, which is what one report carries."""
GRAIN = 128
"""A round's range begins and ends on multiples of this many entries."""
CREDIT = 60_000
"""As much credit as a token carries with room to spare: more passes than any round, sweep or undo has."""
PADDING = bytes(64)
CLONE_SESSION = 1
CLONE_PORT = 509

INGRESS = "SwitchIngress."
SYNC_OUT, SYNC_IN = INGRESS + "sync_out", INGRESS + "sync_in"
STAGING_MARK, MARKERS = INGRESS + "staging_mark", INGRESS + "markers"
SERVICE_BY_DESTINATION, SERVICE_BY_SOURCE = INGRESS + "service_by_destination", INGRESS + "service_by_source"
FORWARD = INGRESS + "forward"
USE_SESSION, SET_MARK, EXPECT_MARKER = INGRESS + "use_session", INGRESS + "set_mark", INGRESS + "expect_marker"
CLIENT_TO_SERVER, SERVER_TO_CLIENT = INGRESS + "client_to_server", INGRESS + "server_to_client"
TO_PORT, FLOOD, DROP = INGRESS + "to_port", INGRESS + "flood", INGRESS + "drop"
EVENTS = INGRESS + "events"
COLLISION = "collision_t"
EVENT_NAMES = (
    "sync_unexpected",
    "sync_malformed",
    "sync_foreign",
    "sync_forged",
    "sync_closed",
    "sync_duplicate",
    "sync_staged",
    "flow_collision",
    "merge_collision",
    "verdict_drop",
    "marker_unexpected",
    "token_refused",
    "sync_sent",
    "sync_resent",
    "counted",
    "folded",
)
"""The cells of the counter `events`, in order."""

ETHERTYPE_MARKER = 0x88B6


class Token(IntEnum):
    """Kinds of PacketOut tokens; a report repeats its token's kind."""

    FORWARD = 0
    OPEN_OUT = 1
    ROUND = 2
    WALK = 3
    FLOW = 4
    RESEND = 5
    RESTORE = 6
    RELEASE = 7
    REPORT_OUT = 8
    OPEN_IN = 9
    REPORT_IN = 10
    SWEEP = 11
    VERDICT = 12
    READ_FLOW = 13
    READ_BLOCK = 14
    MARKER = 15


class Answer(IntEnum):
    """States of a report."""

    OK = 0
    DONE = 1
    BUSY = 2
    UNKNOWN = 3
    FULL = 4
    ABSENT = 5
    COLLISION = 6
    REFUSED = 7


class Array(IntEnum):
    """Register arrays that can be shipped."""

    CLIENTS = 0
    FLOWS = 1


class Mode(IntEnum):
    """Which blocks of its range a round ships."""

    ALL = 0
    OCCUPIED = 1
    CHANGED = 2


class Mark(IntEnum):
    """What `staging_mark` says of a session; 0: it has no entry."""

    NONE = 0
    OPEN = 1
    COMMITTED = 2
    DISCARDED = 3


class Phase(IntEnum):
    """What a source switch does."""

    IDLE = 0
    OPEN = 1
    RESTORING = 2
    RELEASING = 3


class Suite(IntEnum):
    """How a packet is authenticated."""

    NONE = 0
    SIPHASH = 1
    POLYNOMIAL = 2


class Verdict(IntEnum):
    """What is done with a flow's packets."""

    NONE = 0
    FORWARD = 1
    DROP = 2


BLOCK = {Array.CLIENTS: 128, Array.FLOWS: 16}
"""Entries in a packet."""
STATE_BYTES = {Array.CLIENTS: 512, Array.FLOWS: 400}
"""Bytes of state in a packet."""
PACKET_BYTES = 574


@dataclass(frozen=True, slots=True)
class Report:
    """A PacketIn of the switch: its metadata, and its body (512 bytes, or none)."""

    kind: int
    state: int
    round: int
    session: int
    count: int
    links: int
    detail: int
    digest: int
    body: bytes = b""

    @property
    def cursor(self) -> int:
        """Return the source's next entry (reports 1-8), or the destination's conflicts (9-11)."""
        return self.detail >> 32

    @property
    def undone(self) -> int:
        """Return the next packet to restore or release (reports 1-8), or to sweep (9-11)."""
        return self.detail & 0xFFFF_FFFF

    @property
    def words(self) -> tuple[int, ...]:
        """Return the body as 64 numbers of 64 bits; none of a report without body."""
        return struct.unpack(f">{len(self.body) // 8}Q", self.body[: len(self.body) // 8 * 8])


def report_of(fields: Mapping[str, int], body: bytes) -> Report:
    """Return the report in a PacketIn's metadata, by name, and payload. Raises KeyError where a field is missing."""
    names = ("kind", "state", "round", "session", "count", "links", "detail", "digest")
    return Report(**{name: fields[name] for name in names}, body=body)


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """What a switch keeps of a flow; ``age`` in ticks of 1,024 us since the last packet."""

    key: int
    packets: int
    bytes: int
    age: int
    verdict: int


def records_of(body: tuple[int, ...]) -> list[FlowRecord]:
    """Return the records in the words of a flows body, empty ones left out."""
    return [
        FlowRecord(key, counts >> 32, size, counts & 0xFFFF_FFFF, verdict >> 56)
        for key, counts, size, verdict in zip(body[::4], body[1::4], body[2::4], body[3::4], strict=True)
        if key
    ]


def clients_of(body: tuple[int, ...]) -> list[int]:
    """Return the 128 entries in the words of a clients body."""
    return [half for word in body for half in (word >> 32, word & 0xFFFF_FFFF)]


def missing_of(body: tuple[int, ...], first: int, count: int) -> list[int]:
    """Return which of ``count`` packets a half of the bitmap lacks; the half begins with packet number ``first``."""
    bits = sum(word << 64 * position for position, word in enumerate(body))
    absent = ~bits & ((1 << max(0, min(HALF_BITMAP, count - first))) - 1)
    found = []
    while absent:
        lowest = absent & -absent
        found.append(first + lowest.bit_length() - 1)
        absent ^= lowest
    return found


def runs_of(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Return rising numbers as (first, length) of what is consecutive."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and sum(found[-1]) == number:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((number, 1))
    return found


def round_argument(array: Array, mode: Mode, first: int, last: int) -> int:
    """Return the argument of a ROUND token."""
    return array << 56 | mode << 48 | first << 24 | last


def block_argument(array: Array, entry: int) -> int:
    """Return the argument of a READ_BLOCK token."""
    return array << 56 | entry


def flow_key(client: str, port: int, service: int) -> int:
    """Return the 64-bit key of a flow from the client's IPv4 address and port and the service's number.

    Raises ValueError for what is out of range.
    """
    if not 0 <= port < 1 << 16 or not 0 < service < 1 << 16:
        raise ValueError(f"port {port} or service {service} does not fit 16 bits (service 0 means none)")
    return int(IPv4Address(client)) << 32 | port << 16 | service


def describe_key(key: int) -> str:
    """Return a flow key as people read it: client address, port, service."""
    return f"{IPv4Address(key >> 32)}:{key >> 16 & 0xFFFF}/{key & 0xFFFF}"


def entry_of(key: int) -> int:
    """Return which entry a flow key has: CRC-32 of its 8 bytes, modulo the entries."""
    return zlib.crc32(key.to_bytes(8, "big")) % ENTRIES


def client_entry_of(address: int) -> int:
    """Return which entry a client's address has in the clients array."""
    return zlib.crc32(address.to_bytes(4, "big")) % ENTRIES


def marker_frame(session: int, token: int) -> bytes:
    """Return the Ethernet frame that is sent behind the last packet of what moves away; padded to 60 bytes."""
    addresses = bytes.fromhex("02ba7000ffff02ba7000fffe")
    frame = addresses + struct.pack(">HIQ", ETHERTYPE_MARKER, session, token)
    return frame + bytes(60 - len(frame))
