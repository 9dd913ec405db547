# SPDX-License-Identifier: Apache-2.0
"""Joins captures, OpenFlow messages and the journal into the steps of one connection, in the order of time. Pure.

A segment is seen several times: where it enters the switch, in a packet-in or packet-out, where it leaves. Sightings
are put together to one step whose path names all lifelines passed, so that one sees who sent it and who decided.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from demo.capture import TcpPacket
from demo.openflow_log import Message

FLAG_NAMES = ((2, "SYN"), (1, "FIN"), (4, "RST"), (8, "PSH"), (16, "ACK"))
LONGEST_FORWARDING = 0.5  # seconds between a segment's way in and its way out
OUTPUT = re.compile(r"output:\"?([\w-]+)")
LIFELINES = ("client", "switch", "server1", "server2", "controller", "analyser")


@dataclass(frozen=True, slots=True)
class Step:
    """One row of the diagram; ``time`` is wall-clock seconds, ``path`` the lifelines from the sender on.

    ``kind`` is ``segment``, ``made`` (a segment sent by the controller), ``flows``, ``alert`` or ``note``; ``copies``
    are lifelines that the switch gave a copy; ``numbers`` are sequence facts at the path's first and last lifeline.
    """

    time: float
    path: tuple[str, ...]
    label: str
    kind: str
    copies: tuple[str, ...] = ()
    numbers: tuple[str, str] = ("", "")
    bytes: int = 0


def join(
    packets: Iterable[TcpPacket],
    messages: Sequence[Message],
    records: Iterable[Mapping[str, Any]],
    client: str,
    ports: Mapping[str, str],
    clock_offset: float,
) -> list[Step]:
    """Return the steps of the connection of ``client`` (``address:port``).

    ``records`` are the journal's; ``ports`` says which lifeline is behind an OpenFlow port (given as text);
    ``clock_offset`` is wall time minus monotonic time, in seconds.
    """
    ours = sorted((p for p in packets if client in (p.src, p.dst)), key=lambda packet: packet.time)
    sightings = Sightings([p for p in ours if p.inward], [p for p in ours if not p.inward])
    naming = Naming(ours)
    steps = _of_channel(messages, sightings, client, ports, naming)
    steps += _of_switch(sightings, naming)
    steps += [step for record in records if (step := _of_record(record, client, clock_offset))]
    return sorted(steps, key=lambda step: step.time)


@dataclass
class Sightings:
    """What was seen on the ports and is not yet part of a step; ``punted`` are those that the controller got too."""

    inward: list[TcpPacket]
    outward: list[TcpPacket]
    punted: list[TcpPacket] = field(default_factory=list)

    def take_outward(self, fits: Callable[[TcpPacket], bool]) -> TcpPacket | None:
        """Remove and return the first segment that left the switch and fits."""
        found = next((packet for packet in self.outward if fits(packet)), None)
        if found is not None:
            self.outward.remove(found)
        return found


class Naming:
    """Says what a segment is in words, with numbers counted from each direction's SYN."""

    def __init__(self, packets: Sequence[TcpPacket]) -> None:
        self.first: dict[tuple[str, str, str], int] = {}
        self.seen: set[tuple[Any, ...]] = set()
        for packet in packets:
            if packet.flags & 2:
                self.first.setdefault((packet.place, packet.src, packet.dst), packet.seq)

    def label(self, packet: TcpPacket) -> str:
        """``PSH ACK "migrate" 15 B``, with ``(again)`` where the same has been sent from there before."""
        words = [name for bit, name in FLAG_NAMES if packet.flags & bit]
        if packet.payload:
            text = packet.payload[:18].decode("latin-1").split("\n")[0]
            words.append(f"{text!r}" if text.isprintable() else "")
            words.append(f"{len(packet.payload)} B")
        sighting = (packet.place, packet.inward, *packet.numbers)
        # A pure ACK may well be the same as one before; anything else with old numbers is a retransmission.
        if sighting in self.seen and (packet.payload or packet.flags & 7):
            words.append("(again)")
        self.seen.add(sighting)
        return " ".join(word for word in words if word)

    def numbers(self, packet: TcpPacket) -> str:
        """Sequence and acknowledgement numbers, relative where the direction's SYN was seen at the same place."""
        seq = self._relative(packet.seq, packet.place, packet.src, packet.dst)
        if not packet.flags & 16:
            return f"seq {seq}"
        return f"seq {seq} ack {self._relative(packet.ack, packet.place, packet.dst, packet.src)}"

    def _relative(self, number: int, place: str, src: str, dst: str) -> str:
        first = self.first.get((place, src, dst))
        return str(number) if first is None else str((number - first + (1 << 31)) % (1 << 32) - (1 << 31))

    def step(
        self, packet: TcpPacket, path: tuple[str, ...], copies: tuple[str, ...] = (), other: TcpPacket | None = None
    ) -> Step:
        """Make the step of a segment, with the numbers at the far end too where the switch has changed them."""
        kind = "made" if path[0] == "controller" else "segment"
        here, there = self.numbers(packet), self.numbers(other) if other is not None else ""
        numbers = (here, there if there != here else "")
        return Step(packet.time, path, self.label(packet), kind, copies, numbers, len(packet.payload))


