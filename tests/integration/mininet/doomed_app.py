# SPDX-License-Identifier: Apache-2.0
"""The controller's app, mortal: when a connection comes to a given step it kills its process, or halts for a while.

`RUN/doom.json` holds `{"step": STEP, "sent": BOOL, "since": TIME, "halt": BOOL}`: STEP is a state, or a state and a
migration's phase, in the words of the tables (`held`, `served/braking`); `sent` says whether what the step makes the
controller send still reaches the switch; connections opened before TIME (monotonic) do not count. It then ends with
SIGKILL, or halts until the file is gone (`RUN/halted` says when it does). Without the file it lives. It is its own
analyser: every request that is held raises the alert that migrates.
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

from apps.tcp_migration import _REQUIRED_APP as NEEDED
from apps.tcp_migration import TcpMigration
from controller.config import run_dir
from controller.core.commands import Command, Publish
from controller.core.connection import Connection, Phase
from controller.core.engine import Engine
from controller.core.events import AlertRaised, RequestHeld, TimerExpired
from controller.openflow.framework import hub

_REQUIRED_APP = NEEDED
SID = 1_000_002


def step_of(connection: Connection) -> str:
    """Return where a connection is, in the words of the tables."""
    attempt = connection.attempt
    return connection.state.value + ("" if attempt is None else f"/{attempt.phase.value}")


class DoomedEngine:
    """The core, watched: tells when the step is reached."""

    def __init__(self, engine: Engine, app: Doomed) -> None:
        self._engine, self._app = engine, app
        self._find = engine.world.locations.find
        self.world = engine.world

    def handle(self, event: object, now: float) -> list[Command]:
        """Let the core decide; end the process where it was asked for."""
        doom = self._app.doom()
        step = doom.get("step", "")
        # A target that is known is never looked for; one that always answers is never given up.
        self.world.locations.find = self._find if not step.endswith("/locating") else self._nowhere
        commands = self._engine.handle(event, now)
        for command in commands:
            if isinstance(command, Publish) and isinstance(command.event, RequestHeld):
                self._app.alarm(command.event)
        young = [known for known in self.world.connections.values() if known.opened >= doom.get("since", 0)]
        for connection in young:
            attempt = connection.attempt
            if attempt is not None and attempt.phase is Phase.MEASURING and step.endswith("/undoing"):
                self._app.later(TimerExpired(connection.key, connection.version, "frozen"))
        if any(step_of(connection) == step for connection in young):
            self._app.reach(doom)
        return commands

    def _nowhere(self, switch: int, address: str) -> Any:
        return None if address == "10.0.0.2" else self._find(switch, address)


class Doomed(TcpMigration):
    """Kills its process when the time has come."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._path = run_dir() / "doom.json"
        self._dying = self._halted = False
        self.engine: Any = DoomedEngine(self.engine, self)

    def doom(self) -> dict[str, Any]:
        """Return what the file says, if there is one."""
        try:
            return dict(json.loads(self._path.read_text()))
        except (OSError, ValueError):
            return {}

    def later(self, event: object) -> None:
        """Let something happen next."""
        self._pending.append(event)

    def alarm(self, held: RequestHeld) -> None:
        """Be the analyser."""
        client, service = held.connection
        self.later(AlertRaised(held.time, "test", SID, 1, 1, "MIGRATE", "", 1, client, service))

    def reach(self, doom: dict[str, Any]) -> None:
        """The step is reached, and what it sends is still in hand."""
        if doom["halt"] and not self._halted:
            self._halted = True
            if not doom["sent"]:
                self.halt()
        elif not doom["halt"]:
            if not doom["sent"]:
                os.kill(os.getpid(), signal.SIGKILL)
            self._dying = True

    def halt(self) -> None:
        """Handle nothing until the file is gone."""
        mark = self._path.with_name("halted")
        mark.touch()
        while self._path.exists():
            hub.sleep(0.002)
        mark.unlink()
        self._halted = False

    def handle(self, event: object) -> None:
        """Handle an event, unless the end has come; end or halt once what it causes has been written."""
        if self._dying:
            return
        super().handle(event)
        if self._dying or self._halted:
            for switch in self.switches.values():
                switch.flush()
            hub.sleep(0.05)
        if self._dying:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._halted:
            self.halt()
