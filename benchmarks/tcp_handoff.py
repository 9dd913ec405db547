# SPDX-License-Identifier: Apache-2.0
"""Gate mode: milliseconds from the alert to the first byte of the target at the client, alone and 50 at once.

Real clients, real Suricata, real switch. The clock begins when the controller has the alert (`AlertRaised`) and ends in
the client's own process; what the analyser takes before that is reported apart, and so is the same request on a
connection that no controller looks at.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Bench, BenchmarkError, Outcome, percentile, summary
from benchmarks.tcp_throughput import PLAIN_PORT, start_server
from topo import SERVER1, SERVER2, BatonNet

REQUESTS = str(Path(__file__).with_name("_requests.py"))


def ask(net: BatonNet, where: tuple[str, int], text: str, count: int, at_once: int) -> list[dict[str, float]]:
    """Run requests in the client's host and return their times."""
    command = [sys.executable, REQUESTS, "ask", where[0], str(where[1]), text, str(count), str(at_once)]
    done = net.run("h3", command, timeout=60 + count)
    if done.returncode:
        raise BenchmarkError(f"requests failed: {done.stderr.strip().splitlines()[-1:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def journal(net: BatonNet, offset: int) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the events since ``offset`` bytes of the journal, by name and the client's port; the first one counts."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    with (net.run_dir / "events.jsonl").open() as lines:
        lines.seek(offset)
        for line in lines:
            record = json.loads(line)
            client = str(record.get("connection") or record.get("src") or "").partition(">")[0]
            if client:
                found.setdefault(record["event"], {}).setdefault(int(client.rpartition(":")[2]), record)
    return found


def handoffs(net: BatonNet, count: int, at_once: int) -> dict[str, list[float]]:
    """Migrate connections and return where the time went, in ms."""
    offset = (net.run_dir / "events.jsonl").stat().st_size
    times = ask(net, SERVER1, "please migrate", count, at_once)
    deadline = time.monotonic() + 5
    events = journal(net, offset)
    while len(events.get("MigrationCompleted", {})) < count and time.monotonic() < deadline:
        time.sleep(0.01)  # the journal is written behind the packets
        events = journal(net, offset)
    series: dict[str, list[float]] = {
        name: [] for name in ("handoff_ms", "analyser_ms", "handshake_ms", "commit_ms", "release_ms", "connect_ms")
    }
    for one in times:
        port = int(one["port"])
        completed = events.get("MigrationCompleted", {}).get(port)
        if completed is None:
            raise BenchmarkError(f"connection {port} was not migrated: {events.get('MigrationFailed', {}).get(port)}")
        alert, proved = events["AlertRaised"][port], events["TargetEstablished"][port]
        series["connect_ms"].append((one["connected"] - one["began"]) * 1e3)
        series["analyser_ms"].append((alert["time"] - one["sent"]) * 1e3)
        series["handshake_ms"].append((proved["time"] - alert["time"]) * 1e3)
        series["commit_ms"].append((completed["time"] - proved["time"]) * 1e3)
        series["release_ms"].append((one["answered"] - completed["time"]) * 1e3)
        series["handoff_ms"].append((one["answered"] - alert["time"]) * 1e3)
    return series


def run(bench: Bench) -> Outcome:
    """Measure 200 one after another, then 50 at once several times."""
    count, rounds = (20, 1) if bench.quick else (200, 6)
    with BatonNet(private=True) as net:
        net.start_analyser()
        net.start_controller()
        for host, where in (("h1", SERVER1), ("h2", SERVER2), ("h2", (SERVER2[0], PLAIN_PORT))):
            start_server(net, host, *where, program=REQUESTS)
        handoffs(net, 3, 1)
        alone = handoffs(net, count, 1)
        bench.progress(f"one after another: {summary(alone['handoff_ms'], 3)}")
        together: dict[str, list[float]] = {}
        for _ in range(rounds):
            for name, series in handoffs(net, 50, 50).items():
                together.setdefault(name, []).extend(series)
        bench.progress(f"50 at once: {summary(together['handoff_ms'], 3)}")
        plain = [
            (one["answered"] - one["sent"]) * 1e3
            for one in ask(net, (SERVER2[0], PLAIN_PORT), "please answer", count, 1)
        ]
    details = {
        "one after another": {name: summary(series, 3) for name, series in alone.items()},
        "50 at once": {name: summary(series, 3) for name, series in together.items()},
        "the same request without a controller, ms": summary(plain, 3),
    }
    samples = {f"alone, {name}": series for name, series in alone.items()}
    samples |= {f"50 at once, {name}": series for name, series in together.items()}
    samples["without a controller, ms"] = plain
    shown = {key: samples[key] for key in ("alone, handoff_ms", "50 at once, handoff_ms", "without a controller, ms")}
    return Outcome(
        round(percentile(alone["handoff_ms"], 0.5), 3), "ms", details, samples, lambda figure: draw(figure, shown)
    )


def draw(figure: Any, series: dict[str, list[float]]) -> None:
    """Draw the distributions on one logarithmic axis."""
    axes = figure.add_subplot()
    for name, values in series.items():
        ordered = sorted(values)
        axes.plot(ordered, [(rank + 1) / len(ordered) for rank in range(len(ordered))], label=name)
    axes.set_xscale("log")
    axes.set_xlabel("ms")
    axes.set_ylabel("share of requests")
    axes.grid(alpha=0.3)
    axes.legend()
