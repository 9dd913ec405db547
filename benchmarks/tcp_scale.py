# SPDX-License-Identifier: Apache-2.0
"""Observe mode: migrations a second, sustained, with 1, 10 and 100 in flight, among many connections and megaflows.

Silent connections move to the other server and back again, each asked for over the bus as soon as one before it has
arrived. The rate with 10 in flight is taken again among more and more idle connections, and with more and more live
megaflows in the switch; as many connections as before move then. At the end every connection has to answer still. What
100,000 tracked connections cost is the core's time and memory alone.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.connections import track
from benchmarks.harness import Bench, BenchmarkError, Outcome, distribution, summary
from benchmarks.tcp_freeze import SETTINGS
from controller.bus_client import NAME as BUS
from controller.bus_client import BusClient
from controller.core.events import MigrationCompleted, MigrationFailed, MigrationRequested, MigrationRolledBack
from controller.core.segment import ConnectionKey, Endpoint
from topo import SERVER1, SERVER2, BatonNet

PEER = str(Path(__file__).with_name("_idle_peer.py"))
ENDED = (MigrationCompleted, MigrationFailed, MigrationRolledBack)
IN_FLIGHT = (1, 10, 100)
BASE = 200
"""Connections that move, in turn; all others are idle.

Each is moved again within a second or two, whatever their number: one that has been silent for longer costs a migration
one more question (its numbers are not fresh), which is no matter of how many there are."""
PATIENCE = 10.0
ANSWER_TIME = 120
SPRAYS = 20
"""Rounds of datagrams until there must be as many megaflows as are wanted."""
TO_MEGAFLOWS = "priority=90,udp,actions=move:OXM_OF_UDP_DST[]->NXM_NX_REG0[0..15]"
"""A flow that looks at a datagram's port, so that each port has a megaflow of its own."""


