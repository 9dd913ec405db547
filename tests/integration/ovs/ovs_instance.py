# SPDX-License-Identifier: Apache-2.0
"""An Open vSwitch of a test's own, with hosts around it, each in a network namespace made for it.

    with OvsInstance(tso=True) as ovs:
        client = ovs.add_host("client", "10.0.0.1/24", "02:00:00:00:00:01")
        server = ovs.add_host("server", "10.0.0.2/24", "02:00:00:00:00:02")
        ovs.ofctl("add-flow", "br0", "actions=normal")
        client.run("ping", "-c", "1", "10.0.0.2")

Database, sockets and logs are in a private temporary directory. Namespaces are named after the process that made them;
no interface is made outside of them, and only what was made here is taken away, whatever happens in between.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[3]
TIMEOUT = 60.0
LOG_LINES = 15


class OvsError(RuntimeError):
    """A command failed, or something did not happen in time; the text says what, and shows what it printed."""


def ovs_prefix() -> Path:
    """Return where the modified Open vSwitch is installed: $BATON_OVS_PREFIX, else build/ovs of this repository."""
    return Path(os.environ.get("BATON_OVS_PREFIX") or REPOSITORY / "build" / "ovs")


def wait_until(what: str, condition: Callable[[], Any], seconds: float = TIMEOUT) -> Any:
    """Poll `condition` until it is true and return its value; OvsError naming `what` when `seconds` are over."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise OvsError(f"not within {seconds:g} s: {what}")
        time.sleep(0.02)
    return value