def _of_channel(
    messages: Sequence[Message], sightings: Sightings, client: str, ports: Mapping[str, str], naming: Naming
) -> list[Step]:
    """Make the steps of what the controller sent, and note which segments it got."""
    steps: list[Step] = []
    last, changes, port = 0.0, 0, client.rpartition(":")[2]
    for message in messages:
        packet = message.packet
        if packet is None:
            changes += f"tp_src={port}," in message.text + "," or f"tp_dst={port}" in message.text
            continue
        if client not in (packet.src, packet.dst):
            continue
        if message.kind == "packet-in":
            seen = next((p for p in sightings.inward if _is_same(packet, p) and p not in sightings.punted), None)
            if seen is not None:
                sightings.punted.append(seen)
        elif (step := _sent(packet, message.text, sightings, ports, naming)) is not None:
            steps.append(step)
            seen = replace(packet, time=step.time)
        else:
            continue
        if seen is None:
            continue
        if changes:
            # Flow changes carry no time: they lie between their neighbours on the channel.
            steps.append(_flow_step((last + seen.time) / 2 if 0 < last < seen.time else seen.time - 1e-6, changes))
            changes = 0
        last = seen.time
    if changes and last:
        steps.append(_flow_step(last + 1e-6, changes))
    return steps


def _sent(packet: TcpPacket, text: str, sightings: Sightings, ports: Mapping[str, str], naming: Naming) -> Step | None:
    """Make the step of a packet-out from where its packet left the switch."""
    places = [ports.get(number, number) for number in OUTPUT.findall(text)]
    if places:
        seen = [sightings.take_outward(partial(_is_at, place, packet)) for place in places]
    else:
        # It went through the flow table, which may have rewritten it: content and flags have to do.
        seen = [sightings.take_outward(lambda p: p.place != "analyser" and _is_alike(packet, p))]
    left = [sighting for sighting in seen if sighting is not None]
    if not left:
        return None
    main = next((sighting for sighting in left if sighting.place != "analyser"), left[0])
    copies = tuple(sighting.place for sighting in left if sighting is not main)
    return naming.step(main, ("controller", "switch", main.place), copies)


def _of_switch(sightings: Sightings, naming: Naming) -> list[Step]:
    """Make the steps of what the switch did by itself: forward, copy, hand to the controller, drop."""
    ways_out = _forwarded(sightings)
    steps = []
    for packet in sightings.inward:
        out = ways_out.get(id(packet))
        copy = sightings.take_outward(partial(_is_copy, packet))
        onward = [out.place] if out else []
        onward += ["controller"] if packet in sightings.punted else []
        onward += ["analyser"] if copy else []
        steps.append(naming.step(packet, (packet.place, "switch", *onward[:1]), tuple(onward[1:]), out))
    return steps + [naming.step(packet, ("switch", packet.place)) for packet in sightings.outward]


def _forwarded(sightings: Sightings) -> dict[int, TcpPacket]:
    """Find the way out of each segment that the switch forwarded (by the identity of its way in).

    Segments with content first: they tell by how much the switch shifts the numbers between two places, and only by
    that can pure acknowledgements, all alike, be told from each other.
    """
    ways_out: dict[int, TcpPacket] = {}
    shifts = {(packet.place, other, 0, 0) for packet in sightings.inward for other in LIFELINES}
    left = [packet for packet in sightings.outward if packet.place != "analyser"]
    with_content = [packet for packet in left if packet.payload or packet.flags & 7]
    pure = [packet for packet in left if not (packet.payload or packet.flags & 7)]
    for out in [*with_content, *pure]:
        ways_in = [packet for packet in sightings.inward if id(packet) not in ways_out and _may_be(packet, out)]
        known = [packet for packet in ways_in if _shift(packet, out) in shifts]
        if not known and (out in pure or not ways_in):
            continue
        packet = (known or ways_in)[-1]  # of a segment and its repetition, it is the later one that came through
        ways_out[id(packet)] = out
        sightings.outward.remove(out)
        place, other, seq, ack = _shift(packet, out)
        shifts |= {(place, other, seq, ack), (other, place, -ack % (1 << 32), -seq % (1 << 32))}
    return ways_out


