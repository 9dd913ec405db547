# SPDX-License-Identifier: Apache-2.0
"""Exhaustive exploration of the flow machine itself: two hosts, one flow, every interleaving, an adversarial network.

The network loses and reorders anything (a packet that is never delivered waits until another takes its room; that
covers every loss); what it duplicates is dropped by the replay window before the machine sees it,
so duplicates are no states.  A packet arrives only if its destination is the receiver's present (outer) address; an
RSYN sent everywhere also arrives through the rendezvous.  Packet numbers and nonces are unbounded but only compared,
so states that differ in their naming alone are one state (`_canonical`), and a packet that can never have an effect
again is as good as lost (`_is_dead`): the exploration is finite for a bounded number of moves, though retransmissions
go on for ever.

`explore` checks the safety of every step and that from every reachable state, if moves stop, a state can be reached in
which both hosts hold each other's present address (no stuck state).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from controller.eccp.flow import Flow, Outcome, Send, Step
from controller.eccp.flow import step as flow_step
from controller.eccp.names import Action, FlowState, Message
from controller.eccp.table import FLOW_TABLE

RECEIVE: dict[Message, Action] = {
    Message.SYN: Action.RECV_SYN,
    Message.SYN_ACK: Action.RECV_SYN_ACK,
    Message.ACK: Action.RECV_ACK,
    Message.RSYN: Action.RECV_RSYN,
    Message.RSYN_ACK: Action.RECV_RSYN_ACK,
    Message.PING: Action.RECV_PING,
    Message.PONG: Action.RECV_PONG,
    Message.DATA: Action.RECV_DATA,
    Message.FIN: Action.RECV_FIN,
    Message.FIN_ACK: Action.RECV_FIN_ACK,
}
FRESH = 99  # a nonce that is nowhere yet; canonical names are small
StepFunction = Callable[[Flow, Step], Outcome]


class Packet(NamedTuple):
    """A packet in the network; ``src`` and ``dst`` are outer addresses, ``dst`` "*" is by way of the rendezvous."""

    message: Message
    version: int
    pn: int
    src: str
    dst: str
    echo: int
    nonce: int


class World(NamedTuple):
    """A state of the whole: both flows, both channels (a multiset each, sorted), outer addresses, moves left.

    ``history`` holds for each host which outer addresses it had at each version: a ghost, for the safety property.
    """

    flows: tuple[Flow, Flow]
    channels: tuple[tuple[Packet, ...], tuple[Packet, ...]]  # towards host 0, towards host 1
    outer: tuple[str, str]
    moves: int
    rebinds: int
    history: tuple[frozenset[tuple[int, str]], frozenset[tuple[int, str]]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far to explore: total moves of both hosts, NAT rebindings of host 0, packets a channel holds."""

    moves: int = 4
    rebinds: int = 0
    capacity: int = 2
    reuse: int = 0  # 0: every move goes to a fresh address; else to any of so many, old ones included
    data: bool = True
    opened: bool = True  # begin with an established flow; else with the opening
    rendezvous: bool = True
    closing: bool = False
    limit: int = 5_000_000


@dataclass(slots=True)
class Report:
    """What an exploration found; ``violations`` are sentences with the path that leads there."""

    states: int = 0
    steps: int = 0
    actions: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    stuck: int = 0
    truncated: bool = False


def initial(bounds: Bounds) -> World:
    """Both hosts closed (or the flow just opened), nothing in the network."""
    history = (frozenset({(1, "a1")}), frozenset({(1, "b1")}))
    flows = (Flow(), Flow())
    if bounds.opened:
        base = Flow(state=FlowState.ESTABLISHED, confirmed_version=1, peer_version=1, highest_pn=0, known=True)
        flows = (
            replace(base, own_addr="a1", peer_addr="b1"),
            replace(base, own_addr="b1", peer_addr="a1", peer_nonce=1),
        )
    return World(flows, ((), ()), ("a1", "b1"), bounds.moves, bounds.rebinds, history)


