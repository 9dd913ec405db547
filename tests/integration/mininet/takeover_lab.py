# SPDX-License-Identifier: Apache-2.0
"""A network whose controller can be killed at any step, and busy connections whose every byte is accounted for."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from controller.bus_client import BusClient, BusError
from controller.core.connection import Phase
from controller.core.events import (
    ConnectionReported,
    MigrationCompleted,
    MigrationFailed,
    MigrationRequested,
    MigrationRolledBack,
)
from topo import BatonNet, wait_for

from .bulk_peer import stream
from .ports import files_of

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
PROGRAM, APP = HERE / "bulk_peer.py", HERE / "doomed_app.py"
DEADLINE = 60
PLACES = {
    "gated": ("h1", "10.0.0.1", 11_111),
    "observed": ("h1", "10.0.0.1", 11_112),
    "target": ("h2", "10.0.0.2", 22_222),
}
SERVICES = {"gate": "gated", "observe": "observed"}


def settings_of(places):
    """Return the settings for servers at these places."""
    servers = "".join(
        f'[servers.{name}]\naddress = "{address}"\nport = {port}\n' for name, (_, address, port) in places.items()
    )
    services = "".join(
        f'[[services]]\nname = "{mode}"\norigin = "{origin}"\nmode = "{mode}"\nhandshake_timeout = 2.0\n'
        f"verdict_timeout = 1.0\n"
        for mode, origin in SERVICES.items()
    )
    return servers + services + '[[rules]]\nsid = 1000002\nverdict = "migrate"\nto = "target"\n'


SETTINGS = settings_of(PLACES)
ENDED = (MigrationCompleted, MigrationFailed, MigrationRolledBack)


class Bulk:
    """A connection of h3 that is busy both ways."""

    def __init__(self, net, directory, place):
        self.directory = directory
        directory.mkdir()
        _, address, port = place
        command = [sys.executable, str(PROGRAM), "drive", address, str(port), str(directory)]
        self.process = net.popen("h3", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._port = 0

    @property
    def port(self):
        """The client's port; waits until it is connected."""
        if not self._port:
            self._port = json.loads(self.process.stdout.readline())["port"]
        return self._port

    def size(self):
        path = self.directory / "received"
        return path.stat().st_size if path.exists() else 0

    def flows(self, more=100_000):
        """Wait until it has received more than just now."""
        before = self.size()
        wait_for("more bytes", lambda: self.size() > before + more, DEADLINE)

    def end(self):
        """End it and return what it says of itself."""
        out, _ = self.process.communicate(timeout=DEADLINE)
        return json.loads(out.splitlines()[-1])


