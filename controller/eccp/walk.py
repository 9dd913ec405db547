# SPDX-License-Identifier: Apache-2.0
"""Random walks of the flow machine over an adversarial network, with numbers and nonces as they are on the wire.

Unlike the exploration, nothing is bounded or renamed: versions skip ahead, addresses come back, packets are delayed
for long, duplicated (and then dropped as replays), sent from a stranger's address.  Every step is checked for safety
and can be written as a trace for the model to judge.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from controller.eccp.explore_space import RECEIVE
from controller.eccp.flow import Flow, Send, Step
from controller.eccp.flow import step as flow_step
from controller.eccp.names import Action, FlowState, Message
from controller.eccp.outputs import SentRecord
from controller.eccp.replay import ReplayWindow
from controller.eccp.table import FLOW_TABLE
from controller.eccp.tracing import TraceWriter, write_lines

CHANNEL = 12
RENDEZVOUS = "r"


class Packet(NamedTuple):
    """A packet in the network; ``dst`` may be the rendezvous."""

    message: Message
    version: int
    pn: int
    src: str
    dst: str
    echo: int
    nonce: int


@dataclass(slots=True)
class _Host:
    name: str
    flow: Flow = field(default_factory=Flow)
    outer: str = ""
    next_pn: int = 0
    window: ReplayWindow = field(default_factory=ReplayWindow)
    channel: list[Packet] = field(default_factory=list)
    places: set[tuple[int, str]] = field(default_factory=set)


class Walk:
    """One flow between hosts a and b from its opening on; `run` takes so many steps and checks each."""

    def __init__(self, seed: int, writer: TraceWriter | None = None) -> None:
        self._random = random.Random(seed)
        self._writer = writer
        self.hosts = (_Host("a", outer="a1"), _Host("b", outer="b1"))
        for host in self.hosts:
            host.places.add((1, host.outer))
        self.steps = 0
        self.moves = 0

    def run(self, steps: int) -> None:
        """Take ``steps`` steps.  Raises `AssertionError` on a broken safety property."""
        first = self.hosts[0]
        self._apply(0, Step(Action.OPEN, source="b1", own=first.outer), None)
        while self.steps < steps and not self._is_over():
            self._choose()

    def _is_over(self) -> bool:
        first, second = (host.flow for host in self.hosts)
        return first.state is FlowState.CLOSED and first.known and (second.state is FlowState.CLOSED)

    def _choose(self) -> None:
        draw = self._random.random()
        index = self._random.randrange(2)
        host = self.hosts[index]
        if draw < 0.62 and host.channel:
            self._deliver(index)
        elif draw < 0.66 and host.channel:
            host.channel.pop(self._random.randrange(len(host.channel)))
        elif draw < 0.70:
            self._rebind(host)
        elif draw < 0.76:
            self._move(index)
        else:
            action = self._random.choices(_LOCAL, _WEIGHTS)[0]
            if (host.flow.state, action) in FLOW_TABLE:
                nonce = self._nonce() if action is Action.SEND_PING else 0
                self._apply(index, Step(action, nonce=nonce, everywhere=self._random.random() < 0.3), None)

    def _rebind(self, host: _Host) -> None:
        if host.name == "a" and host.flow.known:
            host.outer = f"n{self._random.randrange(1 << 30)}"
            host.places.add((host.flow.own_version, host.outer))

    def _move(self, index: int) -> None:
        host = self.hosts[index]
        if (host.flow.state, Action.MOVE) not in FLOW_TABLE:
            return
        self.moves += 1
        host.outer = f"{host.name}{self._random.randrange(1, 6)}"
        skip = self._random.choice((0, 0, 0, 3))
        version = host.flow.own_version + 1 + skip
        host.places.add((version, host.outer))
        self._apply(index, Step(Action.MOVE, own=host.outer, version=version), None)

    def _deliver(self, index: int) -> None:
        host = self.hosts[index]
        at = self._random.randrange(len(host.channel))
        packet = host.channel[at]
        if self._random.random() < 0.85:  # else a duplicate stays behind
            del host.channel[at]
        if packet.dst not in {host.outer, RENDEZVOUS} or not host.window.is_fresh(packet.pn):
            return
        host.window.mark(packet.pn)
        source = packet.src
        if self._random.random() < 0.02:  # somebody repeats it from elsewhere, faster than the original
            source = f"x{self._random.randrange(1 << 30)}"
        event = Step(
            RECEIVE[packet.message],
            source=source,
            own=host.flow.own_addr or host.outer,
            version=packet.version,
            pn=packet.pn,
            echo=packet.echo,
            nonce=packet.nonce,
            challenge=self._nonce(),
        )
        self._apply(index, event, packet.message, relayed=packet.dst == RENDEZVOUS)

    def _nonce(self) -> int:
        return self._random.getrandbits(64) or 1

    def _apply(self, index: int, event: Step, received: Message | None, *, relayed: bool = False) -> None:
        self.steps += 1
        host = self.hosts[index]
        before = host.flow
        outcome = flow_step(before, event)
        host.flow = outcome.flow
        sent = [record for send in outcome.sends for record in self._send(index, send)]
        if self._writer is not None:
            self._writer.step(host.name, "f0", event, received, sent, host.flow, relayed=relayed)
        self._check(index, before)

    def _send(self, index: int, send: Send) -> list[SentRecord]:
        host, other = self.hosts[index], self.hosts[1 - index]
        flow = host.flow
        places = [send.to]
        if send.everywhere:
            places = [p for p in dict.fromkeys((flow.peer_addr, flow.cand_addr)) if p is not None] + [RENDEZVOUS]
        records = []
        for place in places:
            number = host.next_pn
            host.next_pn += 1
            records.append(SentRecord(send.message, send.version, number, flow.own_addr, place, send.echo, send.nonce))
            packet = Packet(send.message, send.version, number, host.outer, str(place), send.echo, send.nonce)
            other.channel.append(packet)
            if len(other.channel) > CHANNEL:
                other.channel.pop(self._random.randrange(len(other.channel)))
        return records

    def _check(self, index: int, before: Flow) -> None:
        host, other = self.hosts[index], self.hosts[1 - index]
        flow = host.flow
        expect(flow.own_version >= before.own_version, "own version went back")
        expect(flow.confirmed_version >= before.confirmed_version, "confirmed version went back")
        expect(flow.peer_version >= before.peer_version, "peer version went back")
        expect(flow.confirmed_version <= flow.own_version, "a version was confirmed that does not exist")
        expect(flow.peer_version <= other.flow.own_version, "the peer's version does not exist")
        if flow.peer_nonce:
            place = (flow.peer_version, str(flow.peer_addr))
            expect(place in other.places, f"{host.name} uses {place}, where its peer never was")


def expect(condition: bool, what: str) -> None:
    """Raise `AssertionError` saying ``what`` unless the condition holds."""
    if not condition:
        raise AssertionError(what)


Sink = Callable[[dict[str, Any]], None]


def walk_many(steps: int, seed: int, length: int = 2000, sink: Callable[[], Sink] | None = None) -> int:
    """Walks of at most ``length`` steps from successive seeds until ``steps`` are taken; returns the number of moves.

    ``sink`` gives, for each walk, where its trace goes.
    """
    taken = moves = 0
    while taken < steps:
        walk = Walk(seed, TraceWriter(sink(), ("a", "b"), rendezvous=RENDEZVOUS) if sink else None)
        walk.run(min(length, steps - taken))
        taken += walk.steps
        moves += walk.moves
        seed += 1
    return moves


_LOCAL = (Action.RETRANSMIT, Action.SEND_DATA, Action.SEND_PING, Action.CLOSE, Action.EXPIRE)
_WEIGHTS = (10, 8, 4, 0.02, 0.005)


def main() -> None:
    """``python -m controller.eccp.walk --steps N [--trace FILE]``: walk, and keep the traces."""
    parser = argparse.ArgumentParser(description="random walks of the ECCP flow machine")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--trace", help="write the walks here as JSON lines, for python -m models.conformance")
    arguments = parser.parse_args()
    if arguments.trace:
        with open(arguments.trace, "w", encoding="utf-8") as out:
            moves = walk_many(arguments.steps, arguments.seed, sink=lambda: write_lines(out))
    else:
        moves = walk_many(arguments.steps, arguments.seed)
    print(f"{arguments.steps} steps, {moves} moves, no violation")


if __name__ == "__main__":
    main()
