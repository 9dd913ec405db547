# SPDX-License-Identifier: Apache-2.0
"""The target still has an older connection of the client's port: it challenges our SYN, and is reset exactly."""

from __future__ import annotations

from simulation.demo import CLIENT, MACS, MIGRATE, TARGET, Demo, alert
from simulation.gate import REQUEST, attempt_of, begin, until

from controller.core import seq
from controller.core.connection import Phase
from controller.core.events import SegmentReceived
from controller.core.segment import ACK, RST, SYN, Segment


def answer(demo: Demo, ack: int, flags: int = ACK) -> list[Segment]:
    """Let the target say something in the middle of its handshake; return what it is sent at once."""
    sent: list[Segment] = []
    demo.switch._transmit = lambda port, segment: sent.append(segment)  # type: ignore[method-assign]
    demo.tell(SegmentReceived(1, 2, Segment(TARGET, CLIENT, 7_000, ack, flags, 100)))
    demo.run(0.001)
    return sent


def test_a_challenge_is_answered_as_a_client_would() -> None:
    """RFC 9293 section 3.10.7.3: a RST at the number that it asks for, then the SYN once more."""
    demo = Demo()
    begin(demo)
    until(demo, Phase.CONNECTING)
    demo.listeners.clear()
    sent = [segment for segment in answer(demo, 12_345) if segment.dst == TARGET]
    assert [(segment.flags, segment.seq) for segment in sent if segment.flags == RST] == [(RST, 12_345)]
    assert any(segment.flags & SYN for segment in sent)


def test_other_words_of_it_are_ignored() -> None:
    """An ACK of our SYN is half of a SYN-ACK at best; a segment without the flag says nothing."""
    demo = Demo()
    begin(demo)
    until(demo, Phase.CONNECTING)
    number = seq.add(attempt_of(demo).syn_seq, 1)
    demo.listeners.clear()
    assert not [s for s in answer(demo, number) + answer(demo, 1, 0) if s.flags == RST]


def test_the_migration_goes_on_to_its_end() -> None:
    """The older half is gone, the new one gets the request."""
    demo = Demo()
    client = demo.connect()
    older = demo.peers[TARGET, CLIENT] = demo.listeners[TARGET](CLIENT)
    older.state, older.remote_mac, older.recv_next = "established", MACS[CLIENT.address], 12_345
    arrive = demo._arrive

    def forget(port: int, segment: Segment) -> None:
        if older.state == "reset" and demo.peers.get((TARGET, CLIENT)) is older:
            del demo.peers[TARGET, CLIENT]
        arrive(port, segment)

    demo._arrive = forget  # type: ignore[method-assign]
    demo.say(client, REQUEST)
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    demo.run(1.0)
    assert older.state == "reset"
    assert demo.at_target[-1].received == REQUEST
