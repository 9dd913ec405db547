# SPDX-License-Identifier: Apache-2.0
"""The controller is killed at every single event of a migration: nobody notices, and its successor takes over.

What it had decided last may have reached the switch, or not. The connection goes on while no controller is there; the
next one lists it, moves it, returns it, and forgets it at its end.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from simulation.demo import CLIENT, MIGRATE, ORIGIN, POLICY, TARGET, Demo, alert
from simulation.peer import Capabilities

from controller.core import life
from controller.core.connection import State
from controller.core.cookie import Kind, decode_cookie
from controller.core.events import FlowRemoved, MigrationCompleted, MigrationRequested
from controller.core.segment import ConnectionKey

KEY = ConnectionKey(CLIENT, ORIGIN)
POLICIES = {
    "gate": POLICY,
    "observe": replace(POLICY, services=(replace(POLICY.services[0], gated=False),)),
}
AWAY = 4.0
"""Seconds without a controller: longer than any temporary flow, and than a client waits to try again."""
MANY = 1_000


class Doomed(Demo):
    """The demo's network with a controller that is killed at one event."""

    last = MANY
    sent = True
    handled = 0

    def listen(self, *arguments):
        """Let a server accept connections, and keep its ends in the order in which they were made."""
        accepted = super().listen(*arguments)
        accept = self.listeners[arguments[0]]
        self.ends = getattr(self, "ends", [])

        def remember(client):
            self.ends.append(accept(client))
            return self.ends[-1]

        self.listeners[arguments[0]] = remember
        return accepted

    def _arrive(self, port, segment):
        """A server forgets what was reset, as real ones do."""
        ends = (segment.dst, segment.src)
        if ends in self.peers and self.peers[ends].state == "reset":
            del self.peers[ends]
        super()._arrive(port, segment)

    def tell(self, event: object) -> None:
        """Give an event to the core; the last one is its end."""
        if self.control_alive and self.life == 0:
            self.handled += 1
            if self.handled > self.last:
                self.kill(self.sent)
                return
        super().tell(event)


def play(demo: Doomed, mode: str) -> bytes:
    """Connect, speak, be moved, speak again; returns all that the client has said."""
    said = [b"first ", b"second ", b"third "]
    client = demo.dial(CLIENT, "02:00:00:00:00:03", ORIGIN, "02:00:00:00:00:01", Capabilities())
    demo.run(0.02)
    demo.say(client, said[0])
    demo.run(0.002)
    if mode == "gate":
        demo.tell(alert(MIGRATE))
    else:
        demo.run(0.01)
        demo.tell(MigrationRequested(demo.now, KEY, "server2"))
    demo.run(0.002)
    demo.say(client, said[1])
    demo.run(0.3)
    demo.say(client, said[2])
    demo.run(0.1)
    return b"".join(said)


def build(mode: str) -> Doomed:
    """Return a network in which both servers listen."""
    demo = Doomed(policy=POLICIES[mode])
    demo.handled = 0
    return demo


def events_of(mode: str) -> int:
    """Return how many events the undisturbed history has."""
    demo = build(mode)
    play(demo, mode)
    assert demo.happened(MigrationCompleted)
    return demo.handled


LENGTHS = {mode: events_of(mode) for mode in POLICIES}
CASES = [
    (mode, sent, number)
    for mode, length in LENGTHS.items()
    for sent, number in itertools.product((True, False), range(length + 1))
]


@pytest.mark.parametrize(("mode", "sent", "number"), CASES)
def test_killed_after_any_event(mode, sent, number):
    demo = build(mode)
    demo.last, demo.sent = number, sent
    said = play(demo, mode)
    demo.kill(sent)
    demo.run(AWAY)
    before = {key: flow for key, flow in demo.switch.flows.items() if is_path(flow)}
    demo.restart()
    demo.run(AWAY)
    assert before.items() <= demo.switch.flows.items()
    client = demo.peers[CLIENT, ORIGIN]
    if client.state != "established":
        demo.run(10)  # its SYN was lost with the controller
    assert client.state == "established"
    demo.say(client, b"fourth ")
    demo.run(AWAY)
    check(demo, said + b"fourth ")
    (connection,) = demo.engine.world.connections.values()
    assert (connection.key, connection.state) == (KEY, State.SERVED)
    if connection.agreement is not None:
        said += b"fourth "
        for name in ("server2", "server1", "server2"):
            if connection.path.server.name != name:
                demo.tell(MigrationRequested(demo.now, KEY, name))
                demo.run(2.0)
                assert connection.path.server.name == name, demo.events[-3:]
            demo.say(client, b"at " + name.encode())
            said += b"at " + name.encode()
            demo.run(1.0)
            check(demo, said)
    close(demo, client, connection)


