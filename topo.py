#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo's network in Mininet: a client, two servers and an analyser around one modified Open vSwitch.

                 c0 (Ryu: ryu-manager apps/tcp_migration.py)
                 |  OpenFlow over RUN/openflow.sock, alerts over RUN/eve.sock
                 |                                   |
    h3 ------- [ s1 ] ids0 ------------------- ids (Suricata or Snort)
    client     /    \\
       server 1      server 2
             h1      h2

    host  address          MAC                 runs
    h1    10.0.0.1/8       02:00:00:00:00:01   server 1, port 11111: the one that clients dial
    h2    10.0.0.2/8       02:00:00:00:00:02   server 2, port 22222: takes over migrated connections
    h3    10.0.0.3/8       02:00:00:00:00:03   client
    ids   none             -                   the analyser, behind the switch's port ids0
    c0    none             -                   the controller (any other terminal of this machine does as well)

The switch is an Open vSwitch of its own (userspace datapath, own database, own run directory), taken from build/ovs or
$BATON_OVS_PREFIX. Every node has a network namespace of its own and nothing is made outside of them, so several of
these networks run beside each other. RUN is $BATON_RUN_DIR, else /run/baton.

    sudo python3 topo.py                 the Mininet prompt
    sudo python3 topo.py --controller    the same, with the controller started
    sudo python3 topo.py --tmux          with everything in tmux windows (or --xterm, on a display)
    sudo python3 topo.py --demo          play the whole scenario and exit
    sudo python3 topo.py --p4            with P4 switches: p1 before h1, p2 before h2, p3 a spare (docs/p4sync-demo.md)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parent
VENV_PYTHON = REPOSITORY / ".venv" / "bin" / "python"

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main() is ready, an interrupt ends us without a word

try:
    from mininet.cli import CLI
    from mininet.link import Link
    from mininet.log import setLogLevel
    from mininet.net import Mininet

    from testbed import p4 as p4_part
    from testbed.processes import (
        MARK,
        TopoError,
        clear_run_dir,
        guarded,
        kill_marked,
        lock_run_dir,
        new_mark,
        quiet_signals,
        start_reaper,
        tail,
        wait_for,
    )
    from testbed.switch import MarkedNode, OvsSwitch
except ImportError:
    # A Python of the user's own (pyenv, conda) does not see Debian's mininet; the one of `make setup` does.
    if __name__ != "__main__":
        raise
    if not VENV_PYTHON.exists() or Path(sys.prefix) == VENV_PYTHON.parent.parent:
        sys.exit("topo.py: Mininet is not installed; run `make setup` first")
    os.execv(VENV_PYTHON, [str(VENV_PYTHON), __file__, *sys.argv[1:]])

LONGEST_SOCKET_PATH = 107  # sun_path, without its final NUL


class HostSpec(NamedTuple):
    """A host to be: its node's name, its address with prefix length, its MAC."""

    name: str
    address: str
    mac: str


HOSTS = (
    HostSpec("h1", "10.0.0.1/8", "02:00:00:00:00:01"),
    HostSpec("h2", "10.0.0.2/8", "02:00:00:00:00:02"),
    HostSpec("h3", "10.0.0.3/8", "02:00:00:00:00:03"),
)
SERVER1 = ("10.0.0.1", 11111)
SERVER2 = ("10.0.0.2", 22222)


# ---- network -------------------------------------------------------------------------------------------------------


