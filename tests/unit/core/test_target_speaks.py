# SPDX-License-Identifier: Apache-2.0
"""A target that stands and then says something, or dies, before the connection is its own: the origin goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, ORIGIN, POLICY, TARGET, Demo

from controller.core import seq
from controller.core.connection import Phase
from controller.core.events import (
    MigrationCompleted,
    MigrationFailed,
    MigrationRequested,
    MigrationRolledBack,
    SegmentReceived,
)
from controller.core.segment import ACK, FIN, ConnectionKey, Segment

KEY = ConnectionKey(CLIENT, ORIGIN)
OBSERVE = replace(POLICY, services=(replace(POLICY.services[0], gated=False),))
STANDS = (Phase.WATCHING, Phase.BRAKING, Phase.STOPPING, Phase.MEASURING)


def standing(phase: Phase, discards: bool = False):
    """Return a network whose connection has a target that stands, in a phase, and the client."""
    servers = {name: replace(server, discards_banner=discards) for name, server in OBSERVE.servers.items()}
    service = replace(OBSERVE.services[0], origin=servers["server1"])
    demo = Demo(policy=replace(OBSERVE, servers=servers, services=(service,)))
    client = demo.connect()
    policy = "quiet" if phase is Phase.WATCHING else None
    demo.tell(MigrationRequested(demo.now, KEY, "server2", policy))
    for _ in range(1_000):
        attempt = demo.engine.world.connections[KEY].attempt
        if attempt.phase is phase:
            return demo, client, attempt
        demo.run(0.000_02)
    raise AssertionError(f"never reached {phase}")


def said(demo: Demo, attempt, flags: int = ACK, payload: bytes = b"") -> None:
    """Let the target say something."""
    number, ack = attempt.target_next, seq.add(attempt.syn_seq, 1)
    demo.tell(SegmentReceived(1, 2, Segment(TARGET, CLIENT, number, ack, flags, 100, payload=payload)))


@pytest.mark.parametrize("phase", STANDS)
@pytest.mark.parametrize(("flags", "payload", "word"), [(ACK | FIN, b"", "closed"), (ACK, b"220 welcome", "banner")])
def test_its_end_or_a_late_banner(phase: Phase, flags: int, payload: bytes, word: str) -> None:
    """The migration is given up; what it said never reaches the client."""
    demo, client, attempt = standing(phase)
    said(demo, attempt, flags, payload)
    demo.run(1.0)
    told = demo.happened(MigrationFailed) + demo.happened(MigrationRolledBack)
    assert [event.reason.partition(":")[0] for event in told] == [word]
    demo.say(client, b"still here")
    demo.run(0.5)
    assert demo.at_origin[0].received == b"still here"
    assert not client.received


@pytest.mark.parametrize("phase", STANDS)
def test_an_ack_means_nothing(phase: Phase) -> None:
    """The migration goes on."""
    demo, _, attempt = standing(phase)
    said(demo, attempt)
    demo.run(1.0)
    assert demo.happened(MigrationCompleted)


@pytest.mark.parametrize("phase", STANDS)
def test_a_late_banner_that_may_be_lost(phase: Phase) -> None:
    """It is acknowledged, and lies before the cut."""
    demo, client, _ = standing(phase, discards=True)
    target = demo.at_target[0]
    demo.say(target, b"220 welcome")
    demo.run(1.0)
    assert demo.happened(MigrationCompleted)
    demo.say(target, b"hello")
    demo.run(0.5)
    assert client.received == b"hello"
    assert not client.complaints


def test_what_acknowledges_something_else_says_nothing_of_its_clock():
    """An answer to a question of before, or of somebody else."""
    demo, _, attempt = standing(Phase.BRAKING)
    before = replace(attempt)
    stray = Segment(TARGET, CLIENT, attempt.target_next, seq.add(attempt.syn_seq, 2), ACK, 100, ip_id=7)
    demo.tell(SegmentReceived(1, 2, stray))
    assert attempt == before
