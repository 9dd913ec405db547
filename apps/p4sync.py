# SPDX-License-Identifier: Apache-2.0
"""Ships a connection's state along when it migrates: ``ryu-manager apps/tcp_migration.py apps/p4sync.py``.

Only an adapter: migrations and requests from the bus in, `controller.p4sync.following` asked, agents told. Each switch
has a thread that waits for its agent, so nothing waits in the event loop; gRPC is the agents' alone.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, ClassVar

from controller import config
from controller.core import events
from controller.core.commands import Output
from controller.core.errors import ConfigError
from controller.core.segment import Endpoint
from controller.openflow.framework import (
    DEAD_DISPATCHER,
    MAIN_DISPATCHER,
    App,
    EventOFPStateChange,
    hub,
    set_ev_cls,
)
from controller.openflow.messages import encode_packet_out
from controller.openflow.threads import clock, spawn
from controller.p4sync.following import Following
from controller.p4sync.shipper import Shipper

_REQUIRED_APP = ["apps.bus", "apps.journal"]
"""Requests come over the bus; the journal keeps what became of them."""


class P4SyncApp(App):  # type: ignore[misc]
    """Follows migrations and serves `StateShipRequested`."""

    _EVENTS: ClassVar[list[type]] = [events.StateFollowed, events.StateShipped, events.StateRejected]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Read the settings; a fault in them ends the process with its mend."""
        super().__init__(*args, **kwargs)
        try:
            settings = config.load()
        except ConfigError as error:
            print(f"baton: {error}", file=sys.stderr)
            raise SystemExit(2) from error
        own = settings.p4sync
        servers = settings.servers
        numbered = {
            Endpoint(servers[service.origin].address, servers[service.origin].port): (
                service.origin,
                own.services[service.name],
            )
            for service in settings.services
            if service.name in own.services
        }
        self.following = Following({switch.server: name for name, switch in own.switches.items()}, numbered)
        followed = [
            service.name
            for service in settings.services
            if service.name in own.services and not servers[service.origin].is_ipv6
        ]
        self._followed = (tuple(followed), tuple(switch.server for switch in own.switches.values()))
        self.shippers = {
            name: Shipper(
                name,
                config.agent_socket(settings, name),
                self.send_event_to_observers,
                clock,
                hub.Queue,
                hub.sleep,
                own.settle,
                partial(self._send_frame, switch.port),
            )
            for name, switch in own.switches.items()
        }
        self._channels: dict[int, Any] = {}
        self._ports: dict[str, tuple[int, int]] = {}

    def start(self) -> Any:
        """Begin to work: three threads for each switch; from now on cutovers may wait for what goes ahead."""
        thread = super().start()
        for shipper in self.shippers.values():
            for work in (shipper.go_ahead, shipper.follow, shipper.watch):
                spawn(work)
        self.send_event_to_observers(events.StateFollowed(clock(), *self._followed))
        return thread

    @set_ev_cls(
        [
            events.VerdictReached,
            events.MigrationStarted,
            events.MigrationCompleted,
            events.MigrationFailed,
            events.MigrationRolledBack,
            events.ConnectionClosed,
            events.StateShipped,
            events.StateRejected,
        ]
    )
    def _on_connection(self, event: object) -> None:
        """Do for its switches what happens to a connection."""
        for wish in self.following.handle(event):
            self.shippers[getattr(wish, "source", "") or getattr(wish, "switch", "")].add(wish)

    @set_ev_cls(events.StateShipRequested)
    def _on_request(self, event: events.StateShipRequested) -> None:
        """Ship what somebody asks for, or say that there is no such switch."""
        shipper = self.shippers.get(event.source)
        if shipper is None:
            known = ", ".join(sorted(self.shippers)) or "none"
            reason = f"no P4 switch is called {event.source!r} (known: {known})"
            self.send_event_to_observers(
                events.StateRejected(clock(), event.source, event.destination, reason, request=event.request)
            )
        else:
            shipper.add(event)

    @set_ev_cls(EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def _on_channel(self, ev: Any) -> None:
        """Remember how switches are reached."""
        if ev.state == MAIN_DISPATCHER:
            self._channels[ev.datapath.id] = ev.datapath
        elif self._channels.get(ev.datapath.id) is ev.datapath:
            del self._channels[ev.datapath.id]

    @set_ev_cls(events.SwitchConnected)
    def _on_switch(self, event: events.SwitchConnected) -> None:
        """Remember which port leads where."""
        self._ports.update({name: (event.switch, number) for name, number in event.ports})

    def _send_frame(self, port: str | None, frame: bytes) -> bool:
        """Send a frame out of the port of this name; False where there is none."""
        switch, number = self._ports.get(port or "", (0, 0))
        channel = self._channels.get(switch)
        if channel is None:
            return False
        channel.send(encode_packet_out(frame, (Output(number),), None, 0))
        return True

    def close(self) -> None:
        """Let the threads end."""
        for shipper in self.shippers.values():
            shipper.stop()
