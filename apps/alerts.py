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
from controller.core.events import AlertRaised
from controller.openflow.framework import App, hub
from controller.openflow.threads import spawn

CLASSES = ("analyser/rules", Path(__file__).resolve().parent.parent / "snort_rules")
"""Where classes of alerts are named: in the copy that the running analyser uses, else as shipped."""


class Alerts(App):  # type: ignore[misc]
    """The listener as an app."""

    _EVENTS: ClassVar[list[type]] = [AlertRaised]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Open both sockets; a fault in them or in the settings ends the process with its mend."""
        super().__init__(*args, **kwargs)
        try:
            analyser = config.load().analyser
            directory = config.make_run_dir()
            self.listener = AlertListener(
                hub,
                spawn,
                AlertParser(ClassFile([directory / place / "classification.config" for place in CLASSES]).current),
                self.send_event_to_observers,
                directory / analyser.eve_socket,  # an absolute path replaces the directory
                directory / analyser.snort_socket,
                self.logger,
            )
        except ConfigError as error:
            print(f"baton: {error}", file=sys.stderr)
            raise SystemExit(2) from error
        atexit.register(self.listener.stop)  # the framework does not close its apps when it is interrupted early

    def start(self) -> Any:
        """Begin to read alerts; the framework runs for as long as the thread returned does."""
        super().start()
        return self.listener.start()[0]

    def close(self) -> None:
        """Stop reading and remove the sockets."""
        self.listener.stop()
