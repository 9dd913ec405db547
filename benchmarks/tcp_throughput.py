# SPDX-License-Identifier: Apache-2.0
"""Bulk throughput of a migrated connection beside plain forwarding by the same switch, TSO on and off, both ways.

Both connections end at the same server behind the same switch: one was dialled there directly and is forwarded by the
switch's own learning; the other was dialled at server 1 and migrated to it, in gate mode by a real alert, in observe
mode by `baton drain`, alone or with 15 others. Bursts on the two take turns, so that the machine's moods hit both; a
pair is the sum of a few such turns. The value is the worst of the lower 95 % bounds of the median ratio.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Bench, BenchmarkError, Outcome
from topo import SERVER1, SERVER2, BatonNet

BULK = str(Path(__file__).with_name("_bulk.py"))
PLAIN_PORT = 33_333
BURST_SECONDS = 0.12
MIGRATED = {"gate": ("gate", 1), "observe": ("observe", 1), "observe, 16 connections": ("observe", 16)}
WINDOWS = 4 << 20  # bytes of receive buffers that a host's connections share
TURNS = 4  # bursts of each connection that make up one pair
WAYS = {"download": "D", "upload": "U"}


def lower_bound(samples: list[float], confidence: float = 0.95) -> float:
    """Return the one-sided lower confidence bound of the median, from order statistics (distribution-free)."""
    ordered, count = sorted(samples), len(samples)
    rank, tail = 0, 1 / 2**count
    while tail <= 1 - confidence and rank + 1 < count:
        rank += 1
        tail += comb(count, rank) / 2**count
    return ordered[max(rank - 1, 0)]


SETTINGS = """
[servers.server1]
address = "10.0.0.1"
port = 11111

[servers.server2]
address = "10.0.0.2"
port = 22222