PIECE, PACE, SPAN = 3_000, 0.000_1, 150
"""How many bytes each end says at once, how often (in seconds), and how many times: some are always under way."""


def play_busy(offset: float) -> tuple[Doomed, list[int]]:
    """Connect, and let both ends talk without a pause; returns what each has said so far, and goes on counting."""
    demo = build("observe")
    client = demo.dial(CLIENT, "02:00:00:00:00:03", ORIGIN, "02:00:00:00:00:01", Capabilities())
    demo.run(0.02)
    said = [0, 0]

    def talk(left: int) -> None:
        for place, peer in enumerate((client, demo.ends[0])):
            if peer.state == "established":
                demo.say(peer, bytes(PIECE))
                said[place] += PIECE
        if left:
            demo.at(PACE, lambda: talk(left - 1))

    talk(SPAN)
    demo.run(0.003 + offset)
    demo.handled = 0
    return demo, said


OFFSETS = (0.0, PACE / 2)


def busy_events(offset: float) -> int:
    """Return how many events the undisturbed migration of a busy connection has."""
    demo, _ = play_busy(offset)
    demo.tell(MigrationRequested(demo.now, KEY, "server2"))
    while not demo.happened(MigrationCompleted):
        demo.run(0.000_1)
    return demo.handled


BUSY = [
    (offset, sent, number)
    for offset in OFFSETS
    for sent, number in itertools.product((True, False), range(1, busy_events(offset) + 1))
]


@pytest.mark.parametrize(("offset", "sent", "number"), BUSY)
def test_killed_while_both_ends_are_busy(offset, sent, number):
    """Both ends have data under way when they are stopped: they get going again by themselves, without a controller."""
    demo, said = play_busy(offset)
    demo.last, demo.sent = number, sent
    demo.tell(MigrationRequested(demo.now, KEY, "server2"))
    demo.run(0.03)
    demo.kill(sent)
    demo.run(AWAY)
    client = demo.peers[CLIENT, ORIGIN]
    assert sum(len(peer.received) for peer in demo.ends) == said[0]
    is_moved = any(is_path(flow) and flow.match.ip_src == TARGET.address for flow in demo.switch.flows.values())
    serving = demo.ends[-1] if is_moved else demo.ends[0]
    if not is_moved:
        assert len(client.received) == said[1]
    had = len(client.received)
    demo.say(serving, b"goes on")
    demo.run(1.0)
    assert client.received[had:] == b"goes on"


def is_path(flow):
    """Return whether a flow carries an established connection."""
    cookie = decode_cookie(flow.cookie)
    return flow.table == 1 and cookie is not None and cookie.kind is Kind.PATH and not flow.hard_timeout


def serving(demo):
    """Return the server's end that has the connection now."""
    (connection,) = demo.engine.world.connections.values()
    return (demo.at_origin if connection.path.server.name == "server1" else demo.at_target)[-1]


def check(demo, said):
    """Check that every byte was delivered once, and that the server that serves is heard."""
    assert b"".join(bytes(peer.received) for peer in demo.ends) == said
    client = demo.peers[CLIENT, ORIGIN]
    demo.say(serving(demo), b"yes ")
    demo.run(1.0)
    assert client.received.endswith(b"yes ")
    assert not client.complaints


def close(demo, client, connection):
    """End the connection; nothing of it stays but what silences servers that were left."""
    demo.act(client, lambda one: one.close(demo.now))
    demo.act(serving(demo), lambda one: one.close(demo.now))
    demo.run(1.0)
    assert connection.state is State.CLOSING
    flow = next(flow for flow in demo.switch.flows.values() if is_path(flow) and flow.idle_timeout == life.LINGER)
    demo.tell(FlowRemoved(1, flow.cookie, "idle", 0, 0))
    demo.run(200.0)
    assert not demo.engine.world.connections
    assert not [flow for flow in demo.switch.flows.values() if flow.table == 1 and decode_cookie(flow.cookie).number]