def _canonical(world: World, bounds: Bounds) -> World:
    """Drop dead packets, then rename packet numbers and nonces by rank: only their order and equality matter."""
    flows = list(world.flows)
    channels = [
        [packet for packet in world.channels[host] if not _is_dead(world, bounds, host, packet)] for host in (0, 1)
    ]
    names: tuple[dict[int, int], dict[int, int]] = ({0: 0}, {0: 0})
    for host in (0, 1):
        flow = flows[host]
        highest = flow.highest_pn
        newer = sorted({packet.pn for packet in channels[host] if packet.pn > highest})
        rank = {pn: index + 1 for index, pn in enumerate(newer)}
        channels[host] = [packet._replace(pn=rank.get(packet.pn, -1)) for packet in channels[host]]
        for nonce in (flow.peer_nonce, flow.cand_nonce):
            names[host].setdefault(nonce, len(names[host]))
        pn = 0 if highest >= 0 else -1
        peer_nonce, cand_nonce = names[host][flow.peer_nonce], names[host][flow.cand_nonce]
        if (pn, peer_nonce, cand_nonce) != (highest, flow.peer_nonce, flow.cand_nonce):
            flows[host] = replace(flow, highest_pn=pn, peer_nonce=peer_nonce, cand_nonce=cand_nonce)
    for host in (0, 1):  # a challenge to host carries a nonce that the other drew, an ACK to host one of its own
        channels[host] = _name_nonces(channels[host], names[host], names[1 - host])
    return world._replace(flows=(flows[0], flows[1]), channels=(tuple(channels[0]), tuple(channels[1])))


def _name_nonces(packets: list[Packet], own: dict[int, int], other: dict[int, int]) -> list[Packet]:
    packets.sort()
    for index, packet in enumerate(packets):
        if packet.nonce:
            names = own if packet.message is Message.ACK else other
            packets[index] = packet._replace(nonce=names.setdefault(packet.nonce, len(names)))
    packets.sort()
    return packets


def _is_dead(world: World, bounds: Bounds, host: int, packet: Packet) -> bool:
    """Whether delivering this packet can never change or send anything again, now or later."""
    flow = world.flows[host]
    if packet.dst not in {"*", world.outer[host]} and not bounds.reuse:
        return True
    if not flow.known or flow.state in {FlowState.SYN_SENT, FlowState.SYN_RECEIVED}:
        return False
    message = packet.message
    if message is Message.ACK:
        return packet.nonce != flow.cand_nonce or packet.echo != flow.cand_version
    if message is Message.RSYN_ACK:
        return packet.echo < flow.own_version
    if message is Message.DATA:
        return packet.pn <= flow.highest_pn
    if message is Message.RSYN and packet.pn <= flow.highest_pn:
        return packet.version < flow.peer_version
    return False


def successors(world: World, bounds: Bounds, step: StepFunction = flow_step) -> Iterator[tuple[str, World, bool]]:
    """Every next state with its label, and whether the step is one of those that stop in the end (a move)."""
    for host in (0, 1):
        yield from _local(world, bounds, host, step)
        for index, packet in enumerate(world.channels[host]):
            if packet.dst in {world.outer[host], "*"}:
                yield from _received(world, bounds, host, index, step)
    if world.rebinds and world.flows[0].state is not FlowState.CLOSED:
        outer = f"n{bounds.rebinds - world.rebinds + 1}"
        moved = world._replace(outer=(outer, world.outer[1]), rebinds=world.rebinds - 1)
        yield "a REBIND", _canonical(_remember(moved, 0), bounds), True


