# SPDX-License-Identifier: Apache-2.0
"""The state space of the exploration: two hosts, one flow, and a network that loses and reorders.

The network loses and reorders anything (a packet that is never delivered waits until another takes its room; that
covers every loss); what it duplicates is dropped by the replay window before the machine sees it, so duplicates are no
states.  A packet arrives only if its destination is the receiver's present (outer) address; an RSYN sent everywhere
also arrives through the rendezvous.

Packet numbers and nonces are unbounded but only compared, so they are named by what comparing can tell: a packet is
newer than the receiver's highest (and in order among those) or old; a nonce is that of the present candidate or stale.
A packet that can never have an effect again is as good as lost.  With that the state space is finite for a bounded
number of moves, though retransmissions go on for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

from controller.eccp.flow import Flow, Outcome, Send, Step
from controller.eccp.flow import step as flow_step
from controller.eccp.names import Action, FlowState, Message
from controller.eccp.table import FLOW_TABLE

RECEIVE: dict[Message, Action] = {
    message: Action[f"RECV_{message.value}"] for message in Message if f"RECV_{message.value}" in Action.__members__
}
StepFunction = Callable[[Flow, Step], Outcome]
STALE, CANDIDATE = 1, 2  # names of nonces; 0 is none
OLD, NEW = 0, 1  # names of packet numbers; a flow's highest is always 0 (or -1 at first)
STRANGER = "x"  # where copies are sent from
RELAYED = "*"  # the destination of what goes by way of the rendezvous
_EXCHANGED = str.maketrans("ab", "ba")
_OPENING = frozenset({FlowState.SYN_SENT, FlowState.SYN_RECEIVED})


class Packet(NamedTuple):
    """A packet in the network; ``src`` and ``dst`` are outer addresses."""

    message: Message
    version: int
    src: str
    dst: str
    echo: int
    nonce: int


class World(NamedTuple):
    """A state of the whole, in small numbers: flows and packets are interned (see `Space`).

    ``old`` and ``new`` are the packets on their way to each host, the new ones in the order of their numbers.
    ``history`` (a ghost, for safety) holds each host's (version, outer address) pairs, if names do not tell.
    """

    flows: tuple[int, int]
    old: tuple[tuple[int, ...], tuple[int, ...]]
    new: tuple[tuple[int, ...], tuple[int, ...]]
    outer: tuple[str, str]
    moves: int
    rebinds: int
    spoofs: int
    history: tuple[frozenset[tuple[int, str]], frozenset[tuple[int, str]]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far to explore: total moves of both hosts, NAT rebindings of host 0, packets a channel holds."""

    moves: int = 4
    rebinds: int = 0
    spoofs: int = 0  # packets that somebody copies and sends from an address of his own, ahead of the genuine one
    capacity: int = 2
    reuse: int = 0  # 0: every move goes to a fresh address; else to any of so many, old ones included
    data: bool = True
    early: bool = False  # data goes to candidates as well
    opened: bool = True  # begin with an established flow; else with the opening
    rendezvous: bool = True
    closing: bool = False
    sweep: bool = True  # forget packets that cannot have an effect; not for machines with faults put into them
    limit: int = 5_000_000


_T = TypeVar("_T", Flow, Packet)


class _Effect(NamedTuple):
    """What a step of a flow does: the flow after it, what it sends, and whether its candidate is another."""

    flow: int
    sends: tuple[Send, ...]
    renewed: bool


