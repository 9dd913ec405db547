# SPDX-License-Identifier: Apache-2.0
"""The protocol of docs/p4sync-protocol.md once more, in the plainest Python: what recorded packets are checked with."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

MASK = (1 << 64) - 1
ETHERTYPE_SYNC = 0x88B5
ETHERTYPE_MARKER = 0x88B6
HEADER = struct.Struct(">BBHIQHHIHHIQQ")
BODY_WORDS = 64
CLIENTS, FLOWS = 0, 1
UNSECURED, SIPHASH, POLY_SIPHASH = 0, 1, 2
ENTRIES = 65536


def _rotate(x: int, n: int) -> int:
    return ((x << n) | (x >> (64 - n))) & MASK


def siphash24(key: bytes, message: bytes) -> int:
    """SipHash-2-4 of a byte string under a 16-byte key, as a 64-bit number (Aumasson, Bernstein, 2012)."""
    k0, k1 = struct.unpack("<QQ", key)
    v = [k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D, k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573]

    def rounds(count: int) -> None:
        for _ in range(count):
            v[0] = (v[0] + v[1]) & MASK
            v[1] = _rotate(v[1], 13) ^ v[0]
            v[0] = _rotate(v[0], 32)
            v[2] = (v[2] + v[3]) & MASK
            v[3] = _rotate(v[3], 16) ^ v[2]
            v[0] = (v[0] + v[3]) & MASK
            v[3] = _rotate(v[3], 21) ^ v[0]
            v[2] = (v[2] + v[1]) & MASK
            v[1] = _rotate(v[1], 17) ^ v[2]
            v[2] = _rotate(v[2], 32)

    whole = len(message) // 8
    words = list(struct.unpack(f"<{whole}Q", message[: whole * 8]))
    words.append(int.from_bytes(message[whole * 8 :], "little") | (len(message) & 0xFF) << 56)
    for word in words:
        v[3] ^= word
        rounds(2)
        v[0] ^= word
    v[2] ^= 0xFF
    rounds(4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def compress(words: Sequence[int], poly: int) -> int:
    """The keyed polynomial of suite 2: the sum of words[i] * poly^(64 - i) modulo 2^127 - 1."""
    h = 0
    for word in words:
        h = (h + word) * poly % ((1 << 127) - 1)
    return h


def index_of(key: int, size: int = 8) -> int:
    """The entry of a flow key (8 bytes) or of a client address (size 4)."""
    return zlib.crc32(key.to_bytes(size, "big")) % ENTRIES


def flow_key(client: str, port: int, service: int) -> int:
    """Client address in dotted form, client port, service id -> the 64-bit key."""
    return int.from_bytes(bytes(map(int, client.split("."))) + struct.pack(">HH", port, service), "big")


@dataclass(frozen=True)
class Session:
    """The keys and names that a session's packets are made with."""

    number: int = 1
    key0: int = 0x0706050403020100
    key1: int = 0x0F0E0D0C0B0A0908
    poly: int = 0x123456789ABCDEF0112233445566
    suite: int = SIPHASH
    nonce: int = 0xABCDEF0123456789
    source: int = 1
    destination: int = 2


@dataclass(frozen=True)
class SyncPacket:
    """Fields of a sync packet; `words` are the 64 words of its body."""

    array: int
    round: int
    sequence: int
    count: int
    base: int
    previous: int
    words: tuple[int, ...]
    session: int = 0
    nonce: int = 0
    source: int = 0
    destination: int = 0
    suite: int = SIPHASH
    mac: int = 0
    version: int = 1

    def header(self) -> bytes:
        return HEADER.pack(
            self.version,
            self.array,
            self.round,
            self.session,
            self.nonce,
            self.source,
            self.destination,
            self.sequence,
            self.count,
            self.suite,
            self.base,
            self.previous,
            self.mac,
        )

    def encode(self) -> bytes:
        ethernet = (
            b"\x02\xba\x70\x00"
            + struct.pack(">H", self.destination)
            + b"\x02\xba\x70\x00"
            + struct.pack(">H", self.source)
        )
        return ethernet + struct.pack(">H", ETHERTYPE_SYNC) + self.header() + struct.pack(">64Q", *self.words)


def decode(frame: bytes) -> SyncPacket:
    """A frame -> its fields. Raises ValueError when it is not a sync packet."""
    if len(frame) != 574 or frame[12:14] != struct.pack(">H", ETHERTYPE_SYNC):
        raise ValueError(f"not a sync packet: {len(frame)} bytes")
    (version, array, round_, session, nonce, source, destination, sequence, count, suite, base, previous, mac) = (
        HEADER.unpack(frame[14:62])
    )
    return SyncPacket(
        array,
        round_,
        sequence,
        count,
        base,
        previous,
        struct.unpack(">64Q", frame[62:]),
        session,
        nonce,
        source,
        destination,
        suite,
        mac,
        version,
    )


def mac_of(packet: SyncPacket, session: Session) -> int:
    """The MAC of a packet under a session's keys, by the suite the packet names."""
    if packet.suite == UNSECURED:
        return 0
    words = list(struct.unpack(">5Q", packet.header()[:40]))
    if packet.suite == POLY_SIPHASH:
        h = compress(packet.words, session.poly)
        words += [h >> 64, h & MASK]
    else:
        words += packet.words
    return siphash24(struct.pack("<QQ", session.key0, session.key1), struct.pack(f"<{len(words)}Q", *words))


def sign(packet: SyncPacket, session: Session) -> SyncPacket:
    """The packet with a session's names and MAC filled in."""
    named = replace(
        packet,
        session=session.number,
        nonce=session.nonce,
        source=session.source,
        destination=session.destination,
        suite=session.suite,
    )
    return replace(named, mac=mac_of(named, session))


def clients_words(values: Sequence[int]) -> tuple[int, ...]:
    """128 entries -> the body of a clients packet."""
    return tuple(values[2 * n] << 32 | values[2 * n + 1] for n in range(BODY_WORDS))


def clients_values(words: Sequence[int]) -> list[int]:
    """The body of a clients packet -> 128 entries."""
    return [half for word in words for half in (word >> 32, word & 0xFFFFFFFF)]


@dataclass(frozen=True)
class Record:
    """One flow record; `age` in ticks of 1,024 us."""

    key: int
    packets: int
    bytes: int
    age: int = 0
    verdict: int = 0

    def words(self) -> tuple[int, int, int, int]:
        return self.key, self.packets << 32 | self.age, self.bytes, self.verdict << 56


def records_words(records: Sequence[Record]) -> tuple[int, ...]:
    """Up to 16 records -> the body of a flows packet."""
    words = [word for record in records for word in record.words()]
    return tuple(words + [0] * (BODY_WORDS - len(words)))


def record_values(words: Sequence[int]) -> list[Record]:
    """The body of a flows packet -> its 16 records, empty ones included."""
    return [
        Record(words[i], words[i + 1] >> 32, words[i + 2], words[i + 1] & 0xFFFFFFFF, words[i + 3] >> 56)
        for i in range(0, BODY_WORDS, 4)
    ]