@dataclass
class Lab:
    """A running network with connections of which each is at one of two servers."""

    net: BatonNet
    bus: BusClient
    places: dict[ConnectionKey, str]

    def sustain(self, at_once: int, seconds: float) -> dict[str, Any]:
        """Keep so many migrations in flight for so long; return the rate and how long each took, in ms."""
        waiting, began = deque(list(self.places)[:BASE]), {}
        done, undone, took = 0, 0, []
        start = time.monotonic()
        end = start + seconds
        while began or time.monotonic() < end:
            while waiting and len(began) < at_once and time.monotonic() < end:
                key = waiting.popleft()
                began[key] = time.monotonic()
                other = "server1" if self.places[key] == "server2" else "server2"
                self.bus.send(MigrationRequested(began[key], key, other))
            event = self.bus.wait_for(lambda event: isinstance(event, ENDED), PATIENCE)
            if event is None:
                raise BenchmarkError(f"nothing was heard of {len(began)} migrations for {PATIENCE:g} s")
            key = event.connection
            if key not in began:
                continue
            took.append(1e3 * (time.monotonic() - began.pop(key)))
            waiting.append(key)
            if isinstance(event, MigrationCompleted):
                self.places[key] = event.target
                done += 1
            else:
                undone += 1
        return {"per second": round(done / (time.monotonic() - start), 1), "undone": undone, "took": took}

    def megaflows(self) -> int:
        """Return how many megaflows the switch holds."""
        found = re.search(r"\(current (\d+)\)", self.net.switch.appctl("upcall/show"))
        return int(found.group(1)) if found else 0

    def fill(self, wanted: int) -> int:
        """Send datagrams until the switch holds so many megaflows; return how many it has. They stay."""
        self.net.switch.vsctl("set", "Open_vSwitch", ".", "other_config:max-idle=3600000")
        self.net.switch.ofctl("add-flow", "s1", TO_MEGAFLOWS)
        command = [sys.executable, PEER, "spray", SERVER1[0], str(wanted)]
        sprayer = self.net.popen("h3", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(SPRAYS):
            sprayer.stdin.write("\n")
            sprayer.stdin.flush()
            sprayer.stdout.readline()
            if self.megaflows() >= wanted:
                break
        else:
            raise BenchmarkError(f"the switch holds {self.megaflows()} megaflows, not {wanted}")
        sprayer.stdin.close()
        sprayer.wait(ANSWER_TIME)
        return self.megaflows()


@contextmanager
def connected(bench: Bench, count: int) -> Iterator[Lab]:
    """Make a network with so many connections, all of which have to answer in the end."""
    with BatonNet(private=True) as net:
        settings = net.run_dir / "scale.toml"
        settings.write_text(SETTINGS)
        net.environment["BATON_CONFIG"] = str(settings)
        net.start_controller()
        for host, where in (("h1", SERVER1), ("h2", SERVER2)):
            command = [sys.executable, PEER, "serve", where[0], str(where[1])]
            server = net.popen(host, command, stdout=subprocess.PIPE, text=True)
            if server.stdout.readline().strip() != "ready":
                raise BenchmarkError(f"no server at {where}")
        began = time.monotonic()
        command = [sys.executable, PEER, "drive", SERVER1[0], str(SERVER1[1]), str(count)]
        client = net.popen("h3", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        ports = json.loads(client.stdout.readline())
        bench.progress(f"{count} connections opened in {time.monotonic() - began:.1f} s")
        places = {ConnectionKey(Endpoint("10.0.0.3", port), Endpoint(*SERVER1)): "server1" for port in ports}
        with BusClient(net.run_dir / BUS) as bus:
            yield Lab(net, bus, places)
        out, _ = client.communicate(timeout=ANSWER_TIME)
        answered = json.loads(out)["answered"]
        if answered != count:
            raise BenchmarkError(f"{count - answered} of {count} connections do not answer any more")


def run(bench: Bench) -> Outcome:
    """Loads, idle connections, megaflows, and the core alone."""
    seconds = 2.0 if bench.quick else 10.0
    idle = (300, 600) if bench.quick else (2_000, 10_000)
    megaflows = (1_000,) if bench.quick else (10_000, 30_000)
    tracked = 5_000 if bench.quick else 100_000
    found: dict[str, dict[str, Any]] = {}

    def take(name: str, lab: Lab, at_once: int = 10) -> None:
        found[name] = lab.sustain(at_once, seconds)
        bench.progress(f"{name}: {found[name]['per second']}/s, {found[name]['undone']} undone")

    with connected(bench, BASE) as lab:
        lab.sustain(10, 1.0)  # warm up
        for at_once in IN_FLIGHT:
            take(f"{at_once} in flight", lab, at_once)
        for wanted in megaflows:
            take(f"10 in flight, {lab.fill(wanted):,} megaflows", lab)
    for count in idle:
        with connected(bench, count) as lab:
            lab.sustain(10, 1.0)
            take(f"10 in flight among {count:,} connections", lab)
    each = track(tracked, traced=False) | track(tracked)
    bench.progress(f"each of {tracked:,} tracked connections: {each}")
    details: dict[str, Any] = {name: {**one, "took": summary(one["took"], 3)} for name, one in found.items()}
    details |= {"tracked connections": tracked, "each tracked connection": each}
    samples = {f"{name}, ms": one["took"] for name, one in found.items()}
    return Outcome(found["10 in flight"]["per second"], "migrations/s", details, samples, lambda f: draw(f, found))


def draw(figure: Any, found: dict[str, dict[str, Any]]) -> None:
    """Draw the rates, and how long a migration took."""
    rates, times = figure.subplots(1, 2)
    names = list(found)
    rates.barh(names[::-1], [found[name]["per second"] for name in names[::-1]], color="tab:blue")
    rates.axvline(300, color="black", linestyle=":", linewidth=1)
    rates.set(xlabel="migrations/s, sustained (dotted: 300)")
    rates.tick_params(axis="y", labelsize=7)
    for name in names:
        times.step(*distribution(found[name]["took"]), where="post", label=name)
    times.set(xlabel="ms from the request to its end", ylabel="share of migrations", xscale="log", ylim=(0, 1))
    times.legend(fontsize=6)
    times.grid(alpha=0.3)
    figure.suptitle("tcp-scale")
