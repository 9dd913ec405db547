# SPDX-License-Identifier: Apache-2.0
"""`make demo-eccp`: a phone downloads over plain HTTP while it hops between networks.

    phone -- wifibox (5 ms) -- router -- server
          -- cellbox (20 ms, NAT) -/  \\-- meet (rendezvous)

One TCP connection, from first byte to last.  On the way: WiFi to 4G and back, a new address on the same network, a NAT
that rebinds, and both ends changing their address at the same moment.  Ends with status 0 if the hash is right, the
connection never broke and every handover was seen.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from controller.eccp.errors import ConfigError
from controller.eccp.lab import run, wait_for
from controller.eccp.transport.control import ask, is_alive, socket_path

RATE = 3_000_000
SIZE = 36_000_000
PYTHON = sys.executable
SERVER, SERVER_2, MEET = "10.3.0.2", "10.4.0.2", "10.9.0.2"
INNER_PHONE, INNER_SERVER = "10.77.0.1", "10.77.0.2"


class Demo:
    """The network, the daemons, and the story."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="baton-eccp-")
        self.run_dir = Path(self._directory.name)
        self._tag = secrets.token_hex(2)
        self._processes: list[subprocess.Popen[Any]] = []
        self._began = time.monotonic()
        self.net = self._build()

    def _build(self) -> Any:
        try:
            from mininet.net import Mininet  # type: ignore[import-untyped]
        except ImportError as error:
            raise ConfigError(
                "Mininet is not installed: `apt-get install --no-install-recommends mininet`, and a virtual "
                "environment made with --system-site-packages"
            ) from error
        net = Mininet(controller=None, build=False)
        for name in ("phone", "wifibox", "cellbox", "router", "server", "meet"):
            net.addHost(self._name(name), ip=None)
        for one, other, ports in (
            ("phone", "wifibox", ("wifi", "in")),
            ("wifibox", "router", ("out", "rwifi")),
            ("phone", "cellbox", ("cell", "in")),
            ("cellbox", "router", ("out", "rcell")),
            ("router", "server", ("rwan", "wan")),
            ("router", "meet", ("rmeet", "lan")),
        ):
            net.addLink(
                self._host(net, one), self._host(net, other),
                intfName1=self._interface(one, ports[0]), intfName2=self._interface(other, ports[1]),
            )  # fmt: skip
        return net

    def _name(self, host: str) -> str:
        return f"{host[:4]}{self._tag}"

    def _interface(self, host: str, port: str) -> str:
        """Interface names are unique on the machine: Mininet makes links before it moves them."""
        return f"{host[0]}{port}{self._tag}"

    def _host(self, net: Any, host: str) -> Any:
        return net.get(self._name(host))

    def sh(self, host: str, command: str) -> str:
        """Run a command in a host and return its output."""
        result = subprocess.run(
            ["mnexec", "-a", str(self._host(self.net, host).pid), "sh", "-c", command],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if result.returncode:
            raise RuntimeError(f"{host}: {command}: {result.stderr.strip() or result.stdout.strip()}")
        return result.stdout

    def spawn(self, host: str, *command: str, log: str) -> subprocess.Popen[Any]:
        """Start a process in a host."""
        with (self.run_dir / f"{log}.log").open("wb") as out:
            process = subprocess.Popen(
                ["mnexec", "-a", str(self._host(self.net, host).pid), *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                env={**os.environ, "BATON_RUN_DIR": str(self.run_dir)},
            )  # fmt: skip
        self._processes.append(process)
        return process

    def say(self, text: str) -> None:
        """One line of the story, with the seconds since the start."""
        print(f"{time.monotonic() - self._began:7.2f} s  {text}", flush=True)

    # ---- setting up ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Addresses, routes, boxes, daemons."""
        self.net.build()
        i = self._interface
        for host, port, address in (
            ("phone", "wifi", "10.1.0.2/24"), ("phone", "cell", "10.2.0.2/24"),
            ("router", "rwifi", "10.1.0.1/24"), ("router", "rcell", "10.2.0.1/24"),
            ("router", "rwan", "10.3.0.1/24"), ("router", "rwan", "10.4.0.1/24"), ("router", "rmeet", "10.9.0.1/24"),
            ("server", "wan", f"{SERVER}/24"), ("meet", "lan", f"{MEET}/24"),
        ):  # fmt: skip
            self.sh(host, f"ip addr add {address} dev {i(host, port)}")
        for host in ("phone", "router", "server", "meet"):
            self.sh(host, "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.promote_secondaries=1")
        self.sh("phone", f"ip route add default via 10.1.0.1 dev {i('phone', 'wifi')} metric 1")
        self.sh("phone", f"ip route add default via 10.2.0.1 dev {i('phone', 'cell')} metric 2")
        self.sh("server", "ip route add default via 10.3.0.1")
        self.sh("meet", "ip route add default via 10.9.0.1")
        box = (PYTHON, "-m", "controller.eccp.transport.box")
        self.spawn("wifibox", *box, i("wifibox", "in"), i("wifibox", "out"), "--ms", "5", log="wifibox")
        self.nat = self.spawn(
            "cellbox", *box, i("cellbox", "in"), i("cellbox", "out"), "--ms", "20", "--nat", log="cellbox"
        )
        keys = {name: self._key(name) for name in ("phone", "server", "meet")}
        authorize = [word for name in ("phone", "server") for word in ("--authorize", keys[name])]
        self._daemon("meet", "rendezvous", *authorize)
        relay = ("--rendezvous", f"{MEET}:4500#{keys['meet']}", "--probe-after", "0.3")
        self._daemon("server", "up", "--inner", f"{INNER_SERVER}/24", "--authorize", keys["phone"], *relay)
        self._daemon(
            "phone", "up", "--inner", f"{INNER_PHONE}/24", "--connect", f"{SERVER}:4500#{keys['server']}",
            "--interface", i("phone", "wifi"), "--interface", i("phone", "cell"), *relay,
        )  # fmt: skip
        wait_for(lambda: self.peer_of("phone", INNER_SERVER), 20, "the connection")
        wait_for(lambda: len(self.status("meet")["connections"]) == 2, 20, "registration at the rendezvous")
        self.spawn("server", PYTHON, "-m", "controller.eccp.transfer", "serve", INNER_SERVER, "8000", log="http")
        wait_for(lambda: f"{INNER_SERVER}:8000" in self.sh("server", "ss -ltn"), 10, "the HTTP server")

    def _key(self, name: str) -> str:
        path = str(self.run_dir / f"{name}.key")
        return run(PYTHON, "-m", "controller.cli.eccp", "keygen", "--identity", path).strip()

    def _daemon(self, name: str, command: str, *arguments: str) -> None:
        process = self.spawn(
            name, PYTHON, "-m", "controller.cli.eccp", command, "--foreground", "--name", name,
            "--identity", str(self.run_dir / f"{name}.key"), *arguments, log=name,
        )  # fmt: skip
        path = socket_path(self.run_dir, name)
        wait_for(lambda: is_alive(path) or process.poll() is not None, 20, f"daemon {name}")
        if process.poll() is not None:
            raise RuntimeError((self.run_dir / f"{name}.log").read_text())

    # ---- looking ------------------------------------------------------------------------------------------------

    def status(self, name: str) -> dict[str, Any]:
        """A daemon's status."""
        return ask(socket_path(self.run_dir, name), {"command": "status"})

    def peer_of(self, name: str, inner: str) -> str:
        """Where a daemon sends what is for ``inner``."""
        for connection in self.status(name)["connections"]:
            if inner in connection["inner"] and connection["established"]:
                return str(connection["flows"][0]["peer"])
        return ""

    def received(self) -> int:
        """Bytes that the phone's TCP has got."""
        text = self.sh("phone", f"ss -tnieH dst {INNER_SERVER}:8000")
        found = re.search(r"bytes_received:(\d+)", text)
        return int(found.group(1)) if found else 0

    # ---- the story ----------------------------------------------------------------------------------------------

    def tell(self) -> bool:
        """Download, hop, judge."""
        i = self._interface
        self._began = time.monotonic()
        self.say(f"the phone downloads {SIZE // 10**6} MB from http://{INNER_SERVER}:8000 over WiFi")
        download = self.spawn(
            "phone", PYTHON, "-m", "controller.eccp.transfer", "get", INNER_SERVER, "8000", str(SIZE),
            "--rate", str(RATE), log="download",
        )  # fmt: skip
        wait_for(self.received, 20, "the first byte")
        socket = self._tcp_socket()
        wifi = i("phone", "wifi")
        self._act(
            "WiFi fades: the link goes down, 4G takes over",
            lambda: self.sh("phone", f"ip link set {wifi} down"),
            lambda: self.peer_of("server", INNER_PHONE).startswith("10.2.0.2:"),
        )
        outer = self.peer_of("server", INNER_PHONE)
        self._act(
            f"the 4G operator's NAT rebinds (the server saw {outer})",
            lambda: self.nat.send_signal(signal.SIGUSR1),
            lambda: self.peer_of("server", INNER_PHONE) not in {outer, ""},
        )
        self._act(
            "WiFi is back, with a new address",
            lambda: self._join_wifi("10.1.0.50"),
            lambda: any(p["address"].startswith("10.1.0.50") for p in self.status("phone")["places"]),
        )
        self._act(
            "the phone hops back to WiFi",
            lambda: ask(socket_path(self.run_dir, "phone"), {"command": "move", "to": wifi}),
            lambda: self.peer_of("server", INNER_PHONE) == "10.1.0.50:4500",
        )
        self._act(
            "the phone's address changes under it",
            lambda: self._renumber("phone", wifi, "10.1.0.50", "10.1.0.51"),
            lambda: self.peer_of("server", INNER_PHONE) == "10.1.0.51:4500",
        )
        self._act(
            "both ends change their address at the same moment; only the rendezvous knows both",
            self._both_at_once,
            lambda: (
                self.peer_of("server", INNER_PHONE) == "10.1.0.52:4500"
                and self.peer_of("phone", INNER_SERVER) == f"{SERVER_2}:4500"
            ),
        )
        self.say("nothing more happens; the download goes on")
        same_socket = self._tcp_socket() in {socket, ""}
        download.wait(120)
        verdict = json.loads((self.run_dir / "download.log").read_text().strip().splitlines()[-1])
        self._timeline()
        right = bool(verdict.get("right")) and same_socket
        self.say(f"{verdict.get('bytes')} bytes, SHA-256 {'right' if verdict.get('right') else 'WRONG'}, "
                 f"longest pause {verdict.get('longest_gap_ms')} ms, "
                 f"{'one TCP connection throughout' if same_socket else 'ANOTHER TCP CONNECTION'}")  # fmt: skip
        return right

    def _join_wifi(self, address: str) -> None:
        wifi = self._interface("phone", "wifi")
        self.sh("phone", f"ip addr flush dev {wifi} && ip addr add {address}/24 dev {wifi} && ip link set {wifi} up")
        self.sh("phone", f"ip route replace default via 10.1.0.1 dev {wifi} metric 1")

    def _renumber(self, host: str, interface: str, old: str, new: str) -> None:
        self.sh(host, f"ip addr add {new}/24 dev {interface} && ip addr del {old}/24 dev {interface}")

    def _both_at_once(self) -> None:
        i = self._interface
        wifi, cell, wan = i("phone", "wifi"), i("phone", "cell"), i("server", "wan")
        self.sh("phone", f"ip link set {cell} down; ip addr add 10.1.0.52/24 dev {wifi}")
        self.sh("server", f"ip addr add {SERVER_2}/24 dev {wan}")
        self.sh("phone", f"ip addr del 10.1.0.51/24 dev {wifi}")
        self.sh("server", f"ip addr del {SERVER}/24 dev {wan}; ip route replace default via 10.4.0.1")

    def _tcp_socket(self) -> str:
        words = self.sh("phone", f"ss -tnH dst {INNER_SERVER}:8000").split()
        return words[3] if len(words) > 3 else ""

    def _act(self, text: str, act: Callable[[], object], done: Callable[[], bool]) -> None:
        before = self.received()
        self.say(text)
        began = time.monotonic()
        act()
        wait_for(done, 30, text)
        self.say(f"   seen by the other end after {(time.monotonic() - began) * 1000:.0f} ms")
        wait_for(lambda: self.received() > before + RATE // 2 or not self.received(), 30, "the download hangs")

    def _timeline(self) -> None:
        print("\nhandovers, as the daemons saw them:")
        rows = []
        for name in ("phone", "server"):
            known = {c["connection"] for c in self.status(name)["connections"] if c["inner"]}
            for event in ask(socket_path(self.run_dir, name), {"command": "events"})["events"]:
                if event["event"] == "FlowMoved" and event["connection"] in known:
                    rows.append((event["time"], name, event))
        for at, name, event in sorted(rows, key=lambda row: row[0]):
            took = f", confirmed after {event['seconds'] * 1000:.1f} ms" if "seconds" in event else ""
            whose = "moved itself to" if event["who"] == "own" else "validated its peer at"
            print(f"{at - self._began:7.2f} s  {name} {whose} {event['address']} (version {event['version']}{took})")
        print()

    def close(self) -> None:
        """End and remove everything that was made."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.net.stop()
        self._directory.cleanup()


def main() -> int:
    """Run the demonstration; 0 if all was right."""
    if os.geteuid() != 0:
        print("demo-eccp: Mininet needs root: run `sudo make demo-eccp`", file=sys.stderr)
        return 1
    demo = None
    try:
        demo = Demo()
        demo.start()
        return 0 if demo.tell() else 1
    except (ConfigError, RuntimeError, TimeoutError) as error:
        print(f"demo-eccp: {error}", file=sys.stderr)
        return 1
    finally:
        if demo is not None:
            demo.close()


if __name__ == "__main__":
    raise SystemExit(main())
