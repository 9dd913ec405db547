# SPDX-License-Identifier: Apache-2.0
"""The cutover waits for the state, with real parts: Open vSwitch, P4 switches, agents, the controller, TCP peers.

In gate mode and in observe mode: verdict and counts are at the switch before the target when the connection gets there.
Where they cannot get there (an agent is dead, or hangs) the connection goes on at its origin, with nothing lost.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vectors.p4.targets import TARGETS

from controller.bus_client import BusClient, BusError
from controller.core.connection import Phase, State
from controller.core.events import MigrationRequested
from controller.p4sync.control import AgentControl
from controller.p4sync.protocol import Verdict, flow_key
from testbed import p4, p4_agents
from topo import REPOSITORY, BatonNet, wait_for

HERE = Path(__file__).resolve().parent
APP = HERE.parent / "mininet" / "doomed_app.py"
DEADLINE = 60
SERVERS = {"server1": "h1", "server2": "h2"}
TIMES = "verdict_timeout = 2.0\nhandshake_timeout = 2.0\nstate_timeout = 3.0\n"
"""Times that a busy machine keeps: who serves must not depend on its speed."""
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


class Lab:
    """The network of `topo.py --p4` with agents, servers and the controller; `mode` is the service's."""

    def __init__(self, net: BatonNet, mode: str) -> None:
        self.net, self.mode, self.folder = net, mode, net.run_dir / "p4sync"
        p4_agents.prepare(self.folder)
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("p1", "p2"):
            self.start_agent(name)
        for name, host in SERVERS.items():
            log = net.run_dir / f"{name}.jsonl"
            command = [sys.executable, f"servers/{name}.py", "--quiet", "--log", str(log)]
            server = net.popen(host, command, stdout=subprocess.DEVNULL)
            wait_for(
                name, lambda log=log: log.exists() and log.stat().st_size, DEADLINE, lambda s=server: s.poll() is None
            )
        text = (REPOSITORY / "baton.toml").read_text()
        head, _, tail = text.partition('mode = "gate"')
        tail = tail.partition("\n")[2].partition("\n")[2]
        config = net.run_dir / "baton.toml"
        ports = [net.switch.intfs[number].name for number in (1, 2)]
        config.write_text(f'{head}mode = "{mode}"\n{TIMES}{tail}{CONFIG.format(ports=ports)}')
        self.start_controller()

    def start_controller(self) -> None:
        command = ["-m", "controller.manager", str(APP), str(REPOSITORY / "apps" / "p4sync.py")]
        self.net.start_controller(command=[sys.executable, *command])
        self.bus().close()

    def bus(self) -> BusClient:
        def connect() -> BusClient | None:
            with contextlib.suppress(BusError):
                return BusClient(self.net.run_dir / "bus.sock")
            return None

        return wait_for("the bus", connect, DEADLINE)

    def start_agent(self, name: str) -> None:
        self.agents[name] = p4_agents.start_agent(self.net, name)
        p4_agents.connect(self.folder, name, self.agents[name]).close()

    def kill_agent(self, name: str) -> None:
        process = self.agents.pop(name)
        process.kill()
        process.wait(DEADLINE)

    def flow(self, switch: str, port: int) -> dict[str, Any] | None:
        with AgentControl(self.folder / f"{switch}.control") as agent:
            return agent.request("flow", key=flow_key("10.0.0.3", port, 1))["flow"]

    def events(self, port: int) -> list[dict[str, Any]]:
        """The journal's records of a client's connection."""
        lines = (self.net.run_dir / "events.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines if line.endswith("}")]
        return [one for one in records if str(one.get("connection", "")).startswith(f"10.0.0.3:{port}>")]

    def wait_event(self, port: int, name: str, **more: Any) -> dict[str, Any]:
        """The last record of this name, with these fields."""

        def found() -> dict[str, Any] | None:
            ours = [one for one in self.events(port) if one["event"] == name and more.items() <= one.items()]
            return ours[-1] if ours else None

        return wait_for(f"{name} {more}", found, DEADLINE)

    def doom(self, step: str) -> None:
        """Kill the controller when a connection comes to a step."""
        path = self.net.run_dir / "doom.json"
        path.with_suffix(".new").write_text(json.dumps({"step": step, "sent": True, "since": 0, "halt": False}))
        path.with_suffix(".new").rename(path)


