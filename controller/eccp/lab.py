# SPDX-License-Identifier: Apache-2.0
"""Network namespaces, veth pairs and daemons in them, for the demo, benchmarks and integration tests.

Everything has a name that begins with the laboratory's own prefix, and `Lab.close` removes exactly what was made.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any

from controller.eccp.errors import ConfigError
from controller.eccp.transport.control import ask, is_alive, socket_path


def run(*command: str) -> str:
    """Run a command and return its output.  Raises `RuntimeError` with what it printed."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)}: {result.stderr.strip() or result.stdout.strip()}")
    return result.stdout


def wait_for(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until the condition holds and return its value.  Raises `TimeoutError` naming ``what``."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.01)


class Lab:
    """A few namespaces with links between them, and processes inside."""

    def __init__(self) -> None:
        """Reserve a prefix and a private directory; nothing is made yet.  Raises `ConfigError` without root."""
        if os.geteuid() != 0:
            raise ConfigError("namespaces need root: run as root")
        self.prefix = f"baton{os.getpid()}-{secrets.token_hex(2)}-"
        self._directory = tempfile.TemporaryDirectory(prefix="baton-eccp-")
        self.run_dir = Path(self._directory.name)
        self._namespaces: list[str] = []
        self.processes: list[subprocess.Popen[Any]] = []
        self._identities: dict[str, str] = {}

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def namespace(self, name: str) -> str:
        """Make a namespace; returns its full name."""
        full = f"{self.prefix}{name}"
        run("ip", "netns", "add", full)
        self._namespaces.append(full)
        self.ip(name, "link", "set", "lo", "up")
        self.sysctl(name, "net.ipv4.ip_forward", "1")
        self.sysctl(name, "net.ipv4.conf.all.promote_secondaries", "1")  # as distributions set it
        return full

    def full(self, name: str) -> str:
        """The namespace's full name."""
        return f"{self.prefix}{name}"

    def ip(self, name: str, *arguments: str) -> str:
        """``ip`` inside a namespace."""
        return run("ip", "-n", self.full(name), *arguments)

    def sysctl(self, name: str, key: str, value: str) -> None:
        """Set a kernel parameter of a namespace."""
        run("ip", "netns", "exec", self.full(name), "sysctl", "-qw", f"{key}={value}")

    def link(self, one: str, one_interface: str, other: str, other_interface: str) -> None:
        """A veth pair between two namespaces, up, without addresses."""
        run(
            "ip", "link", "add", one_interface, "netns", self.full(one), "type", "veth",
            "peer", "name", other_interface, "netns", self.full(other),
        )  # fmt: skip
        self.ip(one, "link", "set", one_interface, "up")
        self.ip(other, "link", "set", other_interface, "up")

    def address(self, name: str, interface: str, address: str) -> None:
        """Add an address."""
        self.ip(name, "addr", "add", address, "dev", interface)

    def spawn(self, name: str, *command: str, stdout: IO[Any] | int | None = None) -> subprocess.Popen[Any]:
        """Start a process inside a namespace; `close` ends it."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.full(name), *command],
            stdin=subprocess.DEVNULL,
            stdout=stdout if stdout is not None else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if stdout is not None else subprocess.DEVNULL,
            env={**os.environ, "BATON_RUN_DIR": str(self.run_dir)},
        )
        self.processes.append(process)
        return process

    def execute(self, name: str, *command: str) -> str:
        """Run a command inside a namespace to its end."""
        return run("ip", "netns", "exec", self.full(name), *command)

    def identity(self, daemon: str) -> str:
        """The identity (hexadecimal) of a daemon, made on first use."""
        if daemon not in self._identities:
            key = str(self.run_dir / f"{daemon}.key")
            self._identities[daemon] = run(
                sys.executable, "-m", "controller.cli.eccp", "keygen", "--identity", key
            ).strip()
        return self._identities[daemon]

    def daemon(self, daemon: str, namespace: str, *arguments: str, command: str = "up") -> subprocess.Popen[Any]:
        """Start a daemon in a namespace and wait until it answers.  Raises `TimeoutError` with its log."""
        self.identity(daemon)
        log_path = self.run_dir / f"{daemon}.log"
        with log_path.open("wb") as log:
            process = self.spawn(
                namespace, sys.executable, "-m", "controller.cli.eccp", command, "--foreground", "--name", daemon,
                "--identity", str(self.run_dir / f"{daemon}.key"), *arguments, stdout=log,
            )  # fmt: skip
        try:
            wait_for(lambda: is_alive(self.socket(daemon)) or process.poll() is not None, 15, f"daemon {daemon}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {log_path.read_text()}") from error
        if process.poll() is not None:
            raise RuntimeError(f"daemon {daemon} ended: {log_path.read_text()}")
        return process

    def log(self, daemon: str) -> str:
        """What a daemon has printed."""
        return (self.run_dir / f"{daemon}.log").read_text()

    def socket(self, daemon: str) -> Path:
        """A daemon's control socket."""
        return socket_path(self.run_dir, daemon)

    def ask(self, daemon: str, command: str, **arguments: Any) -> dict[str, Any]:
        """One request to a daemon."""
        return ask(self.socket(daemon), {"command": command, **arguments})

    def wait_connected(self, *daemons: str, seconds: float = 15) -> None:
        """Wait until every daemon has an established connection."""
        for daemon in daemons:
            wait_for(
                partial(self._is_connected, daemon),
                seconds,
                f"{daemon} is not connected",
            )

    def _is_connected(self, daemon: str) -> bool:
        return any(connection["established"] for connection in self.ask(daemon, "status")["connections"])

    def close(self) -> None:
        """End the processes, then remove namespaces (and with them links) and files."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.processes):
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for namespace in reversed(self._namespaces):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False)
        self._namespaces.clear()
        self.processes.clear()
        self._directory.cleanup()
