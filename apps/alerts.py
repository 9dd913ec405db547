# SPDX-License-Identifier: Apache-2.0
"""Puts the alerts of Snort and Suricata on the bus as `AlertRaised`.

Suricata connects to `eve.sock`, Snort sends to `snort_alert`, both in the run directory unless `[analyser]` of the
configuration says otherwise (`snort_socket = "/tmp/snort_alert"` is honoured). An app observes them with
`@set_ev_cls(AlertRaised)` and its module names this one in `_REQUIRED_APP`.
"""

from __future__ import annotations

import atexit
import sys
from pathlib import Path
from typing import Any, ClassVar

from controller import config
from controller.alerts.classes import ClassFile
from controller.alerts.listener import AlertListener
from controller.alerts.parser import AlertParser
from controller.core.errors import ConfigError
from controller.core.events import AlertRaised, RoleChanged
from controller.openflow.framework import App, hub, set_ev_cls
from controller.openflow.threads import spawn

CLASSES = ("analyser/rules", Path(__file__).resolve().parent.parent / "snort_rules")
"""Where classes of alerts are named: in the copy that the running analyser uses, else as shipped."""

RETRY = 1.0
"""Seconds until sockets that another controller has are tried again."""


class Alerts(App):  # type: ignore[misc]
    """The listener as an app."""

    _EVENTS: ClassVar[list[type]] = [AlertRaised]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Open both sockets; a fault in them or in the settings ends the process with its mend.

        Of two controllers only the master has them: they are opened when it is elected.
        """
        super().__init__(*args, **kwargs)
        self.listener: AlertListener | None = None
        self._role = ""
        self._idle = hub.Semaphore(0)
        try:
            self._settings = config.load()
            self._directory = config.make_run_dir()
            if self._settings.standby is None:
                self.listener = self._open()
        except ConfigError as error:
            print(f"baton: {error}", file=sys.stderr)
            raise SystemExit(2) from error
        atexit.register(self.close)  # the framework does not close its apps when it is interrupted early

    def _open(self) -> AlertListener:
        analyser, place = self._settings.analyser, config.alert_dir(self._settings)
        return AlertListener(
            hub,
            spawn,
            AlertParser(ClassFile([self._directory / name / "classification.config" for name in CLASSES]).current),
            self.send_event_to_observers,
            place / analyser.eve_socket,  # an absolute path replaces the directory
            place / analyser.snort_socket,
            self.logger,
        )

    def start(self) -> Any:
        """Begin to read alerts; the framework runs for as long as the thread returned does."""
        super().start()
        return spawn(self._idle.acquire) if self.listener is None else self.listener.start()[0]

    @set_ev_cls(RoleChanged)
    def _on_role(self, event: RoleChanged) -> None:
        """Read alerts while this controller is the master."""
        self._role = event.role
        self._stop()
        if event.role == "master":
            try:
                self.listener = self._open()
            except ConfigError as error:  # the other one hangs, and has it still; it gives it up when it wakes
                self.logger.error("alerts: %s", error)
                spawn(self._try_again, event)
                return
            self.listener.start()

    def _try_again(self, event: RoleChanged) -> None:
        hub.sleep(RETRY)
        if self._role == event.role:
            self.send_event(self.name, event)

    def _stop(self) -> None:
        if self.listener is not None:
            self.listener.stop()
            self.listener = None

    def close(self) -> None:
        """Stop reading and remove the sockets."""
        self._stop()
        self._idle.release()
