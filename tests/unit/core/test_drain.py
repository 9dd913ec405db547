# SPDX-License-Identifier: Apache-2.0
"""Emptying a server: where its connections go, how many at a time, and what is told of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from simulation.demo import CLIENT, MACS, ORIGIN, POLICY, TARGET, Demo
from simulation.peer import Capabilities, Peer

from controller.core import drain
from controller.core.connection import State
from controller.core.events import (
    DrainCompleted,
    DrainFailed,
    DrainProgressed,
    DrainRequested,
    MigrationFailed,
    MigrationRequested,
)
from controller.core.policy import Server, Service
from controller.core.segment import ConnectionKey, Endpoint

THIRD = Endpoint("10.0.0.4", 33_333)
OBSERVE = replace(POLICY, services=(replace(POLICY.services[0], gated=False),))
WITH_THIRD = replace(OBSERVE, servers={**OBSERVE.servers, "server3": Server("server3", THIRD)})


def observed(clients: int, policy: object = OBSERVE) -> tuple[Demo, list[Peer]]:
    """Return a network in which that many clients are served by the origin."""
    demo = Demo(policy=policy)  # type: ignore[arg-type]
    peers = []
    for number in range(clients):
        end = Endpoint(CLIENT.address, CLIENT.port + number)
        peers.append(demo.dial(end, MACS[end.address], ORIGIN, MACS["10.0.0.1"], Capabilities(), None))
    demo.run(0.1)
    return demo, peers


def places_of(demo: Demo) -> list[str]:
    """Return where each connection is served."""
    return [known.path.server.name for known in demo.engine.world.connections.values()]


def end_of(demo: Demo) -> tuple[int, int, int]:
    """Return how many were moved, failed and were skipped; nothing is left of the drain."""
    (done,) = demo.happened(DrainCompleted)
    assert not demo.engine.world.drains
    return done.moved, done.failed, done.skipped


def test_every_connection_moves_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """More of them than may be under way at once; data flows afterwards."""
    monkeypatch.setattr(drain, "TELL_AFTER", 0.0)
    demo, clients = observed(3 * drain.IN_FLIGHT)
    demo.tell(DrainRequested(0.0, "mine", "server1", "server2"))
    assert sum(known.attempt is not None for known in demo.engine.world.connections.values()) == drain.IN_FLIGHT
    demo.run(1.0)
    assert set(places_of(demo)) == {"server2"}
    assert end_of(demo) == (len(clients), 0, 0)
    told = demo.happened(DrainProgressed)
    assert told
    assert all(event.moved + event.failed + event.left == len(clients) for event in told)
    assert [event.left for event in told] == sorted((event.left for event in told), reverse=True)
    demo.say(clients[-1], b"still there?")
    demo.run(0.1)
    assert any(peer.received == b"still there?" for peer in demo.at_target)
    assert not any(client.complaints for client in clients)


def test_progress_is_not_told_too_often() -> None:
    """Connections come in quicker succession than anybody reads."""
    demo, _ = observed(2 * drain.IN_FLIGHT)
    demo.tell(DrainRequested(0.0, "mine", "server1"))
    demo.run(1.0)
    assert [event.left for event in demo.happened(DrainProgressed)] == [2 * drain.IN_FLIGHT]


def test_home_comes_first() -> None:
    """Without a name, what is away from its origin goes back there."""
    demo, _ = observed(2)
    demo.tell(DrainRequested(0.0, "first", "server1"))
    demo.run(0.5)
    demo.peers = {ends: peer for ends, peer in demo.peers.items() if peer.state != "reset"}
    demo.tell(DrainRequested(0.0, "second", "server2"))
    demo.run(0.5)
    assert places_of(demo) == ["server1"] * 2
    assert [(done.request, done.moved) for done in demo.happened(DrainCompleted)] == [("first", 2), ("second", 2)]


def test_an_origins_connections_are_spread() -> None:
    """Over all servers that are no other service's origin."""
    demo, _ = observed(4, WITH_THIRD)
    demo.add_host(THIRD.address, "02:00:00:00:00:04", 4)
    demo.listen(THIRD, "02:00:00:00:00:04", Capabilities())
    demo.tell(DrainRequested(0.0, "mine", "server1"))
    demo.run(0.5)
    assert sorted(places_of(demo)) == ["server2"] * 2 + ["server3"] * 2


def test_nowhere_to_go() -> None:
    """The other server is another service's own: nothing is moved there unasked, and nothing waits for ever."""
    other = Service("other", POLICY.servers["server2"])
    demo, _ = observed(3, replace(OBSERVE, services=(*OBSERVE.services, other)))
    demo.tell(DrainRequested(0.0, "mine", "server1"))
    assert end_of(demo) == (0, 3, 0)


