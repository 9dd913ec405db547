# SPDX-License-Identifier: Apache-2.0
"""Taking over what a switch holds: its flows outlive the channel, and the controller that made them.

When a switch connects it is asked for its flows before anything else is believed of it. A connection that we know gets
back what is missing; one that we do not know is read off its flows (cookie: number and version; match: its ends;
actions: where it is served; note: the rest) and is in our table from then on. Flows of an established connection are
not touched. What an earlier controller left half done is undone: a target's half is reset, a freeze ends, a connection
whose gate is shut goes on waiting where the journal tells what its ends agreed on, else gets the default verdict.

What the switch says meanwhile waits until its flows are known, so that nobody is mistaken for a stranger.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from controller.core import assignment, life, migration, pipeline, rollback, seq, stand_in, tap
from controller.core.commands import FlowAdd, FlowDelete, Match, ReadFlows
from controller.core.connection import Connection, State
from controller.core.cookie import MARK, Kind, decode_cookie
from controller.core.events import (
    AlertRaised,
    ConnectionsTakenOver,
    DrainRequested,
    FlowRemoved,
    FlowsReported,
    MigrationRequested,
    SegmentReceived,
    TimerExpired,
)
from controller.core.read_off import end_of, read_off, server_at
from controller.core.segment import ACK, PSH, RST, Endpoint, Timestamps
from controller.core.world import FIRST_OTHER_PORT, Reading, World

WAITING = 8_192
"""Most events that wait for a switch's flows; more are dropped, as a full queue would: their senders try again."""
OURS = (MARK << 52, 0xFFF << 52)
"""Cookie and mask of all our flows."""
_KEYED = (TimerExpired, MigrationRequested)


# ---- reading --------------------------------------------------------------------------------------------------------


def begin(world: World, switch: int) -> None:
    """A switch has connected: ask what it holds."""
    token = world.fresh_token()
    world.readings[switch] = Reading(token)
    world.do(ReadFlows(switch, pipeline.CONNECTIONS, *OURS, token))


def defers(world: World, event: object) -> bool:
    """Keep an event for later if it speaks of a switch whose flows are not known yet; return whether that was done."""
    reading = _concerned(world, event)
    if reading is None:
        return False
    if len(reading.waiting) < WAITING:
        reading.waiting.append(event)
    return True


def _concerned(world: World, event: object) -> Reading | None:
    """Return the reading that has to end before an event means anything."""
    if isinstance(event, (SegmentReceived, FlowRemoved)):
        return world.readings.get(event.switch)
    if isinstance(event, _KEYED):
        known = world.connections.get(event.connection) if event.connection is not None else None
        if known is not None:
            return world.readings.get(known.switch)
    elif not isinstance(event, (AlertRaised, DrainRequested)):
        return None
    return next(iter(world.readings.values()))


def reported(world: World, event: FlowsReported) -> list[object]:
    """Take a part of the answer; with the last one, settle what was found. Returns the events that have waited."""
    reading = world.readings.get(event.switch)
    if reading is None or reading.token != event.token:
        return []
    reading.flows += [found.flow for found in event.flows]
    if event.more:
        return []
    del world.readings[event.switch]
    assignment.told(world, event.switch, reading.flows)
    if assignment.rewrites(world, event.switch):
        _settle(world, event.switch, reading.flows)
    return reading.waiting


def refused(world: World, switch: int, token: int) -> list[object] | None:
    """The switch would not tell its flows: go on as if it had none. Returns None if no reading waits for the token."""
    reading = world.readings.get(switch)
    if reading is None or reading.token != token:
        return None
    return reported(world, FlowsReported(switch, token, (), more=False))


# ---- settling -------------------------------------------------------------------------------------------------------


