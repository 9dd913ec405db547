# SPDX-License-Identifier: Apache-2.0
"""Observe mode: milliseconds that a migration in mid-stream adds to the longest gap, at half load and saturated.

One connection, busy both ways, moves there and back again and again. For each migration the longest time without a byte
at either end is taken, and the same in a window of the same length just before it: the stream has gaps of its own. The
figure is the difference. Every byte is checked: what the servers received, joined, is the client's stream, and what the
client received is each server's stream up to the cut, then the next one's.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, BenchmarkError, Outcome, percentile, summary
from controller.bus_client import NAME as BUS
from controller.bus_client import BusClient
from controller.core.events import (
    MigrationCompleted,
    MigrationFailed,
    MigrationRequested,
    MigrationRolledBack,
    MigrationStarted,
    TargetEstablished,
)
from controller.core.segment import ConnectionKey, Endpoint
from topo import SERVER1, SERVER2, BatonNet

PEER = str(Path(__file__).with_name("_freeze_peer.py"))
SETTINGS = f"""
[servers.server1]
address = "{SERVER1[0]}"
port = {SERVER1[1]}

[servers.server2]
address = "{SERVER2[0]}"
port = {SERVER2[1]}

[[services]]
name = "stream"
origin = "server1"
mode = "observe"
handshake_timeout = 1.0
"""
PAUSE = 0.08
"""Seconds between two migrations: the stream's own gaps are looked for in it."""
AFTER = 0.01
"""Seconds behind the end of a migration that still count as its own: both ends have to start again."""
PATIENCE = 5.0
COUNTERS = ("TcpExtTCPTimeouts", "TcpRetransSegs", "TcpOutRsts", "TcpEstabResets")