def _local(world: World, bounds: Bounds, host: int, step: StepFunction) -> Iterator[tuple[str, World, bool]]:
    flow = world.flows[host]
    name = "ab"[host]
    if host == 0 and flow.state is FlowState.CLOSED and not flow.known:
        for after in _act(world, bounds, host, Step(Action.OPEN, source="b1", own="a1"), step):
            yield f"{name} OPEN", after, False
        return
    if (flow.state, Action.MOVE) in FLOW_TABLE and world.moves:
        fresh = f"{name}{flow.own_version + 1}"
        places = [f"{name}{number}" for number in range(1, bounds.reuse + 1)] if bounds.reuse else [fresh]
        for place in places:
            if place != flow.own_addr:
                outer = (place, world.outer[1]) if host == 0 else (world.outer[0], place)
                placed = world._replace(outer=outer, moves=world.moves - 1)
                for after in _act(placed, bounds, host, Step(Action.MOVE, own=place), step):
                    yield f"{name} MOVE {place}", after, True
    for action in _local_actions(bounds, flow):
        if (flow.state, action) in FLOW_TABLE:
            for after in _act(world, bounds, host, Step(action, everywhere=True), step):
                yield f"{name} {action.value}", after, action is Action.CLOSE


def _local_actions(bounds: Bounds, flow: Flow) -> Iterator[Action]:
    yield Action.RETRANSMIT
    if bounds.data:
        yield Action.SEND_DATA
    if bounds.closing:
        yield Action.CLOSE
    if flow.state in {FlowState.SYN_SENT, FlowState.SYN_RECEIVED}:
        yield Action.EXPIRE


def _received(
    world: World, bounds: Bounds, host: int, index: int, step: StepFunction
) -> Iterator[tuple[str, World, bool]]:
    packet = world.channels[host][index]
    channels = list(world.channels)
    channels[host] = channels[host][:index] + channels[host][index + 1 :]
    rest = world._replace(channels=(channels[0], channels[1]))
    event = Step(
        RECEIVE[packet.message],
        source=packet.src,
        own=rest.outer[host],
        version=packet.version,
        pn=packet.pn,
        echo=packet.echo,
        nonce=packet.nonce,
        challenge=FRESH,
    )
    for after in _act(rest, bounds, host, event, step):
        yield f"{'ab'[host]} {event.action.value}", after, False


def _act(world: World, bounds: Bounds, host: int, event: Step, step: StepFunction) -> Iterator[World]:
    """The states after a step: what is sent waits in the channel; if that is full, any one packet is lost."""
    outcome = step(world.flows[host], event)
    flows = (outcome.flow, world.flows[1]) if host == 0 else (world.flows[0], outcome.flow)
    world = _remember(world._replace(flows=flows), host)
    other = 1 - host
    variants = [world.channels[other]]
    number = 1 + max([world.flows[other].highest_pn, *(packet.pn for packet in world.channels[other])], default=0)
    for send in outcome.sends:
        for to in _destinations(world, bounds, host, send):
            number += 1
            packet = Packet(send.message, send.version, number, world.outer[host], to, send.echo, send.nonce)
            if not _is_dead(world, bounds, other, packet):
                variants = [after for channel in variants for after in _put(channel, packet, bounds.capacity)]
    for channel in variants:
        channels = (world.channels[0], channel) if host == 0 else (channel, world.channels[1])
        yield _canonical(world._replace(channels=channels), bounds)


def _put(channel: tuple[Packet, ...], packet: Packet, capacity: int) -> Iterator[tuple[Packet, ...]]:
    if len(channel) < capacity:
        yield (*channel, packet)
        return
    yield channel
    for index in range(len(channel)):
        yield (*channel[:index], *channel[index + 1 :], packet)


def _destinations(world: World, bounds: Bounds, host: int, send: Send) -> list[str]:
    flow = world.flows[host]
    if not send.everywhere:
        return [str(send.to)]
    known = [str(place) for place in dict.fromkeys((flow.peer_addr, flow.cand_addr)) if place is not None]
    if bounds.rendezvous:
        return ["*", *(place for place in known if place == world.outer[1 - host])][:1]
    return known


def _remember(world: World, host: int) -> World:
    version = world.flows[host].own_version
    history = list(world.history)
    history[host] = history[host] | {(version, world.outer[host])}
    return world._replace(history=(history[0], history[1]))


