# SPDX-License-Identifier: Apache-2.0
"""The agents beside the P4 switches of the Mininet network: their keys, their settings, their processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from controller.p4sync import keys
from controller.p4sync.control import AgentControl
from controller.p4sync.errors import ControlError
from testbed import p4
from testbed.processes import TopoError, tail, wait_for

if TYPE_CHECKING:
    from topo import BatonNet

START_DEADLINE = 30.0


class ServiceSpec(NamedTuple):
    """A service that both servers offer: its number, its transport, and the port at server 1 and at server 2."""

    number: int
    transport: str
    ports: tuple[int, int]


ADDRESSES = {"p1": "10.0.0.1", "p2": "10.0.0.2"}
SERVICES = (ServiceSpec(1, "tcp", (11_111, 22_222)), ServiceSpec(2, "udp", (7_000, 7_000)))


def settings(spec: p4.P4Spec, suite: str = "polynomial", services: tuple[ServiceSpec, ...] = SERVICES) -> str:
    """Return the settings file of a switch's agent, to be put where the switch's socket is."""
    lines = [
        f'name = "{spec.name}"',
        f"id = {spec.number}",
        f'key = "{spec.name}.key"',
        f'control = "{spec.name}.control"',
        f'listen = "unix:{spec.name}.peer"',
        f'suite = "{suite}"',
        "[switch]",
        f'address = "unix:{spec.name}.sock"',
        f'program = "{"baseline" if suite == "none" else "flow_state"}"',
    ]
    for other in p4.SWITCHES:
        if other != spec:
            lines += [
                f"[peers.{other.name}]",
                f"id = {other.number}",
                f'key = "{other.name}.pub"',
                f'address = "unix:{other.name}.peer"',
                f"port = {p4.fabric_port(spec.name, other.name)}",
            ]
    for address, which in zip(ADDRESSES.values(), (0, 1), strict=True):
        for service in services:
            lines += ["[[services]]", f'address = "{address}"', f'transport = "{service.transport}"']
            lines += [f"port = {service.ports[which]}", f"service = {service.number}"]
    if spec.host is not None:
        for port, out in ((p4.NETWORK, p4.SERVER), (p4.SERVER, p4.NETWORK)):
            lines += ["[[forward]]", f"in_port = {port}", f"out_port = {out}"]
    return "\n".join(lines) + "\n"


def start_agents(net: BatonNet, suite: str = "polynomial") -> dict[str, AgentControl]:
    """Start an agent beside each P4 switch of a network and wait until all are ready. Raises TopoError."""
    folder = net.run_dir / "p4sync"
    prepare(folder, suite)
    started = {spec.name: start_agent(net, spec.name) for spec in p4.SWITCHES}
    return {name: connect(folder, name, process) for name, process in started.items()}


def prepare(folder: Path, suite: str = "polynomial") -> None:
    """Write keys and settings of all agents."""
    for spec in p4.SWITCHES:
        keys.new_pair(keys.ED25519, folder / f"{spec.name}.key", folder / f"{spec.name}.pub")
        (folder / f"{spec.name}.toml").write_text(settings(spec, suite))


def start_agent(net: BatonNet, name: str) -> subprocess.Popen[bytes]:
    """Start one switch's agent, in the switch's own node."""
    folder = net.run_dir / "p4sync"
    with (folder / f"{name}.agent.log").open("ab") as log:
        command = [sys.executable, "-m", "controller.p4sync", str(folder / f"{name}.toml")]
        return net.popen(name, command, stdout=log, stderr=subprocess.STDOUT)


def connect(folder: Path, name: str, process: subprocess.Popen[bytes]) -> AgentControl:
    """Return a connection to an agent that has just been started, once its switch is ready. Raises TopoError."""
    path = folder / f"{name}.control"

    def ready() -> AgentControl | None:
        control = None
        try:
            control = AgentControl(path)
            control.wait_ready(START_DEADLINE)
        except ControlError as error:
            if control is not None:
                control.close()
                raise TopoError(str(error)) from None
            return None
        return control

    try:
        control: AgentControl = wait_for(f"agent of {name}", ready, START_DEADLINE, lambda: process.poll() is None)
    except TopoError as error:
        raise TopoError(f"{error}; the end of its log:\n{tail(folder / f'{name}.agent.log')}") from None
    return control
