# SPDX-License-Identifier: Apache-2.0
"""Bulk throughput of a migrated connection beside plain forwarding by the same switch, TSO on and off, both ways.

Both connections end at the same server behind the same switch: one was dialled there directly and is forwarded by the
switch's own learning; the other was dialled at server 1 and migrated to it by a real alert. Bursts on the two take
turns, so that the machine's moods hit both; a pair is the sum of a few such turns. The value is the worst of the four
lower 95 % bounds of the median ratio.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from math import comb
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import Bench, BenchmarkError, Outcome
from topo import SERVER1, SERVER2, BatonNet

BULK = str(Path(__file__).with_name("_bulk.py"))
PLAIN_PORT = 33_333
BURST_SECONDS = 0.12
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


class Driver:
    """The client's end: says what to transfer, hears how long it took."""

    def __init__(self, net: BatonNet) -> None:
        """Open one plain and one migrated connection."""
        for port in (SERVER2[1], PLAIN_PORT):
            start_server(net, "h2", SERVER2[0], port)
        start_server(net, "h1", *SERVER1)
        places = [f"plain={SERVER2[0]}:{PLAIN_PORT}", f"migrated={SERVER1[0]}:{SERVER1[1]}:migrate"]
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


def calibrate(driver: Driver, way: str) -> int:
    """Return how many bytes take about as long as a burst should."""
    count = 4 << 20
    for _ in range(4):
        seconds = driver.ask("plain", way, count)
        count = max(1 << 20, int(count * BURST_SECONDS / max(seconds, 1e-3)))
        count = min(count, 4 << 30)
    return count


def measure(bench: Bench, tso: bool, pairs: int) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """Measure both ways with TSO as told; returns details and raw samples."""
    details: dict[str, Any] = {}
    samples: dict[str, list[float]] = {}
    with BatonNet(private=True, tso=tso) as net:
        for host in ("h1", "h2", "h3"):
            # The one connection rests while the other is measured: neither shall begin anew each time.
            net[host].cmd("sysctl -qw net.ipv4.tcp_slow_start_after_idle=0")
        net.start_analyser()
        net.start_controller()
        driver = Driver(net)
        check_moved(net)
        for label, way in WAYS.items():
            name = f"{label}, TSO {'on' if tso else 'off'}"
            count = calibrate(driver, way)
            driver.ask("migrated", way, count)
            before, sent_again = misses(net), retransmissions(net)
            rates: dict[str, list[float]] = {"plain": [], "migrated": []}
            for _ in range(pairs):
                spent = {"plain": 0.0, "migrated": 0.0}
                for turn in range(TURNS):
                    for one in ("plain", "migrated") if turn % 2 else ("migrated", "plain"):
                        spent[one] += driver.ask(one, way, count)
                for one, seconds in spent.items():
                    rates[one].append(TURNS * count * 8e-9 / seconds)
            ratios = [after / plain for after, plain in zip(rates["migrated"], rates["plain"], strict=True)]
            details[name] = {
                "ratio": round(median(ratios), 4),
                "ratio_lower_95": round(lower_bound(ratios), 4),
                "plain_gbit_s": round(median(rates["plain"]), 3),
                "migrated_gbit_s": round(median(rates["migrated"]), 3),
                "upcalls": misses(net) - before,
                "retransmissions": retransmissions(net) - sent_again,
                "pairs": pairs,
            }
            bench.progress(f"{name}: {details[name]}")
            for one, series in rates.items():
                samples[f"{name}, {one}_gbit_s"] = series
    return details, samples


def check_moved(net: BatonNet) -> None:
    """Make sure that what is measured is a migrated connection."""
    deadline = time.monotonic() + 5
    while "MigrationCompleted" not in (net.run_dir / "events.jsonl").read_text():
        if time.monotonic() > deadline:
            raise BenchmarkError("the connection was not migrated; try `make demo` first")
        time.sleep(0.01)


def run(bench: Bench) -> Outcome:
    """Measure with TSO on, then off."""
    pairs = 5 if bench.quick else 61
    details: dict[str, Any] = {}
    samples: dict[str, list[float]] = {}
    for tso in (True, False):
        more, raw = measure(bench, tso, pairs)
        details |= more
        samples |= raw
    worst = min(entry["ratio_lower_95"] for entry in details.values())
    return Outcome(worst, "migrated / plain", details, samples, lambda figure: draw(figure, samples))


def draw(figure: Any, samples: dict[str, list[float]]) -> None:
    """Draw each way's two series side by side."""
    names = sorted({name.rpartition(", ")[0] for name in samples})
    for index, name in enumerate(names, 1):
        axes = figure.add_subplot(1, len(names), index)
        axes.boxplot([samples[f"{name}, {one}_gbit_s"] for one in ("plain", "migrated")], widths=0.6)
        axes.set_xticks([1, 2], ["plain", "migrated"])
        axes.set_title(name, fontsize=9)
        axes.set_ylim(bottom=0)
        if index == 1:
            axes.set_ylabel("Gbit/s")