def _may_be(entered: TcpPacket, left: TcpPacket) -> bool:
    """Tell whether the switch may have made one of the other."""
    return left.place != entered.place and _is_soon(entered, left) and _is_alike(entered, left)


def _shift(entered: TcpPacket, left: TcpPacket) -> tuple[str, str, int, int]:
    """Return between which places a segment's numbers were shifted, and by how much (modulo 2^32)."""
    return (
        entered.place,
        left.place,
        (left.seq - entered.seq) % (1 << 32),
        (left.ack - entered.ack) % (1 << 32) if entered.flags & 16 else 0,
    )


def _is_copy(entered: TcpPacket, left: TcpPacket) -> bool:
    """Tell whether one is what the analyser was shown of the other."""
    return left.place == "analyser" and _is_same(entered, left) and _is_soon(entered, left)


def _is_at(place: str, packet: TcpPacket, left: TcpPacket) -> bool:
    """Tell whether a packet left the switch there."""
    return left.place == place and _is_same(packet, left)


def _is_soon(entered: TcpPacket, left: TcpPacket) -> bool:
    """Tell whether one followed the other as the way out follows the way in (two captures, two clocks' reads)."""
    return -0.001 < left.time - entered.time < LONGEST_FORWARDING


def _is_same(one: TcpPacket, other: TcpPacket) -> bool:
    """Tell whether both are the same segment, unchanged."""
    return one.numbers == other.numbers


def _is_alike(entered: TcpPacket, left: TcpPacket) -> bool:
    """Tell whether one may be the other after the switch: rewritten numbers and addresses, the same content."""
    return (entered.flags, entered.payload) == (left.flags, left.payload)


def _flow_step(time: float, changes: int) -> Step:
    return Step(time, ("controller", "switch"), f"{changes} flow change{'s' if changes > 1 else ''}", "flows")


NOTES = {
    "ConnectionOpened": "connection opened with {origin}",
    "RequestHeld": "first request held ({bytes} B)",
    "VerdictReached": "verdict: {verdict} ({cause})",
    "MigrationStarted": "migration to {target} begins",
    "TargetEstablished": "{target} has answered the probe",
    "MigrationCompleted": "cutover to {target} complete",
    "MigrationFailed": "migration failed: {reason}",
    "MigrationRolledBack": "rolled back: {reason}",
    "ConnectionClosed": "state freed ({reason})",
}


def _of_record(record: Mapping[str, Any], client: str, clock_offset: float) -> Step | None:
    """Make the step of a journal record that speaks of the connection."""
    kind, time = record["event"], record["time"] + clock_offset
    if kind == "AlertRaised" and record["src"] == client:
        return Step(time, ("analyser", "controller"), f"alert: {record['message']} (sid {record['sid']})", "alert")
    if kind in NOTES and str(record.get("connection", "")).startswith(f"{client}>"):
        return Step(time, ("controller",), NOTES[kind].format_map(record), "note")
    return None


def fold(steps: Sequence[Step], longest: int = 4, gap: float = 0.02) -> list[Step]:
    """Return the steps with each long run of forwarded segments shortened: its first two, then one for all others."""
    folded: list[Step] = []
    run: list[Step] = []
    for step in [*steps, None]:
        if step is not None and _is_plain(step) and (not run or step.time - run[-1].time < gap):
            run.append(step)
            continue
        if len(run) > longest:
            rest = run[2:]
            sender = max({step.path for step in rest}, key=lambda path: sum(s.bytes for s in rest if s.path == path))
            total = sum(step.bytes for step in rest)
            label = f"{len(rest)} more segments, {total:,} B"
            run[2:] = [Step(rest[0].time, sender, label, "segment", bytes=total)]
        folded += run
        run = [step] if step is not None and _is_plain(step) else []
        if step is not None and not run:
            folded.append(step)
    return folded


def _is_plain(step: Step) -> bool:
    """Tell whether a step is a segment that the switch forwarded by itself, without SYN, FIN or RST."""
    hosts = {"client", "server1", "server2"}
    ends = {step.path[0], step.path[-1]} <= hosts
    return (
        step.kind == "segment" and ends and not step.copies and not any(f in step.label for f in ("SYN", "FIN", "RST"))
    )


def relative(steps: Sequence[Step]) -> list[Step]:
    """Return the steps with times in seconds since the first."""
    return [replace(step, time=step.time - steps[0].time) for step in steps]