class Space:
    """Interned flows and packets, and the remembered effect of every step taken so far."""

    def __init__(self, bounds: Bounds, step: StepFunction = flow_step) -> None:
        self.bounds = bounds
        self.flows: list[Flow] = []
        self.packets: list[Packet] = []
        self._step = step
        self._flow_ids: dict[Flow, int] = {}
        self._packet_ids: dict[Packet, int] = {}
        self._effects: dict[tuple[object, ...], _Effect] = {}
        self._mirrors: dict[int, int] = {}
        self._packet_mirrors: dict[int, int] = {}
        self._dead: dict[tuple[int, int, bool], bool] = {}

    def flow_id(self, flow: Flow) -> int:
        """The number of a flow's state."""
        return _intern(flow, self._flow_ids, self.flows)

    def packet_id(self, packet: Packet) -> int:
        """The number of a packet."""
        return _intern(packet, self._packet_ids, self.packets)

    def initial(self) -> World:
        """Both hosts closed (or the flow just opened), nothing in the network."""
        flows = (Flow(), Flow())
        if self.bounds.opened:
            base = Flow(state=FlowState.ESTABLISHED, confirmed_version=1, peer_version=1, highest_pn=OLD, known=True)
            flows = (
                replace(base, own_addr="a1", peer_addr="b1", peer_nonce=STALE),
                replace(base, own_addr="b1", peer_addr="a1", peer_nonce=STALE),
            )
        history = (frozenset({(1, "a1")}), frozenset({(1, "b1")}))
        ids = (self.flow_id(flows[0]), self.flow_id(flows[1]))
        return World(
            ids, ((), ()), ((), ()), ("a1", "b1"), self.bounds.moves, self.bounds.rebinds, self.bounds.spoofs, history
        )

    # ---- steps --------------------------------------------------------------------------------------------------

    def successors(self, world: World) -> Iterator[tuple[str, World, bool]]:
        """Every next state with its label, and whether the step is one of those that stop in the end (a move)."""
        for host in (0, 1):
            yield from self._called(world, host)
            for index, number in enumerate(world.old[host]):
                yield from self._deliver(world, host, number, OLD, index)
            for index, number in enumerate(world.new[host]):
                yield from self._deliver(world, host, number, NEW, index)
                if world.spoofs:
                    copied = self.packet_id(self.packets[number]._replace(src=STRANGER))
                    yield from self._deliver(world._replace(spoofs=world.spoofs - 1), host, copied, NEW, index)
        if world.rebinds and self.flows[world.flows[0]].known:
            outer = f"n{self.bounds.rebinds - world.rebinds + 1}"
            moved = world._replace(outer=(outer, world.outer[1]), rebinds=world.rebinds - 1)
            yield "a REBIND", self._swept(self._remember(moved, 0)), True

    def _called(self, world: World, host: int) -> Iterator[tuple[str, World, bool]]:
        flow = self.flows[world.flows[host]]
        name = "ab"[host]
        if host == 0 and flow.state is FlowState.CLOSED and not flow.known:
            effect = self._effect(world.flows[host], Step(Action.OPEN, source="b1", own="a1"))
            yield from self._after(world, host, effect, "a OPEN", is_move=False)
            return
        if world.moves and (flow.state, Action.MOVE) in FLOW_TABLE:
            for place in self._places(name, flow):
                outer = (place, world.outer[1]) if host == 0 else (world.outer[0], place)
                placed = world._replace(outer=outer, moves=world.moves - 1)
                effect = self._effect(world.flows[host], Step(Action.MOVE, own=place))
                yield from self._after(placed, host, effect, f"{name} MOVE {place}", is_move=True)
        for action in self._local_actions(flow):
            if (flow.state, action) in FLOW_TABLE:
                everywhere = self.bounds.early or action is not Action.SEND_DATA
                effect = self._effect(world.flows[host], Step(action, everywhere=everywhere))
                yield from self._after(world, host, effect, f"{name} {action.value}", is_move=action is Action.CLOSE)

    def _places(self, name: str, flow: Flow) -> list[str]:
        if not self.bounds.reuse:
            return [f"{name}{flow.own_version + 1}"]
        places = [f"{name}{number}" for number in range(1, self.bounds.reuse + 1)]
        return [place for place in places if place != flow.own_addr]

    def _local_actions(self, flow: Flow) -> Iterator[Action]:
        yield Action.RETRANSMIT
        if self.bounds.data:
            yield Action.SEND_DATA
        if self.bounds.closing:
            yield Action.CLOSE
        if flow.state in _OPENING:
            yield Action.EXPIRE

    def _deliver(self, world: World, host: int, number: int, age: int, index: int) -> Iterator[tuple[str, World, bool]]:
        packet = self.packets[number]
        if packet.dst not in {world.outer[host], RELAYED}:
            return
        action = RECEIVE[packet.message]
        event = Step(
            action, source=packet.src, own=world.outer[host], version=packet.version, pn=age, echo=packet.echo,
            nonce=packet.nonce, challenge=CANDIDATE,
        )  # fmt: skip
        old, new = list(world.old), list(world.new)
        if age == OLD:
            old[host] = old[host][:index] + old[host][index + 1 :]
        else:
            new[host] = new[host][:index] + new[host][index + 1 :]
        effect = self._effect(world.flows[host], event, number)
        if age == NEW and self._is_probing(world.flows[host], event, number):  # the numbers before it are old now
            old[host] = tuple(sorted(old[host] + new[host][:index]))
            new[host] = new[host][index:]
        rest = world._replace(old=(old[0], old[1]), new=(new[0], new[1]))
        yield from self._after(rest, host, effect, f"{'ab'[host]} {action.value}", is_move=False)

    def _effect(self, flow: int, event: Step, packet: int = -1) -> _Effect:
        key = (flow, event.action, event.own, packet, event.pn)
        effect = self._effects.get(key)
        if effect is None:
            before = self.flows[flow]
            outcome = self._step(before, event)
            after = outcome.flow
            same = (before.cand_version, before.cand_addr) == (after.cand_version, after.cand_addr)
            renewed = before.cand_addr is not None and not same
            after = replace(
                after,
                highest_pn=min(after.highest_pn, OLD),
                peer_nonce=STALE if after.peer_nonce else 0,
                cand_nonce=CANDIDATE if after.cand_nonce else 0,
            )
            effect = self._effects[key] = _Effect(self.flow_id(after), outcome.sends, renewed)
            if packet >= 0:
                self._effects[(*key, "probing")] = _Effect(int(outcome.flow.highest_pn == NEW), (), False)
        return effect

    def _is_probing(self, flow: int, event: Step, packet: int) -> bool:
        return bool(self._effects[(flow, event.action, event.own, packet, event.pn, "probing")].flow)

    def _after(
        self, world: World, host: int, effect: _Effect, label: str, *, is_move: bool
    ) -> Iterator[tuple[str, World, bool]]:
        """The states after a step: what is sent waits in the channel; if that is full, any one packet is lost."""
        flows = (effect.flow, world.flows[1]) if host == 0 else (world.flows[0], effect.flow)
        world = self._remember(world._replace(flows=flows), host)
        if effect.renewed:
            world = self._stale(world, host)
        world = self._swept(world)
        other = 1 - host
        variants = [(world.old[other], world.new[other])]
        for send in effect.sends:
            for to in self._destinations(world, host, send):
                nonce = CANDIDATE if send.nonce == CANDIDATE else STALE if send.nonce else 0
                packet = Packet(send.message, send.version, world.outer[host], to, send.echo, nonce)
                number = self.packet_id(packet)
                if not self._is_dead(world, other, number, is_new=True):
                    variants = [after for channel in variants for after in self._put(channel, number)]
        for old, new in variants:
            if host == 0:
                yield label, world._replace(old=(world.old[0], old), new=(world.new[0], new)), is_move
            else:
                yield label, world._replace(old=(old, world.old[1]), new=(new, world.new[1])), is_move

    def _put(
        self, channel: tuple[tuple[int, ...], tuple[int, ...]], number: int
    ) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
        old, new = channel
        if len(old) + len(new) < self.bounds.capacity:
            yield old, (*new, number)
            return
        yield channel
        for index in range(len(old)):
            yield old[:index] + old[index + 1 :], (*new, number)
        for index in range(len(new)):
            yield old, (*new[:index], *new[index + 1 :], number)

    def _destinations(self, world: World, host: int, send: Send) -> list[str]:
        if not send.everywhere:
            return [str(send.to)]
        if self.bounds.rendezvous:
            return [RELAYED]
        flow = self.flows[world.flows[host]]
        return [str(place) for place in dict.fromkeys((flow.peer_addr, flow.cand_addr)) if place is not None]

    # ---- naming -------------------------------------------------------------------------------------------------

    def _remember(self, world: World, host: int) -> World:
        if not (self.bounds.reuse or self.bounds.rebinds):
            return world  # the address's name tells its version
        seen = world.history[host] | {(self.flows[world.flows[host]].own_version, world.outer[host])}
        return world._replace(history=(seen, world.history[1]) if host == 0 else (world.history[0], seen))

    def _stale(self, world: World, host: int) -> World:
        """The candidate of ``host`` is gone: its nonce, wherever it is on the way, matches nothing any more."""
        challenges, answers = {Message.SYN_ACK, Message.RSYN_ACK}, {Message.ACK}
        old, new = list(world.old), list(world.new)
        for to, kinds in ((1 - host, challenges), (host, answers)):
            old[to] = tuple(sorted(self._rename(number, kinds) for number in old[to]))
            new[to] = tuple(self._rename(number, kinds) for number in new[to])
        return world._replace(old=(old[0], old[1]), new=(new[0], new[1]))

    def _rename(self, number: int, kinds: set[Message]) -> int:
        packet = self.packets[number]
        if packet.message in kinds and packet.nonce == CANDIDATE:
            return self.packet_id(packet._replace(nonce=STALE))
        return number

    def _swept(self, world: World) -> World:
        """Without the packets that are dead."""
        old = [[n for n in world.old[host] if not self._is_dead(world, host, n, is_new=False)] for host in (0, 1)]
        new = [[n for n in world.new[host] if not self._is_dead(world, host, n, is_new=True)] for host in (0, 1)]
        return world._replace(old=(tuple(old[0]), tuple(old[1])), new=(tuple(new[0]), tuple(new[1])))

    def _is_dead(self, world: World, host: int, number: int, *, is_new: bool) -> bool:
        """Whether delivering this packet can never change or send anything again, now or later."""
        if not self.bounds.reuse and self.packets[number].dst not in {RELAYED, world.outer[host]}:
            return True
        if not self.bounds.sweep:
            return False
        key = (world.flows[host], number, is_new)
        dead = self._dead.get(key)
        if dead is None:
            dead = self._dead[key] = _is_dead(self.flows[world.flows[host]], self.packets[number], is_new=is_new)
        return dead

    # ---- symmetry -----------------------------------------------------------------------------------------------

    @property
    def is_symmetric(self) -> bool:
        """Whether the hosts differ in nothing but their names."""
        return self.bounds.opened and not self.bounds.rebinds and not self.bounds.reuse

    def mirror(self, world: World) -> World:
        """The same state with the hosts' names exchanged."""
        flows, old, new, outer = world.flows, world.old, world.new, world.outer
        return world._replace(
            flows=(self._mirror_flow(flows[1]), self._mirror_flow(flows[0])),
            old=(self._mirror_packets(old[1], is_old=True), self._mirror_packets(old[0], is_old=True)),
            new=(self._mirror_packets(new[1], is_old=False), self._mirror_packets(new[0], is_old=False)),
            outer=(_exchange(outer[1]), _exchange(outer[0])),
        )

    def _mirror_flow(self, number: int) -> int:
        mirrored = self._mirrors.get(number)
        if mirrored is None:
            flow = self.flows[number]
            own, peer, cand = (_exchange(place) for place in (flow.own_addr, flow.peer_addr, flow.cand_addr))
            mirrored = self.flow_id(replace(flow, own_addr=own, peer_addr=peer, cand_addr=cand))
            self._mirrors[number] = mirrored
        return mirrored

    def _mirror_packets(self, numbers: tuple[int, ...], *, is_old: bool) -> tuple[int, ...]:
        found = []
        for number in numbers:
            mirrored = self._packet_mirrors.get(number)
            if mirrored is None:
                packet = self.packets[number]
                other = packet._replace(src=_exchange(packet.src), dst=_exchange(packet.dst))
                mirrored = self._packet_mirrors[number] = self.packet_id(other)
            found.append(mirrored)
        return tuple(sorted(found)) if is_old else tuple(found)

    # ---- properties ---------------------------------------------------------------------------------------------

    def check(self, before: World, after: World) -> str | None:
        """Safety of one step: a sentence on what is broken, or None."""
        for host in (0, 1):
            old, new, peer = (self.flows[n] for n in (before.flows[host], after.flows[host], after.flows[1 - host]))
            if (
                new.own_version < old.own_version
                or new.confirmed_version < old.confirmed_version
                or new.peer_version < old.peer_version
            ):
                return f"a version of host {'ab'[host]} went back"
            if new.confirmed_version > new.own_version or new.peer_version > peer.own_version:
                return f"host {'ab'[host]} knows a version that does not exist"
            if new.peer_nonce and not self._was_there(after, 1 - host, new.peer_version, str(new.peer_addr)):
                return f"host {'ab'[host]} uses an address at which its peer never was at version {new.peer_version}"
            answered = max(peer.peer_version, peer.cand_version)
            if new.confirmed_version > max(answered, 1) and peer.state is not FlowState.CLOSED:
                return f"host {'ab'[host]} takes version {new.confirmed_version} for confirmed, but the peer lacks it"
        return None

    def _was_there(self, world: World, host: int, version: int, place: str) -> bool:
        if not (self.bounds.reuse or self.bounds.rebinds):
            return place == f"{'ab'[host]}{version}"
        return (version, place) in world.history[host]

    def is_good(self, world: World) -> bool:
        """Both hosts hold each other's present address, so that pings succeed (or the flow is closed)."""
        first, second = self.flows[world.flows[0]], self.flows[world.flows[1]]
        if (first.known and first.state is FlowState.CLOSED) or (second.known and second.state is FlowState.CLOSED):
            return True
        settled = first.state is FlowState.ESTABLISHED and second.state is FlowState.ESTABLISHED
        return settled and first.peer_addr == world.outer[1] and second.peer_addr == world.outer[0]


def _exchange(place: Any) -> Any:
    """The name of an address with a for b and b for a."""
    return place.translate(_EXCHANGED) if isinstance(place, str) else place


def _intern(value: _T, ids: dict[_T, int], values: list[_T]) -> int:
    number = ids.get(value)
    if number is None:
        number = ids[value] = len(values)
        values.append(value)
    return number


def _is_dead(flow: Flow, packet: Packet, *, is_new: bool) -> bool:
    if not flow.known or flow.state in _OPENING:
        return False
    message = packet.message
    if message is Message.ACK:
        return packet.nonce != CANDIDATE or packet.echo != flow.cand_version
    if message is Message.RSYN_ACK:
        return packet.echo < flow.own_version
    if message is Message.DATA:
        return not is_new
    return message is Message.RSYN and not is_new and packet.version < flow.peer_version
