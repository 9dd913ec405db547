# SPDX-License-Identifier: Apache-2.0
"""Moves TCP connections between servers when an alert says so: ``ryu-manager apps/tcp_migration.py``.

Only an adapter: switches and alerts in, the core's commands out. What is decided, and why, is in ``controller.core``.
"""

from __future__ import annotations

from typing import Any, ClassVar

from controller.config import load, make_run_dir, policy_of
from controller.core import events
from controller.core.commands import Publish, WakeAt
from controller.core.engine import Engine
from controller.core.errors import ConfigError
from controller.openflow.app import OpenFlowApp
from controller.openflow.framework import set_ev_cls
from controller.openflow.threads import clock
from controller.recollection import read_opened

_REQUIRED_APP = ["apps.alerts", "apps.bus", "apps.journal"]
"""Apps that the framework loads along with this one."""


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
            directory = make_run_dir()
            self.engine = Engine(policy_of(load()), read_opened(directory))
            self.listen(directory)
        except ConfigError as error:
            self.give_up(str(error))

    def handle(self, event: object) -> None:
        """Ask the core and do what it says: switches first, they are what somebody waits for."""
        published: list[object] = []
        to_switches: list[Any] = []
        for command in self.engine.handle(event, clock()):
            if isinstance(command, Publish):
                published.append(command.event)
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
        """An operator or another program asks for something."""
        self.take(event)
