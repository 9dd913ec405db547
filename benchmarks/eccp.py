# SPDX-License-Identifier: Apache-2.0
"""ECCP: RTTs until the first packet at a new address, the gap, moves a second, tunnel throughput, 10,000 connections.

`value` is the median number of round trips between a move and the first data packet at the new address, with early
data, over all emulated RTTs.  Delays are made by a userspace box on the mobile host's link (no netem needed).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks._eccp_handover import churn, describe, handover, link_loss
from benchmarks._eccp_load import many, throughput
from benchmarks.harness import Bench, BenchmarkError, Outcome, percentile


def run(bench: Bench) -> Outcome:
    """All parts in turn; ``--quick`` takes few repetitions of each."""
    if os.geteuid() != 0:
        raise BenchmarkError("the benchmark makes network namespaces; run it as root")
    return assemble({name: part(bench) for name, part in PARTS.items()})


def handovers(bench: Bench) -> dict[str, Any]:
    """Moves during a download at several RTTs, with and without early data."""
    found: dict[str, Any] = {"early_data": [], "validated_only": []}
    for delay in (10.0,) if bench.quick else (5.0, 20.0, 50.0):
        for name, early in (("early_data", True), ("validated_only", False)):
            found[name].append(handover(bench, delay, 5 if bench.quick else 40, early=early))
    return found


def moves(bench: Bench) -> dict[str, Any]:
    """A hundred moves a second; and a link that dies, beside MPTCP."""
    found: dict[str, Any] = {"moves_100_per_second": churn(bench, 3 if bench.quick else 60)}
    try:
        found["link_lost_beside_mptcp"] = link_loss(bench, 10.0, 1 if bench.quick else 7)
    except BenchmarkError as error:
        found["link_lost_beside_mptcp"] = str(error)
    return found


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "handovers": handovers,
    "moves": moves,
    "throughput": lambda bench: throughput(bench, 1 if bench.quick else 9, 1 if bench.quick else 3),
    "connections": lambda bench: many(bench, 200 if bench.quick else 10_000),
}


def assemble(parts: dict[str, dict[str, Any]]) -> Outcome:
    """The result of all parts, each of which may have been run at another time."""
    samples: dict[str, list[float]] = {}
    details: dict[str, Any] = {}
    for name, runs in parts["handovers"].items():
        details[name] = [describe(found) for found in runs]
        samples[f"first_packet_{name}_rtts"] = [x for found in runs for x in found["first_packet_rtts"]]
        samples[f"gap_{name}_ms"] = [x for found in runs for x in found["gap_ms"]]
    details |= parts["moves"]
    speed = dict(parts["throughput"])
    samples |= {f"throughput_{name}_gbit_s": series for name, series in speed.pop("samples").items()}
    details["throughput"] = speed
    details["connections"] = parts["connections"]
    details["first_packet_p50_rtts"] = {
        name: round(percentile(samples[f"first_packet_{name}_rtts"], 0.5), 3)
        for name in ("early_data", "validated_only")
    }
    return Outcome(details["first_packet_p50_rtts"]["early_data"], "RTT", details, samples, partial(plot, samples))


def plot(samples: dict[str, list[float]], figure: Any) -> None:
    """Left: how many round trips until the first packet; right: throughput of each run."""
    left, right = figure.subplots(1, 2)
    for name, label in (("early_data", "early data"), ("validated_only", "validated only")):
        series = sorted(samples[f"first_packet_{name}_rtts"])
        left.step(series, [(rank + 1) / len(series) for rank in range(len(series))], where="post", label=label)
    left.set(xlabel="first packet at the new address, RTTs", ylabel="share of moves", xlim=(0, 5), ylim=(0, 1))
    left.legend()
    left.grid(alpha=0.3)
    names = ("veth", "bare", "plain", "sealed")
    right.boxplot([samples[f"throughput_{name}_gbit_s"] for name in names])
    right.set_xticks(range(1, 5), ("TCP on\nthe veth", "moving\nbytes only", "tunnel,\nclear", "tunnel,\nsealed"))
    right.set(ylabel="Gbit/s", ylim=(0, None))
    right.grid(alpha=0.3, axis="y")
