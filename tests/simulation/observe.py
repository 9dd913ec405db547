# SPDX-License-Identifier: Apache-2.0
"""Steps of moving a connection that is served, in the simulated demo, for the tests of its parts."""

from __future__ import annotations

from dataclasses import replace

from controller.core.connection import Phase
from controller.core.events import MigrationRequested
from controller.core.policy import Server
from controller.core.segment import ConnectionKey, Endpoint

from .demo import CLIENT, ORIGIN, POLICY, Demo
from .peer import Peer

KEY = ConnectionKey(CLIENT, ORIGIN)
THIRD = Endpoint("10.0.0.4", 33_333)
OBSERVE = replace(
    POLICY,
    servers={**POLICY.servers, "server3": Server("server3", THIRD)},
    services=(replace(POLICY.services[0], gated=False),),
)


def observed(**more: object) -> tuple[Demo, Peer]:
    """Return a network whose service is observed, and a client that has had an answer."""
    demo = Demo(policy=OBSERVE, **more)  # type: ignore[arg-type]
    client = demo.connect()
    demo.say(client, b"hello ")
    demo.run(0.01)
    demo.say(demo.at_origin[0], b"welcome ")
    demo.run(0.01)
    return demo, client


def move(demo: Demo, server: str = "server2", seconds: float = 0.1) -> None:
    """Ask for a migration."""
    demo.tell(MigrationRequested(demo.now, KEY, server))
    demo.run(seconds)


def connection_of(demo: Demo):
    """Return the one connection."""
    return demo.engine.world.connections[KEY]


def until(demo: Demo, phase: Phase) -> None:
    """Let time pass until the migration has come so far."""
    for _ in range(400):
        if connection_of(demo).attempt.phase is phase:
            return
        demo.run(0.000_02)
    raise AssertionError(f"never reached {phase}")


def goes_on(demo: Demo, client: Peer, server: Peer) -> None:
    """Check that both ends still talk, without a complaint or a retransmission."""
    before, had = len(server.received), len(client.received)
    demo.say(client, b"question")
    demo.say(server, b"answer")
    demo.run(0.1)
    assert server.received[before:] == b"question"
    assert client.received[had:] == b"answer"
    assert not client.complaints + server.complaints
    assert client.retransmissions == server.retransmissions == 0
    world = demo.engine.world
    assert not world.tokens
    assert connection_of(demo).attempt is None
    assert not [flow for flow in demo.switch.flows.values() if flow.priority == 200 and flow.table == 1]
