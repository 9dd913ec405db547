# SPDX-License-Identifier: Apache-2.0
"""Puts the alerts of Snort and Suricata on the bus as `AlertRaised`.

Suricata connects to `eve.sock`, Snort sends to `snort_alert`, both in the run directory unless `[analyser]` of the
configuration says otherwise (`snort_socket = "/tmp/snort_alert"` is honoured). An app observes them with
`@set_ev_cls(AlertRaised)` and names this one in its `_REQUIRED_APP`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from controller import config
from controller.alerts.listener import AlertListener
from controller.alerts.parser import AlertParser
from controller.core.events import AlertRaised
from controller.openflow.framework import App, hub
from controller.wire.classification import Classifications, decode_classifications

SHIPPED_RULES = Path(__file__).resolve().parent.parent / "snort_rules"


class Alerts(App):  # type: ignore[misc]
    """The listener as an app: its threads live and end with it."""

    _EVENTS: ClassVar[list[type]] = [AlertRaised]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Read where to listen; nothing is opened before `start`."""
        super().__init__(*args, **kwargs)
        self.name = "alerts"
        analyser = config.load().analyser
        directory = config.make_run_dir()
        self.listener = AlertListener(
            hub,
            AlertParser(read_classifications(directory)),
            self.send_event_to_observers,
            directory / analyser.eve_socket,  # an absolute path replaces the directory
            directory / analyser.snort_socket,
            self.logger,
        )

    def start(self) -> Any:
        """Begin to listen. Raises ConfigError when a socket's path cannot be used."""
        self.threads.extend(self.listener.start())
        return super().start()

    def stop(self) -> None:
        """Stop listening first, so that the threads waited for do end."""
        self.listener.stop()
        super().stop()


def read_classifications(directory: Path) -> Classifications:
    """The classes of the analyser at work (its runner keeps a copy in the run directory), else those shipped."""
    for place in (directory, SHIPPED_RULES):
        try:
            return decode_classifications((place / "classification.config").read_text("utf-8", "replace"))
        except OSError:
            continue
    return Classifications()