class Lab:
    """The network with its servers; the controller is started and killed by the tests."""

    def __init__(self, net: BatonNet, directory: Path, framework: str, places=PLACES):
        self.net, self.directory, self.framework, self.places = net, directory, framework, places
        self.doom_file = net.run_dir / "doom.json"
        self.count = 0
        self.servers = {}
        for name in places:
            self.start_server(name)

    def start_server(self, name):
        """Start a server and wait until it listens."""
        node, address, port = self.places[name]
        command = [sys.executable, str(PROGRAM), "serve", address, str(port), name, str(self.directory)]
        server = self.servers[name] = self.net.popen(node, command)
        ready = self.directory / f"{name}.ready"
        wait_for(name, ready.exists, DEADLINE, lambda: server.poll() is None)

    def stop_server(self, name):
        """Kill a server; what it was to keep of its connections is complete as it is."""
        server = self.servers.pop(name)
        server.kill()
        server.wait(DEADLINE)
        (self.directory / f"{name}.ready").unlink()
        for part in self.directory.glob(f"*-{name}"):
            done = part.with_name(part.name + ".sent")
            if not done.exists():
                done.write_text(json.dumps({"sent": None, "error": "killed"}))

    def start(self):
        """Start a controller if there is none."""
        if self.net.controller is None or self.net.controller.poll() is not None:
            arguments = ["-m", "controller.manager", "--framework", self.framework, str(APP)]
            self.net.start_controller(command=[sys.executable, *arguments])

    def doom(self, step, sent, since, halt=False):
        """Let the controller die, or halt, when a connection that was opened since then comes to a step."""
        draft = self.doom_file.with_suffix(".new")
        draft.write_text(json.dumps({"step": step, "sent": sent, "since": since, "halt": halt}))
        draft.rename(self.doom_file)

    def wait_dead(self):
        """Wait until the controller has died of it."""
        controller = self.net.controller
        wait_for("the controller's death", lambda: controller.poll() is not None, DEADLINE)
        assert controller.poll() == -9
        self.doom_file.unlink()

    def wait_halted(self):
        """Wait until the controller halts."""
        controller, mark = self.net.controller, self.net.run_dir / "halted"
        wait_for("the controller's halt", mark.exists, DEADLINE, lambda: controller.poll() is None)

    def go_on(self):
        """End the halt."""
        self.doom_file.unlink(missing_ok=True)

    def bulk(self, mode):
        self.count += 1
        return Bulk(self.net, self.directory / f"client{self.count}", self.places[SERVICES[mode]])

    def bus(self):
        """Return a connection to the controller's bus; it opens a moment after the switch is connected."""

        def connect():
            try:
                return BusClient(self.net.run_dir / "bus.sock")
            except BusError:
                return None

        return wait_for("the bus", connect, DEADLINE)

    def row(self, bulk) -> ConnectionReported | None:
        """Return what the controller says of a connection."""
        with self.bus() as bus:
            return next(iter(bus.connections(str(bulk.port))), None)

    def settled(self, bulk) -> ConnectionReported | None:
        """Return what the controller says of a connection once nothing is under way any more."""
        row = self.row(bulk)
        return row if row is not None and row.state == "served" and row.phase is None else None

    def ask(self, bulk, server):
        """Ask for a migration; return how it ended, or None if nobody said."""
        key = self.row(bulk).connection
        with self.bus() as bus:
            bus.send(MigrationRequested(0.0, key, server))
            return bus.wait_for(lambda event: isinstance(event, ENDED) and event.connection == key, 10)

    def begin(self, bulk, step):
        """Ask for a migration that comes to a step; how it ends is another matter."""
        key = self.row(bulk).connection
        policy = "quiet" if step.endswith(Phase.WATCHING.value) else None
        with self.bus() as bus:
            bus.send(MigrationRequested(0.0, key, "target", policy))

    def migrate(self, bulk, server):
        """Move a connection; on a busy machine a freeze may take too long, is undone, and asked for again."""
        told = []

        def is_there():
            told.append(self.ask(bulk, server))
            return self.row(bulk).server == server

        wait_for(f"the way to {server}", is_there, 150)
        return told

    def events(self, name):
        """Return the journal's records of one event."""
        lines = (self.net.run_dir / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith(f'{{"event":"{name}"')]

    def paths(self, bulk):
        """Return the lasting flows of a connection that carry it: their match, and since when they stand."""
        found = {}
        for line in self.net.switch.ofctl("dump-flows", "s1").splitlines():
            if f"={bulk.port}" in line and "priority=100," in line and "CONTROLLER" not in line and "drop" not in line:
                seconds = float(line.partition("duration=")[2].partition("s")[0])
                found[line.partition("priority=")[2].split()[0]] = time.monotonic() - seconds
        return found

    def parts(self, bulk):
        """Wait until servers are done with a connection; return their files of it in the order of their turns."""

        def parts():
            return files_of(self.directory, bulk.port)

        def open_ones():
            return [path.name for path in parts() if not path.with_name(path.name + ".sent").exists()]

        wait_for("the end of the servers' connections", lambda: not open_ones(), DEADLINE)
        return parts()

    def account(self, bulk):
        """End a connection; check every byte: what the servers received is the client's stream, and the reverse.

        Returns who served it, in order.
        """
        said = bulk.end()
        assert said["error"] == ""
        sent, parts = said["sent"], self.parts(bulk)
        received = b"".join(part.read_bytes() for part in parts)
        assert len(received) == sent
        assert received == stream("client", sent)
        data, at = (bulk.directory / "received").read_bytes(), 0
        spoke = [part for part in parts if part.stat().st_size]
        for part, after in zip(spoke, [*spoke[1:], None], strict=True):
            end = len(data) if after is None else data.index(stream(after.name, 64), at)
            assert data[at:end] == stream(part.name, end - at)
            at = end
        return [part.name.rpartition("-")[2] for part in spoke]
