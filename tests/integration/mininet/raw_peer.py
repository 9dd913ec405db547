# SPDX-License-Identifier: Apache-2.0
"""Hosts that no operating system stands behind: what they say on the wire is theirs to choose. Run inside hosts.

    python raw_peer.py target INTERFACE ADDRESS PORT HOW
    python raw_peer.py forge INTERFACE CLIENT CPORT SERVICE SPORT TARGET TPORT
    python raw_peer.py answer INTERFACE TARGET TPORT CLIENT CPORT ACK
    python raw_peer.py flood INTERFACE SERVICE SPORT MAC
    python raw_peer.py too_big INTERFACE TARGET TPORT MTU

``target`` has an address of its own (it answers ARP) and takes connections in the way HOW (`WAYS`); it tells the SYNs
that it gets, one JSON object a line. ``forge`` speaks in everybody's name, for ever. ``answer`` sends SYN-ACKs and ACKs
in a target's name for ever. ``flood`` sends SYNs from everywhere, for ever. ``too_big`` is a router before a target:
for each segment it tells the sender that the next one is too large. All tell ``ready`` first.
"""

from __future__ import annotations

import itertools
import json
import random
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from controller.core import seq
from controller.core.errors import RemoteError
from controller.core.segment import ACK, FIN, PSH, RST, SYN, Endpoint, Segment, TcpOptions, Timestamps
from controller.wire.address import encode_ip, encode_mac
from controller.wire.arp import REQUEST, ArpMessage, arp_reply, encode_arp
from controller.wire.checksum import finish, ones_sum
from controller.wire.frame import decode_frame
from controller.wire.segment import encode_segment

ALL = 3
"""ETH_P_ALL."""
ISN = 1_000_000
IP = 14
"""Where the IP header begins in an untagged frame."""
ROUTER = "10.0.0.99"
MAC = "02:00:00:00:77:77"
PAUSE = 0.01
"""Seconds that a forger rests."""
LINUX = TcpOptions(1460, 7, sack_permitted=True, timestamps=Timestamps(5_000, 0))


def opened(interface: str) -> socket.socket:
    """Return a socket on everything that passes an interface."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL))
    wire.bind((interface, 0))
    return wire


def mac_of(interface: str) -> str:
    """Return an interface's own address."""
    return Path(f"/sys/class/net/{interface}/address").read_text().strip()


# ---- a target ---------------------------------------------------------------------------------------------------


def reply(to: Segment, flags: int, number: int, ack: int, options: TcpOptions = LINUX, payload: bytes = b"") -> Segment:
    """Return an answer to a segment."""
    if options.timestamps is not None and to.options.timestamps is not None:
        options = replace(options, timestamps=Timestamps(5_000, to.options.timestamps.value))
    ends = (to.dst, to.src)
    return Segment(*ends, number, ack, flags, 60_000, options, payload, to.eth_dst, to.eth_src, to.vlan)


def synack(syn: Segment, options: TcpOptions = LINUX) -> Segment:
    """Return the answer that a SYN asks for."""
    return reply(syn, SYN | ACK, ISN, seq.add(syn.seq, 1), options)


def wrong_ack(got: Segment) -> Iterator[bytes]:
    """Acknowledge what was never sent."""
    if got.flags & SYN:
        yield encode_segment(replace(synack(got), ack=seq.add(got.seq, 1_000)))


def broken_options(got: Segment) -> Iterator[bytes]:
    """Answer with an option that runs beyond the header."""
    if got.flags & SYN:
        frame = bytearray(encode_segment(synack(got)))
        frame[-19] = 200  # the length of the first option
        yield bytes(frame)


def wrong_reset(got: Segment) -> Iterator[bytes]:
    """Refuse what was not asked for: a RST that acknowledges another number counts for nothing."""
    if got.flags & SYN:
        yield encode_segment(reply(got, RST | ACK, 0, seq.add(got.seq, 77), TcpOptions()))


def right_reset(got: Segment) -> Iterator[bytes]:
    """Refuse."""
    if got.flags & SYN:
        yield encode_segment(reply(got, RST | ACK, 0, seq.add(got.seq, 1), TcpOptions()))


def no_proof(got: Segment) -> Iterator[bytes]:
    """Answer a handshake, and whatever comes then by a bare ACK: it never names a byte that it has had."""
    if got.flags & SYN:
        yield encode_segment(synack(got))
    elif got.payload:
        yield encode_segment(reply(got, ACK, ISN + 1, got.ack, TcpOptions(timestamps=Timestamps(5_001, 0))))


def wrong_number(got: Segment) -> Iterator[bytes]:
    """Name the right byte, but acknowledge what was never sent."""
    if got.flags & SYN:
        yield encode_segment(synack(got))
    elif got.payload:
        sack = ((got.seq, seq.add(got.seq, 1)),)
        options = TcpOptions(timestamps=Timestamps(5_001, 0), sack=sack)
        yield encode_segment(reply(got, ACK, ISN + 1, seq.add(got.seq, 5_000), options))


def no_options(got: Segment) -> Iterator[bytes]:
    """Agree to nothing."""
    if got.flags & SYN:
        yield encode_segment(synack(got, TcpOptions(1460)))


def small(got: Segment) -> Iterator[bytes]:
    """Take small segments only."""
    if got.flags & SYN:
        yield encode_segment(synack(got, replace(LINUX, mss=88)))


def talks_in_its_synack(got: Segment) -> Iterator[bytes]:
    """Say something before the handshake is over, and again behind it."""
    if got.flags & SYN:
        yield encode_segment(reply(got, SYN | ACK, ISN, seq.add(got.seq, 1), payload=b"welcome"))
        yield encode_segment(reply(got, ACK | PSH, ISN + 1, seq.add(got.seq, 1), TcpOptions(), b"welcome"))


