# SPDX-License-Identifier: Apache-2.0
"""What is recorded: each scenario drives a fresh switch; ALL maps a file's name to its program and scenario."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import frames
from . import reference as ref
from .frames import TCP, UDP, address, ipv4

INGRESS = "SwitchIngress."
EVENTS = INGRESS + "events"
(
    OPEN_OUT,
    ROUND,
    WALK,
    FLOW,
    RESEND,
    RESTORE,
    RELEASE,
    REPORT_OUT,
    OPEN_IN,
    REPORT_IN,
    SWEEP,
    VERDICT,
    READ_FLOW,
    READ_BLOCK,
) = range(1, 15)
OPEN, COMMITTED, DISCARDED = 1, 2, 3
ALL_BLOCKS, OCCUPIED, DIRTY = 0, 1, 2
FABRIC = 3
SERVICE = 7
KEYS = ref.Session()
AGES = [[8 + 32 * j + 4, 8 + 32 * j + 8] for j in range(16)]  # of a flows body
FLOWS_FRAME = [[46, 62], *[[62 + a, 62 + b] for a, b in AGES]]  # ages differ from run to run, so MACs do
LIVE = ("flow_key", "flow_packets", "flow_bytes", "flow_verdict", "flow_mark", "client_packets", "client_mark")


def reg(*names: str) -> tuple[str, ...]:
    return tuple(INGRESS + name for name in names)


def stateful(r: Any) -> None:
    """Clone session, forwarding 1 <-> 2, and service 7 at 10.0.0.1:80/tcp and :53/udp."""
    r.clone_session(1, 509)
    r.write(INGRESS + "forward", {"port": (1, 511)}, INGRESS + "to_port", {"port": 2}, priority=1)
    r.write(INGRESS + "forward", {"port": (2, 511)}, INGRESS + "to_port", {"port": 1}, priority=1)
    for protocol, port in ((TCP, 80), (UDP, 53)):
        match = {"address": address("10.0.0.1"), "protocol": protocol, "port": port}
        r.write(INGRESS + "service_by_destination", match, INGRESS + "client_to_server", {"service": SERVICE})
        r.write(INGRESS + "service_by_source", match, INGRESS + "server_to_client", {"service": SERVICE})


def session_entry(s: ref.Session, port: int) -> dict[str, int]:
    return {
        "key0": s.key0,
        "key1": s.key1,
        "poly": s.poly,
        "suite": s.suite,
        "nonce": s.nonce,
        "source": s.source,
        "destination": s.destination,
        "port": port,
    }


def open_out(r: Any, s: ref.Session) -> None:
    r.write(INGRESS + "sync_out", {"session": s.number}, INGRESS + "use_session", session_entry(s, FABRIC))
    r.token(kind=OPEN_OUT, session=s.number)


def open_in(r: Any, s: ref.Session) -> None:
    r.write(INGRESS + "staging_mark", {"session": s.number}, INGRESS + "set_mark", {"mark": OPEN})
    r.write(
        INGRESS + "sync_in", {"port": FABRIC, "session": s.number}, INGRESS + "use_session", session_entry(s, FABRIC)
    )
    r.token(kind=OPEN_IN, session=s.number)


def set_mark(r: Any, s: ref.Session, mark: int) -> None:
    r.write(INGRESS + "staging_mark", {"session": s.number}, INGRESS + "set_mark", {"mark": mark}, kind="modify")


def blocks(array: int, mode: int, first: int, last: int) -> int:
    return array << 56 | mode << 48 | first << 24 | last


def siphash(r: Any) -> None:
    """SipHash-2-4's published vectors through the same macros as the sync packets' MAC."""
    published = json.loads((Path(__file__).parent / "siphash24.json").read_text())["results"]
    key0, key1 = struct.unpack("<QQ", bytes(range(16)))
    for length, expected in enumerate(published):
        message = bytes(range(length))
        words = list(struct.unpack(f"<{length // 8}Q", message[: length // 8 * 8]))
        last = int.from_bytes(message[length // 8 * 8 :], "little") | length << 56
        (output,) = r.packet(1, frames.siphash_check(key0, key1, words, last), 1)
        if output["frame"][-16:] != expected:
            raise ValueError(f"message of {length} bytes: {output['frame'][-16:]}, published {expected}")


def counting(r: Any) -> None:
    """Counting in both directions, what is not counted, collisions, verdicts, reading, forwarding rules, PacketOut."""
    stateful(r)
    r.digest("collision_t")
    client, port = "10.1.0.5", 40000
    for length in (0, 1, 999):
        r.packet(1, ipv4(client, port, "10.0.0.1", 80, payload=b"x" * length), 1)
        r.packet(2, ipv4("10.0.0.1", 80, client, port, payload=b"y" * length), 1)
    r.packet(1, ipv4(client, port, "10.0.0.1", 53, protocol=UDP, payload=b"q"), 1)  # same key: same service id
    r.packet(1, ipv4(client, port, "10.0.0.9", 80), 1)  # no service
    r.packet(1, ipv4(client, port, "10.0.0.1", 80, options=b"\x01" * 4), 1)  # options: not counted
    r.packet(1, ipv4(client, port, "10.0.0.1", 80, fragment=5), 1)
    r.packet(1, ipv4(client, port, "10.0.0.1", 80, protocol=1), 1)
    r.packet(1, b"\xff" * 6 + b"\x02\0\0\0\0\x01\x08\x06" + bytes(46), 1)  # ARP
    r.packet(4, ipv4(client, port, "10.0.0.1", 80), 0)  # counted, but nowhere to go
    key = ref.flow_key(client, port, SERVICE)
    other = colliding_client(client, port)
    r.packet(1, ipv4(other, port, "10.0.0.1", 80), 2)  # another key, the same entry: a digest
    ages = {"payload": AGES}
    r.token(kind=READ_FLOW, argument=key, ignore=ages)
    r.token(kind=READ_FLOW, argument=ref.flow_key(other, port, SERVICE), ignore=ages)
    r.token(kind=VERDICT, argument=ref.flow_key(other, port, SERVICE), flags=2)
    r.token(kind=VERDICT, argument=key, flags=2)
    r.packet(1, ipv4(client, port, "10.0.0.1", 80), 0)  # dropped, counted
    r.token(kind=VERDICT, argument=key, flags=1)
    r.packet(1, ipv4(client, port, "10.0.0.1", 80), 1)
    fresh = ref.flow_key("10.1.0.77", 5, SERVICE)
    r.token(kind=VERDICT, argument=fresh, flags=2)  # before its first packet
    r.packet(1, ipv4("10.1.0.77", 5, "10.0.0.1", 80), 0)
    r.token(kind=VERDICT, argument=0, flags=2)
    r.token(kind=READ_BLOCK, argument=ref.CLIENTS << 56 | ref.index_of(address(client), 4))
    r.token(kind=READ_BLOCK, argument=ref.FLOWS << 56 | ref.index_of(key), ignore=ages)
    r.packet_out(1, b"\x01" * 60, kind=0, port=4)
    r.packet_out(1, b"", kind=REPORT_OUT)  # no padding
    r.token(kind=99)
    r.write(
        INGRESS + "forward",
        {"port": (1, 511), "address": (0x020000000009, 0xFFFFFFFFFFFF)},
        INGRESS + "to_port",
        {"port": 4},
        priority=10,
    )
    r.packet(1, ipv4(client, port, "10.0.0.9", 80, target=b"\x02\0\0\0\0\x09"), 1)
    r.write(
        INGRESS + "forward",
        {"port": (1, 511), "address": (0x020000000009, 0xFFFFFFFFFFFF)},
        "",
        kind="delete",
        priority=10,
    )
    r.packet(1, ipv4(client, port, "10.0.0.9", 80, target=b"\x02\0\0\0\0\x09"), 1)
    r.counters(EVENTS)
    r.registers(*reg(*LIVE))


def colliding_client(client: str, port: int) -> str:
    """Another client that falls on the same entry with the same port.

    Ports of one client never collide: CRC-32's lower half tells any two of them apart.
    """
    wanted = ref.index_of(ref.flow_key(client, port, SERVICE))
    for n in range(1 << 20):
        other = f"10.{64 + (n >> 16)}.{n >> 8 & 255}.{n & 255}"
        if ref.index_of(ref.flow_key(other, port, SERVICE)) == wanted:
            return other
    raise LookupError(f"no client collides with {client}:{port}")


def clients_source(r: Any) -> None:
    """Source: rounds over the client array, resending, a delta round, the abort that puts everything back. Suite 1."""
    stateful(r)
    for n in range(40):
        r.packet(1, ipv4(f"10.2.{n}.{n}", 1000 + n, "10.0.0.1", 80), 1)
    r.registers(*reg("client_packets", "client_mark"))
    s = replace(KEYS, number=0x11)
    r.token(kind=OPEN_OUT, session=s.number)  # no keys yet
    open_out(r, s)
    r.token(kind=OPEN_OUT, session=s.number)  # again: nothing is reset
    r.token(kind=WALK, session=s.number, credit=1)  # no round yet
    r.token(kind=ROUND, session=s.number, credit=2, argument=blocks(0, 0, 0, 127))  # not the next number
    r.token(kind=ROUND, session=s.number, credit=1, argument=blocks(0, 0, 1, 127))  # not whole blocks
    r.token(kind=ROUND, session=s.number, credit=1, argument=blocks(0, 0, 0, 65536 + 127))
    r.token(kind=ROUND, session=s.number, credit=1, argument=blocks(0, ALL_BLOCKS, 256, 1023))
    r.token(kind=WALK, session=s.number, credit=2, expect=2)
    r.token(kind=WALK, session=s.number, credit=9, expect=5)  # four packets and DONE
    r.token(kind=WALK, session=s.number, credit=1)  # still DONE
    r.token(kind=ROUND, session=s.number, credit=2, argument=blocks(0, OCCUPIED, 0, 65535))
    outputs = r.token(kind=WALK, session=s.number, credit=600, expect=1 + occupied_blocks())
    count = 6 + len(outputs) - 1
    r.token(kind=RESEND, session=s.number, argument=0, credit=3, expect=3)
    r.token(kind=RESEND, session=s.number, argument=count - 1, credit=1, expect=1)
    r.token(kind=RESEND, session=s.number, argument=count, credit=1)
    for n in range(5):
        r.packet(1, ipv4(f"10.2.{n}.{n}", 1000 + n, "10.0.0.1", 80), 1)
    r.token(kind=ROUND, session=s.number, credit=3, argument=blocks(0, DIRTY, 0, 65535))
    r.token(kind=WALK, session=s.number, credit=600, expect=1 + dirty_blocks())
    r.token(kind=REPORT_OUT, session=s.number)
    r.packet(1, ipv4("10.2.0.0", 1000, "10.0.0.1", 80), 1)
    r.registers(
        *reg("client_packets", "client_mark", "out_session", "out_phase", "out_sequence", "out_cursor", "outbox_mac")
    )
    other = replace(KEYS, number=0x12)
    open_out(r, other)  # BUSY
    r.token(kind=RESTORE, session=s.number, credit=2, expect=0)
    r.token(kind=WALK, session=s.number, credit=1)  # REFUSED while restoring
    r.token(kind=RELEASE, session=s.number, credit=1)
    r.token(kind=RESTORE, session=s.number, credit=600)
    r.token(kind=RESTORE, session=s.number, credit=600)  # closed: UNKNOWN
    r.token(kind=OPEN_OUT, session=s.number)  # its number is spent
    r.registers(*reg("client_packets", "client_mark", "out_session", "out_phase"))
    r.counters(EVENTS)


def occupied_blocks() -> int:
    """Blocks with a client of clients_source() in them that round 1 has not shipped or has shipped: `used` stays."""
    return len({ref.index_of(address(f"10.2.{n}.{n}"), 4) >> 7 for n in range(40)})


def dirty_blocks() -> int:
    return len({ref.index_of(address(f"10.2.{n}.{n}"), 4) >> 7 for n in range(5)})


def chain(
    s: ref.Session, bodies: list[tuple[int, ...]], array: int = ref.CLIENTS, count: int = 128
) -> list[ref.SyncPacket]:
    """Signed packets, one for each body, numbered and linked; block n of the array in packet n."""
    made: list[ref.SyncPacket] = []
    size = 128 if array == ref.CLIENTS else 16
    for n, body in enumerate(bodies):
        previous = made[-1].mac if made else 0
        made.append(ref.sign(ref.SyncPacket(array, 1, n, count, n * size, previous, body), s))
    return made


def destination(r: Any, suite: int) -> None:
    stateful(r)
    s = replace(KEYS, number=0x21, suite=suite, source=5, destination=6)
    packets = chain(s, [ref.clients_words([n * 1000 + i for i in range(128)]) for n in range(4)])
    late = ref.sign(ref.SyncPacket(ref.CLIENTS, 2, 4, 128, 128, packets[3].mac, ref.clients_words([7] * 128)), s)
    r.packet(FABRIC, packets[0].encode())  # before the session is known
    open_in(r, s)
    for n in (1, 3, 0, 3, 2):  # out of order, one twice
        r.packet(FABRIC, packets[n].encode())
        r.token(kind=REPORT_IN, session=s.number, argument=n)
    good = packets[2]
    forged = [
        replace(good, mac=good.mac ^ 1),
        replace(good, words=(good.words[0] ^ 1, *good.words[1:])),
        replace(good, words=(*good.words[:-1], good.words[-1] ^ 1 << 63)),
        replace(good, previous=0),
        replace(good, round=2),
        replace(good, sequence=9),
        replace(good, base=256 + 128),
        replace(good, count=127),
        replace(good, session=0x22),
        replace(good, nonce=1),
        replace(good, source=6),
        replace(good, destination=5),
        replace(good, suite=3 - suite),
        replace(good, version=2),
        replace(good, array=2),
        replace(good, array=1),
        replace(good, sequence=8192),
        replace(good, base=65536),
        replace(good, base=257),
        ref.sign(replace(good, sequence=9), replace(s, key1=s.key1 ^ 1 << 63)),
    ]
    for packet in forged:
        r.packet(FABRIC, packet.encode())
    r.packet(2, good.encode())  # the wrong port
    r.packet(FABRIC, good.encode() + b"\0")  # too long
    r.packet(FABRIC, good.encode()[:-1])  # too short
    r.counters(EVENTS)
    r.registers(*reg("client_packets", "staged_client", "in_count", "in_links", "in_bitmap", "in_mac", "in_previous"))
    r.packet(FABRIC, late.encode())  # a later round adds to what is staged
    r.token(kind=REPORT_IN, session=s.number, argument=4)
    r.token(kind=SWEEP, session=s.number, credit=10)  # not committed
    client = next(
        f"10.3.{n >> 8}.{n & 255}" for n in range(65536) if ref.index_of(address(f"10.3.{n >> 8}.{n & 255}"), 4) < 512
    )
    r.packet(1, ipv4(client, 5, "10.0.0.1", 80), 1)  # live only, so far
    r.registers(*reg("client_packets"))
    set_mark(r, s, COMMITTED)
    r.packet(FABRIC, packets[0].encode())  # closed
    r.packet(1, ipv4(client, 5, "10.0.0.1", 80), 1)  # first touch folds
    r.registers(*reg("client_packets"))
    second = replace(KEYS, number=0x23, source=5, destination=6)
    open_in(r, second)  # BUSY: not swept
    r.token(kind=OPEN_OUT, session=second.number)
    r.token(kind=SWEEP, session=s.number, credit=2, expect=0)
    r.token(kind=SWEEP, session=s.number, credit=10)
    r.token(kind=SWEEP, session=s.number, credit=10)  # still DONE
    r.token(kind=OPEN_IN, session=s.number)  # its number is spent
    r.packet(FABRIC, packets[0].encode())
    r.token(kind=OPEN_IN, session=second.number)
    r.packet(FABRIC, chain(second, [ref.clients_words([1] * 128)])[0].encode())
    set_mark(r, second, DISCARDED)
    r.packet(1, ipv4(client, 5, "10.0.0.1", 80), 1)
    third = replace(KEYS, number=0x24, source=5, destination=6)
    open_in(r, third)  # what was discarded is not in the way
    r.registers(*reg("client_packets", "client_mark", "in_session", "in_count"))
    r.counters(EVENTS)


def clients_destination(r: Any) -> None:
    """Destination, SipHash: order, duplicates, forgeries, commit, first touch, sweep, discard."""
    destination(r, ref.SIPHASH)


def clients_destination_poly(r: Any) -> None:
    """Destination, polynomial and SipHash: order, duplicates, forgeries, commit, first touch, sweep, discard."""
    destination(r, ref.POLY_SIPHASH)


def flows_source(r: Any) -> None:
    """Source of flow records: one flow, a whole round, release after the commit, an abort. Suite 2."""
    stateful(r)
    for n in range(20):
        for _ in range(n % 3 + 1):
            r.packet(1, ipv4(f"10.4.0.{n}", 2000 + n, "10.0.0.1", 80, payload=b"z" * n), 1)
    key = ref.flow_key("10.4.0.2", 2002, SERVICE)
    r.token(kind=VERDICT, argument=key, flags=1)
    frame: Any = {"frame": FLOWS_FRAME, "fields": ["digest"]}
    s = replace(KEYS, number=0x31, suite=ref.POLY_SIPHASH)
    open_out(r, s)
    r.token(kind=FLOW, session=s.number, argument=key, ignore=frame)
    r.token(kind=FLOW, session=s.number, argument=ref.flow_key("10.4.0.99", 1, SERVICE), ignore=frame)
    r.packet(1, ipv4("10.4.0.2", 2002, "10.0.0.1", 80), 1)
    indices = [ref.index_of(ref.flow_key(f"10.4.0.{n}", 2000 + n, SERVICE)) for n in range(20)]
    used = len({i >> 4 for i in indices})
    r.token(
        kind=ROUND, session=s.number, credit=1, argument=blocks(1, OCCUPIED, 0, 65535), ignore={"fields": ["digest"]}
    )
    r.token(kind=WALK, session=s.number, credit=5000, expect=used + 1, ignore=frame)
    r.packet(1, ipv4("10.4.0.5", 2005, "10.0.0.1", 80), 1)
    r.token(kind=RESEND, session=s.number, argument=0, credit=1, ignore=frame)
    r.registers(*reg(*LIVE))
    r.token(kind=RELEASE, session=s.number, credit=5000, ignore={"fields": ["digest"]})
    r.registers(*reg(*LIVE, "out_session", "out_phase"))
    second = replace(KEYS, number=0x32)
    other = ref.flow_key("10.4.0.5", 2005, SERVICE)
    r.token(kind=VERDICT, argument=other, flags=1)
    open_out(r, second)
    r.token(kind=ROUND, session=second.number, credit=1, argument=blocks(1, DIRTY, 0, 65535))
    r.token(kind=WALK, session=second.number, credit=5000, expect=2, ignore=frame)
    r.packet(1, ipv4("10.4.0.5", 2005, "10.0.0.1", 80), 1)
    r.token(kind=VERDICT, argument=other, flags=2)  # newer than what an abort brings back
    r.token(kind=RESTORE, session=second.number, credit=5000, ignore={"fields": ["digest"]})
    r.registers(*reg(*LIVE))
    r.counters(EVENTS)


def flows_destination(r: Any) -> None:
    """Destination of flow records: merging, a reserved entry, conflicts, collisions, verdicts, touch and sweep."""
    stateful(r)
    clients = [f"10.5.0.{n}" for n in range(8)]
    keys = [ref.flow_key(client, 3000, SERVICE) for client in clients]
    ages = {"payload": AGES}
    r.packet(1, ipv4(clients[0], 3000, "10.0.0.1", 80), 1)  # has counted here already
    clash = colliding_client(clients[1], 3000)
    r.packet(1, ipv4(clash, 3000, "10.0.0.1", 80), 1)  # holds the entry of keys[1]
    s = replace(KEYS, number=0x41)
    open_in(r, s)
    records = [ref.Record(key, 10 + n, 1000 * n, 3, 2 if n == 3 else 0) for n, key in enumerate(keys)]
    packets = chain(
        s,
        [
            ref.records_words(records[:5]),
            ref.records_words(records[5:]),
            ref.records_words([ref.Record(keys[2], 5, 50, 0, 1)]),
            ref.records_words([ref.Record(keys[2], 1, 10, 0, 2)]),
        ],
        ref.FLOWS,
        16,
    )
    for n in (0, 1, 3, 2):  # the older verdict of keys[2] arrives after the newer one
        r.packet(FABRIC, packets[n].encode())
    r.token(kind=REPORT_IN, session=s.number, argument=3)  # one conflict
    reserved = colliding_client(clients[4], 3000)
    r.packet(1, ipv4(reserved, 3000, "10.0.0.1", 80), 1)  # not counted: the entry is kept
    r.token(kind=READ_FLOW, argument=keys[4], ignore=ages)
    set_mark(r, s, COMMITTED)
    r.packet(1, ipv4(clients[3], 3000, "10.0.0.1", 80), 0)  # its verdict came with it
    r.token(kind=READ_FLOW, argument=keys[2], ignore=ages)
    r.token(kind=VERDICT, argument=keys[5], flags=2)  # folds first, then sets
    r.registers(*reg(*LIVE))
    r.token(kind=SWEEP, session=s.number, credit=100)
    r.registers(*reg(*LIVE, "in_session", "in_finished"))
    for key in keys:
        r.token(kind=READ_FLOW, argument=key, ignore=ages)
    r.counters(EVENTS)


def markers(r: Any) -> None:
    """Markers: expected, of another session, with another token, unknown."""
    stateful(r)
    r.write(INGRESS + "markers", {"session": 5, "token": 0x1122334455667788}, INGRESS + "expect_marker")
    r.packet(1, frames.marker(5, 0x1122334455667788), 1)
    r.packet(2, frames.marker(5, 0x1122334455667788), 1)
    r.packet(1, frames.marker(6, 0x1122334455667788), 0)
    r.packet(1, frames.marker(5, 0x1122334455667789), 0)
    r.packet(1, frames.marker(5, 0)[:20], 0)
    r.counters(EVENTS)


def baseline(r: Any) -> None:
    """The unsecured yardstick: a round out, packets in, commit and sweep, all with MACs of 0."""
    stateful(r)
    s = replace(KEYS, number=0x51, suite=ref.UNSECURED)
    for n in range(10):
        r.packet(1, ipv4(f"10.2.{n}.{n}", 1000 + n, "10.0.0.1", 80), 1)
    open_out(r, s)
    r.token(kind=ROUND, session=s.number, credit=1, argument=blocks(0, ALL_BLOCKS, 0, 383))
    r.token(kind=WALK, session=s.number, credit=9, expect=4)
    r.token(kind=RELEASE, session=s.number, flags=1)
    other = replace(s, number=0x52)
    open_in(r, other)
    for packet in chain(other, [ref.clients_words([n * 1000 + i for i in range(128)]) for n in range(3)]):
        r.packet(FABRIC, packet.encode())
    set_mark(r, other, COMMITTED)
    r.token(kind=SWEEP, session=other.number, credit=9)
    r.registers(*reg("client_packets", "staged_client"))
    r.counters(EVENTS)


ALL = {
    "siphash": ("siphash_check", siphash),
    "counting": ("flow_state", counting),
    "clients_source": ("flow_state", clients_source),
    "clients_destination": ("flow_state", clients_destination),
    "clients_destination_poly": ("flow_state", clients_destination_poly),
    "flows_source": ("flow_state", flows_source),
    "flows_destination": ("flow_state", flows_destination),
    "markers": ("flow_state", markers),
    "baseline": ("baseline", baseline),
}
