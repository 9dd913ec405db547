# SPDX-License-Identifier: Apache-2.0
"""Observe mode: migrations a second sustained with 1, 10 and 100 in flight, and with thousands of idle connections.

Real connections between namespaces, moved to server 2 and back again and again over the controller's bus. In the end
each connection has to answer on its socket: a migration that loses one does not count, it ends the benchmark. What a
migration costs the controller's and the switch's processors is told beside, with few idle connections and with many.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, BenchmarkError, Outcome
from benchmarks.tcp_handoff import REQUESTS
from benchmarks.tcp_throughput import SETTINGS, start_server
from controller.bus_client import BusClient
from controller.core.events import MigrationCompleted, MigrationFailed, MigrationRequested, MigrationRolledBack
from controller.core.segment import ConnectionKey
from topo import SERVER1, SERVER2, BatonNet

MOVING = 200
"""Connections that are moved to and fro."""
AWAY = {"server1": "server2", "server2": "server1"}


class Crowd:
    """Idle connections of the client's host."""

    def __init__(self, net: BatonNet, count: int) -> None:
        """Open them; raises BenchmarkError."""
        self.count = count
        command = ["sh", "-c", 'ulimit -n 100000; exec "$@"', "sh", sys.executable, REQUESTS, "hold", SERVER1[0]]
        self._child = net.popen(
            "h3", [*command, str(SERVER1[1]), str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self._child.stdout.readline().strip() != "ready":
            raise BenchmarkError(f"{count} connections did not come about: see the controller's log")

    def check(self) -> None:
        """Ask on every connection; raises BenchmarkError where one does not answer."""
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        answered = self._child.stdout.readline().strip()
        if answered != str(self.count):
            raise BenchmarkError(f"{answered or 'none'} of {self.count} connections answered after the migrations")


def processor_seconds(*pids: int) -> list[float]:
    """Return the processor time that each process has used so far."""
    return [
        sum(int(entry.read_text().split()[0]) for entry in Path(f"/proc/{pid}/task").glob("*/schedstat")) * 1e-9
        for pid in pids
    ]


def migrate(client: BusClient, places: dict[ConnectionKey, str], in_flight: int, seconds: float) -> dict[str, Any]:
    """Move connections one after another, so many at a time; ``places`` is kept up to date."""
    waiting, moving = list(places), {}
    frozen: list[float] = []
    failed: Counter[str] = Counter()
    began = time.monotonic()
    end = began + seconds
    while True:
        now = time.monotonic()
        while now < end and len(moving) < in_flight and waiting:
            key = waiting.pop(0)
            moving[key] = AWAY[places[key]]
            client.send(MigrationRequested(now, key, moving[key], "now"))
        if not moving:
            break
        event = client.receive(10)
        if event is None:
            raise BenchmarkError(f"nothing was heard of {len(moving)} migrations for 10 s")
        key = getattr(event, "connection", None)
        if key not in moving:
            continue
        if isinstance(event, MigrationCompleted):
            places[key] = moving[key]
            frozen.append(event.frozen * 1e3)
        elif isinstance(event, (MigrationFailed, MigrationRolledBack)):
            failed[event.reason] += 1
        else:
            continue
        del moving[key]
        waiting.append(key)
    spent = time.monotonic() - began
    return {"seconds": spent, "done": len(frozen), "failed": dict(failed), "frozen_ms": sorted(frozen)}


def run(bench: Bench) -> Outcome:
    """Measure with little else, then beside many idle connections."""
    seconds, crowds = (1.0, (0, 500)) if bench.quick else (8.0, (0, 10_000))
    details: dict[str, Any] = {}
    samples: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="baton-scale-") as directory:
        settings = Path(directory) / "baton.toml"
        settings.write_text(SETTINGS)
        net = BatonNet(private=True)
        net.environment["BATON_CONFIG"] = str(settings)
        with net:
            net.start_controller()
            for host, where in (("h1", SERVER1), ("h2", SERVER2)):
                start_server(net, host, *where, program=REQUESTS)
            moved = Crowd(net, MOVING)
            with BusClient(net.run_dir / "bus.sock") as client:
                places = {row.connection: row.server for row in client.connections()}
                for idle in crowds:
                    crowd = Crowd(net, idle) if idle else None
                    for in_flight in (1, 10, 100):
                        name = f"{in_flight} in flight" + (f", {idle} idle connections" if idle else "")
                        details[name] = one = measure(net, client, places, in_flight, seconds)
                        samples[f"{name}, frozen_ms"] = one.pop("frozen_ms")
                        bench.progress(f"{name}: {one}")
                    if crowd is not None:
                        crowd.check()
            moved.check()
    return Outcome(details["10 in flight"]["per_second"], "migrations/s", details, samples)


def measure(
    net: BatonNet, client: BusClient, places: dict[ConnectionKey, str], in_flight: int, seconds: float
) -> dict[str, Any]:
    """Return rate, failures and what a migration costs, for so many in flight."""
    pids = (net.controller.pid, net.switch.daemons[-1].pid)
    before = processor_seconds(*pids)
    told = migrate(client, places, in_flight, seconds)
    used = [after - earlier for after, earlier in zip(processor_seconds(*pids), before, strict=True)]
    if not told["done"]:
        raise BenchmarkError(f"no connection was moved: {told['failed']}")
    return {
        "per_second": round(told["done"] / told["seconds"], 1),
        "moved": told["done"],
        "failed": told["failed"],
        "frozen_p50_ms": round(told["frozen_ms"][len(told["frozen_ms"]) // 2], 2),
        "controller_cpu_ms": round(used[0] * 1e3 / told["done"], 3),
        "switch_cpu_ms": round(used[1] * 1e3 / told["done"], 3),
        "frozen_ms": told["frozen_ms"],
    }