class Talk:
    """A client on one connection, one question after the other."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        command = [sys.executable, "client/client.py", "--json", "--stdin", "--timeout", "60"]
        self._process = lab.net.popen("h3", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        known = len(self._opened())
        self._known = known

    def _opened(self) -> list[dict[str, Any]]:
        path = self.lab.net.run_dir / "events.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.startswith('{"event":"ConnectionOpened"')]

    def port(self) -> int:
        """Its own port, once the controller knows the connection."""
        opened = wait_for("the connection", lambda: self._opened()[self._known :], DEADLINE)
        return int(opened[0]["connection"].partition(">")[0].rpartition(":")[2])

    def ask(self, text: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def end(self) -> list[str]:
        """End; every byte of every answer was right. Returns who answered each question."""
        out, _ = self._process.communicate(timeout=DEADLINE)
        report = json.loads(out)
        assert not report["error"], report
        return [exchange["server"] for exchange in report["exchanges"]]


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module", params=["gate", "observe"])
def lab(request: pytest.FixtureRequest, target: str) -> Iterator[Lab]:
    patch = pytest.MonkeyPatch()
    patch.setattr(p4, "target", lambda: target)
    net = BatonNet(private=True, p4=True)
    net.environment["BATON_CONFIG"] = str(net.run_dir / "baton.toml")
    with net:
        yield Lab(net, request.param)
    patch.undo()


def begin(lab: Lab) -> tuple[Talk, int]:
    """Begin a migration from server 1 to server 2 by what makes one in this mode; returns the client and its port."""
    talk = Talk(lab)
    port = talk.port()
    talk.ask("first")
    if lab.mode == "observe":
        wait_answered(lab, port)
        move(lab, port, "server2")
    return talk, port


def wait_answered(lab: Lab, port: int) -> None:
    """Until server 1 has had the first question: the answer has passed p1, too, or is about to."""
    log = lab.net.run_dir / "server1.jsonl"
    wait_for("the first question", lambda: f"10.0.0.3:{port}" in log.read_text(), DEADLINE)


def move(lab: Lab, port: int, server: str) -> None:
    with lab.bus() as bus:
        row = next(row for row in bus.connections(str(port)) if row.connection.client.port == port)
        bus.send(MigrationRequested(0.0, row.connection, server))


def check_order(lab: Lab, port: int) -> None:
    """Verdict and state before the cutover, the rest after it."""
    moved = lab.wait_event(port, "MigrationCompleted")
    ahead = lab.wait_event(port, "StateShipped", ahead=True, version=moved["version"])
    behind = lab.wait_event(port, "StateShipped", ahead=False, version=moved["version"])
    names = [(one["event"], one.get("ahead")) for one in lab.events(port)]
    assert names.index(("StateShipped", True)) < names.index(("MigrationCompleted", None))
    assert ahead["time"] <= moved["time"] <= behind["time"]


def test_state_is_there_before_the_connection(lab: Lab) -> None:
    talk, port = begin(lab)
    check_order(lab, port)
    talk.ask("second")
    assert talk.end()[-1] == "server2"
    lab.wait_event(port, "ConnectionClosed")
    assert lab.flow("p1", port) is None
    there = lab.flow("p2", port)
    assert there is not None
    assert there["packets"] >= 8
    assert there["verdict"] == (Verdict.FORWARD if lab.mode == "gate" else Verdict.NONE)


@pytest.mark.parametrize("agent", ["p1", "p2"])
def test_with_a_dead_agent_the_connection_stays(lab: Lab, agent: str) -> None:
    lab.kill_agent(agent)
    talk, port = begin(lab)
    failed = lab.wait_event(port, "MigrationFailed")
    assert failed["reason"] == "state"
    talk.ask("second")
    assert talk.end() == ["server1", "server1"]
    lab.start_agent(agent)
    there = lab.flow("p2", port)
    assert there is None or (there["packets"] < 8 and there["verdict"] == Verdict.NONE), "the half-made handshake alone"
    assert (lab.flow("p1", port) or {"packets": 0})["packets"] >= 8
    talk, port = begin(lab)
    check_order(lab, port)
    assert talk.end() == ["server2" if lab.mode == "gate" else "server1"]


def test_state_that_comes_too_late_is_brought_back(lab: Lab) -> None:
    """The source's agent hangs beyond the deadline, then does what it was asked for; nothing is lost by it."""
    agent = lab.agents["p1"]
    if lab.mode == "gate":
        agent.send_signal(signal.SIGSTOP)
        talk, port = begin(lab)
    else:
        talk = Talk(lab)
        port = talk.port()
        talk.ask("first")
        wait_answered(lab, port)
        agent.send_signal(signal.SIGSTOP)
        move(lab, port, "server2")
    try:
        failed = lab.wait_event(port, "MigrationFailed")
        talk.ask("second")
    finally:
        agent.send_signal(signal.SIGCONT)
    assert (failed["reason"], failed["detail"]) == ("state", "not there within 3 s")
    assert talk.end() == ["server1", "server1"]
    lab.wait_event(port, "StateShipped", ahead=True)
    lab.wait_event(port, "StateShipped", ahead=False, source="p2")
    assert lab.flow("p2", port) is None
    assert (lab.flow("p1", port) or {"packets": 0})["packets"] >= 8


def test_a_controller_killed_while_it_waits(lab: Lab) -> None:
    """The connection goes on, and the next controller moves it."""
    state = State.MOVING if lab.mode == "gate" else State.SERVED
    lab.doom(f"{state.value}/{Phase.AWAITING.value}")
    talk, port = begin(lab)
    controller = lab.net.controller
    assert controller is not None
    wait_for("the controller's death", lambda: controller.poll() is not None, DEADLINE)
    (lab.net.run_dir / "doom.json").unlink()
    lab.start_controller()
    wait_for("a served connection", lambda: is_served(lab, port), DEADLINE)
    talk.ask("second")
    move(lab, port, "server2")
    check_order(lab, port)
    talk.ask("third")
    assert talk.end()[-1] == "server2"


def is_served(lab: Lab, port: int) -> bool:
    with lab.bus() as bus:
        return any(row.state == State.SERVED.value for row in bus.connections(str(port)))
