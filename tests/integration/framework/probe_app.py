# SPDX-License-Identifier: Apache-2.0
"""An app for the tests: prints every event as one line of JSON, installs one flow, sets one timer."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from controller.core.commands import FlowAdd, Match, Output, PacketOut, Port, WakeAt
from controller.core.events import SegmentReceived, SwitchConnected
from controller.openflow.app import OpenFlowApp
from controller.openflow.framework import NAME


class Probe(OpenFlowApp):
    """Tells what happens."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.listen(Path(os.environ["BATON_RUN_DIR"]))
        self.tell("Started", framework=NAME)

    def tell(self, event, **facts):
        os.write(1, json.dumps({"event": event, **facts}).encode() + b"\n")

    def handle(self, event):
        facts = {name: getattr(event, name) for name in ("switch", "token", "reason", "ports", "kind", "port", "cookie")
                 if hasattr(event, name)}  # fmt: skip
        self.tell(type(event).__name__, **facts)
        if isinstance(event, SwitchConnected):
            flow = FlowAdd(
                event.switch, 0, 1, Match(ip_dst="10.0.0.1", tcp_dst=80), (Output(Port.CONTROLLER),), token=5
            )
            self.send([flow])
            self.wake_at(WakeAt(time.monotonic() + 0.05, None, 3, "probe"))
        if isinstance(event, SegmentReceived):
            self.send([PacketOut(event.switch, event.segment, (Output(2),))])
