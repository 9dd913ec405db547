# SPDX-License-Identifier: Apache-2.0
"""Base class of an app that steers switches: OpenFlow events in, events of the core out, commands back.

A subclass lives in ``apps/`` and implements ``handle(event)``; it calls ``listen`` once, ``send(commands)`` and
``wake_at``. All of it runs in the app's own event loop, one handler at a time, on Ryu and on OS-Ken alike.
"""

from __future__ import annotations

import gc
import sys
from collections import defaultdict, deque
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from controller.core.commands import WakeAt
from controller.core.errors import LocalError
from controller.core.events import CommandRefused, FlowRemoved, TimerExpired
from controller.openflow import actions, flow_stats, framework, packet_in, packets
from controller.openflow.election import Election, ElectionError, Term
from controller.openflow.framework import App, set_ev_cls
from controller.openflow.listener import Listener, ListenError, mend_disconnection, prepare_tcp
from controller.openflow.standby import TICK, Standby, Tick
from controller.openflow.switch import CHECKS, State, Switch, SwitchCommand
from controller.openflow.threads import Alarms, clock

CONNECTED = [framework.CONFIG_DISPATCHER, framework.MAIN_DISPATCHER]
REMOVAL_REASONS = {0: "idle", 1: "hard", 2: "delete"}
EXIT_USAGE = 2
GARBAGE_THRESHOLD = 20_000
"""Objects made until cycles are looked for (the interpreter's own is 700): the packet path makes none."""


