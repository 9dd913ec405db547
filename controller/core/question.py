# SPDX-License-Identifier: Apache-2.0
"""Asking both ends of a stopped connection where they are, and telling an answer from what was on its way before it.

A question is a byte that its receiver has had: unacceptable, so it answers at once with its exact numbers and delivers
nothing (RFC 9293 section 3.10.7.4). Each question asks below the one before it, and the D-SACK of the answer (RFC 2883)
names the byte: so an answer tells when it was given. Packets keep their order between switch and host; what the switch
had sent before the question has arrived before it, or never will.

What Linux does with a segment decides the rest (``tcp_validate_incoming``): one with data is always answered, one
without at most once in half a second; and a pure ACK that is old in number and timestamp is met with silence (6.14).
An end that sees a closed window sends its ACKs with the number of its oldest unacknowledged byte, so two ends that are
stopped with data under way refuse each other's ACKs as old: only ours, at the receiver's own next number, get through.
"""

from __future__ import annotations

from dataclasses import replace

from controller.core import seq, stand_in
from controller.core.connection import Answers, Attempt, Connection, Phase, Side
from controller.core.segment import ACK, PSH, Segment, Timestamps
from controller.core.world import World

ASK_AGAIN = 0.001
"""Seconds between two questions."""
LOCATE_AFTER = 0.5
"""Seconds after which a side's numbers are too old to compare with: a fast stream has gone halfway round by then."""
OUTDATED = 1 << 24
"""How far behind the newest known TSval a question's is where the numbers are too old to tell an old byte from a new
one: PAWS (RFC 7323 section 5) has it answered, and its byte thrown away, whatever its number."""
FAR = 1 << 30
UNMARKED = 3
"""Equal answers in a row, to as many questions, that count where the end names no byte."""


def ask(world: World, connection: Connection, attempt: Attempt) -> None:
    """Ask the ends that the controller hears once, and come back."""
    attempt.round += 1
    attempt.asked_at = world.now
    ask_client(world, connection, attempt.client, attempt.round)
    if attempt.phase is not Phase.STOPPING:
        ask_server(world, connection, attempt.server, attempt.round)
    world.wake(connection, ASK_AGAIN, "ask")


def is_due(world: World, attempt: Attempt) -> bool:
    """Return whether it is time for the next question: of two timers that ask, one is left over."""
    return not attempt.token and world.now - attempt.asked_at >= 0.9 * ASK_AGAIN


def ask_client(world: World, connection: Connection, answers: Answers, number: int, window: int = 0) -> None:
    """Ask the client in the server's name, and show it a window."""
    assert connection.origin.acked is not None
    for place, payload, age in _questions(world, connection, connection.client, answers, number):
        segment = stand_in.as_server(connection, place, connection.origin.acked, window, payload)
        stand_in.to_client(world, connection, _aged(segment, age))


def ask_server(world: World, connection: Connection, answers: Answers, number: int, window: int = 0) -> None:
    """Ask the server in the client's name, and show it a window."""
    assert connection.client.acked is not None
    for place, payload, age in _questions(world, connection, connection.origin, answers, number):
        flags = ACK | PSH if payload else ACK
        segment = stand_in.as_client(connection, place, connection.client.acked, flags, window, payload)
        stand_in.to_server(world, connection, connection.path, _aged(segment, age))


def _questions(
    world: World, connection: Connection, side: Side, answers: Answers, number: int
) -> list[tuple[int, bytes, int]]:
    """Return sequence number, payload and age (of the timestamp) of what makes an end tell its numbers.

    Where its last word is too old to know an old byte by, and no timestamp makes it old, two segments without a byte
    are harmless at any number; one of them lies ahead of the end, wherever it is by now.
    """
    assert side.acked is not None
    is_fresh = world.now - side.exact_at < LOCATE_AFTER
    has_clock = connection.agreement is not None and connection.agreement.timestamps
    if not is_fresh and not has_clock:
        return [(seq.add(side.acked, FAR), b"", 0), (seq.add(side.acked, -FAR), b"", 0)]
    if answers.base is None:
        answers.base = side.acked
    return [(seq.add(answers.base, -1 - number), stand_in.PROBE_BYTE, 0 if is_fresh else OUTDATED)]


def _aged(segment: Segment, age: int) -> Segment:
    """Return a segment with its timestamp put back."""
    stamps = segment.options.timestamps
    if stamps is None or not age:
        return segment
    stamps = Timestamps(seq.add(stamps.value, -age), stamps.echo)
    return replace(segment, options=replace(segment.options, timestamps=stamps))


# ---- hearing --------------------------------------------------------------------------------------------------------


def hear(world: World, attempt: Attempt, side: Side, answers: Answers, segment: Segment) -> None:
    """Take what an end says while it is stopped (in the client's view of the numbers)."""
    is_near = answers.base is None or 0 <= seq.offset(answers.base, segment.ack) < FAR
    if not take(world, side, segment) and not is_near:
        answers.base = None
        outdate(attempt, answers)
    if segment.ack != side.acked:
        return
    edges = [right for _, right in beyond(segment)]
    answers.gap = max(edges, key=lambda edge: seq.offset(segment.ack, edge)) if edges else None
    number = _named(answers, segment)
    if number is not None:
        answers.known = answers.known or answers.void < number <= attempt.round
    elif not segment.length:
        _count(attempt, answers, segment)


def take(world: World, side: Side, segment: Segment) -> bool:
    """Take an end's numbers; as they are, where the last word is too old. Returns whether it was not."""
    is_fresh = world.now - side.exact_at < LOCATE_AFTER
    if not is_fresh:
        side.next, side.acked = seq.add(segment.seq, segment.length), segment.ack
        side.window = segment.window
        side.timestamps = segment.options.timestamps
    side.hear(segment)
    side.exact_at = world.now
    return is_fresh


def _named(answers: Answers, segment: Segment) -> int | None:
    """Return which question an answer names with its D-SACK, if it does."""
    for left, right in segment.options.sack[:1]:
        if answers.base is not None and seq.distance(left, right) == 1 and not seq.is_after(right, segment.ack):
            return seq.distance(left, answers.base) - 1
    return None


def _count(attempt: Attempt, answers: Answers, segment: Segment) -> None:
    """Count equal answers of an end that names no byte: one for each question."""
    words = (segment.seq, segment.ack)
    if words != answers.words:
        answers.words, answers.same, answers.counted = words, 0, attempt.round
    elif attempt.round > answers.counted:
        answers.same, answers.counted = answers.same + 1, attempt.round
        answers.known = answers.known or answers.same >= UNMARKED


def outdate(attempt: Attempt, answers: Answers) -> None:
    """Something was sent to an end: only answers to later questions tell where it is."""
    answers.void, answers.known, answers.words, answers.same = attempt.round, False, None, 0


def beyond(segment: Segment) -> tuple[tuple[int, int], ...]:
    """Return the SACK blocks of bytes that came out of order: a D-SACK only answers our own question."""
    return tuple(block for block in segment.options.sack if seq.is_after(block[1], segment.ack))
