# SPDX-License-Identifier: Apache-2.0
"""Steps of a gated connection and of its migration in the simulated demo, for the tests of their parts."""

from __future__ import annotations

from controller.core.connection import Attempt, Connection, Phase, State
from controller.core.events import MigrationCompleted
from controller.core.segment import ConnectionKey, Segment

from .demo import CLIENT, FORWARD, MACS, MIGRATE, ORIGIN, PORTS, Demo, alert
from .peer import Capabilities, Peer

KEY = ConnectionKey(CLIENT, ORIGIN)
GATED = (Phase.LOCATING, Phase.CONNECTING, Phase.PROBING, Phase.COMMITTING)
"""The phases that a gated connection goes through."""
REQUEST = b"please migrate me"


def begin(demo: Demo, can: Capabilities | None = None, data: bytes = REQUEST) -> Peer:
    """Connect, send the request, raise the alert; no time passes after it."""
    client = demo.connect(can)
    demo.say(client, data)
    demo.run(0.001)
    demo.tell(alert(MIGRATE))
    return client


def attempt_of(demo: Demo) -> Attempt:
    """Return the migration under way."""
    return demo.engine.world.connections[KEY].attempt


def until(demo: Demo, phase: Phase) -> None:
    """Let time pass until the migration has come so far."""
    for _ in range(200):
        if attempt_of(demo).phase is phase:
            return
        demo.run(0.000_02)
    raise AssertionError(f"never reached {phase}")


def served_by_origin(demo: Demo, client: Peer, data: bytes = REQUEST) -> None:
    """Check that the origin has the request and answers it, and that nothing of the attempt is left."""
    demo.run(0.5)
    world = demo.engine.world
    assert demo.at_origin[0].received == data
    demo.say(demo.at_origin[0], b"answer")
    demo.run(0.1)
    assert client.received.endswith(b"answer")
    assert client.state == "established"
    assert not demo.happened(MigrationCompleted)
    assert not world.targets
    assert not world.tokens
    assert not any(world.locating.values())
    assert world.connections[KEY].attempt is None
    assert not client.complaints


def connection_of(demo: Demo) -> Connection:
    """Return the one connection."""
    return demo.engine.world.connections[KEY]


def from_client(flags: int, number: int, ack: int = 0, **more: object) -> Segment:
    """Return a segment that claims to be the client's."""
    return Segment(CLIENT, ORIGIN, number, ack, flags, 100, eth_src=MACS["10.0.0.3"], eth_dst=MACS["10.0.0.1"], **more)


def inject(demo: Demo, segment: Segment, port: int = PORTS["10.0.0.3"]) -> None:
    """Let a packet enter the switch."""
    demo.switch.receive(port, segment)
    demo.run(0.05)


def forwarded(demo: Demo, client: Peer) -> Peer:
    """Bring a connection to its origin; returns the origin's end."""
    demo.say(client, b"hello")
    demo.tell(alert(FORWARD))
    demo.run(0.05)
    assert connection_of(demo).state is State.SERVED
    return demo.at_origin[0]
