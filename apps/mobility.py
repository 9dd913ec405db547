# SPDX-License-Identifier: Apache-2.0
"""Shows where ECCP hosts move and pre-installs flows for the new place: ``ryu-manager apps/mobility.py``.

Only an adapter: `FlowMoved` from the bus in, `controller.eccp.mobility` asked, its flow changes out.
"""

from __future__ import annotations

from typing import Any

from controller.core import events
from controller.eccp.mobility import Mobility, describe
from controller.openflow.app import OpenFlowApp
from controller.openflow.framework import set_ev_cls
from controller.openflow.listener import ListenError, prepare_tcp

_REQUIRED_APP = ["apps.bus", "apps.journal"]
"""Moves come over the bus; the journal keeps them."""


class MobilityApp(OpenFlowApp):
    """Feeds `Mobility` with moves and switches, and carries out what it answers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Begin without switches; they connect to the framework's own port, which has to be free."""
        super().__init__(*args, **kwargs)
        self.mobility = Mobility()
        try:
            prepare_tcp()
        except ListenError as error:
            self.give_up(str(error))

    def handle(self, event: object) -> None:
        """Ask what the event calls for and do it."""
        changes = self.mobility.handle(event)
        if changes:
            self.send(changes)

    @set_ev_cls(events.FlowMoved)
    def _on_flow_moved(self, event: events.FlowMoved) -> None:
        """An ECCP daemon tells of a move."""
        self.logger.info("%s", describe(event))
        self.handle(event)
