# SPDX-License-Identifier: Apache-2.0
"""Moves TCP connections between servers when an alert says so: ``ryu-manager apps/tcp_migration.py``.

Only an adapter: switches and alerts in, the core's commands out. What is decided, and why, is in ``controller.core``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from controller.config import load, make_run_dir, policy_of
from controller.core import events
from controller.core.commands import Publish, WakeAt
from controller.core.engine import Engine
from controller.core.errors import ConfigError
from controller.core.facts import Recollection
from controller.openflow.app import OpenFlowApp
from controller.openflow.election import Term
from controller.openflow.framework import set_ev_cls
from controller.openflow.threads import clock
from controller.recollection import recollect

_REQUIRED_APP = ["apps.alerts", "apps.bus", "apps.journal"]
"""Apps that the framework loads along with this one."""
STANDS_BY = "this controller stands by: set BATON_RUN_DIR to the master's run directory"


class TcpMigration(OpenFlowApp):
    """Feeds the core with what switches and the analyser report, and carries out what it answers."""

    _EVENTS: ClassVar[list[type]] = [
        events.SwitchConnected,
        events.SwitchLost,
        events.SwitchAssigned,
        events.RoleChanged,
        events.ConnectionsTakenOver,
        events.ConnectionOpened,
        events.ConnectionClosed,
        events.RequestHeld,
        events.VerdictReached,
        events.MigrationStarted,
        events.TargetEstablished,
        events.MigrationCompleted,
        events.MigrationFailed,
        events.MigrationRolledBack,
        events.ConnectionReported,
        events.StatusReported,
        events.DrainProgressed,
        events.DrainCompleted,
        events.DrainFailed,
    ]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Read the settings and begin to listen for switches; a fault in either ends the process with its mend."""
        super().__init__(*args, **kwargs)
        try:
            settings, self._directory = load(), make_run_dir()
            self._policy = policy_of(settings)
            self.engine = Engine(self._policy, recollect(self._directory))
            if settings.standby is not None:
                self.share(Path(settings.standby.directory), self._directory, settings.standby.lease)
            self.listen(self._directory)
        except ConfigError as error:
            self.give_up(str(error))

    def needs_actions(self, switch: int) -> bool:
        """A switch that the settings let only forward may be any."""
        return not self._policy.rewriting or switch in self._policy.rewriting

    def elected(self, generation: int, before: Term) -> None:
        """Begin as after a crash: what the switches hold, and both journals, tell of the master before."""
        remembered = recollect(self._directory)
        if before.run_dir and Path(before.run_dir) != self._directory:
            remembered |= recollect(Path(before.run_dir))
        self._begin_anew(remembered)
        self.send_event_to_observers(events.RoleChanged(clock(), "master", generation, before.run_dir))

    def resigned(self, reason: str) -> None:
        """What is known here is another's business from now on, and soon out of date."""
        self._begin_anew(None)
        self.logger.warning("standing by: %s", reason)
        self.send_event_to_observers(events.RoleChanged(clock(), "standby", 0, reason))

    def _begin_anew(self, remembered: Recollection | None) -> None:
        self.forget()
        followed = self.engine.world.followed
        self.engine = Engine(self._policy, remembered)
        self.engine.world.followed = followed

    def handle(self, event: object) -> None:
        """Ask the core and do what it says: switches first, they are what somebody waits for."""
        published: list[object] = []
        to_switches: list[Any] = []
        for command in self.engine.handle(event, clock()):
            if isinstance(command, Publish):
                told = command.event
                published.append(replace(told, role=self.role) if isinstance(told, events.StatusReported) else told)
            elif isinstance(command, WakeAt):
                self.wake_at(command)
            else:
                to_switches.append(command)
        if to_switches:
            self.send(to_switches)
        if type(event) in (events.SwitchConnected, events.SwitchLost):
            self.send_event_to_observers(event)
        for fact in published:
            self.send_event_to_observers(fact)

    @set_ev_cls(events.AlertRaised)
    def _on_alert(self, event: events.AlertRaised) -> None:
        """An intrusion-detection system reported a packet."""
        self.take(event)

    @set_ev_cls([events.StateFollowed, events.StateShipped, events.StateRejected])
    def _on_state_told(self, event: object) -> None:
        """The state of P4 switches goes along with connections (apps/p4sync.py)."""
        self.take(event)

    @set_ev_cls([events.MigrationRequested, events.DrainRequested, events.StatusRequested])
    def _on_request(self, event: object) -> None:
        """An operator or another program asks for something; a standby has no connections to do it with."""
        if self.role != "standby" or isinstance(event, events.StatusRequested):
            self.take(event)
        elif isinstance(event, events.DrainRequested):
            self.send_event_to_observers(events.DrainFailed(clock(), event.request, event.server, STANDS_BY))
        elif isinstance(event, events.MigrationRequested):
            facts = (clock(), event.connection, 0, event.target, "standby", STANDS_BY)
            self.send_event_to_observers(events.MigrationFailed(*facts))
