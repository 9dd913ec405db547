# SPDX-License-Identifier: Apache-2.0
"""One connected switch: does it have our actions, what are its ports, what became of each command.

A switch is CHECKING until it has accepted every custom action in a bundle that is then discarded, so that nothing is
installed on one that lacks them; then READY, or REFUSED with a sentence that says the mend. Answers are matched by
transaction id: all messages of a command share one, and a barrier after each batch tells that its commands are done.
No framework here: ``channel`` is anything with ``id``, ``xid``, ``ports`` and ``send(bytes)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Protocol

from controller.core.commands import (
    AnswerHost,
    Barrier,
    Bundle,
    FlowAdd,
    FlowDelete,
    Match,
    MeterAdd,
    Output,
    PacketOut,
    Port,
    ReadFlows,
    ResolveHost,
    Rewrite,
)
from controller.core.errors import LocalError, RemoteError
from controller.core.events import BarrierReplied, CommandRefused, FlowsReported, SwitchConnected, SwitchLost
from controller.openflow import flow_stats, messages, packets

SwitchCommand = FlowAdd | FlowDelete | ReadFlows | MeterAdd | Bundle | Barrier | PacketOut | ResolveHost | AnswerHost
SWITCH_COMMANDS = (FlowAdd, FlowDelete, ReadFlows, MeterAdd, Bundle, Barrier, PacketOut, ResolveHost, AnswerHost)

MAX_XID = 0xFFFFFFFF
MAX_QUEUED = 16_384
"""Bytes gathered for a switch that are written at once."""
RESERVED_PORTS = 0xFFFFFF00
METER_MOD_FAILED, METER_EXISTS = 12, 1
FLOOD = (Output(Port.FLOOD),)

CHECKS = (
    ("inc_tcp_seq", Rewrite(seq=1)),
    ("dec_tcp_seq", Rewrite(seq=-1)),
    ("inc_tcp_ack", Rewrite(ack=1)),
    ("dec_tcp_ack", Rewrite(ack=-1)),
    ("inc_tcp_tsval", Rewrite(tsval=1)),
    ("inc_tcp_tsecr", Rewrite(tsecr=1)),
    ("shift_tcp_window", Rewrite(window_shift=1)),
    ("set_tcp_window", Rewrite(window=0)),
    ("inc_ip_id", Rewrite(ip_id=1)),
)
"""What a switch must accept: the action's name in ``ovs-ofctl``, and a rewrite that uses that action alone."""


class State(Enum):
    """How far a switch is."""

    CHECKING = "checking"
    READY = "ready"
    REFUSED = "refused"
    LOST = "lost"


class Channel(Protocol):
    """The part of the framework's ``Datapath`` that is used."""

    id: int
    xid: int
    ports: dict[int, Any]

    def send(self, buf: bytes) -> Any:
        """Queue bytes to the switch."""