class BatonNet:
    """The network of this file's picture; a context manager that stops what it started.

    ``run_dir`` defaults to $BATON_RUN_DIR or /run/baton; None of its other files are touched. ``private=True`` makes a
    new directory instead, removed at the end. ``tso=False`` switches segmentation offload off everywhere.
    ``hosts`` are connected to the switch's ports 1, 2, 3 ... and ids0 is the port after them. ``p4=True`` puts P4
    switches before the servers (then there is no TSO); ``tapped`` is a link of their fabric to be led through ``mid``.
    """

    def __init__(
        self,
        run_dir: Path | str | None = None,
        *,
        private: bool = False,
        tso: bool = True,
        hosts: Sequence[HostSpec] = HOSTS,
        prefix: Path | str | None = None,
        p4: bool = False,
        tapped: tuple[str, str] | None = None,
    ) -> None:
        self.p4, self.tapped = p4, tapped
        self.mark = new_mark()
        self.made = private
        default = f"/run/baton-{self.mark}" if private else os.environ.get("BATON_RUN_DIR") or "/run/baton"
        self.run_dir = Path(run_dir or default)
        self.tso, self.hosts = tso and not p4, tuple(hosts)
        self.prefix = Path(prefix or os.environ.get("BATON_OVS_PREFIX") or REPOSITORY / "build" / "ovs")
        self.environment = {MARK: self.mark, "BATON_RUN_DIR": str(self.run_dir), "PYTHONUNBUFFERED": "1"}
        if VENV_PYTHON.exists():
            self.environment["PATH"] = f"{VENV_PYTHON.parent}:{os.environ['PATH']}"
        self.net: Any = None
        self.controller: subprocess.Popen[bytes] | None = None
        self.analyser: subprocess.Popen[bytes] | None = None
        self._children: list[subprocess.Popen[Any]] = []
        self._reaper: subprocess.Popen[bytes] | None = None
        self._lock: int | None = None

    # -- start and stop

    def __enter__(self) -> BatonNet:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Make the hosts, the switch and the links; TopoError says what is missing."""
        check_machine(self.prefix)
        if len(str(self.run_dir / "s1" / "ovs-vswitchd.ctl")) > LONGEST_SOCKET_PATH:
            raise TopoError(f"{self.run_dir} is too long a path for sockets: set BATON_RUN_DIR to a shorter one")
        self._reaper = start_reaper(self.mark, self.run_dir, self.made)
        self._take_run_dir()
        Mininet.inited = True  # else it raises limits of the whole machine (sysctl), which are not ours to change
        self.net = Mininet(controller=None, build=False)
        environment = {"environment": self.environment}
        c0, ids = (MarkedNode(name, **environment) for name in ("c0", "ids"))
        self.net.controllers += [c0, ids]
        self.net.nameToNode.update(c0=c0, ids=ids)
        s1 = self.net.addSwitch(
            "s1",
            cls=OvsSwitch,
            prefix=self.prefix,
            run_dir=self.run_dir / "s1",
            tso=self.tso,
            controller=f"unix:{self.run_dir}/openflow.sock",
            **environment,
        )
        if self.p4:
            p4_part.add_switches(self.net, self.run_dir, self.environment, self.tapped)
        for host in self.hosts:
            node = self.net.addHost(host.name, cls=MarkedNode, ip=host.address, mac=host.mac, **environment)
            if self.p4:
                p4_part.join_host(self.net, node, s1)
            else:
                self.net.addLink(node, s1, cls=Link)
        self.net.addLink(ids, s1, cls=Link, intfName2="ids0")
        self._settle(s1, ids)
        self.net.build()
        s1.start()
        for switch in self.p4_switches():
            switch.start()
        (self.run_dir / "topo.json").write_text(json.dumps(self.state()))

    def stop(self) -> None:
        """Stop everything and remove what was made; may be called at any time and again."""
        with quiet_signals():
            for child in reversed(self._children):
                if child.poll() is None:
                    child.terminate()
            for child in reversed(self._children):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(3)
            for node in self.net.values() if self.net else ():
                if isinstance(node, OvsSwitch | p4_part.P4Switch):
                    node.stop_daemons()
                node.kill()
            kill_marked(self.mark)
            for child in self._children:
                child.wait()
            self._children.clear()
            self.net = self.controller = self.analyser = None
            if self._lock is not None:
                clear_run_dir(self.run_dir, self.made)
                os.close(self._lock)
                self._lock = None
            if self._reaper is not None and self._reaper.stdin is not None:
                self._reaper.stdin.close()
                self._reaper.wait()
                self._reaper = None

    def _take_run_dir(self) -> None:
        """Make the run directory ours: mode 0700, one network at a time, no leftovers of a killed one."""
        try:
            self.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            status = self.run_dir.stat()
            if status.st_uid != os.geteuid() or status.st_mode & 0o077:
                raise TopoError(f"{self.run_dir} must be yours alone: `chmod 700` it, or set BATON_RUN_DIR")
            lock = lock_run_dir(self.run_dir)
        except OSError as error:
            raise TopoError(
                f"cannot use the run directory {self.run_dir}: {error.strerror}; set BATON_RUN_DIR to another"
            ) from error
        if lock is None:
            raise TopoError(
                f"another network runs in {self.run_dir}; leave it first, or set BATON_RUN_DIR to another directory"
                " (for topo.py and for its controller)"
            )
        self._lock = lock
        state = self.run_dir / "topo.json"
        with contextlib.suppress(OSError, ValueError, KeyError):
            kill_marked(json.loads(state.read_text())["mark"])  # of one whose owner and reaper were both killed
        for name in ("s1", "p4sync"):
            shutil.rmtree(self.run_dir / name, ignore_errors=True)
        state.write_text(json.dumps({"mark": self.mark, "owner": os.getpid(), "private": self.made}))

    def _settle(self, s1: OvsSwitch, ids: MarkedNode) -> None:
        """Switch off what would talk unasked (IPv6) and, without TSO, what would leave packets unfinished."""
        nodes = [s1, ids, *(self.net[host.name] for host in self.hosts)]
        for node in nodes:
            node.cmd("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1")
        ids.cmd(f"ip link set {ids.intfNames()[0]} arp off promisc on")
        for switch in [*self.p4_switches(), *([self.net["mid"]] if self.tapped else [])]:
            p4_part.quieten(switch)
        if not self.tso:
            for host in self.hosts:
                # Without TSO the switch takes packets as they are: a checksum left to the hardware would stay undone.
                node = self.net[host.name]
                node.cmd(f"ethtool -K {node.intfNames()[0]} tx off")

    # -- what runs in it

    def __getitem__(self, name: str) -> Any:
        return self.net[name]

    @property
    def switch(self) -> OvsSwitch:
        """The switch s1."""
        switch: OvsSwitch = self.net["s1"]
        return switch

    def ports(self) -> dict[int, str]:
        """Return which node is behind each OpenFlow port of s1."""
        ends = {number: (intf.link.intf1, intf.link.intf2) for number, intf in self.switch.intfs.items()}
        names = {n: end.node.name for n, pair in ends.items() for end in pair if end.node is not self.switch}
        return {number: p4_part.host_behind(name) for number, name in names.items()}

    def p4_switches(self) -> list[p4_part.P4Switch]:
        """Return the P4 switches, none of a network without them."""
        return [node for node in self.net.switches if isinstance(node, p4_part.P4Switch)]

    def state(self) -> dict[str, Any]:
        """What other programs may want to know of this network: its mark, its owner, its nodes' shells."""
        return {
            "mark": self.mark,
            "owner": os.getpid(),
            "private": self.made,
            "nodes": {name: self.net[name].pid for name in self.net},
            "ovs_rundir": str(self.run_dir / "s1"),
        }

    def popen(self, node: str, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a program in a node; it is ended with the network if not before."""
        options = {"cwd": REPOSITORY, "stdin": subprocess.DEVNULL, **options}
        return self.adopt(self.net[node].popen(list(command), **options))

    def adopt(self, child: subprocess.Popen[Any]) -> subprocess.Popen[Any]:
        """Take on a program that was started in another way (with ``environment``): it ends with the network."""
        self._children.append(child)
        return child

    def run(
        self, node: str, command: Sequence[str], timeout: float = 60, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in a node and return its exit code and output; TopoError when it takes longer."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        child = self.popen(node, command, **options)
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            child.communicate()
            raise TopoError(f"{node}: {shlex.join(command)} took longer than {timeout:g} s") from None
        finally:
            if child.poll() is not None:
                self._children.remove(child)
        return subprocess.CompletedProcess(list(command), child.returncode, out, err)

    def forward_all(self) -> None:
        """Make the switch a plain learning switch, without a controller."""
        self.switch.ofctl("add-flow", "s1", "priority=0,actions=NORMAL")

    def start_controller(self, framework: str | None = None, command: Sequence[str] = (), timeout: float = 30) -> None:
        """Start the controller in c0 and wait until the switch has found it.

        ``framework`` is ``ryu`` or ``os_ken`` (default: whichever is installed); ``command`` replaces all of it.
        """
        if not command:
            command = controller_command(framework)
        log = self.run_dir / "controller.log"
        with log.open("wb") as output:
            self.controller = self.popen("c0", command, stdout=output, stderr=subprocess.STDOUT)
        child = self.controller
        try:
            wait_for("the controller", self.switch.connected, timeout, lambda: child.poll() is None)
        except TopoError as error:
            raise TopoError(f"{error}; the end of its log:\n{tail(log)}") from None

    def stop_controller(self, number: int = signal.SIGTERM) -> None:
        """End the controller (with a signal of choice) and wait until it is gone."""
        if self.controller is not None:
            self.controller.send_signal(number)
            self.controller.wait(10)
            self.controller = None

    def start_analyser(self, *arguments: str, timeout: float = 30) -> None:
        """Start Snort or Suricata in ids and wait until it watches the copies that the switch sends it."""
        log = self.run_dir / "analyser.log"
        interface = self.net["ids"].intfNames()[0]
        with log.open("wb") as output:
            self.analyser = self.popen(
                "ids",
                [str(VENV_PYTHON), "-m", "controller.analyser", "--interface", interface, *arguments],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        child = self.analyser
        try:
            wait_for("the analyser", lambda: b"ready" in log.read_bytes(), timeout, lambda: child.poll() is None)
        except TopoError as error:
            raise TopoError(f"{error}; the end of its log:\n{tail(log)}") from None


def controller_command(framework: str | None = None) -> list[str]:
    """Return the command that starts the controller: what users type, or the one that chooses the framework."""
    ryu_manager = VENV_PYTHON.parent / "ryu-manager"
    app = str(REPOSITORY / "apps" / "tcp_migration.py")
    if framework is None and ryu_manager.exists():
        return [str(ryu_manager), app]
    chosen = ["--framework", framework] if framework else []
    return [str(VENV_PYTHON), "-m", "controller.manager", *chosen, app]


def check_machine(prefix: Path) -> None:
    """Raise TopoError where the network cannot be made here: not root, or without switch, programs or namespaces."""
    if os.geteuid() != 0:
        raise TopoError("network namespaces need root: run it with sudo")
    if not (prefix / "sbin" / "ovs-vswitchd").exists():
        raise TopoError(f"no Open vSwitch in {prefix}: run `make setup` first (or set BATON_OVS_PREFIX)")
    for program in ("mnexec", "ifconfig", "ip", "ethtool"):
        if not shutil.which(program):
            raise TopoError(f"{program} is not installed: run `make setup` first")
    # Mininet waits for ever for a host whose namespace could not be made.
    tried = subprocess.run(["mnexec", "-n", "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        raise TopoError(
            f"network namespaces cannot be made here ({tried.stderr.strip() or tried.returncode}): "
            "use a machine of its own, or a container that is started with --privileged"
        )


# ---- command line --------------------------------------------------------------------------------------------------

HINTS = """\
The network is up{tso}; run directory {run_dir}. To see a connection move, type here:

  {controller}
  h1 python3 servers/server1.py &
  h2 python3 servers/server2.py &
  h3 python3 client/client.py "please migrate" "who are you now?"
  s1 ovs-ofctl dump-flows s1

The controller may run in any other terminal too: {elsewhere}
"""


def prompt(options: argparse.Namespace, open_windows: Callable[[BatonNet], None] | None = None) -> int:
    """Make the network and give the Mininet prompt until the user leaves it, with windows opened before if wanted."""
    with BatonNet(tso=not options.no_tso, p4=options.p4) as baton:
        if not options.no_analyser:
            baton.start_analyser()
        if options.controller:
            baton.start_controller(options.framework)
        os.environ.update(baton.switch.environment)  # so that `sh ovs-ofctl ...` means this switch
        default = str(baton.run_dir) == "/run/baton"
        command = "ryu-manager apps/tcp_migration.py"
        print(
            HINTS.format(
                tso="" if baton.tso else ", TSO off",
                run_dir=baton.run_dir,
                controller="(the controller runs already)" if options.controller else f"c0 {command} &",
                elsewhere=f"{'' if default else f'BATON_RUN_DIR={baton.run_dir} '}.venv/bin/{command}",
            )
        )
        for switch in baton.p4_switches():
            print(f"  {switch.name} ({switch.target}) serves P4Runtime at {switch.address}")
        if open_windows:
            open_windows(baton)
        CLI(baton.net)
    return 0


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="topo.py", description=summary)
    parser.add_argument("--demo", action="store_true", help="play the scenario by itself and exit")
    parser.add_argument("--out", default="out", help="where --demo writes captures and diagram (default: out)")
    parser.add_argument("--tmux", action="store_true", help="run everything in tmux windows")
    parser.add_argument("--xterm", action="store_true", help="run everything in xterm windows (needs a display)")
    parser.add_argument("--controller", action="store_true", help="start the controller too")
    parser.add_argument("--framework", choices=("ryu", "os_ken"), help="what the controller runs on")
    parser.add_argument("--no-analyser", action="store_true", help="do not start Suricata or Snort")
    parser.add_argument("--p4", action="store_true", help="add P4 switches before the servers (switches TSO off)")
    parser.add_argument("--no-tso", action="store_true", help="switch segmentation offload off everywhere")
    return parser.parse_args(arguments)


def main() -> int:
    """Do what the command line says; return the exit code."""
    options = parse()
    os.chdir(REPOSITORY)
    if options.demo or options.tmux or options.xterm:
        if not VENV_PYTHON.exists():
            raise TopoError("there is no .venv beside topo.py: run `make setup` first")
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), "-m", "demo", *sys.argv[1:]])
    setLogLevel("output")
    return prompt(options)


if __name__ == "__main__":
    sys.exit(guarded("topo.py", main))
