# SPDX-License-Identifier: Apache-2.0
"""The test's end of ``hand_peer``: clients led step by step, servers, and moving their connections."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from controller.bus_client import NAME, BusClient, BusError
from controller.core.events import MigrationCompleted, MigrationFailed, MigrationRequested, MigrationRolledBack
from controller.core.segment import ConnectionKey, Endpoint
from topo import BatonNet, wait_for

PROGRAM = str(Path(__file__).with_name("hand_peer.py"))
DEADLINE = 60
ENDED = (MigrationCompleted, MigrationFailed, MigrationRolledBack)


def serve(net: BatonNet, node: str, address: str, port: int, name: str, *ways: str) -> None:
    """Start a server and wait until it listens."""
    command = [sys.executable, PROGRAM, "serve", address, str(port), name, *ways]
    server = net.popen(node, command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    assert server.stdout.readline() == "ready\n"


def bus_of(net: BatonNet) -> BusClient:
    """Return a connection to the controller's bus; it opens a moment after the switch is connected."""

    def connect() -> BusClient | None:
        try:
            return BusClient(net.run_dir / NAME)
        except BusError:
            return None

    found: BusClient = wait_for("the bus", connect, DEADLINE)
    return found


class Hand:
    """A client in a host, and the one connection that it has."""

    def __init__(self, net: BatonNet, node: str = "h3", address: str = "10.0.0.3") -> None:
        self.address = address
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = net.popen(node, [sys.executable, PROGRAM, "client"], text=True, **pipes)
        self.key: Any = None

    def do(self, what: str, **facts: Any) -> dict[str, Any]:
        """Have one thing done."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": what, **facts}) + "\n")
        self.process.stdin.flush()
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert "error" not in told, told
        return told

    def connect(self, address: str, port: int, own: int = 0) -> int:
        """Connect, from a port of choice if need be; return the port."""
        own = self.do("connect", to=[address, port], **({"from": own} if own else {}))["port"]
        self.key = ConnectionKey(Endpoint(self.address, own), Endpoint(address, port))
        return own

    def send(self, text: str) -> None:
        self.do("send", text=text)

    def read(self, until: str = "\n") -> str:
        return str(self.do("read", until=until)["text"])

    def ask(self, text: str) -> str:
        """Send a line and return the answer."""
        self.send(text + "\n")
        return self.read()


def outcome(bus: BusClient, key: ConnectionKey, target: str, cut: str | None = None) -> Any:
    """Ask for a migration and return how it ended."""
    bus.send(MigrationRequested(time.monotonic(), key, target, cut))
    return bus.wait_for(lambda event: isinstance(event, ENDED) and event.connection == key, DEADLINE)


def moved(bus: BusClient, key: ConnectionKey, target: str, cut: str | None = None) -> Any:
    """Ask until the connection is there: on a busy machine a freeze may take too long, and is undone."""
    undone: list[Any] = []

    def is_there() -> Any:
        end = outcome(bus, key, target, cut)
        undone.append(end)
        return end if isinstance(end, MigrationCompleted) else None

    try:
        return wait_for(f"the way to {target}", is_there, DEADLINE)
    except Exception as error:
        raise AssertionError(undone) from error