def test_an_empty_server() -> None:
    """Is drained at once."""
    demo, _ = observed(1)
    demo.tell(DrainRequested(0.0, "mine", "server2"))
    assert end_of(demo) == (0, 0, 0)


@pytest.mark.parametrize(
    ("server", "target", "words"),
    [
        ("nobody", None, "no server is called nobody (known: server1, server2)"),
        ("server1", "nobody", "no server is called nobody"),
        ("server1", "server1", "to itself"),
    ],
)
def test_requests_that_cannot_be_met(server: str, target: str | None, words: str) -> None:
    """Are refused with the reason."""
    demo, _ = observed(1)
    demo.tell(DrainRequested(0.0, "mine", server, target))
    (refusal,) = demo.happened(DrainFailed)
    assert refusal.request == "mine"
    assert words in refusal.reason
    assert places_of(demo) == ["server1"]


def test_one_drain_of_a_server_at_a_time() -> None:
    """The second is refused, the first goes on."""
    demo, _ = observed(1)
    demo.tell(DrainRequested(0.0, "first", "server1"))
    demo.tell(DrainRequested(0.0, "second", "server1"))
    demo.run(0.5)
    assert [event.request for event in demo.happened(DrainFailed)] == ["second"]
    assert end_of(demo) == (1, 0, 0)


def test_a_target_that_refuses() -> None:
    """Every connection is tried until the drain's patience is at an end, and stays."""
    demo, _ = observed(2 * drain.IN_FLIGHT)
    del demo.listeners[TARGET]
    demo.tell(DrainRequested(0.0, "mine", "server1"))
    demo.run(drain.PATIENCE + 1)
    assert end_of(demo) == (0, 2 * drain.IN_FLIGHT, 0)
    assert set(places_of(demo)) == {"server1"}


def test_a_target_that_comes_back() -> None:
    """What failed at first is moved later, without being asked again."""
    demo, clients = observed(2 * drain.IN_FLIGHT)
    accept = demo.listeners.pop(TARGET)
    demo.tell(DrainRequested(0.0, "mine", "server1"))
    demo.run(1.0)
    assert set(places_of(demo)) == {"server1"}
    demo.listeners[TARGET] = accept
    demo.run(2.0)
    assert end_of(demo) == (len(clients), 0, 0)


def test_a_verdict_that_comes_in_time() -> None:
    """A connection whose gate is shut is moved once it is served."""
    demo, _ = observed(1)
    (known,) = demo.engine.world.connections.values()
    known.state = State.GATED
    demo.tell(DrainRequested(0.0, "mine", "server1"))
    demo.run(1.0)
    known.state = State.SERVED
    demo.run(1.0)
    assert end_of(demo) == (1, 0, 0)


def test_failures_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where each migration fails in the moment it is asked for, the drain still comes to its end."""
    monkeypatch.setattr(drain, "TRIES", 2)
    demo, _ = observed(5)
    for known in demo.engine.world.connections.values():
        known.client.finished = True
    demo.tell(DrainRequested(0.0, "mine", "server1"))
    assert len(demo.happened(MigrationFailed)) == 2
    demo.run(drain.PATIENCE + 1)
    assert end_of(demo) == (0, 5, 0)


def test_what_is_not_there_any_more() -> None:
    """Connections that end, move by themselves or have no verdict yet are skipped."""
    demo, _ = observed(drain.IN_FLIGHT + 3)
    world = demo.engine.world
    known = list(world.connections.values())
    moving, closed, gated = known[0], known[-2], known[-1]
    demo.tell(DrainRequested(0.0, "mine", "server1"))
    gated.state = State.GATED
    world.forget(closed)
    moving.attempt = None
    world.forget(moving)
    known[-3].state = State.CLOSING
    demo.run(drain.PATIENCE + 1)
    assert end_of(demo) == (drain.IN_FLIGHT - 1, 0, 4)


def test_a_connection_that_moves_by_itself_is_skipped() -> None:
    """Somebody else was quicker."""
    demo, _ = observed(drain.IN_FLIGHT + 1)
    last = ConnectionKey(Endpoint(CLIENT.address, CLIENT.port + drain.IN_FLIGHT), ORIGIN)
    demo.tell(MigrationRequested(0.0, last, "server2"))
    demo.run(0.002)
    demo.tell(DrainRequested(0.0, "mine", "server1"))
    demo.run(0.5)
    moved, failed, skipped = end_of(demo)
    assert (moved + skipped, failed) == (drain.IN_FLIGHT + 1, 0)
    assert set(places_of(demo)) == {"server2"}
