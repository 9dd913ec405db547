# SPDX-License-Identifier: Apache-2.0
"""P4 switches of the Mininet network: p1 before server 1, p2 before server 2, p3 a spare, each linked to the others.

    s1 ---1[ p1 ]2--- h1      s1 ---1[ p2 ]2--- h2      fabric: p1 3---3 p2, p1 4---3 p3, p2 4---4 p3

Where bmv2's `simple_switch_grpc` is on the PATH it runs, else the embedded target (`python -m p4src.target`). Both take
packets as they are, so segmentation and checksum offload have to be off around them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mininet.link import Link
from mininet.node import Switch

from testbed.processes import TopoError, tail, wait_for
from testbed.switch import MarkedNode

ROOT = Path(__file__).resolve().parents[1]
BMV2 = "simple_switch_grpc"
NETWORK, SERVER = 1, 2
"""Ports towards s1 and towards the server."""
CPU_PORT = 255
START_DEADLINE = 20.0


class P4Spec(NamedTuple):
    """A P4 switch to be: name, number in sync packets, the host that it stands before (none: a spare)."""

    name: str
    number: int
    host: str | None


SWITCHES = (P4Spec("p1", 1, "h1"), P4Spec("p2", 2, "h2"), P4Spec("p3", 3, None))
FABRIC = {("p1", "p2"): (3, 3), ("p1", "p3"): (4, 3), ("p2", "p3"): (4, 4)}
"""Which ports of two switches are joined."""


def fabric_port(switch: str, other: str) -> int:
    """The port of a switch towards another one. Raises KeyError."""
    if (switch, other) in FABRIC:
        return FABRIC[switch, other][0]
    return FABRIC[other, switch][1]


def target() -> str:
    """What runs as a P4 switch here: `bmv2` or `embedded`."""
    return "bmv2" if shutil.which(BMV2) else "embedded"


class P4Switch(MarkedNode, Switch):  # type: ignore[misc]
    """A node that runs one P4 target on its interfaces; P4Runtime is served at `address`, for its owner alone."""

    controlIntf = None  # noqa: N815 (Mininet's name: a switch in a namespace has none)

    def __init__(self, name: str, run_dir: Path, environment: Mapping[str, str], target: str, **params: Any) -> None:
        self.run_dir, self.target = run_dir, target
        self.address = f"unix:{run_dir}/{name}.sock"
        self.log = run_dir / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        run_dir.mkdir(mode=0o700, exist_ok=True)
        super().__init__(name, environment=environment, **params)

    def start(self, _controllers: object = None) -> None:
        """Start the target and wait until it serves P4Runtime. Raises TopoError with the log's last lines."""
        socket = Path(self.address.removeprefix("unix:"))
        socket.unlink(missing_ok=True)
        ports = [word for number, one in sorted(self.intfs.items()) for word in ("-i", f"{number}@{one.name}")]
        server = ["--grpc-server-addr", self.address, "--cpu-port", str(CPU_PORT)]
        if self.target == "bmv2":
            command = [shutil.which(BMV2) or BMV2, "--no-p4", *ports, "--", *server]
        else:
            command = [sys.executable, "-m", "p4src.target", *ports, *server]
        with self.log.open("wb") as output:
            self.process = process = self.popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=ROOT, umask=0o177
            )
        try:
            wait_for(f"P4 switch {self.name}", socket.exists, START_DEADLINE, lambda: process.poll() is None)
        except TopoError as error:
            raise TopoError(f"{error}; the end of its log:\n{tail(self.log)}") from None

    def stop_daemons(self) -> None:
        """End the target."""
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None


def add_switches(net: Any, run_dir: Path, environment: Mapping[str, str], tapped: tuple[str, str] | None) -> None:
    """Add all P4 switches and the fabric to a Mininet network that is not built yet.

    `tapped` names a fabric link (as in FABRIC) that is cut, and led through a node `mid` of its own: what runs there
    carries the frames from one of its interfaces to the other, or does worse.
    """
    chosen = target()
    for spec in SWITCHES:
        net.addSwitch(spec.name, cls=P4Switch, run_dir=run_dir / "p4sync", environment=environment, target=chosen)
    if tapped is not None:
        mid = MarkedNode("mid", environment=environment)
        net.controllers.append(mid)
        net.nameToNode["mid"] = mid
    for (one, other), (port, other_port) in FABRIC.items():
        if (one, other) == tapped:
            for end, (name, number) in enumerate(((one, port), (other, other_port))):
                net.addLink(net[name], net["mid"], cls=Link, port1=number, port2=end)
        else:
            net.addLink(net[one], net[other], cls=Link, port1=port, port2=other_port)


def join_host(net: Any, host: Any, s1: Any) -> None:
    """Link a host to s1, through the P4 switch that stands before it if there is one."""
    before = next((net[spec.name] for spec in SWITCHES if spec.host == host.name), None)
    if before is None:
        net.addLink(host, s1, cls=Link)
        return
    net.addLink(host, before, cls=Link, port2=SERVER)
    net.addLink(before, s1, cls=Link, port1=NETWORK)


def quieten(node: Any) -> None:
    """Switch off what a P4 target cannot bear: unasked traffic (IPv6), and packets that are not finished."""
    node.cmd("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
    for name in node.intfNames():
        if name != "lo":
            node.cmd(f"ethtool -K {name} tx off tso off gso off gro off")
            node.cmd(f"ip link set {name} up promisc on")


def host_behind(node: str) -> str:
    """Which host stands behind a node that is linked to s1: itself, unless it is a P4 switch."""
    return next((spec.host for spec in SWITCHES if spec.name == node and spec.host), node)