def silent(got: Segment) -> Iterator[bytes]:
    """Say nothing."""
    return iter(())


WAYS: dict[str, Callable[[Segment], Iterator[bytes]]] = {
    way.__name__: way
    for way in (
        wrong_ack,
        broken_options,
        wrong_reset,
        right_reset,
        no_proof,
        wrong_number,
        no_options,
        small,
        talks_in_its_synack,
        silent,
    )
}


def target(interface: str, address: str, port: int, how: str) -> None:
    """Be a target."""
    wire, here = opened(interface), Endpoint(address, port)
    print("ready", flush=True)
    while True:
        frame, (_, _, kind, *_) = wire.recvfrom(65_536)
        if kind == socket.PACKET_OUTGOING:
            continue
        try:
            got = decode_frame(frame)
        except RemoteError:
            continue
        if isinstance(got, ArpMessage) and got.operation == REQUEST and got.target == address:
            wire.send(encode_arp(arp_reply(got, MAC)))
        elif isinstance(got, Segment) and got.dst == here:
            if got.flags & SYN:
                print(json.dumps({"seq": got.seq, "port": got.src.port}), flush=True)
            for answer in WAYS[how](got):
                wire.send(answer)


# ---- forgers ----------------------------------------------------------------------------------------------------


def forge(interface: str, client: Endpoint, service: Endpoint, goal: Endpoint) -> None:
    """Speak in everybody's name, in any flags and numbers."""
    wire, dice = opened(interface), random.Random(3)
    macs = {end.address: f"02:00:00:00:00:0{end.address[-1]}" for end in (client, service, goal)}
    print("ready", flush=True)
    for count in itertools.count():
        src, dst = dice.choice([(client, service), (service, client), (goal, client), (client, goal)])
        flags = dice.choice([ACK, ACK | PSH, ACK | FIN, RST, RST | ACK, SYN, SYN | ACK])
        numbers = [dice.getrandbits(32) for _ in range(4)]
        options = TcpOptions(timestamps=Timestamps(*numbers[:2])) if dice.random() < 0.5 else TcpOptions()
        payload = dice.choice([b"", b"forged", bytes(1_000)]) if flags & ACK else b""
        macs_of = (macs[src.address], macs[dst.address])
        wire.send(encode_segment(Segment(src, dst, *numbers[2:], flags, 500, options, payload, *macs_of)))
        if count % 16 == 0:
            time.sleep(PAUSE)


def answer(interface: str, goal: Endpoint, client: Endpoint, ack: int) -> None:
    """Finish a handshake in a target's name, with the number that it was asked for."""
    wire, mac = opened(interface), mac_of(interface)
    print("ready", flush=True)
    told = Segment(goal, client, ISN, ack, SYN | ACK, 60_000, LINUX, eth_src=mac, eth_dst="02:00:00:00:00:03")
    sack = ((seq.add(ack, -1), ack),)
    proof = replace(told, seq=ISN + 1, flags=ACK, options=TcpOptions(timestamps=Timestamps(5_001, 0), sack=sack))
    while True:
        wire.send(encode_segment(told))
        wire.send(encode_segment(proof))
        time.sleep(PAUSE)


def flood(interface: str, service: Endpoint, mac: str) -> None:
    """Open connections from everywhere, and never finish one."""
    wire, dice, own = opened(interface), random.Random(4), mac_of(interface)
    print("ready", flush=True)
    while True:
        source = Endpoint(f"10.{dice.randrange(1, 250)}.{dice.randrange(250)}.{dice.randrange(1, 250)}", 0)
        syn = Segment(
            source._replace(port=dice.randrange(1_024, 65_536)),
            service,
            dice.getrandbits(32),
            0,
            SYN,
            64_000,
            LINUX,
            eth_src=own,
            eth_dst=mac,
        )
        wire.send(encode_segment(syn))


def too_big(interface: str, goal: Endpoint, mtu: int) -> None:
    """Be a router that has a narrow way to a target (RFC 1191)."""
    wire, own = opened(interface), mac_of(interface)
    print("ready", flush=True)
    while True:
        frame, (_, _, kind, *_) = wire.recvfrom(65_536)
        try:
            got = decode_frame(frame)
        except RemoteError:
            continue
        if kind == socket.PACKET_OUTGOING or not isinstance(got, Segment) or got.dst != goal or not got.payload:
            continue
        following = seq.add(got.seq, got.length)  # this one will have been acknowledged by then
        quoted = frame[IP : IP + 24] + struct.pack("!I", following)
        blank = struct.pack("!BBHI", 3, 4, 0, mtu) + quoted
        message = blank[:2] + struct.pack("!H", finish(ones_sum(blank))) + blank[4:]
        ends = (encode_ip(ROUTER), encode_ip(got.src.address))
        head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(message), 0, 0, 64, 1, 0, *ends)
        head = head[:10] + struct.pack("!H", finish(ones_sum(head))) + head[12:]
        wire.send(encode_mac(got.eth_src) + encode_mac(own) + frame[12:IP] + head + message)


def main(what: str, interface: str, *words: str) -> None:
    """Do what the command line says."""
    if what == "target":
        target(interface, words[0], int(words[1]), words[2])
        return
    ends = [Endpoint(words[n], int(words[n + 1])) for n in range(0, len(words) - 1, 2)]
    if what == "too_big":
        too_big(interface, ends[0], int(words[-1]))
    elif what == "forge":
        forge(interface, *ends)
    elif what == "answer":
        answer(interface, *ends, int(words[-1]))
    else:
        flood(interface, ends[0], words[-1])


if __name__ == "__main__":
    main(*sys.argv[1:])
