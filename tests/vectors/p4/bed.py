# SPDX-License-Identifier: Apache-2.0
"""A namespace of one's own with P4 switches in it, and raw sockets on their ports.

Each port is a veth pair: `<switch>p<port>` belongs to the switch, `<switch>h<port>` to the test; `wire()` joins two
switch ports directly. Everything disappears with the namespace. Needs root.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNET = 0x40000000
START_DEADLINE = 15.0
BMV2 = "simple_switch_grpc"
ROOT = Path(__file__).resolve().parents[3]


class Bed:
    """A network namespace, the switches in it, and a directory for their sockets."""

    def __init__(self) -> None:
        """Raises PermissionError."""
        if os.geteuid() != 0:
            raise PermissionError("network namespaces need root: run 'sudo make test'")
        self.name = f"batonp4-{uuid.uuid4().hex[:8]}"
        self.run = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        self._processes: list[subprocess.Popen[bytes]] = []
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.sh("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        self.sh("ip", "link", "set", "lo", "up")

    def sh(self, *command: str) -> None:
        subprocess.run(["ip", "netns", "exec", self.name, *command], check=True, capture_output=True)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """This thread in the namespace: sockets opened here stay there."""
        libc = ctypes.CDLL(None, use_errno=True)
        with (
            open(f"/proc/self/task/{threading.get_native_id()}/ns/net") as home,
            open(f"/run/netns/{self.name}") as away,
        ):
            if libc.setns(away.fileno(), CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                if libc.setns(home.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns back")

    def pair(self, a: str, b: str) -> None:
        self.sh("ip", "link", "add", a, "type", "veth", "peer", "name", b)
        for end in (a, b):
            self.sh("ip", "link", "set", end, "up")

    def wire(self, a: str, port_a: int, b: str, port_b: int) -> None:
        """Join two switch ports."""
        self.pair(f"{a}p{port_a}", f"{b}p{port_b}")

    def port(self, switch: str, port: int) -> None:
        """A switch port whose other end is the test's."""
        self.pair(f"{switch}p{port}", f"{switch}h{port}")

    def socket(self, switch: str, port: int) -> socket.socket:
        """A raw socket on the test's end of a port."""
        with self.inside():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        raw.bind((f"{switch}h{port}", 0))
        return raw

    def start(self, target: str, switch: str, ports: list[int], thrift: int = 9090) -> str:
        """Start a switch, `embedded` or `bmv2`, on these ports; its gRPC address.

        Raises TimeoutError when it does not come up.
        """
        path = self.run / f"{switch}.sock"
        log = (self.run / f"{switch}.log").open("wb")
        interfaces = [x for port in ports for x in ("-i", f"{port}@{switch}p{port}")]
        server = ["--grpc-server-addr", f"unix:{path}", "--cpu-port", "255"]
        if target == "bmv2":
            program = [BMV2, "--no-p4", "--thrift-port", str(thrift), *interfaces, "--", *server]
        else:
            program = [sys.executable, "-m", "p4src.target", *interfaces, *server]
        command = ["ip", "netns", "exec", self.name, *program]
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT)
        log.close()
        self._processes.append(process)
        deadline = time.monotonic() + START_DEADLINE
        while not path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"{target} did not start: {(self.run / f'{switch}.log').read_text()[-500:]}")
            time.sleep(0.02)
        return f"unix:{path}"

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=False)
        shutil.rmtree(self.run, ignore_errors=True)

    def __enter__(self) -> Bed:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
