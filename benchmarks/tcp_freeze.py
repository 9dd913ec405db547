# SPDX-License-Identifier: Apache-2.0
"""Observe mode: milliseconds that a migration in mid-stream adds to the longest gap, at half load and saturated.

One connection, busy both ways, moves there and back again and again, in blocks; between two blocks it rests where it is
for as long. For each migration the longest time without a byte at either end is taken, and the same in a window of the
same length of the rest that follows: the stream has gaps, and timeouts, of its own. The figure is the difference. Gaps
count where they begin. Every byte is checked: what the servers received, joined, is the client's stream, and what the
client received is each server's stream up to the cut, then the next one's.

Who spends it: the controller tells how long each part of a freeze took, and its process how much processor; what the
gap is longer than the freeze is the ends' own, who have to start again. The half load is measured once more with 30,000
other flows in the datapath.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from bisect import bisect_left
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
BLOCK = 25
"""Migrations in a row, and windows without one behind them."""
PAUSE = 0.08
"""Seconds between two of either."""
REST = 0.4
"""Seconds between a block and the rest behind it: what the one has begun does not reach into the other."""
AFTER = 0.01
"""Seconds behind the end of a migration that still count as its own: both ends have to start again."""
PATIENCE = 5.0
COUNTERS = (
    "TcpExtTCPTimeouts",
    "TcpExtTCPLossProbes",
    "TcpExtTCPWinProbe",
    "TcpRetransSegs",
    "TcpOutRsts",
    "TcpEstabResets",
)
PROCESSOR = "controller's processor"
HOSTS = {"client": ("h3",), "servers": ("h1", "h2")}
PARTS = ("stopping", "measuring", "installing")
MEGAFLOWS = 30_000
FLOOD = """
import socket, sys, time
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sock.bind((sys.argv[1], 0))
to = bytes.fromhex(sys.argv[2].replace(":", ""))
for number in range(int(sys.argv[3])):
    sock.send(to + bytes((2, 0xba)) + number.to_bytes(4, "big") + bytes.fromhex("88b5") + bytes(46))
    if not number % 50:
        time.sleep(0.005)
