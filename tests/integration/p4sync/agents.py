# SPDX-License-Identifier: Apache-2.0
"""Switches with their agents beside them, each a process of its own, and hosts that send through the switches.

Port 1 of every switch leads to the clients, port 2 to its server; every pair of switches shares a fabric link, either a
wire or through a `Weather`.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from integration.p4.lab import Fabric, Weather
from vectors.p4.bed import ROOT, Bed
from vectors.p4.frames import ipv4

from controller.p4sync import keys
from controller.p4sync.control import AgentControl
from controller.p4sync.errors import ControlError

SERVICE = 7
DEADLINE = 60.0


class Agents:
    """Switches called `a`, `b`, ... with ids 1, 2, ...; `fabric` names the pairs that are wired."""

    def __init__(
        self,
        target: str,
        names: str = "ab",
        weather: Weather | None = None,
        suite: str = "polynomial",
        times: str = "",
        kind: str = keys.ED25519,
    ) -> None:
        """Start everything."""
        self.target, self.names, self.suite, self.times = target, names, suite, times
        self._stack = contextlib.ExitStack()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.controls: dict[str, AgentControl] = {}
        self.fabric: Fabric | None = None
        try:
            self._start(weather, kind)
        except BaseException:
            self._stack.close()
            raise

    def _start(self, weather: Weather | None, kind: str) -> None:
        self.bed = self._stack.enter_context(Bed())
        self.folder = self.bed.run
        for name in self.names:
            self.bed.port(name, 1)
            self.bed.port(name, 2)
            keys.new_pair(kind, self.folder / f"{name}.key", self.folder / f"{name}.pub")
        for a in self.names:
            for b in self.names:
                if a < b and weather is None:
                    self.bed.wire(a, self.port(a, b), b, self.port(b, a))
        if weather is not None:
            for name in self.names:
                self.bed.port(name, 3)
            self.fabric = Fabric(self.bed, weather)
            self._stack.callback(self.fabric.close)
        self.sockets, self.servers = {}, {}
        for name in self.names:
            self.start_switch(name)
            self.sockets[name] = self._stack.enter_context(self.bed.socket(name, 1))
            self.servers[name] = self._stack.enter_context(self.bed.socket(name, 2))
            self.write_settings(name)
            self.start_agent(name)
        for name in self.names:
            self.control(name).wait_ready()

    def port(self, own: str, other: str) -> int:
        """Return the port of one switch towards another."""
        others = [name for name in self.names if name != own]
        return 3 + others.index(other)

    def ports(self, name: str) -> list[int]:
        return [1, 2, *(self.port(name, other) for other in self.names if other != name)]

    # ---- switches ----

    def start_switch(self, name: str) -> None:
        number = self.names.index(name)
        (self.folder / f"{name}.sock").unlink(missing_ok=True)
        self.bed.start(self.target, name, self.ports(name), 9190 + number)
        self.processes[f"switch {name}"] = self.bed._processes[-1]

    def kill_switch(self, name: str) -> None:
        self.kill(f"switch {name}")

    def kill(self, what: str) -> None:
        """SIGKILL: nothing is put in order."""
        self.processes[what].kill()
        self.processes[what].wait(10)

    # ---- agents ----

    def settings(self, name: str) -> str:
        """Return an agent's settings file."""
        number = self.names.index(name) + 1
        lines = [
            f'name = "{name}"',
            f"id = {number}",
            f'key = "{name}.key"',
            f'control = "{name}.control"',
            f'listen = "unix:{name}.peer"',
            f'suite = "{self.suite}"',
            "[switch]",
            f'address = "unix:{name}.sock"',
            f'program = "{"baseline" if self.suite == "none" else "flow_state"}"',
        ]
        for other in self.names:
            if other != name:
                lines += [
                    f"[peers.{other}]",
                    f"id = {self.names.index(other) + 1}",
                    f'key = "{other}.pub"',
                    f'address = "unix:{other}.peer"',
                    f"port = {self.port(name, other)}",
                ]
        lines += ["[[services]]", f'address = "{self.server(name)}"', "port = 80", f"service = {SERVICE}"]
        for port in (1, 2):
            lines += ["[[forward]]", f"in_port = {port}", f"out_port = {3 - port}"]
        if self.times:
            lines += ["[times]", self.times]
        return "\n".join(lines) + "\n"

    def write_settings(self, name: str, text: str = "") -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text(text or self.settings(name))
        return path

    def start_agent(self, name: str) -> None:
        with (self.folder / f"{name}.agent.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "controller.p4sync", str(self.folder / f"{name}.toml")],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=ROOT,
            )
        self.processes[f"agent {name}"] = process
        self._stack.callback(self._end, process)

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.agent.log").read_text()

    def control(self, name: str) -> AgentControl:
        """Return a connection to an agent; a new one when the agent was started anew."""
        existing = self.controls.get(name)
        if existing is not None:
            try:
                existing.request("status")
                return existing
            except ControlError:
                existing.close()
        path = self.folder / f"{name}.control"
        process = self.processes[f"agent {name}"]
        deadline = monotonic() + DEADLINE
        while True:
            try:
                self.controls[name] = AgentControl(path)
                self._stack.callback(self.controls[name].close)
                return self.controls[name]
            except ControlError:
                if process.poll() is not None or monotonic() > deadline:
                    raise TimeoutError(f"agent {name} did not start: {self.log(name)[-800:]}") from None
                sleep(0.02)

    # ---- traffic ----

    def server(self, name: str) -> str:
        return f"10.0.0.{self.names.index(name) + 1}"

    def count(self, name: str, flow: int) -> None:
        """One packet of flow number `flow` at a switch."""
        client, port = f"10.{10 + (flow >> 16)}.{flow >> 8 & 255}.{flow & 255}", 1024 + flow
        self.sockets[name].send(ipv4(client, port, self.server(name), 80))

    def count_all(self, name: str, flows: Iterable[int]) -> None:
        """One packet of each flow, each seen by the switch before the next bunch is sent."""
        before = self.counted(name)
        for sent, flow in enumerate(flows, 1):
            self.count(name, flow)
            if sent % 16 == 0:
                self.until_counted(name, before + sent)
        self.until_counted(name, before + len(list(flows)))

    def until_counted(self, name: str, number: int) -> None:
        deadline = monotonic() + DEADLINE
        while self.counted(name) < number:
            if monotonic() > deadline:
                raise TimeoutError(f"{name} has counted {self.counted(name)} of {number} packets")
            sleep(0.002)

    def counted(self, name: str) -> int:
        events = self.events(name)
        return events["counted"] + events["flow_collision"]

    def events(self, name: str) -> dict[str, int]:
        return self.control(name).request("events")["events"]

    def flows(self, name: str) -> dict[int, dict[str, Any]]:
        """Return flows by key."""
        return {flow["key"]: flow for flow in self.control(name).request("flows")["flows"]}

    def packets(self, name: str) -> dict[int, int]:
        """Return packets by flow number."""
        return {(key >> 16 & 0xFFFF) - 1024: flow["packets"] for key, flow in self.flows(name).items()}

    def clients(self, name: str) -> dict[int, int]:
        return {int(index): value for index, value in self.control(name).request("clients")["clients"].items()}

    def __enter__(self) -> Agents:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
