# SPDX-License-Identifier: Apache-2.0
"""Mininet nodes of our own: one that can be ended without asking it, and a switch with an Open vSwitch to itself."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mininet.node import Node, Switch

from testbed.processes import TopoError, tail, wait_for


class MarkedNode(Node):  # type: ignore[misc]
    """A Mininet node whose shell, and so everything started from it, carries the network's mark."""

    def __init__(self, name: str, environment: Mapping[str, str], **params: Any) -> None:
        self.environment = environment  # not a copy: what is put in later counts for what is started later
        params["inNamespace"] = True
        super().__init__(name, **params)

    def _popen(self, cmd: list[str], **params: Any) -> subprocess.Popen[Any]:
        params.setdefault("env", {**os.environ, **self.environment})
        return super()._popen(cmd, **params)

    def kill(self) -> None:
        """End the node's shell at once, whatever it is doing; with its last process the namespace goes."""
        if self.shell and self.shell.poll() is None:
            self.shell.kill()
            self.shell.wait()

    def start(self, _controllers: object = None) -> None:
        """Nothing to start: the programs are started by commands."""

    def stop(self, deleteIntfs: bool = False) -> None:  # noqa: N803 (Mininet's name)
        """Nothing to stop: interfaces go with the namespace."""


class OvsSwitch(MarkedNode, Switch):  # type: ignore[misc]
    """A switch that runs an ovsdb-server and an ovs-vswitchd of its own in its own namespace.

    ``prefix`` is where Open vSwitch is installed, ``run_dir`` where this switch's database and sockets go,
    ``controller`` an OpenFlow target such as ``unix:/run/baton/openflow.sock``.
    """

    controlIntf = None  # noqa: N815 (Mininet's name: a switch in a namespace has none)

    def __init__(self, name: str, prefix: Path, run_dir: Path, controller: str, tso: bool, **params: Any) -> None:
        self.prefix, self.run_dir, self.controller, self.tso = prefix, run_dir, controller, tso
        self.daemons: list[subprocess.Popen[bytes]] = []
        run_dir.mkdir(mode=0o700)
        environment = params.pop("environment")
        environment = {
            **environment,
            "OVS_RUNDIR": str(run_dir),
            "OVS_LOGDIR": str(run_dir),
            "OVS_DBDIR": str(run_dir),
            "PATH": f"{prefix}/bin:{prefix}/sbin:{environment.get('PATH', os.environ['PATH'])}",
        }
        super().__init__(name, environment=environment, **params)

    def start(self, _controllers: object = None) -> None:
        """Start database and switch and configure the bridge; TopoError with the log's last lines if it fails."""
        self.start_daemons()
        bridge = self.name
        self.vsctl(
            *f"--may-exist add-br {bridge} -- set bridge {bridge} datapath_type=netdev fail_mode=secure"
            f" other-config:datapath-id={self.dpid} other-config:disable-in-band=true"
            f" other-config:controller-queue-size=512"
            f" protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15"
            f" -- set-controller {bridge} {self.controller}"
            f" -- set controller {bridge} max_backoff=1000 controller_queue_size=512".split()
        )
        for number, interface in sorted(self.intfs.items()):
            self.vsctl(
                "--may-exist",
                "add-port",
                bridge,
                interface.name,
                "--",
                "set",
                "interface",
                interface.name,
                f"ofport_request={number}",
            )

    def start_daemons(self) -> None:
        """Start ovsdb-server and ovs-vswitchd (again); the database, and so the bridge, is kept if there is one."""
        database = self.run_dir / "conf.db"
        if not database.exists():
            self.tool("ovsdb-tool", "create", str(database), f"{self.prefix}/share/openvswitch/vswitch.ovsschema")
        self._daemon("ovsdb-server", str(database), f"--remote=punix:{self.run_dir}/db.sock")
        self.vsctl(
            "--no-wait",
            "init",
            "--",
            "set",
            "Open_vSwitch",
            ".",
            f"other_config:userspace-tso-enable={'true' if self.tso else 'false'}",
        )
        # Confined to its own run directory it would refuse a controller's socket elsewhere.
        self._daemon("ovs-vswitchd", f"unix:{self.run_dir}/db.sock", "--no-self-confinement")

    def stop_daemons(self) -> None:
        """End both daemons, vswitchd first; the database file stays."""
        while self.daemons:
            daemon = self.daemons.pop()
            daemon.terminate()
            try:
                daemon.wait(5)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _daemon(self, program: str, *arguments: str) -> None:
        """Start one daemon in the foreground, as our child, and wait until it answers on its control socket."""
        control = self.run_dir / f"{program}.ctl"
        log = self.run_dir / f"{program}.log"
        control.unlink(missing_ok=True)
        daemon = self.popen(
            [
                str(self.prefix / "sbin" / program),
                *arguments,
                f"--unixctl={control}",
                f"--log-file={log}",
                f"--pidfile={self.run_dir}/{program}.pid",
                "-vconsole:off",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.daemons.append(daemon)
        try:
            wait_for(program, control.exists, 15, lambda: daemon.poll() is None)
        except TopoError as error:
            raise TopoError(f"{error}; the end of its log:\n{tail(log)}") from None

    def tool(self, *command: str) -> str:
        """Run one of Open vSwitch's programs against this switch and return its output."""
        done = subprocess.run(
            [str(self.prefix / "bin" / command[0]), *command[1:]],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode:
            raise TopoError(f"{shlex.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def vsctl(self, *arguments: str) -> str:
        """Run ovs-vsctl against this switch."""
        return self.tool("ovs-vsctl", f"--db=unix:{self.run_dir}/db.sock", "--timeout=20", *arguments)

    def ofctl(self, *arguments: str) -> str:
        """Run ovs-ofctl against this switch (give the bridge's name as ovs-ofctl wants it)."""
        return self.tool("ovs-ofctl", "-O", "OpenFlow14", "--timeout=20", *arguments)

    def appctl(self, *arguments: str) -> str:
        """Run ovs-appctl against this switch's vswitchd."""
        return self.tool("ovs-appctl", f"--target={self.run_dir}/ovs-vswitchd.ctl", "--timeout=20", *arguments)

    def dpctl(self, *arguments: str) -> str:
        """Answer Mininet's `dpctl COMMAND`."""
        command, *rest = arguments
        return self.ofctl(command, self.name, *rest)

    def connected(self) -> bool:
        """Tell whether a controller is there."""
        return self.vsctl("get", "controller", self.name, "is_connected").strip() == "true"