class Switch:
    """The adapter of one OpenFlow connection; ``report`` is given events of the core."""

    def __init__(
        self,
        channel: Channel,
        report: Callable[[object], None],
        clock: Callable[[], float],
        needed: tuple[tuple[str, Rewrite], ...] = CHECKS,
    ) -> None:
        """Begin in CHECKING; ``clock`` returns monotonic seconds, ``needed`` are the actions that it must have."""
        self._needed = needed
        self.id = channel.id
        self.state = State.CHECKING
        self.refusal = ""
        self._channel = channel
        self._report = report
        self._clock = clock
        self._bundle = 0
        self._refused = 0
        self._outbox: list[bytes] = []
        self._queued = 0
        self._checks: dict[int, str] = {}
        self._missing: list[str] = []
        self._tokens: dict[int, int] = {}
        self._meters: dict[int, MeterAdd] = {}
        self._reads: dict[int, int] = {}
        self._barriers: dict[int, tuple[int, ...]] = {}

    @property
    def ports(self) -> dict[str, int]:
        """Port names and numbers as of now, reserved ports left out."""
        return {_port_name(port): number for number, port in self._channel.ports.items() if number < RESERVED_PORTS}

    def start(self) -> None:
        """Send the check of our actions; the barrier's reply ends CHECKING."""
        out: list[bytes] = []
        for name, rewrite in self._needed:
            xid = self._next_xid()
            self._checks[xid] = name
            probe = FlowAdd(self.id, 0, 0, Match(ether_type=0x0800, ip_proto=6), (rewrite,))
            out.append(messages.encode_bundle(Bundle(self.id, (probe,)), self._next_bundle(), xid, commit=False))
        barrier = self._next_xid()
        self._barriers[barrier] = ()
        out.append(messages.encode_barrier(barrier))
        self._channel.send(b"".join(out))

    def send(self, commands: Iterable[SwitchCommand]) -> None:
        """Encode commands in order for the next ``flush``; those with a token are answered when all are done.

        Raises LocalError for a command that cannot be encoded, before anything of the batch is sent, and for a switch
        that is not READY.
        """
        if self.state is not State.READY:
            raise LocalError(f"switch {self.id:016x} is {self.state.value}: it takes no commands")
        out: list[bytes] = []
        tokens: dict[int, int] = {}
        meters: dict[int, MeterAdd] = {}
        barriers: dict[int, tuple[int, ...]] = {}
        waiting: list[int] = []

        def close() -> None:
            xid = self._next_xid()
            barriers[xid] = tuple(waiting)
            waiting.clear()
            out.append(messages.encode_barrier(xid))

        for command in commands:
            xid = self._next_xid()
            token = 0
            match command:
                case FlowAdd(token=token):
                    out.append(messages.encode_flow(command, xid))
                case FlowDelete(token=token):
                    out.append(messages.encode_flow_delete(command, xid))
                case Bundle(token=token):
                    out.append(messages.encode_bundle(command, self._next_bundle(), xid))
                case ReadFlows():
                    out.append(messages.encode_flow_request(command, xid))
                    self._reads[xid] = command.token
                case MeterAdd(token=token):
                    out.append(messages.encode_meter(command, xid))
                    meters[xid] = command
                case PacketOut():
                    for frame in packets.frames_of(command):
                        out.append(messages.encode_packet_out(frame, command.actions, command.in_port, xid))
                case ResolveHost():
                    out.append(messages.encode_packet_out(packets.encode_question(command), FLOOD, None, xid))
                case AnswerHost():
                    to = (Output(command.port),)
                    out.append(messages.encode_packet_out(packets.encode_answer(command), to, None, xid))
                case Barrier(token=token):
                    pass
            if token:
                tokens[xid] = token
            if token or xid in meters:
                waiting.append(xid)
            if isinstance(command, Barrier):
                close()
        if waiting:
            close()
        self._tokens |= tokens
        self._meters |= meters
        self._barriers |= barriers
        self._outbox += out
        self._queued += sum(map(len, out))
        if self._queued > MAX_QUEUED:
            self.flush()

    def flush(self) -> None:
        """Write what ``send`` has gathered."""
        out, self._outbox, self._queued = self._outbox, [], 0
        if out:
            self._channel.send(b"".join(out))

    def barrier_replied(self, xid: int) -> None:
        """Take a barrier reply: what was sent before it and not refused is done."""
        waiting = self._barriers.pop(xid, None)
        if waiting is None:
            return
        if self.state is State.CHECKING:
            self._finish_check()
        done: dict[int, None] = {}
        for command_xid in waiting:
            self._meters.pop(command_xid, None)
            done[self._tokens.pop(command_xid, 0)] = None
        for token in filter(None, done):  # several commands may share one token: it is answered once
            self._report(BarrierReplied(self.id, token))

    def flows_received(self, xid: int, flags: int, body: bytes) -> None:
        """Take a part of the answer to ``ReadFlows``."""
        token = self._reads.get(xid, 0)
        if not token:
            return
        more = bool(flags & flow_stats.MORE)
        if not more:
            del self._reads[xid]
        try:
            self._report(FlowsReported(self.id, token, flow_stats.decode_flows(body), more))
        except RemoteError as error:
            self._reads.pop(xid, None)
            self._report(CommandRefused(self.id, token, str(error)))

    def error_received(self, xid: int, kind: int, code: int, reason: str) -> None:
        """Take an error message: it refuses the command sent under ``xid``. A command is refused once."""
        if xid in self._checks:
            self._missing.append(self._checks.pop(xid))
            return
        if self.state is not State.READY or xid == self._refused:
            return
        token = self._tokens.pop(xid, 0) or self._reads.pop(xid, 0)
        meter = self._meters.pop(xid, None)
        if meter is not None and (kind, code) == (METER_MOD_FAILED, METER_EXISTS):
            self._change_meter(meter, token)
            return
        self._refused = xid
        self._report(CommandRefused(self.id, token, reason))

    def lost(self) -> None:
        """Take the end of the connection."""
        was_ready, self.state = self.state is State.READY, State.LOST
        if was_ready:
            self._report(SwitchLost(self._clock(), self.id))

    def _finish_check(self) -> None:
        """Decide after the check's barrier."""
        self._checks.clear()
        if self._missing:
            self.state = State.REFUSED
            self.refusal = (
                f"switch {self.id:016x} lacks {', '.join(self._missing)}: no flow was installed on it. "
                "It must be the modified Open vSwitch that 'make setup' builds ('baton doctor' checks it)"
            )
            return
        self.state = State.READY
        self._report(SwitchConnected(self._clock(), self.id, tuple(sorted(self.ports.items()))))

    def _change_meter(self, meter: MeterAdd, token: int) -> None:
        """Change a meter that an earlier controller left, instead of adding it."""
        self.flush()
        xid, barrier = self._next_xid(), self._next_xid()
        self._tokens[xid] = token
        self._barriers[barrier] = (xid,)
        self._channel.send(messages.encode_meter(meter, xid, replace=True) + messages.encode_barrier(barrier))

    def _next_bundle(self) -> int:
        """Return a bundle number that is free on this connection."""
        self._bundle = (self._bundle + 1) & MAX_XID
        return self._bundle

    def _next_xid(self) -> int:
        """Return a transaction id, counted together with the framework's own."""
        self._channel.xid = (self._channel.xid + 1) & MAX_XID
        return self._channel.xid


def _port_name(port: Any) -> str:
    """Return a port's name as text; Ryu has it in bytes."""
    name = port.name
    return str(name.decode(errors="replace") if isinstance(name, bytes) else name)