def _settle(world: World, switch: int, flows: Iterable[FlowAdd]) -> None:
    """Compare what a switch holds with what we know."""
    groups: dict[int, list[FlowAdd]] = {}
    for flow in flows:
        cookie = decode_cookie(flow.cookie)
        if cookie is not None and cookie.number:
            groups.setdefault(cookie.number, []).append(flow)
    for connection in [known for known in world.connections.values() if known.switch == switch]:
        _restore(world, connection, groups.pop(connection.number, []))
    count: Counter[str] = Counter()
    for group in groups.values():
        count[_adopt(world, switch, group)] += 1
        count["undone"] += any(_is_leftover(flow) for flow in group)
    if count.total() > count[""]:
        facts = (count["served"], count["gated"], count["released"], count["undone"])
        world.publish(ConnectionsTakenOver(world.now, switch, *facts))


def _kind(flow: FlowAdd) -> Kind:
    """Return what a flow of ours does."""
    cookie = decode_cookie(flow.cookie)
    assert cookie is not None
    return cookie.kind


def _find(group: list[FlowAdd], match: Match) -> FlowAdd | None:
    """Return the flow of a connection with this match."""
    return next((flow for flow in group if flow.priority == pipeline.P_CONNECTION and flow.match == match), None)


def _restore(world: World, connection: Connection, group: list[FlowAdd]) -> None:
    """Give a connection of ours back what its switch has lost; a migration that the outage interrupted is ended."""
    attempt = connection.attempt
    there = _find(group, pipeline.from_client(connection))
    if attempt is not None:
        cookie = decode_cookie(there.cookie) if there is not None else None
        if attempt.path is not None and cookie is not None and cookie[:2] == (Kind.PATH, attempt.version & 0xFFFF):
            # The final flows stand, though their confirmation was lost: the target may have had bytes already.
            migration.handle(world, connection, migration.Input.DONE, None)
            return
        moving = connection.state is State.MOVING
        rollback.fail(world, connection, "switch", "the switch was away")
        if moving:
            return
    path = connection.path
    back = _find(group, pipeline.back(connection, path))
    wanted = _flows_of(world, connection)
    if there is None or back is None or (_kind(there), _kind(back)) != tuple(_kind(flow) for flow in wanted):
        world.do(*wanted)
    tap.resume(world, connection)


def _flows_of(world: World, connection: Connection) -> list[FlowAdd]:
    """Return the flows that a connection has to have in its state, the client's first."""
    path = connection.path
    if connection.state is State.SERVED:
        back, there = pipeline.path_flows(connection, path)
    elif connection.state is State.CLOSING:
        back, there = pipeline.path_flows(connection, path, idle_timeout=life.LINGER)
    else:
        there, back = pipeline.gate_flows(connection, path.port, world.mirror(connection.switch))
    return [there, back]


# ---- adopting -------------------------------------------------------------------------------------------------------


def _adopt(world: World, switch: int, group: list[FlowAdd]) -> str:
    """Take one unknown connection over; returns what became of it, or nothing if there is none (any more)."""
    there = next((flow for flow in group if flow.facts is not None and _is_from_client(world, flow)), None)
    if there is None:
        _clear(world, switch, group)
        return ""
    # A number may have been used before: what silences that connection's servers is another client's.
    group = [flow for flow in group if any(_is_the_clients(_ends(there)[0], end) for end in _ends(flow))]
    connection = read_off(world.policy, switch, there, group)
    if connection.key in world.connections:
        return ""
    connection.opened = min(connection.opened, world.now)
    world.add(connection)
    path = connection.path
    if path.server is not connection.service.origin or path.alias is not None:
        world.aim(connection, path.server.endpoint, path.alias)
    if _kind(there) is Kind.PATH:
        what = "served"
        world.settle(connection, State.SERVED if there.idle_timeout != life.LINGER else State.CLOSING)
    else:
        what = _shut(world, connection)
    _undo(world, connection, group)
    return what


def _is_from_client(world: World, flow: FlowAdd) -> bool:
    """Return whether a flow carries or holds what a client says to a service that we know."""
    return _ends(flow)[1] in world.services


def _is_the_clients(client: Endpoint, end: Endpoint) -> bool:
    """Return whether an end is the client's own, or may be one that stands for it at a server."""
    return end == client or (end.address == client.address and end.port >= FIRST_OTHER_PORT)


def _ends(flow: FlowAdd) -> tuple[Endpoint, Endpoint]:
    """Return both ends of a flow's match."""
    match = flow.match
    return end_of(match.ip_src, match.tcp_src), end_of(match.ip_dst, match.tcp_dst)


