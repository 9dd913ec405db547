# SPDX-License-Identifier: Apache-2.0
"""Two paper switches, both machines, and everything that goes wrong between them; discrete time, from a seed."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from property.p4sync.paper_switch import PaperSwitch, SyncPacket

from controller.p4sync import inputs, outputs
from controller.p4sync.destination import Destination
from controller.p4sync.destination import State as There
from controller.p4sync.journal import Memory
from controller.p4sync.outputs import Outcome, Result
from controller.p4sync.pace import Pace
from controller.p4sync.plan import Plan
from controller.p4sync.protocol import Mark, Report, Suite, Token
from controller.p4sync.source import Source

A, B = 1, 2
PACE = Pace(window=8, patience=3.0, idle=5.0)


@dataclass(frozen=True)
class Faults:
    """Probabilities of what happens to packets, tokens, reports and messages."""

    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    token_loss: float = 0.0
    message_loss: float = 0.0
    write_doubt: float = 0.0
    """A write whose answer is lost: it was done, or not."""


class World:
    """One source agent, one destination agent; `run` until the session is over on both sides."""

    def __init__(self, seed: int, faults: Faults, plan: Plan) -> None:
        self.random = Random(seed)
        self.faults, self.plan = faults, plan
        self.now = 0.0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self.a = PaperSwitch(self._fabric, lambda report: self._reported("a", report))
        self.b = PaperSwitch(lambda packet: None, lambda report: self._reported("b", report))
        self.journals = {"a": Memory(), "b": Memory()}
        self.sent: Counter[tuple[str, int]] = Counter()
        self.outcomes: list[Outcome] = []
        self.committed_at_b: list[int] = []
        self.timers = {"a": 0, "b": 0}
        self.is_reachable = {"a": True, "b": True}
        self.lost: dict[str, bool] = {"a": False, "b": False}
        self.source: Source | None = None
        self.destination = Destination(B, PACE)
        self._nonces: dict[int, int] = {}
        self._numbers = itertools.count(self.random.randrange(1, 1000))
        self._accepted: int = 0
        self._due: dict[str, float] = {}

    # ---- time ----

    def at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay, next(self._order), action))

    def run(self, until: float) -> None:
        """Let time pass; everything that is due happens."""
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            action()
        self.now = until

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability

    # ---- wires ----

    def _fabric(self, packet: SyncPacket) -> None:
        if self.chance(self.faults.loss):
            return
        late = 0.02 if self.chance(self.faults.reordering) else 0.0
        for _ in range(2 if self.chance(self.faults.duplication) else 1):
            self.at(self.random.uniform(0.0001, 0.0005) + self.random.random() * late, lambda: self.b.hear(packet))

    def _token(self, side: str, output: outputs.SendToken) -> None:
        if self.chance(self.faults.token_loss) or not self.is_reachable[side]:
            return
        switch = self.a if side == "a" else self.b
        boot = switch.boot

        def arrive() -> None:
            if switch.boot == boot and self.is_reachable[side]:
                switch.token(Token(output.kind), output.session, output.credit, output.argument, output.flags)

        self.at(self._switch_delay(side, 0.0005), arrive)

    def _switch_delay(self, side: str, size: float) -> float:
        """First in, first out: what is sent later does not arrive earlier."""
        key = f"queue {side}"
        due = max(self._due.get(key, 0.0), self.now + self.random.uniform(0.1, 1.0) * size)
        self._due[key] = due
        return due - self.now

    def _reported(self, side: str, report: Report) -> None:
        if self.chance(self.faults.token_loss) or not self.is_reachable[side]:
            return
        self.at(self._switch_delay(f"{side} up", 0.0005), lambda: self._tell(side, inputs.Reported(report)))

    def _message(self, side: str, event: Any) -> None:
        """A message to the other agent."""
        if self.chance(self.faults.message_loss):
            if side == "b":
                return
            self.at(0.01, lambda: self._tell("a", inputs.PeerFailed("a message was lost")))
            return
        self.at(self._switch_delay(f"to {side}", 0.001), lambda: self._tell(side, event))

    # ---- agents ----

    def _tell(self, side: str, event: Any) -> None:
        if side == "b":
            self._do("b", self.destination.handle(event, self.now))
        elif self.source is not None and not self.outcomes:
            self._do("a", self.source.handle(event, self.now))

    def start(self) -> None:
        self.source = Source(self.plan, A, B, PACE)
        self._do("a", self.source.start(self.now))

    def _do(self, side: str, wanted: list[Any]) -> None:
        for output in wanted:
            getattr(self, f"_{type(output).__name__}")(side, output)

    def _SendToken(self, side: str, output: outputs.SendToken) -> None:  # noqa: N802
        self._token(side, output)

    def _WakeAt(self, side: str, output: outputs.WakeAt) -> None:  # noqa: N802
        self.timers[side] += 1
        number = self.timers[side]

        def ring() -> None:
            if self.timers[side] == number:
                self._tell(side, inputs.TimerExpired())

        self.at(max(0.0, output.when - self.now), ring)

    def _Remember(self, side: str, output: outputs.Remember) -> None:  # noqa: N802
        record = {**output.record, "side": "in" if side == "b" else "out"}
        self.journals[side].apply(record)
        if side == "b" and record["what"] == "committed":
            self.committed_at_b.append(record["session"])

    def _Progress(self, side: str, output: outputs.Progress) -> None:  # noqa: N802
        assert 0 <= output.walked <= output.total

    def _Finish(self, _side: str, output: outputs.Finish) -> None:  # noqa: N802
        self.outcomes.append(output.outcome)

    def _write(self, side: str, output: Any, change: Callable[[], None]) -> None:
        boot = (self.a if side == "a" else self.b).boot

        def arrive() -> None:
            switch = self.a if side == "a" else self.b
            if not self.is_reachable[side] or switch.boot != boot:
                self._tell(side, inputs.EntriesRefused(output, "unreachable", known=False))
            elif self.chance(self.faults.write_doubt):
                if self.chance(0.5):
                    change()
                self._tell(side, inputs.EntriesRefused(output, "deadline exceeded", known=False))
            else:
                change()
                self._tell(side, inputs.EntriesWritten(output))

        self.at(self._switch_delay(f"write {side}", 0.002), arrive)

    def _InstallOutgoing(self, side: str, output: outputs.InstallOutgoing) -> None:  # noqa: N802
        self._write(side, output, lambda: self.a.sync_out.add(output.session))

    def _RemoveOutgoing(self, side: str, output: outputs.RemoveOutgoing) -> None:  # noqa: N802
        """Writes are done in order, whatever their answers say."""
        self.at(self._switch_delay(f"write {side}", 0.002), lambda: self.a.sync_out.discard(output.session))

    def _InstallIncoming(self, side: str, output: outputs.InstallIncoming) -> None:  # noqa: N802
        def change() -> None:
            self.b.marks[output.session] = Mark.OPEN
            self.b.sync_in.add(output.session)

        self._write(side, output, change)

    def _SetMark(self, side: str, output: outputs.SetMark) -> None:  # noqa: N802
        def change() -> None:
            if output.session in self.b.marks:
                self.b.marks[output.session] = output.mark

        self._write(side, output, change)

    def _RemoveIncoming(self, side: str, output: outputs.RemoveIncoming) -> None:  # noqa: N802
        def change() -> None:
            self.b.sync_in.discard(output.session)
            self.b.marks.pop(output.session, None)

        self.at(self._switch_delay(f"write {side}", 0.002), change)

    # ---- messages ----

    def _SendOffer(self, _side: str, _output: outputs.SendOffer) -> None:  # noqa: N802
        source = self.source
        assert source is not None
        if source.session == 0 and self.destination.state is not There.IDLE:
            self._message("a", inputs.Declined("under way", busy=True))
            return
        session = source.session or self._accepted
        if session == 0:
            session = self._accepted = next(self._numbers)
            self._nonces[session] = self.random.getrandbits(64)
        nonce = self._nonces[session]
        if source.session == 0:
            self._message("a", inputs.Accepted(session, nonce))
        self._message("b", inputs.Offered(session, nonce, A, Suite.SIPHASH, 3))

    def _AskLook(self, _side: str, output: outputs.AskLook) -> None:  # noqa: N802
        self._message("b", inputs.LookAsked(output.session, output.made))

    def _Submit(self, _side: str, output: outputs.Submit) -> None:  # noqa: N802
        self._message("b", inputs.Submitted(output.statement))

    def _AskDiscard(self, _side: str, output: outputs.AskDiscard) -> None:  # noqa: N802
        self._message("b", inputs.DiscardAsked(output.session, output.reason))

    def _AnswerOpened(self, _side: str, output: outputs.AnswerOpened) -> None:  # noqa: N802
        self._to_source(output.session, inputs.Opened())

    def _AnswerDeclined(self, _side: str, output: outputs.AnswerDeclined) -> None:  # noqa: N802
        self._to_source(output.session, inputs.Declined(output.reason, output.busy))

    def _AnswerLooked(self, _side: str, output: outputs.AnswerLooked) -> None:  # noqa: N802
        look = inputs.Looked(output.count, output.links, output.conflicts, output.highest, output.gaps)
        self._to_source(output.session, look)

    def _AnswerDecided(self, _side: str, output: outputs.AnswerDecided) -> None:  # noqa: N802
        self._to_source(output.session, inputs.Decided(output.committed, output.reason, output.again))

    def _to_source(self, session: int, event: Any) -> None:
        if self.source is not None and self.source.session == session:
            self._message("a", event)

    # ---- deaths ----

    def kill_agent(self, side: str, pause: float) -> None:
        """An agent dies, and another one begins with its journal after a while."""
        self.timers[side] += 1
        if side == "a":
            self.source = None
            self.at(pause, self._resume_source)
        else:
            self.destination = Destination(B, PACE)
            self.destination.handle(inputs.SwitchLost("no agent"), self.now)
            self.at(pause, self._resume_destination)

    def _resume_source(self) -> None:
        if self.outcomes or self.source is not None:
            return
        for session, record in self.journals["a"].outgoing.items():
            self.source = Source(Plan((), self.plan.release), A, B, PACE)
            self._do("a", self.source.resume(session, record["nonce"], record["submitted"], self.now))
            return
        self.outcomes.append(Outcome(Result.ABORTED, 0, 0, 0, "nothing was open"))

    def _resume_destination(self) -> None:
        memory = self.journals["b"]
        self.destination = Destination(B, PACE)
        self.timers["b"] += 1
        for session, one in memory.decisions.items():
            self.destination.decisions[session] = (one.committed, one.reason, True)
        for session, record in list(memory.incoming.items()):
            mark = self.b.marks.get(session, Mark.NONE)
            decided = memory.decisions.get(session)
            if decided is not None:
                mark = Mark.COMMITTED if decided.committed else Mark.DISCARDED
            self._do("b", self.destination.restore(session, record["nonce"], record["peer"], mark, self.now))

    def cut(self, side: str, seconds: float, restart: bool) -> None:
        """A switch cannot be reached for a while; it may have lost its memory then."""
        if not self.is_reachable[side]:
            return
        self.is_reachable[side] = False
        if restart:
            (self.a if side == "a" else self.b).restart()
            self.lost[side] = True
        self._tell(side, inputs.SwitchLost("cut"))

        def back() -> None:
            self.is_reachable[side] = True
            self._tell(side, inputs.SwitchFound(same=not restart))

        self.at(seconds, back)

    # ---- traffic and truth ----

    def traffic(self, side: str, rate: float, until: float, flows: int) -> None:
        """Packets of random flows at a switch."""

        def one() -> None:
            flow = self.random.randrange(flows)
            switch = self.a if side == "a" else self.b
            switch.count(client_of(flow), key_of(flow))
            self.sent["client", client_of(flow)] += 1
            self.sent["flow", key_of(flow)] += 1
            if self.now < until:
                self.at(self.random.expovariate(rate), one)

        self.at(self.random.expovariate(rate), one)

    def held(self, *switches: PaperSwitch) -> Counter[tuple[str, int]]:
        """What live state adds up to."""
        total: Counter[tuple[str, int]] = Counter()
        for switch in switches:
            total.update({("client", entry): number for entry, number in switch.clients.items() if number})
            total.update({("flow", key): number for key, number in switch.flows.items() if number})
        return total


def client_of(flow: int) -> int:
    return flow * 37 % 1024


def key_of(flow: int) -> int:
    return 0x0A000000_0400_0007 + (flow << 32)


def calm(faults: Faults) -> Faults:
    """Return the same world when the storm is over."""
    return replace(faults, loss=0.0, token_loss=0.0, message_loss=0.0, write_doubt=0.0)