def check(before: World, after: World) -> str | None:
    """Safety of one step: a sentence on what is broken, or None."""
    for host in (0, 1):
        old, new, peer = before.flows[host], after.flows[host], after.flows[1 - host]
        places = after.history[1 - host]
        if (new.own_version, new.confirmed_version, new.peer_version) < (
            old.own_version, old.confirmed_version, old.peer_version
        ) or new.confirmed_version < old.confirmed_version or new.peer_version < old.peer_version:  # fmt: skip
            return f"a version of host {'ab'[host]} went back"
        if new.confirmed_version > new.own_version or new.peer_version > peer.own_version:
            return f"host {'ab'[host]} knows a version that does not exist"
        if new.peer_version and new.peer_nonce and (new.peer_version, new.peer_addr) not in places:
            return f"host {'ab'[host]} uses an address at which its peer never was at version {new.peer_version}"
        answered = max(peer.peer_version, peer.cand_version)
        if new.confirmed_version > max(answered, 1) and peer.state is not FlowState.CLOSED:
            return f"host {'ab'[host]} takes version {new.confirmed_version} for confirmed, but the peer lacks it"
    return None


def is_good(world: World) -> bool:
    """Both hosts hold each other's present address, so that pings succeed (or the flow is closed)."""
    first, second = world.flows
    if FlowState.CLOSED in {first.state, second.state} and first.known:
        return bool(second.known or first.state is FlowState.CLOSED)
    settled = first.state is FlowState.ESTABLISHED and second.state is FlowState.ESTABLISHED
    return settled and first.peer_addr == world.outer[1] and second.peer_addr == world.outer[0]


def explore(bounds: Bounds, step: StepFunction = flow_step, stop_at: int = 1) -> Report:
    """Walk every reachable state within ``bounds``; stop early after ``stop_at`` violations."""
    report = Report()
    start = initial(bounds)
    index: dict[World, int] = {start: 0}
    order: list[World] = [start]
    parents: list[tuple[int, str]] = [(-1, "start")]
    calm: list[list[int]] = []  # predecessors by steps that need no move
    good: list[int] = []
    at = 0
    while at < len(order):
        world = order[at]
        while len(calm) < len(order):
            calm.append([])
        if is_good(world):
            good.append(at)
        for label, following, is_move in successors(world, bounds, step):
            report.steps += 1
            action = label.split(" ")[1]
            report.actions[action] = report.actions.get(action, 0) + 1
            number = index.get(following)
            if number is None:
                number = len(order)
                if number >= bounds.limit:
                    report.truncated = True
                    continue
                index[following] = number
                order.append(following)
                parents.append((at, label))
                calm.append([])
            if not is_move:
                calm[number].append(at)
            broken = check(world, following)
            if broken is not None:
                report.violations.append(f"{broken}: {' / '.join(_path(parents, at))} / {label}")
                if len(report.violations) >= stop_at:
                    report.states = len(order)
                    return report
        at += 1
    report.states = len(order)
    _find_stuck(report, order, parents, calm, good, stop_at)
    return report


def _find_stuck(
    report: Report,
    order: list[World],
    parents: list[tuple[int, str]],
    calm: list[list[int]],
    good: list[int],
    stop_at: int,
) -> None:
    """States from which no good state can be reached without a further move."""
    healed = bytearray(len(order))
    queue = list(good)
    for number in queue:
        healed[number] = 1
    while queue:
        for previous in calm[queue.pop()]:
            if not healed[previous]:
                healed[previous] = 1
                queue.append(previous)
    stuck = [number for number in range(len(order)) if not healed[number]]
    report.stuck = len(stuck)
    for number in stuck[:stop_at]:
        report.violations.append(f"stuck: {' / '.join(_path(parents, number))}")


def _path(parents: list[tuple[int, str]], number: int) -> list[str]:
    labels: list[str] = []
    while number > 0:
        number, label = parents[number]
        labels.append(label)
    return labels[::-1]
