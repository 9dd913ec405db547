# SPDX-License-Identifier: Apache-2.0
"""A switch in memory: flow tables that mean what OpenFlow and our actions mean, on values instead of bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from controller.core import seq
from controller.core.commands import (
    Action,
    AnswerHost,
    Barrier,
    Bundle,
    Command,
    FinTimeout,
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
from controller.core.events import BarrierReplied, CommandRefused, FlowsReported, FoundFlow, SegmentReceived
from controller.core.segment import ACK, SYN, Endpoint, Segment


def matches(match: Match, segment: Segment, in_port: int | None) -> bool:
    """Return whether a TCP segment that entered at ``in_port`` is covered; what tells most flows apart comes first."""
    return (
        (match.tcp_dst is None or match.tcp_dst == segment.dst.port)
        and (match.tcp_src is None or match.tcp_src == segment.src.port)
        and (match.ip_dst is None or match.ip_dst == segment.dst.address)
        and (match.ip_src is None or match.ip_src == segment.src.address)
        and (match.tcp_flags is None or segment.flags & match.tcp_flags[1] == match.tcp_flags[0])
        and (match.in_port is None or match.in_port == in_port)
        and (match.ip_proto is None or match.ip_proto == 6)
        and (match.ether_type is None or match.ether_type == (0x86DD if ":" in segment.src.address else 0x0800))
        and (match.vlan is None or match.vlan == segment.vlan)
        and (match.eth_dst is None or match.eth_dst == segment.eth_dst)
        and (match.eth_src is None or match.eth_src == segment.eth_src)
    )


def rewrite(edit: Rewrite, segment: Segment) -> Segment:
    """Return the segment after the edits, as the datapath actions define them."""
    src = Endpoint(edit.ip_src or segment.src.address, edit.tcp_src or segment.src.port)
    dst = Endpoint(edit.ip_dst or segment.dst.address, edit.tcp_dst or segment.dst.port)
    options, acknowledges = segment.options, bool(segment.flags & ACK)
    ack = segment.ack
    if acknowledges:
        ack = seq.add(ack, edit.ack)
        options = replace(
            options, sack=tuple((seq.add(left, edit.ack), seq.add(right, edit.ack)) for left, right in options.sack)
        )
    stamps = options.timestamps
    if stamps is not None:
        echo = seq.add(stamps.echo, edit.tsecr) if acknowledges else stamps.echo
        options = replace(options, timestamps=stamps._replace(value=seq.add(stamps.value, edit.tsval), echo=echo))
    window = segment.window
    if not segment.flags & SYN:
        shifted = window << edit.window_shift if edit.window_shift >= 0 else window >> -edit.window_shift
        window = min(65_535, shifted) if edit.window is None else edit.window
    return replace(
        segment,
        src=src,
        dst=dst,
        eth_src=edit.eth_src or segment.eth_src,
        eth_dst=edit.eth_dst or segment.eth_dst,
        ttl=edit.ttl or segment.ttl,
        ip_id=(segment.ip_id + edit.ip_id) & 0xFFFF,
        seq=seq.add(segment.seq, edit.seq),
        ack=ack,
        window=window,
        options=options,
        frame=None,
    )


class SimulatedSwitch:
    """Flow tables, ports, and what became of each packet.

    ``transmit(port, segment)`` is called for packets that leave, ``report(event)`` for what the controller is told.
    """

    def __init__(
        self,
        number: int,
        macs: dict[str, int],
        transmit: Callable[[int, Segment], None],
        report: Callable[[object], None],
    ) -> None:
        """Begin with empty tables; ``macs`` maps MAC addresses to ports for the NORMAL action."""
        self.number = number
        self.flows: dict[tuple[int, int, Match], FlowAdd] = {}
        self.refuse: Callable[[FlowAdd], str | None] = lambda flow: None
        self._macs = macs
        self._transmit = transmit
        self._report = report

    def carry_out(self, command: Command) -> None:
        """Do what a command says."""
        match command:
            case FlowAdd():
                reason = self.refuse(command)
                if reason:
                    self._report(CommandRefused(self.number, command.token, reason))
                else:
                    self.flows[command.table, command.priority, command.match] = command
            case FlowDelete(table=int(table), match=Match() as match, priority=int(priority)):
                self.flows.pop((table, priority, match), None)
            case Bundle(changes=changes, token=token):
                refusals = [self.refuse(change) for change in changes if isinstance(change, FlowAdd)]
                reason = next((reason for reason in refusals if reason), None)
                if reason:
                    self._report(CommandRefused(self.number, token, reason))
                    return
                for change in changes:
                    self.carry_out(change)
                self._report(BarrierReplied(self.number, token))
            case ReadFlows(cookie=cookie, cookie_mask=mask, table=table, token=token):
                told = [f for f in self.flows.values() if f.table == table and f.cookie & mask == cookie]
                self._report(FlowsReported(self.number, token, tuple(FoundFlow(f, 0, 0) for f in told), more=False))
            case Barrier(token=token):
                self._report(BarrierReplied(self.number, token))
            case PacketOut(packet=Segment() as segment):
                self._execute(command.actions, segment, command.in_port, 0)
            case MeterAdd() | ResolveHost() | AnswerHost():
                pass
            case _:
                raise AssertionError(f"the switch cannot {command}")

    def expire(self, flow: FlowAdd) -> None:
        """Let a flow go, if it is still there."""
        key = (flow.table, flow.priority, flow.match)
        if self.flows.get(key) is flow:
            del self.flows[key]

    def receive(self, in_port: int, segment: Segment, table: int = 0) -> None:
        """Take a packet through the tables, beginning at ``table``."""
        found = [f for f in self.flows.values() if f.table == table and matches(f.match, segment, in_port)]
        if not found:
            return
        best = max(found, key=lambda flow: flow.priority)
        after = self._execute(best.actions, segment, in_port, best.cookie)
        if best.goto is not None:
            self.receive(in_port, after, best.goto)

    def _execute(self, actions: tuple[Action, ...], segment: Segment, in_port: int | None, cookie: int) -> Segment:
        for action in actions:
            match action:
                case Rewrite():
                    segment = rewrite(action, segment)
                case Output(port=Port.CONTROLLER):
                    self._report(SegmentReceived(self.number, in_port or 0, segment, cookie))
                case Output(port=Port.TABLE):
                    self.receive(in_port or 0, segment)
                case Output(port=Port.NORMAL):
                    if segment.eth_dst in self._macs:
                        self._transmit(self._macs[segment.eth_dst], segment)
                case Output(port=int(port)):
                    self._transmit(port, segment)
                case FinTimeout():
                    pass
                case _:
                    raise AssertionError(f"the switch cannot {action}")
        return segment