"""
"""Frames of an experimental type from so many MAC addresses: the switch learns each, so each has its own megaflow."""


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

    def counters(self) -> Counter[str]:
        """Return what the hosts have counted so far, and the seconds of processor that the controller has used."""
        found: Counter[str] = Counter()
        for side, hosts in HOSTS.items():
            for host in hosts:
                text = self.net[host].cmd("nstat -asz " + " ".join(COUNTERS))
                for name in COUNTERS:
                    found[f"{side}: {name}"] += int(re.search(rf"{name}\s+(\d+)", text)[1])  # type: ignore[index]
        assert self.net.controller is not None
        times = Path(f"/proc/{self.net.controller.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        found[PROCESSOR] = sum(int(one) for one in times)
        return found

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
                parts = {name: getattr(event, name) for name in ("frozen", *PARTS)}
                return times | parts | {"completed": event.time}
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
    """Return the longest gap, in ms, that begins in a window; gaps are sorted, shorter ones than 0.2 ms not noted."""
    ours = gaps[bisect_left(gaps, (begin,)) : bisect_left(gaps, (end,))]
    return 1e3 * max((last - first for first, last in ours), default=0.000_2)


def crowd(net: BatonNet, count: int) -> int:
    """Fill the datapath with the flows of so many others; return how many there are."""
    net.switch.vsctl("set", "Open_vSwitch", ".", "other_config:max-idle=600000", "other_config:flow-limit=200000")
    net.switch.vsctl("set", "Bridge", "s1", f"other_config:mac-table-size={2 * count}")
    host, to = net["h3"], net["h2"].MAC()
    for _ in range(20):
        net.run(host.name, [sys.executable, "-c", FLOOD, str(host.defaultIntf()), to, str(count)], 120)
        present = int(re.search(r"flows\s*:\s*\(current (\d+)\)", net.switch.appctl("upcall/show"))[1])  # type: ignore[index]
        if present >= count:
            break
    return present


def measure(
    bench: Bench, name: str, rate: float, count: int, others: int = 0
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Move a connection of this rate so often; return the figures and the samples, in ms."""
    net = BatonNet(private=True)
    facts: dict[str, Any] = {}
    with net:
        settings = net.run_dir / "freeze.toml"
        settings.write_text(SETTINGS)
        net.environment["BATON_CONFIG"] = str(settings)
        net.start_controller()
        run = Run(net, rate)
        time.sleep(1.0)
        if others:
            facts["megaflows"] = crowd(net, others)
        moves: list[dict[str, float]] = []
        moving, resting = Counter[str](), Counter[str]()
        for block in range(0, count, BLOCK):
            size = min(BLOCK, count - block)
            before, first = run.counters(), len(moves)
            for _ in range(size):
                time.sleep(PAUSE)
                times = run.move()
                if times is not None:
                    moves.append(times)
            time.sleep(REST)
            between = run.counters()
            moving.update(between - before)
            for times in moves[first:]:
                time.sleep(PAUSE)
                times["resting"] = time.monotonic()
                time.sleep(times["completed"] + AFTER - times["started"])
            time.sleep(REST)
            resting.update(run.counters() - between)
            bench.progress(f"{name}: {block + size} of {count}, undone: {dict(Counter(run.undone))}")
        client, turns = run.end()
        run.bus.close()
    account(client, turns)
    at_client, at_server = [(first, last) for first, last in client["gaps"]], server_gaps(turns)
    kinds = ("excess", "gap", "own gap", "frozen", *PARTS, "handshake")
    series: dict[str, list[float]] = {kind: [] for kind in kinds}
    for times in moves:
        begin, end = times["established"], times["completed"] + AFTER
        gap, own = (
            max(longest(gaps, first, last) for gaps in (at_client, at_server))
            for first, last in ((begin, end), (times["resting"], times["resting"] + end - begin))
        )
        series["gap"].append(gap)
        series["own gap"].append(own)
        series["excess"].append(gap - own)
        for kind in ("frozen", *PARTS):
            series[kind].append(1e3 * times[kind])
        series["handshake"].append(1e3 * (times["established"] - times["started"]))
    received = sum(part[2] for part in client["parts"])
    figures = {
        "migrations": len(moves),
        "undone": dict(Counter(run.undone)),
        "Gbit/s up, down": [round(8e-9 * total / run.seconds, 3) for total in (client["sent"], received)],
        "bytes lost or doubled": 0,
        "counted while it moved": {key: moving[key] for key in _counted()},
        "counted while it rested": {key: resting[key] for key in _counted()},
        "controller, ms of processor a migration": round(
            1e3 * (moving[PROCESSOR] - resting[PROCESSOR]) / os.sysconf("SC_CLK_TCK") / max(1, len(moves)), 3
        ),
        **facts,
    } | {f"{kind} ms": summary(values, 3) for kind, values in series.items()}
    bench.progress(f"{name}: excess {figures['excess ms']}")
    bench.progress(f"{name}: moving {figures['counted while it moved']}, resting {figures['counted while it rested']}")
    return figures | {"rate": max(client["sent"], received) / run.seconds}, series


def _counted() -> list[str]:
    """Return the names of the hosts' counters."""
    return [f"{side}: {name}" for side in HOSTS for name in COUNTERS]


def run(bench: Bench) -> Outcome:
    """Saturated first, which tells what half the load is."""
    count, few = (20, 10) if bench.quick else (500, 100)
    full, saturated = measure(bench, "saturated", 0.0, count)
    rate = full.pop("rate") / 2
    half, relaxed = measure(bench, "half load", rate, count)
    crowded, among = measure(bench, f"half load, {MEGAFLOWS} megaflows", rate, few, MEGAFLOWS)
    for one in (half, crowded):
        one.pop("rate")
    samples = {f"half load, {kind} ms": values for kind, values in relaxed.items()}
    samples |= {f"saturated, {kind} ms": values for kind, values in saturated.items()}
    samples |= {f"among {MEGAFLOWS} megaflows, {kind} ms": values for kind, values in among.items()}
    return Outcome(
        round(percentile(relaxed["excess"], 0.5), 3),
        "ms",
        {"half load": half, "saturated": full, f"half load among {MEGAFLOWS} megaflows": crowded},
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
