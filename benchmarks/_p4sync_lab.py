# SPDX-License-Identifier: Apache-2.0
"""Two P4 switches with their agents in a namespace of their own, and traffic through the first of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import BenchmarkError
from controller.p4sync import keys
from controller.p4sync.control import AgentControl
from controller.p4sync.errors import ControlError
from testbed import p4
from testbed.p4_agents import ServiceSpec, settings
from testbed.processes import MARK, kill_marked, new_mark, start_reaper, tail

ROOT = Path(__file__).resolve().parents[1]
START = 30.0
PAIR = p4.SWITCHES[:2]
SERVICE, PORT = 1, 80
SERVICES = (ServiceSpec(SERVICE, "udp", (PORT, PORT)),)
FLOWS, RATE = 512, 1_000


class Lab:
    """`p1` and `p2`, joined by their fabric ports; ports 1 and 2 of each lead to `pNh1` and `pNh2`."""

    def __init__(self, target: str, suite: str) -> None:
        """Start everything. Raises BenchmarkError."""
        self.target, self.suite = target, suite
        self._mark = new_mark()
        self.folder = Path(tempfile.mkdtemp(prefix="baton-p4bench-"))
        self._reaper = start_reaper(self._mark, self.folder, True)  # also where we are killed
        self.agents: dict[str, AgentControl] = {}
        self._processes: list[subprocess.Popen[Any]] = []
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        holder = self._popen(["unshare", "--net", "sleep", "infinity"], subprocess.DEVNULL)
        own, other = Path("/proc/self/ns/net"), Path(f"/proc/{holder.pid}/ns/net")
        self._until(lambda: other.readlink() != own.readlink(), holder, "the namespace")
        self._enter = ["nsenter", "-t", str(holder.pid), "-n"]
        self._ip("link", "set", "lo", "up")
        for spec in PAIR:
            for port in (p4.NETWORK, p4.SERVER):
                self._wire(f"{spec.name}p{port}", f"{spec.name}h{port}")
        ports = {spec.name: p4.fabric_port(spec.name, other.name) for spec, other in zip(PAIR, PAIR[::-1], strict=True)}
        self._wire(*(f"{name}p{port}" for name, port in ports.items()))
        for spec in PAIR:
            keys.new_pair(keys.ED25519, self.folder / f"{spec.name}.key", self.folder / f"{spec.name}.pub")
        keys.new_pair(keys.ED25519, self.folder / "p3.key", self.folder / "p3.pub")
        for number, spec in enumerate(PAIR):
            self._switch(spec.name, [p4.NETWORK, p4.SERVER, ports[spec.name]], 9_290 + number)
            (self.folder / f"{spec.name}.toml").write_text(settings(spec, self.suite, SERVICES))
            self._run([sys.executable, "-m", "controller.p4sync", str(self.folder / f"{spec.name}.toml")], spec.name)
        for spec in PAIR:
            self.agents[spec.name] = self._connect(spec.name)
        words = ["p1h1", "p1h2", str(FLOWS), "10.0.0.1", str(PORT)]
        self._traffic = self._run(
            [sys.executable, str(Path(__file__).with_name("_p4sync_traffic.py")), *words], "traffic", pipe=True
        )
        self._answer()

    def _ip(self, *words: str) -> None:
        subprocess.run([*self._enter, "ip", *words], check=True, capture_output=True)

    def _wire(self, one: str, other: str) -> None:
        self._ip("link", "add", one, "type", "veth", "peer", "name", other)
        for end in (one, other):
            self._ip("link", "set", end, "arp", "off", "addrgenmode", "none", "up")

    def _popen(self, command: Sequence[str], log: Any, pipe: bool = False) -> subprocess.Popen[Any]:
        process: subprocess.Popen[Any] = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if pipe else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipe else log,
            stderr=log,
            text=pipe,
            cwd=ROOT,
            umask=0o177,
            env={**os.environ, MARK: self._mark},
        )
        self._processes.append(process)
        return process

    def _run(self, command: Sequence[str], name: str, pipe: bool = False) -> subprocess.Popen[Any]:
        with (self.folder / f"{name}.log").open("ab") as log:
            return self._popen([*self._enter, *command], log, pipe)

    def _switch(self, name: str, ports: list[int], thrift: int) -> None:
        interfaces = [word for port in ports for word in ("-i", f"{port}@{name}p{port}")]
        server = ["--grpc-server-addr", f"unix:{self.folder}/{name}.sock", "--cpu-port", str(p4.CPU_PORT)]
        if self.target == "bmv2":
            command = [p4.BMV2, "--no-p4", "--thrift-port", str(thrift), *interfaces, "--", *server]
        else:
            command = [sys.executable, "-m", "p4src.target", *interfaces, *server]
        process = self._run(command, f"{name}.switch")
        self._until((self.folder / f"{name}.sock").exists, process, f"{name}.switch")

    def _connect(self, name: str) -> AgentControl:
        def found() -> AgentControl | None:
            with contextlib.suppress(ControlError):
                return AgentControl(self.folder / f"{name}.control")
            return None

        control: AgentControl = self._until(found, self._processes[-1], name)
        control.wait_ready(START)
        return control

    def _until(self, ready: Any, process: subprocess.Popen[Any], name: str) -> Any:
        deadline = time.monotonic() + START
        while not (value := ready()):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchmarkError(f"{name} ({self.target}) did not start: {tail(self.folder / f'{name}.log')}")
            time.sleep(0.01)
        return value

    # -- traffic

    def _answer(self) -> str:
        assert self._traffic.stdout is not None
        line: str = self._traffic.stdout.readline()
        if not line:
            raise BenchmarkError(f"the traffic ended: {(self.folder / 'traffic.log').read_text()[-300:]}")
        return line

    def _tell(self, text: str) -> None:
        assert self._traffic.stdin is not None
        self._traffic.stdin.write(text + "\n")
        self._traffic.stdin.flush()

    def rate(self, packets: int) -> None:
        """Packets a second from now on."""
        self._tell(f"rate {packets}")
        self._answer()

    def report(self) -> list[tuple[float, float | None]]:
        """When each packet since the last report was sent, and its latency in seconds (None: it did not come out)."""
        self._tell("report")
        found: list[tuple[float, float | None]] = json.loads(self._answer())
        return found

    def flood(self, seconds: float) -> float:
        """Packets a second that p1 forwards at most."""
        self._tell(f"flood {seconds}")
        return float(json.loads(self._answer()))

    def close(self) -> None:
        """End everything and remove it."""
        for agent in self.agents.values():
            agent.close()
        kill_marked(self._mark)
        for process in self._processes:
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
