# SPDX-License-Identifier: Apache-2.0
"""Runs of the machine, judged by the model: a million random steps, and whole peers on a simulated network.

`BATON_WALK=N` takes N random steps instead of a million.
"""

import io
import json
import os
import random
from typing import Any

import pytest
from unit.eccp.cases import A1, B1, frame, has

from controller.eccp.names import Action
from controller.eccp.outputs import ConnectionEstablished, TraceRow
from controller.eccp.simulation import Link, Network, make_settings
from controller.eccp.tracing import TraceWriter, write_lines
from controller.eccp.walk import Walk, walk_many
from controller.wire.eccp import Address
from models.conformance import Judge, TraceRefused, accept

STEPS = int(os.environ.get("BATON_WALK", "1000000"))


@pytest.mark.timeout(1200)
def test_long_random_walks_are_safe_and_accepted_by_the_model() -> None:
    assert walk_many(STEPS, seed=20, sink=Judge) > STEPS // 20


def test_a_walk_writes_one_line_a_step_and_is_repeatable() -> None:
    texts = []
    for _ in range(2):
        out = io.StringIO()
        walk = Walk(6, TraceWriter(write_lines(out), ("a", "b"), rendezvous="r"))
        walk.run(500)
        texts.append(out.getvalue())
    assert texts[0] == texts[1]
    lines = [json.loads(line) for line in texts[0].splitlines()]
    assert [line["step"] for line in lines[1:]] == list(range(1, walk.steps + 1))
    assert accept(texts[0].splitlines()) == walk.steps
    assert walk.steps > 100


def test_the_model_refuses_a_walk_that_was_tampered_with() -> None:
    out = io.StringIO()
    Walk(5, TraceWriter(write_lines(out), ("a", "b"), rendezvous="r")).run(300)
    lines = out.getvalue().splitlines()
    at = next(n for n, line in enumerate(lines) if '"action":"RECV_ACK"' in line)
    row = json.loads(lines[at])
    row["after"]["peer_addr"] = "elsewhere"
    with pytest.raises(TraceRefused):
        accept([*lines[:at], json.dumps(row), *lines[at + 1 :]])


@pytest.mark.parametrize("seed", range(12))
def test_whole_peers_with_keys_timers_and_loss_are_accepted_by_the_model(seed: int) -> None:
    rng = random.Random(seed)
    network = Network(seed, Link(delay=0.01, loss=0.15, duplicate=0.2, jitter=0.03))
    writer = TraceWriter(Judge(), ("a", "b"))
    steps = []

    def trace_of(name: str) -> Any:
        def trace(row: TraceRow) -> None:
            steps.append(row.action)
            writer.step(name, f"{row.flow:x}", row.step, row.received, row.sent, row.after, relayed=row.via_relay)  # type: ignore[arg-type]

        return trace

    places = {"a": A1, "b": B1}
    hosts = {
        name: network.add(name, make_settings(number, [1, 2], open_timeout=60.0), [places[name]], trace_of(name))
        for number, name in ((1, "a"), (2, "b"))
    }
    a, b = hosts.values()
    connection = a.peer.connect(B1, A1, 0.0)
    assert network.run_until(lambda: has(a, ConnectionEstablished) and has(b, ConnectionEstablished), 60)
    for _ in range(60):
        host = rng.choice((a, b))
        entries = [e for e in host.peer.flows.values() if e.is_open]
        draw = rng.random()
        if entries and draw < 0.35:
            place = Address(f"10.{1 + (host is b)}.{rng.randrange(4)}.9", 4500)
            host.places = {place}
            for entry in entries:
                host.peer.move(entry, place, network.now)
        elif entries and draw < 0.85:
            host.peer.send_frame(entries[0].connection, frame(rng.randbytes(40)), network.now)
        elif draw < 0.92:
            network.nat = {place: Address("198.51.100.1", rng.randrange(1024, 60000)) for place in a.places}
        elif entries and len(a.peer.flows) < 4 and host is a:
            own = next(iter(a.places))
            target = entries[0].flow.peer_addr
            assert isinstance(target, Address)
            a.peer.add_flow(connection, target, own, network.now)
        network.run(rng.random() * 0.3)
    network.run(60)
    a.peer.close(connection, network.now)
    network.run(60)
    assert {Action.MOVE, Action.RECV_RSYN, Action.RECV_ACK, Action.RECV_DATA, Action.CLOSE} <= set(steps)
    assert not a.peer.flows


def test_early_data_is_judged_by_the_model_as_well() -> None:
    """A candidate gets data before it is validated; that row of the trace is in the table, and no state moves by it."""
    network = Network(1, Link(delay=0.05))
    rows: list[TraceRow] = []
    writer = TraceWriter(Judge(), ("a", "b"))

    def trace_of(name: str) -> Any:
        def trace(row: TraceRow) -> None:
            rows.append(row)
            writer.step(name, f"{row.flow:x}", row.step, row.received, row.sent, row.after, relayed=row.via_relay)  # type: ignore[arg-type]

        return trace

    a = network.add("a", make_settings(1, [1, 2]), [A1], trace_of("a"))
    b = network.add("b", make_settings(2, [1, 2]), [B1], trace_of("b"))
    a.peer.connect(B1, A1, 0.0)
    assert network.run_until(lambda: has(a, ConnectionEstablished) and has(b, ConnectionEstablished), 60)
    place = Address("10.1.0.9", 4500)
    back = next(iter(b.peer.connections.values()))
    for _ in range(20):
        b.peer.send_frame(back, frame(b"d" * 900, "10.77.0.2", "10.77.0.1"), network.now)
        network.run(0.01)
    a.places = {place}
    a.peer.move(next(iter(a.peer.flows.values())), place, network.now)
    network.run(2)
    early = [row for row in rows if row.step.action is Action.SEND_DATA and row.step.everywhere]
    assert early
    assert {record.to for row in early for record in row.sent} == {place}
    assert all(row.after.peer_addr != place for row in early)
