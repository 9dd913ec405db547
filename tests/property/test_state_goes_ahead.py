# SPDX-License-Identifier: Apache-2.0
"""Connections move while the state in P4 switches goes ahead, late, never, or is refused: no cutover without it.

And whatever becomes of the state, every byte reaches one server once, in order; one that stays loses nothing.
"""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.demo import CLIENT, MIGRATE, ORIGIN, Demo, alert
from simulation.network import Faults
from simulation.observe import OBSERVE
from simulation.p4_state import follow, holding

from controller.core.events import MigrationCompleted, MigrationFailed, MigrationRequested, MigrationStarted
from controller.core.policy import Hold
from controller.core.segment import ConnectionKey

KEY = ConnectionKey(CLIENT, ORIGIN)
faults = st.builds(
    Faults,
    loss=st.sampled_from([0.0, 0.0, 0.05]),
    duplication=st.sampled_from([0.0, 0.1]),
    jitter=st.sampled_from([0.0, 0.000_2]),
)
fates = st.one_of(st.none(), st.tuples(st.sampled_from([0.0, 0.001, 0.01, 0.1, 0.29, 0.5]), st.booleans()))
holds = st.sampled_from([Hold.STAY, Hold.STAY, Hold.GO, Hold.OFF])


def no_cutover_without_state(demo: Demo, hold: Hold, arrivals: list) -> None:
    """Check every cutover against what had arrived by then."""
    if hold is not Hold.STAY:
        return
    for moved in demo.happened(MigrationCompleted):
        there = [when for when, event in arrivals if event.version == moved.version]
        assert there, f"version {moved.version} moved, and its state never arrived"
        assert there[0] <= moved.time


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32 - 1), faults, fates, holds, st.integers(1, 5_000))
def test_gated(seed: int, links: Faults, fate: tuple[float, bool] | None, hold: Hold, size: int) -> None:
    random = Random(seed)
    demo = Demo(random, links, policy=holding(hold))
    arrivals = follow(demo, lambda event: fate)
    client = demo.connect(seconds=8.0)
    if client.state != "established":
        return
    sent = random.randbytes(size)
    demo.say(client, sent)
    demo.at(0.001, lambda: demo.tell(alert(MIGRATE)))
    demo.run(12.0)
    moved, failed = demo.happened(MigrationCompleted), demo.happened(MigrationFailed)
    no_cutover_without_state(demo, hold, arrivals)
    if not links.loss:
        arrives = fate is not None and fate[1] and fate[0] < 0.3
        assert bool(moved) is (arrives or hold is not Hold.STAY), failed
    server = demo.at_target[-1] if moved else demo.at_origin[-1]
    assert bytes(server.received) == sent
    assert not moved or demo.at_origin[-1].received == b""
    demo.say(server, b"the end")
    demo.run(12.0)
    assert client.received == b"the end"
    assert not client.complaints + server.complaints
    assert not demo.engine.world.tokens


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    links=faults,
    hold=holds,
    moves=st.lists(
        st.tuples(
            st.sampled_from(["server1", "server2"]),
            st.sampled_from([None, "quiet"]),
            fates,
            st.sampled_from([0.0, 0.005, 0.02, 0.7]),
        ),
        max_size=5,
    ),
)
def test_observed(seed: int, links: Faults, hold: Hold, moves: list) -> None:
    random = Random(seed)
    demo = Demo(random, links, policy=holding(hold, OBSERVE))
    becomes: dict[int, tuple[float, bool] | None] = {}
    arrivals = follow(demo, lambda event: becomes.get(event.version))
    client = demo.connect(seconds=8.0)
    if client.state != "established":
        return
    sent = bytearray()

    def talk() -> None:
        piece = random.randbytes(random.randint(1, 4_000))
        sent.extend(piece)
        demo.say(client, piece)

    for version, (name, cut, fate, pause) in enumerate(moves, 1):
        becomes[version] = fate
        talk()
        demo.tell(MigrationRequested(demo.now, KEY, name, cut))
        talk()
        demo.run(pause)
    demo.run(60.0)
    no_cutover_without_state(demo, hold, arrivals)
    completed = demo.happened(MigrationCompleted)
    serves = demo.at_target if completed and completed[-1].target == "server2" else demo.at_origin
    talk()
    demo.say(serves[-1], b"the end")
    demo.run(8.0)
    assert client.received.endswith(b"the end"), demo.happened(MigrationFailed)
    got = {"server1": iter(demo.at_origin), "server2": iter(peer for peer in demo.at_target if peer.received)}
    assert sum(len(peer.received) for peer in (*demo.at_origin, *demo.at_target)) == len(sent), got
    if not links.loss:
        assert client.retransmissions == 0
    assert not client.complaints
    assert not demo.engine.world.tokens
    assert len(demo.happened(MigrationStarted)) <= len(moves)