def run(*command: str | Path, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return it with its output; OvsError if it fails and `check` is set."""
    options.setdefault("timeout", TIMEOUT)
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    if options["stdin"] is None:
        del options["stdin"]
    try:
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OvsError(f"{' '.join(map(str, command))}: {error}") from None
    if check and done.returncode:
        raise OvsError(f"{' '.join(map(str, command))}: exit status {done.returncode}: {done.stderr or done.stdout}")
    return done


class Namespace:
    """A network namespace with a name, and the processes started in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.processes: list[subprocess.Popen[Any]] = []
        run("ip", "netns", "add", name)
        self.run("ip", "link", "set", "lo", "up")

    def command(self, *words: str | Path) -> list[str]:
        """Return the command that executes `words` in here."""
        return ["ip", "netns", "exec", self.name, *map(str, words)]

    def run(self, *words: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in here to its end."""
        return run(*self.command(*words), **options)

    def popen(self, *words: str | Path, **options: Any) -> subprocess.Popen[Any]:
        """Start a command in here that ends at the latest with the namespace."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.PIPE)
        options.setdefault("text", True)
        process = subprocess.Popen(self.command(*words), **options)
        self.processes.append(process)
        return process

    def counters(self) -> dict[str, int]:
        """Return the kernel's protocol counters, absolute, such as TcpInCsumErrors."""
        lines = self.run("nstat", "-asz").stdout.splitlines()
        return {words[0]: int(words[1]) for line in lines if len(words := line.split()) == 3 and words[0] != "#kernel"}

    def delete(self) -> None:
        """End the processes and remove the namespace with its interfaces."""
        for process in reversed(self.processes):
            end(process)
        run("ip", "netns", "delete", self.name, check=False)


def end(process: subprocess.Popen[Any], seconds: float = 5.0) -> None:
    """Terminate a process of ours, and kill it if it does not listen."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for stream in (process.stdout, process.stderr, process.stdin):
        if stream:
            stream.close()


class Host(Namespace):
    """A host at the switch: its interface is `eth0`, the switch's port is called like the host."""

    def __init__(self, name: str, namespace: str, mac: str, ports: Namespace) -> None:
        super().__init__(namespace)
        self.port = name
        self.mac = mac
        ports.run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self.run("ip", "link", "set", "eth0", "address", mac)

    def set_offload(self, interface: str = "eth0", **features: bool) -> None:
        """Switch features of ethtool -K on or off: set_offload(rx=False, gro=False)."""
        settings = [word for name, on in features.items() for word in (name.replace("_", "-"), "on" if on else "off")]
        self.run("ethtool", "-K", interface, *settings)

    def knows(self, address: str, mac: str) -> None:
        """Make the host send packets for `address` to `mac` without asking."""
        self.run("ip", "neigh", "replace", address, "lladdr", mac, "dev", "eth0", "nud", "permanent")


class OvsInstance:
    """A running ovsdb-server and ovs-vswitchd with one bridge, in a namespace of their own.

    With `tso`, the switch takes over checksums and segmentation, and neither end of a host's cable hides a wrong
    checksum: the port's device completes it (`tx off`), the host verifies it (`rx off`). Without, hosts send finished
    packets.
    """

    def __init__(
        self,
        prefix: Path | str | None = None,
        tso: bool = True,
        bridge: str = "br0",
        other_config: dict[str, str] | None = None,
    ) -> None:
        self.prefix = Path(prefix) if prefix else ovs_prefix()
        self.tso = tso
        self.bridge = bridge
        self.other_config = {"userspace-tso-enable": str(tso).lower(), **(other_config or {})}
        self.hosts: dict[str, Host] = {}
        self._cleanup = contextlib.ExitStack()
        self._token = f"baton-{os.getpid()}-{secrets.token_hex(3)}"

    def __enter__(self) -> OvsInstance:
        if not (self.prefix / "sbin" / "ovs-vswitchd").exists():
            raise OvsError(f"no Open vSwitch in {self.prefix}: run ovs_actions/build.sh, or set BATON_OVS_PREFIX")
        with contextlib.ExitStack() as undo:
            undo.callback(self.close)
            self._start()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if value is not None:
            with contextlib.suppress(OSError):
                log = (self.run_dir / "ovs-vswitchd.log").read_text().splitlines()
                value.add_note("\n".join(["ovs-vswitchd.log:", *log[-LOG_LINES:]]))
        self.close()

    def close(self) -> None:
        """Take away all that was made, last things first."""
        self._cleanup.close()
        self.hosts.clear()

    def _start(self) -> None:
        self.run_dir = Path(tempfile.mkdtemp(prefix=f"{self._token}-"))
        self._cleanup.callback(shutil.rmtree, self.run_dir, ignore_errors=True)
        self.namespace = Namespace(f"{self._token}-switch")
        self._cleanup.callback(self.namespace.delete)
        self.environment = {
            **os.environ,
            **{name: str(self.run_dir) for name in ("OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR")},
        }
        database = self.run_dir / "conf.db"
        schema = self.prefix / "share" / "openvswitch" / "vswitch.ovsschema"
        self._tool("ovsdb-tool", "create", str(database), str(schema))
        self._daemon("ovsdb-server", str(database), f"--remote=punix:{self.run_dir}/db.sock")
        # What is read only once must be there before ovs-vswitchd starts.
        settings = [f"other_config:{name}={value}" for name, value in self.other_config.items()]
        self.vsctl("--no-wait", "init", "--", "set", "Open_vSwitch", ".", *settings)
        self._daemon("ovs-vswitchd", f"unix:{self.run_dir}/db.sock")
        self.vsctl(
            *f"add-br {self.bridge} -- set bridge {self.bridge} datapath_type=netdev fail_mode=secure"
            " protocols=OpenFlow10,OpenFlow11,OpenFlow12,OpenFlow13,OpenFlow14,OpenFlow15".split()
        )

    def _daemon(self, program: str, *arguments: str) -> None:
        control = self.run_dir / f"{program}.ctl"
        daemon = self.namespace.popen(
            self.prefix / "sbin" / program,
            *arguments,
            f"--unixctl={control}",
            f"--log-file={self.run_dir}/{program}.log",
            f"--pidfile={self.run_dir}/{program}.pid",
            "-vconsole:off",
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(f"{program} answers", lambda: control.exists() or daemon.poll() is not None)
        if daemon.poll() is not None:
            log = self.run_dir / f"{program}.log"
            last = log.read_text().splitlines()[-LOG_LINES:] if log.exists() else ["(no log)"]
            raise OvsError("\n".join([f"{program} ended with status {daemon.returncode}:", *last]))

    def _tool(self, program: str, *words: str, **options: Any) -> str:
        command = self.namespace.command(self.prefix / "bin" / program, *words)
        return run(*command, env=self.environment, **options).stdout

    def vsctl(self, *words: str) -> str:
        """Run ovs-vsctl."""
        return self._tool("ovs-vsctl", "--timeout=30", *words)

    def ofctl(self, *words: str, version: str = "OpenFlow14", **options: Any) -> str:
        """Run ovs-ofctl with OpenFlow `version`."""
        return self._tool("ovs-ofctl", "--timeout=30", "-O", version, *words, **options)

    def appctl(self, *words: str) -> str:
        """Run ovs-appctl on ovs-vswitchd."""
        return self._tool("ovs-appctl", "--timeout=30", "-t", f"{self.run_dir}/ovs-vswitchd.ctl", *words)

    def coverage(self, counter: str) -> int:
        """Return how often the event of a coverage counter has happened."""
        return int(self.appctl("coverage/read-counter", counter))

    def ofport(self, host: Host) -> int:
        """Return the OpenFlow port number of a host."""
        return int(self.vsctl("get", "interface", host.port, "ofport"))

    def port_counters(self, host: Host) -> dict[str, int]:
        """Return the counters of a host's port as they are now: "rx pkts", "rx bytes", "tx drop" and so on."""
        text = self.ofctl("dump-ports", self.bridge, host.port, version="OpenFlow10")
        directions = dict(re.findall(r"(rx|tx) (pkts=.*)", text))
        return {
            f"{direction} {name}": int(value)
            for direction, line in directions.items()
            for name, value in re.findall(r"(\w+)=(\d+)", line)
        }

    def add_host(self, name: str, address: str, mac: str, *more_addresses: str, mtu: int = 1500) -> Host:
        """Make a host with interface addresses such as "10.0.0.1/24" or "fd00::1/64" and connect it to the bridge."""
        host = Host(name, f"{self._token}-{name}", mac, self.namespace)
        self._cleanup.callback(host.delete)
        self.hosts[name] = host
        self.namespace.run("ip", "link", "set", name, "mtu", str(mtu), "up")
        host.run("ip", "link", "set", "eth0", "mtu", str(mtu), "up")
        for each in (address, *more_addresses):
            version = ipaddress.ip_interface(each).version
            host.run("ip", f"-{version}", "address", "add", each, "dev", "eth0", *(["nodad"] if version == 6 else []))
        if self.tso:
            self.namespace.run("ethtool", "-K", name, "tx", "off")
            host.set_offload(rx=False)
        else:
            host.set_offload(tx=False)
        self.vsctl("add-port", self.bridge, name)
        return host