[[services]]
name = "bulk"
origin = "server1"
mode = "observe"
"""


class Driver:
    """The client's end: says what to transfer, hears how long it took."""

    def __init__(self, net: BatonNet, connections: int = 1) -> None:
        """Open plain connections, and as many that a rule of gate mode migrates at once."""
        for port in (SERVER2[1], PLAIN_PORT):
            start_server(net, "h2", SERVER2[0], port)
        start_server(net, "h1", *SERVER1)
        places = [
            f"plain={SERVER2[0]}:{PLAIN_PORT}:hello:{connections}",
            f"migrated={SERVER1[0]}:{SERVER1[1]}:migrate:{connections}",
        ]
        self._child = net.popen(
            "h3", [sys.executable, BULK, "drive", *places], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if self._child.stdout.readline().strip() != "ready":
            raise BenchmarkError("the connections did not come about; try `make demo` first")

    def ask(self, name: str, what: str, count: int = 0) -> float:
        """Return the driver's answer."""
        self._child.stdin.write(f"{name} {what} {count}\n")
        self._child.stdin.flush()
        answer = self._child.stdout.readline()
        if not answer:
            raise BenchmarkError(f"the {name} connection broke during a transfer")
        return float(answer)


def start_server(net: BatonNet, host: str, address: str, port: int, program: str = BULK) -> None:
    """Start a server and wait until it listens."""
    child = net.popen(host, [sys.executable, program, "serve", address, str(port)], stdout=subprocess.PIPE, text=True)
    if child.stdout.readline().strip() != "ready":
        raise BenchmarkError(f"no server at {address}:{port}")


def retransmissions(net: BatonNet) -> int:
    """Return how many segments the hosts have sent again so far."""
    told = [net[host].cmd("nstat -asz TcpRetransSegs") for host in ("h1", "h2", "h3")]
    found = [re.search(r"TcpRetransSegs\s+(\d+)", text) for text in told]
    if not all(found):
        raise BenchmarkError("nstat does not tell the retransmissions: install iproute2")
    return sum(int(match[1]) for match in found if match)


def misses(net: BatonNet) -> int:
    """Return how many packets have needed an upcall so far."""
    found = re.findall(r"miss with \w+ upcall: (\d+)", net.switch.appctl("dpif-netdev/pmd-stats-show"))
    if not found:
        raise BenchmarkError("the switch does not tell its upcalls")
    return sum(map(int, found))


def cpu_seconds(net: BatonNet) -> float:
    """Return the processor time that the switch has used so far."""
    times = Path(f"/proc/{net.switch.daemons[-1].pid}/task").glob("*/schedstat")
    return sum(int(entry.read_text().split()[0]) for entry in times) * 1e-9


def calibrate(driver: Driver, way: str) -> int:
    """Return how many bytes take about as long as a burst should."""
    count = 4 << 20
    for _ in range(4):
        seconds = driver.ask("plain", way, count)
        count = max(1 << 20, int(count * BURST_SECONDS / max(seconds, 1e-3)))
        count = min(count, 4 << 30)
    return count


def measure(bench: Bench, what: str, tso: bool, pairs: int) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Measure both ways with connections and TSO as told; returns details and raw samples."""
    mode, connections = MIGRATED[what]
    details: dict[str, Any] = {}
    samples: dict[str, list[float]] = {}
    with network(mode, connections, tso) as net:
        driver = Driver(net, connections)
        if mode == "observe":
            drain(net)
        check_moved(net, connections)
        for label, way in WAYS.items():
            name = f"{what}, {label}, TSO {'on' if tso else 'off'}"
            count = calibrate(driver, way)
            driver.ask("migrated", way, count)
            before, sent_again = misses(net), retransmissions(net)
            rates: dict[str, list[float]] = {"plain": [], "migrated": []}
            used = {"plain": 0.0, "migrated": 0.0}
            for _ in range(pairs):
                spent = {"plain": 0.0, "migrated": 0.0}
                for turn in range(TURNS):
                    for one in ("plain", "migrated") if turn % 2 else ("migrated", "plain"):
                        began = cpu_seconds(net)
                        spent[one] += driver.ask(one, way, count)
                        used[one] += cpu_seconds(net) - began
                for one, seconds in spent.items():
                    rates[one].append(TURNS * count * 8e-9 / seconds)
            ratios = [after / plain for after, plain in zip(rates["migrated"], rates["plain"], strict=True)]
            gigabits = pairs * TURNS * count * 8e-9
            details[name] = {
                "ratio": round(median(ratios), 4),
                "ratio_lower_95": round(lower_bound(ratios), 4),
                "plain_gbit_s": round(median(rates["plain"]), 3),
                "migrated_gbit_s": round(median(rates["migrated"]), 3),
                "switch_cpu_s_per_gbit": {one: round(seconds / gigabits, 4) for one, seconds in used.items()},
                "upcalls": misses(net) - before,
                "retransmissions": retransmissions(net) - sent_again,
                "pairs": pairs,
            }
            bench.progress(f"{name}: {details[name]}")
            for one, series in rates.items():
                samples[f"{name}, {one}_gbit_s"] = series
    return details, samples


@contextlib.contextmanager
def network(mode: str, connections: int, tso: bool) -> Iterator[BatonNet]:
    """Make the network with a controller, and in gate mode an analyser."""
    with tempfile.TemporaryDirectory(prefix="baton-throughput-") as directory:
        net = BatonNet(private=True, tso=tso)
        if mode == "observe":
            settings = Path(directory) / "baton.toml"
            settings.write_text(SETTINGS)
            net.environment["BATON_CONFIG"] = str(settings)
        with net:
            for host in ("h1", "h2", "h3"):
                # The one connection rests while the other is measured: neither shall begin anew each time.
                net[host].cmd("sysctl -qw net.ipv4.tcp_slow_start_after_idle=0")
                # All windows together fit the switch's sockets: what is measured is not how TCP recovers from losses.
                net[host].cmd(f"sysctl -qw net.ipv4.tcp_rmem='4096 131072 {WINDOWS // connections}'")
            if mode == "gate":
                net.start_analyser()
            net.start_controller()
            yield net


def drain(net: BatonNet) -> None:
    """Move every connection away from server 1, as an operator does."""
    command = [sys.executable, "-m", "controller.cli.main", "drain", "server1", "--to", "server2"]
    environment = {**os.environ, "BATON_RUN_DIR": str(net.run_dir)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise BenchmarkError(f"`baton drain` failed: {done.stderr.strip() or done.stdout.strip()}")


def check_moved(net: BatonNet, connections: int) -> None:
    """Make sure that what is measured are migrated connections."""
    deadline = time.monotonic() + 5
    while (net.run_dir / "events.jsonl").read_text().count("MigrationCompleted") < connections:
        if time.monotonic() > deadline:
            raise BenchmarkError("the connections were not migrated; try `make demo` first")
        time.sleep(0.01)


def run(bench: Bench) -> Outcome:
    """Measure each kind of migrated connection with TSO on, then off."""
    pairs = 3 if bench.quick else 61
    details: dict[str, Any] = {}
    samples: dict[str, list[float]] = {}
    for what in MIGRATED:
        for tso in (True, False):
            more, raw = measure(bench, what, tso, pairs)
            details |= more
            samples |= raw
    worst = min(entry["ratio_lower_95"] for entry in details.values())
    return Outcome(worst, "migrated / plain", details, samples, lambda figure: draw(figure, samples))


def draw(figure: Any, samples: dict[str, list[float]]) -> None:
    """Draw each way's two series side by side, a row for each kind of migrated connection."""
    names = list(dict.fromkeys(name.rpartition(", ")[0] for name in samples))
    figure.set_size_inches(11, 3.2 * len(MIGRATED))
    for index, name in enumerate(names, 1):
        axes = figure.add_subplot(len(MIGRATED), len(names) // len(MIGRATED), index)
        axes.boxplot([samples[f"{name}, {one}_gbit_s"] for one in ("plain", "migrated")], widths=0.6)
        axes.set_xticks([1, 2], ["plain", "migrated"])
        axes.set_title(name, fontsize=9)
        axes.set_ylim(bottom=0)
        if index % 4 == 1:
            axes.set_ylabel("Gbit/s")
