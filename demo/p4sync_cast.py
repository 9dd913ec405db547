# SPDX-License-Identifier: Apache-2.0
"""Who plays in `make demo-p4sync` beside the switches: servers, traffic, witnesses, and the man in the middle."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from controller.p4sync.control import AgentControl
from testbed.p4_agents import ADDRESSES, SERVICES, start_agents
from testbed.processes import TopoError, wait_for
from topo import REPOSITORY, BatonNet, controller_command

FLOWS, RATE = 512, 500
"""Flows of the traffic, packets a second; each is answered, so that twice as many are counted."""
UDP_PORT = next(service.ports[0] for service in SERVICES if service.transport == "udp")
TAPPED = ("p1", "p2")
QUICK, PATIENT = "verdict_timeout = 0.1 ", "handshake_timeout = 1.0\nstate_timeout = 1.0\nverdict_timeout = 1.0 "
"""What is shown must not depend on how fast this machine is: software switches share it with all the rest."""
CONFIG = """
[p4sync.switches.p1]
server = "server1"
port = "{ports[0]}"

[p4sync.switches.p2]
server = "server2"
port = "{ports[1]}"

[p4sync.services]
echo = 1
"""


class Worker:
    """A program in a node that answers lines with lines."""

    def __init__(self, net: BatonNet, node: str, *words: str) -> None:
        """Start it and wait for its `ready`. Raises TopoError."""
        self.name = " ".join(words)
        self._process: subprocess.Popen[str] = net.popen(
            node, [sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self._line() != "ready\n":
            raise TopoError(f"{self.name} in {node} did not start")

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def tell(self, text: str = "") -> None:
        """Give it a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def ask(self, text: str = "") -> dict[str, Any]:
        """Give it a line and read its answer. Raises TopoError."""
        self.tell(text)
        answer = self._line()
        if not answer:
            raise TopoError(f"{self.name} has ended")
        found: dict[str, Any] = json.loads(answer)
        return found

    def end(self) -> None:
        """Close its stdin and wait."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


class Cast:
    """Everybody, started."""

    def __init__(self, net: BatonNet) -> None:
        """Raises TopoError."""
        self.net = net
        for switch in net.p4_switches():
            wait_for(f"P4 switch {switch.name}", lambda s=switch: s.process and s.process.poll() is None, 5)
        self.mid = Worker(net, "mid", "-m", "testbed.p4_mid", *net["mid"].intfNames())
        self.agents: dict[str, AgentControl] = start_agents(net)
        self.witnesses = []
        for host, address, which in (("h1", ADDRESSES["p1"], 0), ("h2", ADDRESSES["p2"], 1)):
            watched = [f"{address}/{one.transport}/{one.ports[which]}/{one.number}" for one in SERVICES]
            for node, interface in ((host, net[host].intfNames()[0]), ("s1", net.switch.intfs[which + 1].name)):
                self.witnesses.append(Worker(net, node, "-m", "testbed.p4_witness", interface, *watched))
            Worker(net, host, "demo/p4sync_traffic.py", "echo", address, str(UDP_PORT))
            name = {"h1": "server1", "h2": "server2"}[host]
            log = net.run_dir / f"{name}.jsonl"
            server = net.popen(
                host,
                [sys.executable, f"servers/{name}.py", "--quiet", "--log", str(log)],
                stdout=subprocess.DEVNULL,
            )
            wait_for(
                name, lambda path=log: path.exists() and path.stat().st_size, 10, lambda s=server: s.poll() is None
            )
        self.traffic: Worker | None = None

    def start_controller(self, framework: str | None) -> None:
        """Start the controller with both apps."""
        self.net.start_controller(command=[*controller_command(framework), str(REPOSITORY / "apps" / "p4sync.py")])

    def start_traffic(self) -> None:
        """Let traffic flow to server 1."""
        words = (str(UDP_PORT), str(FLOWS), str(RATE), *ADDRESSES.values())
        self.traffic = Worker(self.net, "h3", "demo/p4sync_traffic.py", "send", *words)

    def move_traffic(self) -> None:
        """From now on it flows to server 2."""
        assert self.traffic is not None
        self.traffic.tell()

    def stop_traffic(self) -> None:
        """Let it end."""
        if self.traffic is not None:
            self.traffic.end()
            self.traffic = None

    # -- what they know

    def plot(self, **probabilities: float) -> None:
        """Tell the man in the middle what to do from now on."""
        self.mid.ask(json.dumps(probabilities))

    def deeds(self) -> dict[str, int]:
        """What the man in the middle has done so far."""
        return self.mid.ask("{}")

    def seen(self) -> tuple[Counter[int], Counter[int]]:
        """Packets of each flow that p1 and p2 were offered, and forwarded. Raises TopoError where some went unseen."""
        offered: Counter[int] = Counter()
        forwarded: Counter[int] = Counter()
        for witness in self.witnesses:
            answer = witness.ask()
            if answer["lost"]:
                raise TopoError(f"a witness missed {answer['lost']} packets: this machine is too busy to tell")
            offered.update({int(key): number for key, number in answer["offered"].items()})
            forwarded.update({int(key): number for key, number in answer["forwarded"].items()})
        return offered, forwarded

    def counted(self, names: Sequence[str] = TAPPED) -> Counter[int]:
        """Packets of each flow that the switches have counted, by key."""
        found: Counter[int] = Counter()
        for name in names:
            found.update({flow["key"]: flow["packets"] for flow in self.agents[name].request("flows")["flows"]})
        return +found

    def counted_of(self, key: int) -> int:
        """Packets of one flow that the switches have counted."""
        records = [self.agents[name].request("flow", key=key)["flow"] for name in TAPPED]
        return sum(record["packets"] for record in records if record)

    def events(self, name: str) -> dict[str, int]:
        """A switch's counter of events."""
        events: dict[str, int] = self.agents[name].request("events")["events"]
        return events


def settings_file(net: BatonNet) -> Path:
    """Write the controller's settings for this network: the shipped ones, and the P4 switches."""
    path = net.run_dir / "baton.toml"
    shipped = (REPOSITORY / "baton.toml").read_text()
    ports = [net.switch.intfs[number].name for number in (1, 2)]
    path.write_text(shipped.replace(QUICK, PATIENT) + CONFIG.format(ports=ports))
    return path