def _clear(world: World, switch: int, group: list[FlowAdd]) -> None:
    """Remove what is left of a connection that is over, but for what silences an abandoned server."""
    if not any(flow.facts is not None or _is_from_client(world, flow) for flow in group):
        for flow in group:
            if _kind(flow) is not Kind.DROP:
                world.do(FlowDelete(switch, flow.table, flow.match, flow.priority))


def _shut(world: World, connection: Connection) -> str:
    """A connection whose gate is shut: go on waiting, or let the default verdict decide where too little is known.

    What the earlier controller held is lost; the client sends it again.
    """
    opened = world.remembered.get((connection.key, connection.number))
    if opened is None:
        life.decide(world, connection, connection.service.default_verdict.value, None, "takeover")
        return "released"
    connection.agreement = opened.agreement
    connection.client.acked = seq.add(opened.origin_isn, 1)
    # One below what it has said at least: the gate opens to a target only once the origin has told its number itself.
    connection.origin.isn = connection.origin.next = opened.origin_isn
    if opened.agreement.timestamps:
        connection.origin.timestamps = Timestamps(opened.server_clock, 0)
    world.settle(connection, State.GATED)
    world.do(*pipeline.gate_flows(connection, connection.path.port, world.mirror(connection.switch)))
    number, payload = stand_in.old_byte(seq.add(connection.client.isn, 1))
    flags = ACK | PSH
    question = stand_in.as_client(connection, number, connection.client.acked, flags, payload=payload)
    stand_in.to_server(world, connection, connection.path, question)
    return "gated"


# ---- undoing --------------------------------------------------------------------------------------------------------


def _is_leftover(flow: FlowAdd) -> bool:
    """Return whether a flow belongs to a migration under way: a target's handshake, or a freeze."""
    return flow.priority == pipeline.P_FROZEN or (_kind(flow) is Kind.PUNT and flow.match.in_port is not None)


def _undo(world: World, connection: Connection, group: list[FlowAdd]) -> None:
    """End what an earlier controller had begun, and reopen what it may have left with closed windows."""
    stopped = False
    # One that has moved lately, and goes on since, must not be stopped again to be asked how it is.
    is_complete = world.completed.get(connection.key, -1) & 0xFFFF == connection.version & 0xFFFF
    for flow in group:
        if flow.priority in (pipeline.P_FROZEN, pipeline.P_WATCH):
            stopped = stopped or flow.priority == pipeline.P_FROZEN
            world.do(FlowDelete(connection.switch, flow.table, flow.match, flow.priority))
        elif _is_leftover(flow):
            _reset_target(world, connection, flow)
        elif _kind(flow) is Kind.DROP:
            stopped = stopped or not (connection.service.gated or is_complete)
            _reset_origin(world, connection, flow)
    if stopped and connection.state is State.SERVED:
        rollback.revive(world, connection)


def _reset_target(world: World, connection: Connection, flow: FlowAdd) -> None:
    """A handshake with a target was under way: its half is reset (its next byte due is one above our SYN)."""
    assert flow.facts is not None
    port = flow.match.in_port or 0
    server = server_at(world.policy, end_of(flow.match.ip_src, flow.match.tcp_src))
    client = end_of(flow.match.ip_dst, flow.match.tcp_dst)
    reset = replace(
        stand_in.as_client(connection, seq.add(flow.facts.client_isn, 1), 0, RST, 0),
        src=client,
        dst=server.endpoint,
        eth_dst=flow.facts.service_mac,
    )
    world.send(connection, reset, port)
    world.do(pipeline.silence_flow(connection, server, port, client))


def _reset_origin(world: World, connection: Connection, flow: FlowAdd) -> None:
    """A server was silenced lately: was it the origin of a gated connection, its half may still stand."""
    match, key = flow.match, connection.key
    if connection.service.gated and end_of(match.ip_src, match.tcp_src) == key.service:
        reset = stand_in.as_client(connection, seq.add(connection.client.isn, 1), 0, RST, 0)
        world.send(connection, reset, match.in_port or 0)
