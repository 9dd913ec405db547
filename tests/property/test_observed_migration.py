# SPDX-License-Identifier: Apache-2.0
"""A connection that is served moves at random moments, again and again, while both ends talk: exactly once, always."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.demo import CLIENT, ORIGIN, POLICY, Demo
from simulation.network import Faults
from simulation.peer import Capabilities

from controller.core.events import MigrationCompleted, MigrationRequested, MigrationRolledBack
from controller.core.policy import Server
from controller.core.segment import ConnectionKey, Endpoint

REPOSITORY = Path(__file__).resolve().parents[2]
HISTORIES = int(os.environ.get("BATON_HISTORIES", "300"))
"""How many are tried here, where coverage is measured."""
MANY = int(os.environ.get("BATON_MANY_HISTORIES", "10000"))
PROCESSES = 2
"""How many more are tried, by how many processes side by side."""
THIRD = Endpoint("10.0.0.4", 33_333)
MAC = "02:00:00:00:00:04"
NAMES = ("server1", "server2", "server3")
SERVERS = {**POLICY.servers, "server3": Server("server3", THIRD)}
OBSERVE = replace(POLICY, servers=SERVERS, services=(replace(POLICY.services[0], gated=False),))
KEY = ConnectionKey(CLIENT, ORIGIN)

capabilities = st.builds(
    lambda scale, clock, window: Capabilities(window_scale=scale, clock=clock, window=window),
    st.sampled_from([0, 7, 14]),
    st.integers(0, 2**32 - 1),
    st.sampled_from([33_000, 60_000]),
)
faults = st.builds(
    Faults,
    loss=st.sampled_from([0.0, 0.0, 0.02]),
    duplication=st.sampled_from([0.0, 0.1]),
    jitter=st.sampled_from([0.0, 0.000_2]),
)
CUTS = st.sampled_from([None, None, "quiet"])
option_sets = st.builds(dict, sack=st.booleans(), timestamps=st.booleans())


@settings(max_examples=HISTORIES, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cans=st.lists(capabilities, min_size=4, max_size=4),
    options=option_sets,
    links=faults,
    isn=st.sampled_from([None, 2**32 - 2, 2**32 - 3_000]),
    moves=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from([0.0, 0.000_7, 0.01, 0.7]), CUTS), max_size=6),
)
def test_every_byte_once_and_in_order(seed, cans, options, links, isn, moves):
    """What the servers received, joined in the order in which they served, is what the client sent; and back."""
    random = Random(seed)
    cans = [replace(can, **options) for can in cans]
    demo = Demo(random, links, policy=OBSERVE, first=cans[1], second=cans[2])
    demo.add_host(THIRD.address, MAC, 4)
    at_third = demo.listen(THIRD, MAC, cans[3])
    client = demo.connect(cans[0], isn, seconds=8.0)
    if client.state != "established":
        return
    places = {"server1": demo.at_origin, "server2": demo.at_target, "server3": at_third}
    sent = bytearray()

    def talk() -> None:
        piece = random.randbytes(random.randint(1, 6_000))
        sent.extend(piece)
        demo.say(client, piece)
        demo.at(0.0003 * random.random(), answer)

    def answer() -> None:
        server = serving()
        if server is not None:
            demo.say(server, random.randbytes(random.randint(1, 4_000)))

    def serving():
        connection = demo.engine.world.connections[KEY]
        peers = places[connection.path.server.name]
        return peers[-1] if connection.attempt is None and peers[-1].state == "established" else None

    for name, pause, cut in moves:
        for _ in range(random.randint(0, 3)):
            talk()
        demo.run(pause)
        demo.tell(MigrationRequested(demo.now, KEY, name, cut))
        for _ in range(random.randint(0, 2)):
            talk()
        demo.run(random.choice([0.0, 0.002, 0.3]))
    demo.run(60.0)

    completed = demo.happened(MigrationCompleted)
    order = ["server1"] + [event.target for event in completed]
    final = places[order[-1]][-1]
    piece = random.randbytes(500)
    sent.extend(piece)
    demo.say(client, piece)
    demo.say(final, b"the end")
    demo.run(5.0)
    assert client.received.endswith(b"the end"), (order, demo.happened(MigrationRolledBack))
    total = b"".join(bytes(peer.received) for peer in in_order(demo, completed, places))
    if total != bytes(sent):
        where = next((i for i, (a, b) in enumerate(zip(total, bytes(sent), strict=False)) if a != b), None)
        raise AssertionError(f"{len(total)} bytes received, {len(sent)} sent, first difference at {where}")
    assert len(client.received) == seq_total(client)
    assert not demo.complaints(client, final), demo.complaints(client, final)
    if not links.loss:
        assert client.retransmissions == 0
    assert not demo.engine.world.tokens


@pytest.mark.timeout(max(1_200, MANY // 10))
def test_many_histories():
    """The same, thousands of times: ``BATON_MANY_HISTORIES=100000`` tries more."""
    environment = {**os.environ, "BATON_HISTORIES": str(-(-MANY // PROCESSES))}
    environment.pop("BATON_COVERAGE", None)  # the check is the whole run's, and these measure none
    words = ["-q", "--no-header", "-p", "no:cacheprovider", "--no-cov", "--timeout=0"]
    test = f"{__file__}::{test_every_byte_once_and_in_order.__name__}"
    command = [sys.executable, "-m", "pytest", *words, test]
    running = [
        subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for _ in range(PROCESSES)
    ]
    told = [one.communicate()[0] for one in running]
    assert [one.returncode for one in running] == [0] * PROCESSES, "\n".join(told)


def in_order(demo, completed, places):
    """Return the servers' ends in the order in which they served: each cut ends one life and begins another."""
    lives = [life_isn(event) for event in completed]
    ends = [
        next(peer for peer in places[event.target] if peer.isn == isn)
        for event, isn in zip(completed, lives, strict=True)
    ]
    return [demo.at_origin[0], *ends]


def life_isn(event):
    """Return the ISN of the target's life that a completed migration began."""
    return (event.server_cut + event.server_delta - 1) % 2**32


def seq_total(client):
    """Return how many bytes the client's own numbers say it has received."""
    return (client.recv_next - client.irs - 1) % 2**32