class OpenFlowApp(App):  # type: ignore[misc]
    """Keeps one ``Switch`` for each connected datapath and turns what it says into events of the core."""

    OFP_VERSIONS = [framework.OFP_VERSION]  # noqa: RUF012 (the framework reads it as a class attribute)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin without switches; the framework's parsers learn our actions."""
        super().__init__(*args, **kwargs)
        actions.register()
        packet_in.register()
        flow_stats.register()
        mend_disconnection()
        self.switches: dict[int, Switch] = {}
        self._channels: dict[Any, Switch] = {}
        self._pending: deque[object] = deque()
        self._alarms = self._new_alarms()
        self._listener: Listener | None = None
        self._standby: Standby | None = None

    # ---- for the subclass ----

    def handle(self, event: object) -> None:
        """Take an event of the core; to be written by the subclass."""
        raise NotImplementedError

    def listen(self, directory: Path) -> None:
        """Listen for switches in the run directory too; end the process with a clear message where that cannot be.

        To be called in the constructor: no thread has been started then, so the process ends cleanly.
        """
        try:
            prepare_tcp()
            self._listener = Listener(directory)
        except ListenError as error:
            self.give_up(str(error))

    def share(self, directory: Path, run_dir: Path, lease: float) -> None:
        """Be one of two controllers that share the switches; to be called in the constructor.

        A switch counts as connected only while this controller is its master.
        """
        try:
            self._standby = Standby(Election(directory, run_dir, lease), self, clock)
            self._ticks = Alarms(lambda fact: self.send_event(self.name, fact))
        except ElectionError as error:
            self.give_up(str(error))

    def elected(self, generation: int, before: Term) -> None:
        """Begin with nothing known: this controller is master now; the term that ended is ``before``."""

    def resigned(self, reason: str) -> None:
        """Forget all: another controller is master."""

    def needs_actions(self, switch: int) -> bool:
        """Return whether a switch must have our actions."""
        return True

    @property
    def role(self) -> str:
        """``master`` or ``standby`` of two controllers; empty for one alone."""
        return "" if self._standby is None else self._standby.role

    def give_up(self, message: str) -> NoReturn:
        """End the process before it has begun, with a message instead of a traceback."""
        print(f"baton: {message}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)

    def take(self, event: object) -> None:
        """Handle an event that came over the bus, like those that switches cause."""
        self._pending.append(event)
        self._deliver()

    def send(self, commands: Iterable[SwitchCommand]) -> None:
        """Carry out commands for switches, in order; they are written when all events at hand have been handled.

        What cannot be carried out is logged and, where it has a token, answered with ``CommandRefused``.
        """
        batches: dict[int, list[SwitchCommand]] = defaultdict(list)
        for command in commands:
            batches[command.switch].append(command)
        for number, batch in batches.items():
            switch = self.switches.get(number)
            try:
                if switch is None:
                    raise LocalError(f"switch {number:016x} is not connected: {len(batch)} commands dropped")
                switch.send(batch)
            except LocalError as error:
                self.logger.error("%s", error)
                tokens = [getattr(command, "token", 0) for command in batch]
                self._pending.extend(CommandRefused(number, token, str(error)) for token in tokens if token)

    def forget(self) -> None:
        """Give up all deadlines, and what was reported and not handled yet: they are of another life."""
        self._pending.clear()
        self._alarms.stop()
        self._alarms = self._new_alarms()

    def _new_alarms(self) -> Alarms:
        return Alarms(lambda fact: self.send_event(self.name, fact))

    def wake_at(self, command: WakeAt) -> None:
        """Hand back ``TimerExpired`` at the command's time."""
        self._alarms.wake_at(command.when, TimerExpired(command.connection, command.version, command.kind))

    # ---- for the framework ----

    def start(self) -> Any:
        """Start the event loop, then take switches."""
        # What has been loaded stays; looking through it again and again would take more time than all packets.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD, 20, 50)
        thread = super().start()
        if self._listener is not None:
            self._listener.start()
        if self._standby is not None:
            self._ticks.wake_at(clock(), Tick())
        return thread

    def close(self) -> None:
        """End the timers, remove the socket, let the other controller be master."""
        self._alarms.stop()
        if self._standby is not None:
            self._ticks.stop()
            self._standby.close()
            self._standby = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _deliver(self) -> None:
        """Hand over what has been reported; what the subclass's own commands cause comes after, never in between.

        Every handler ends with this, whatever it did: commands wait here until no event is left to be handled.
        """
        while self._pending:
            event = self._pending.popleft()
            try:
                self.handle(event)
            except Exception:
                self.logger.exception("%s could not be handled", type(event).__name__)
        if not self.events.qsize():
            # More events are about to come otherwise: what they cause is written together with this.
            for switch in self.switches.values():
                switch.flush()

    @set_ev_cls(framework.EventOFPStateChange, [framework.MAIN_DISPATCHER, framework.DEAD_DISPATCHER])
    def _on_state(self, ev: Any) -> None:
        """Begin with a switch whose handshake is done; forget one whose connection is gone."""
        channel = ev.datapath
        if ev.state == framework.MAIN_DISPATCHER:
            if self._standby is not None:
                self._standby.opened(channel)
            else:
                self.begin(channel)
        else:
            if self._standby is not None:
                self._standby.closed(channel)
            self.end(channel)
        self._deliver()

    def begin(self, channel: Any) -> None:
        """Begin with a switch that takes our commands."""
        switch = Switch(channel, self._pending.append, clock, CHECKS if self.needs_actions(channel.id) else ())
        earlier = self.switches.get(switch.id)
        if earlier is not None:
            earlier.lost()
        self.switches[switch.id] = self._channels[channel] = switch
        switch.start()

    def end(self, channel: Any) -> None:
        """Forget a switch that does not take them any more."""
        gone = self._channels.pop(channel, None)
        if gone is not None and self.switches.get(gone.id) is gone:
            del self.switches[gone.id]
            gone.lost()

    @set_ev_cls(Tick)
    def _on_tick(self, event: Tick) -> None:
        """Look who is master."""
        if self._standby is not None:
            self._standby.tick()
            self._ticks.wake_at(clock() + TICK, event)
        self._deliver()

    @set_ev_cls(framework.EventOFPRoleReply, framework.MAIN_DISPATCHER)
    def _on_role(self, ev: Any) -> None:
        """A switch has told our role there."""
        message = ev.msg
        if self._standby is not None:
            self._standby.answered(message.datapath, message.xid, message.role, message.generation_id)
        self._deliver()

    @set_ev_cls(framework.EventOFPRoleStatus, framework.MAIN_DISPATCHER)
    def _on_role_status(self, ev: Any) -> None:
        """A switch has changed our role, as somebody else wanted it."""
        if self._standby is not None:
            self._standby.told(ev.msg.datapath, ev.msg.role)
        self._deliver()

    @set_ev_cls(framework.EventOFPPacketIn, framework.MAIN_DISPATCHER)
    def _on_packet(self, ev: Any) -> None:
        """Decode what was punted; what is not for us, or from a switch that is not ready, is dropped."""
        message = ev.msg
        switch = self._channels.get(message.datapath)
        if switch is not None and switch.state is State.READY:
            packet = packets.decode_packet(message.data, message.total_len)
            event = packets.event_of(switch.id, message.match["in_port"], message.cookie, packet)
            if event is not None:
                self._pending.append(event)
        self._deliver()

    @set_ev_cls(framework.EventOFPBarrierReply, framework.MAIN_DISPATCHER)
    def _on_barrier(self, ev: Any) -> None:
        """Commands sent before the barrier are done."""
        switch = self._channels.get(ev.msg.datapath)
        if switch is not None:
            was_checking = switch.state is State.CHECKING
            switch.barrier_replied(ev.msg.xid)
            if was_checking and switch.state is State.REFUSED:
                self.logger.error("%s", switch.refusal)
        self._deliver()

    @set_ev_cls(framework.EventOFPErrorMsg, CONNECTED)
    def _on_error(self, ev: Any) -> None:
        """The switch refused something."""
        message = ev.msg
        code = getattr(message, "code", None)
        facts = (message.xid, message.type, -1 if code is None else code)
        switch = self._channels.get(message.datapath)
        is_of_role = self._standby is not None and self._standby.refused(message.datapath, *facts)
        if switch is not None and not is_of_role:
            switch.error_received(*facts, describe_error(message))
        self._deliver()

    @set_ev_cls(framework.EventOFPFlowStatsReply, framework.MAIN_DISPATCHER)
    def _on_flows(self, ev: Any) -> None:
        """Flows that were asked for."""
        switch = self._channels.get(ev.msg.datapath)
        if switch is not None:
            switch.flows_received(ev.msg.xid, ev.msg.flags, ev.msg.body)
        self._deliver()

    @set_ev_cls(framework.EventOFPFlowRemoved, framework.MAIN_DISPATCHER)
    def _on_flow_removed(self, ev: Any) -> None:
        """A flow that asked for it has gone."""
        message = ev.msg
        switch = self._channels.get(message.datapath)
        if switch is not None:
            reason = REMOVAL_REASONS.get(message.reason, "other")
            self._pending.append(
                FlowRemoved(switch.id, message.cookie, reason, message.packet_count, message.byte_count)
            )
        self._deliver()

    @set_ev_cls(TimerExpired)
    def _on_timer(self, event: TimerExpired) -> None:
        """A deadline has come."""
        self._pending.append(event)
        self._deliver()


def describe_error(message: Any) -> str:
    """Return an error message of the switch in OpenFlow's words."""
    protocol = message.datapath.ofproto
    if message.type == protocol.OFPET_EXPERIMENTER:
        return f"experimenter {message.experimenter:#x} error {message.exp_type}"
    kind = protocol.ofp_error_type_to_str(message.type)
    return f"{kind}: {protocol.ofp_error_code_to_str(message.type, message.code)}"