class Run:
    """A network with a busy connection in it."""

    def __init__(self, net: BatonNet, rate: float) -> None:
        self.net, self.rate = net, rate
        self.files = []
        for host, where in (("h1", SERVER1), ("h2", SERVER2)):
            file = net.run_dir / f"{host}.jsonl"
            self.files.append(file)
            command = [sys.executable, PEER, "serve", where[0], str(where[1]), str(rate), str(file)]
            server = net.popen(host, command, stdout=subprocess.PIPE, text=True)
            if server.stdout.readline().strip() != "ready":
                raise BenchmarkError(f"no server at {where}")
        command = [sys.executable, PEER, "drive", SERVER1[0], str(SERVER1[1]), str(rate)]
        self.client = net.popen("h3", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = json.loads(self.client.stdout.readline())["port"]
        self.key = ConnectionKey(Endpoint("10.0.0.3", port), Endpoint(*SERVER1))
        self.bus = BusClient(net.run_dir / BUS)
        self.began = time.monotonic()
        self.place = "server1"
        self.undone: list[str] = []

    def counters(self) -> dict[str, int]:
        """Return what the client's host has counted so far."""
        text = self.net["h3"].cmd("nstat -asz " + " ".join(COUNTERS))
        return {name: int(re.search(rf"{name}\s+(\d+)", text)[1]) for name in COUNTERS}  # type: ignore[index]

    def move(self) -> dict[str, float] | None:
        """Move the connection to the other server; return the times of the steps, or None if it stayed."""
        target = "server2" if self.place == "server1" else "server1"
        self.bus.send(MigrationRequested(time.monotonic(), self.key, target))
        times: dict[str, float] = {}
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            event = self.bus.receive(PATIENCE)
            if isinstance(event, MigrationStarted):
                times["started"] = event.time
            elif isinstance(event, TargetEstablished):
                times["established"] = event.time
            elif isinstance(event, MigrationCompleted):
                self.place = target
                return times | {"completed": event.time, "frozen": event.frozen}
            elif isinstance(event, (MigrationFailed, MigrationRolledBack)):
                self.undone.append(event.reason)
                return None
        raise BenchmarkError(f"nothing was heard of a migration for {PATIENCE:g} s")

    def end(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """End the connection; return what the client saw, and what each server saw in its turns, in any order."""
        self.seconds = time.monotonic() - self.began
        out, _ = self.client.communicate(timeout=60)
        client = json.loads(out)
        deadline = time.monotonic() + 10
        while True:
            turns = [json.loads(line) for file in self.files if file.exists() for line in file.read_text().splitlines()]
            known = {turn["number"] for turn in turns}
            if all(part[0] in known for part in client["parts"]) or time.monotonic() > deadline:
                return client, turns
            time.sleep(0.05)


def account(client: dict[str, Any], turns: list[dict[str, Any]]) -> None:
    """Check that every byte went to one server, once and in order, and came from the one whose turn it was."""
    fault = client["fault"] or next((turn["fault"] for turn in turns if turn["fault"]), "")
    if fault:
        raise BenchmarkError(f"the streams are mixed up: {fault}")
    turns = sorted((turn for turn in turns if turn["parts"]), key=lambda turn: turn["parts"][0][1])
    heard, position = {turn["number"] for turn in turns}, 0
    for turn in turns:
        for _, start, length in turn["parts"]:
            if start != position:
                raise BenchmarkError(f"{start - position} bytes lost or doubled at the cut at {position}")
            position += length
    if position != client["sent"]:
        raise BenchmarkError(f"{client['sent']} bytes sent, {position} received")
    told = [part[0] for part in client["parts"]]
    if [turn["number"] for turn in turns if turn["number"] in told] != [one for one in told if one in heard]:
        raise BenchmarkError("the servers' streams came in another order than their turns")


def server_gaps(turns: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return the gaps in the client's stream at the servers, those between two turns among them."""
    heard = sorted((turn for turn in turns if turn["first"]), key=lambda turn: turn["first"])
    gaps = [(first, last) for turn in heard for first, last in turn["gaps"]]
    gaps += [(one["last"], two["first"]) for one, two in itertools.pairwise(heard)]
    return sorted(gaps)


def longest(gaps: list[tuple[float, float]], begin: float, end: float) -> float:
    """Return the longest gap, in ms, that touches a window; shorter ones than 0.2 ms are not noted."""
    return 1e3 * max((last - first for first, last in gaps if last > begin and first < end), default=0.000_2)


def measure(bench: Bench, name: str, rate: float, count: int) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Move a connection of this rate so often; return the figures and the samples, in ms."""
    net = BatonNet(private=True)
    with net:
        settings = net.run_dir / "freeze.toml"
        settings.write_text(SETTINGS)
        net.environment["BATON_CONFIG"] = str(settings)
        net.start_controller()
        run = Run(net, rate)
        time.sleep(1.0)
        before, moves = run.counters(), []
        for number in range(count):
            time.sleep(PAUSE)
            times = run.move()
            if times is not None:
                moves.append(times)
            if number % 50 == 49:
                bench.progress(f"{name}: {number + 1} of {count}, undone: {dict(Counter(run.undone))}")
        after = run.counters()
        client, turns = run.end()
        run.bus.close()
    account(client, turns)
    at_client, at_server = [(first, last) for first, last in client["gaps"]], server_gaps(turns)
    series: dict[str, list[float]] = {kind: [] for kind in ("excess", "gap", "own gap", "frozen", "handshake")}
    for times in moves:
        begin, end = times["established"], times["completed"] + AFTER
        gap, own = (
            max(longest(gaps, first, last) for gaps in (at_client, at_server))
            for first, last in ((begin, end), (times["started"] - (end - begin), times["started"]))
        )
        series["gap"].append(gap)
        series["own gap"].append(own)
        series["excess"].append(gap - own)
        series["frozen"].append(1e3 * times["frozen"])
        series["handshake"].append(1e3 * (times["established"] - times["started"]))
    received = sum(part[2] for part in client["parts"])
    figures = {
        "migrations": len(moves),
        "undone": dict(Counter(run.undone)),
        "Gbit/s up, down": [round(8e-9 * total / run.seconds, 3) for total in (client["sent"], received)],
        "bytes lost or doubled": 0,
        "at the client": {key: after[key] - before[key] for key in COUNTERS},
    } | {f"{kind} ms": summary(values, 3) for kind, values in series.items()}
    bench.progress(f"{name}: excess {figures['excess ms']}")
    return figures | {"rate": max(client["sent"], received) / run.seconds}, series


def run(bench: Bench) -> Outcome:
    """Saturated first, which tells what half the load is."""
    count = 20 if bench.quick else 500
    full, saturated = measure(bench, "saturated", 0.0, count)
    half, relaxed = measure(bench, "half load", full.pop("rate") / 2, count)
    half.pop("rate")
    samples = {f"half load, {kind} ms": values for kind, values in relaxed.items()}
    samples |= {f"saturated, {kind} ms": values for kind, values in saturated.items()}
    return Outcome(
        round(percentile(relaxed["excess"], 0.5), 3),
        "ms",
        {"half load": half, "saturated": full},
        samples,
        lambda figure: draw(figure, samples),
    )


def draw(figure: Any, samples: dict[str, list[float]]) -> None:
    """Draw the gaps of migrations beside the stream's own."""
    for place, name in enumerate(("half load", "saturated"), 1):
        axes = figure.add_subplot(1, 2, place)
        for kind in ("gap", "own gap", "frozen"):
            ordered = sorted(samples[f"{name}, {kind} ms"])
            axes.plot(ordered, [(rank + 1) / len(ordered) for rank in range(len(ordered))], label=kind)
        axes.set_xscale("log")
        axes.set_xlabel("ms")
        axes.set_title(name)
        axes.grid(alpha=0.3)
        axes.legend()
