# SPDX-License-Identifier: Apache-2.0
"""Observe mode: migrations a second, sustained, with 1, 10 and 100 of them in flight, among few and many connections.

Silent connections move to the other server and back again, each asked for over the bus as soon as one before it has
arrived. At the end every connection has to answer still. What 100,000 connections cost in time and memory is the
benchmark `connections`' business.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, BenchmarkError, Outcome, summary
from benchmarks.tcp_freeze import SETTINGS
from controller.bus_client import NAME as BUS
from controller.bus_client import BusClient
from controller.core.events import MigrationCompleted, MigrationFailed, MigrationRequested, MigrationRolledBack
from controller.core.segment import ConnectionKey, Endpoint
from topo import SERVER1, SERVER2, BatonNet

PEER = str(Path(__file__).with_name("_idle_peer.py"))
ENDED = (MigrationCompleted, MigrationFailed, MigrationRolledBack)
IN_FLIGHT = (1, 10, 100)
PATIENCE = 10.0


def sustain(bus: BusClient, places: dict[ConnectionKey, str], at_once: int, seconds: float) -> dict[str, Any]:
    """Keep so many migrations in flight for so long; return the rate and how long each took, in ms."""
    waiting, began = deque(places), {}
    done, undone, took = 0, 0, []
    start = time.monotonic()
    end = start + seconds
    while began or time.monotonic() < end:
        while waiting and len(began) < at_once and time.monotonic() < end:
            key = waiting.popleft()
            began[key] = time.monotonic()
            bus.send(MigrationRequested(began[key], key, "server1" if places[key] == "server2" else "server2"))
        event = bus.wait_for(lambda event: isinstance(event, ENDED), PATIENCE)
        if event is None:
            raise BenchmarkError(f"nothing was heard of {len(began)} migrations for {PATIENCE:g} s")
        key = event.connection
        if key not in began:
            continue
        took.append(1e3 * (time.monotonic() - began.pop(key)))
        waiting.append(key)
        if isinstance(event, MigrationCompleted):
            places[key] = event.target
            done += 1
        else:
            undone += 1
    return {"per second": round(done / (time.monotonic() - start), 1), "undone": undone, "took": took}


def measure(bench: Bench, count: int, seconds: float, loads: tuple[int, ...]) -> dict[int, dict[str, Any]]:
    """Measure among so many connections."""
    net, found = BatonNet(private=True), {}
    with net:
        settings = net.run_dir / "scale.toml"
        settings.write_text(SETTINGS)
        net.environment["BATON_CONFIG"] = str(settings)
        net.start_controller()
        for host, where in (("h1", SERVER1), ("h2", SERVER2)):
            command = [sys.executable, PEER, "serve", where[0], str(where[1])]
            server = net.popen(host, command, stdout=subprocess.PIPE, text=True)
            if server.stdout.readline().strip() != "ready":
                raise BenchmarkError(f"no server at {where}")
        command = [sys.executable, PEER, "drive", SERVER1[0], str(SERVER1[1]), str(count)]
        client = net.popen("h3", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ports = json.loads(client.stdout.readline())
        places = {ConnectionKey(Endpoint("10.0.0.3", port), Endpoint(*SERVER1)): "server1" for port in ports}
        with BusClient(net.run_dir / BUS) as bus:
            for at_once in loads:
                found[at_once] = sustain(bus, places, at_once, seconds)
                told = {name: value for name, value in found[at_once].items() if name != "took"}
                bench.progress(f"{count} connections, {at_once} in flight: {told}")
        out, _ = client.communicate(timeout=120)
    answered = json.loads(out)["answered"]
    if answered != count:
        raise BenchmarkError(f"{count - answered} of {count} connections do not answer any more")
    return found


def run(bench: Bench) -> Outcome:
    """Few connections with every load, then many with the middle one: the cost must not grow with them."""
    few, many, seconds = (110, 300, 2.0) if bench.quick else (200, 2_000, 10.0)
    found = measure(bench, few, seconds, IN_FLIGHT)
    among = measure(bench, many, seconds, (10,))[10]
    samples = {f"{at_once} in flight, ms": one["took"] for at_once, one in found.items()}
    samples[f"10 in flight among {many}, ms"] = among["took"]
    details: dict[str, Any] = {
        f"{at_once} in flight": {**one, "took": summary(one["took"], 3)} for at_once, one in found.items()
    }
    details[f"10 in flight among {many} connections"] = {**among, "took": summary(among["took"], 3)}
    return Outcome(found[10]["per second"], "migrations/s", details, samples)
