# SPDX-License-Identifier: Apache-2.0
"""ECCP: RTTs until the first packet at a new address, the gap, moves a second, tunnel throughput, 10,000 connections.

`value` is the median number of round trips between a move and the first data packet at the new address, with early
data, over all emulated RTTs.  Delays are made by a userspace box on the mobile host's link (no netem needed).
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from benchmarks._eccp_handover import churn, describe, handover, link_loss
from benchmarks._eccp_load import many, throughput
from benchmarks.harness import Bench, BenchmarkError, Outcome, percentile


def run(bench: Bench) -> Outcome:
    """All parts in turn; ``--quick`` takes few repetitions of each."""
    if os.geteuid() != 0:
        raise BenchmarkError("the benchmark makes network namespaces; run it as root")
    quick = bench.quick
    delays = (10.0,) if quick else (5.0, 20.0, 50.0)
    moves = 5 if quick else 40
    samples: dict[str, list[float]] = {}
    details: dict[str, Any] = {"early_data": [], "validated_only": []}
    for delay in delays:
        for name, early in (("early_data", True), ("validated_only", False)):
            found = handover(bench, delay, moves, early=early)
            details[name].append(describe(found))
            samples.setdefault(f"first_packet_{name}_rtts", []).extend(found["first_packet_rtts"])
            samples.setdefault(f"gap_{name}_ms", []).extend(found["gap_ms"])
    details["moves_100_per_second"] = churn(bench, 3 if quick else 60)
    try:
        details["link_lost_beside_mptcp"] = link_loss(bench, 10.0, 1 if quick else 7)
    except BenchmarkError as error:
        details["link_lost_beside_mptcp"] = str(error)
    speed = throughput(bench, 1 if quick else 9, 1 if quick else 3)
    samples |= {f"throughput_{name}_gbit_s": series for name, series in speed.pop("samples").items()}
    details["throughput"] = speed
    details["connections"] = many(bench, 200 if quick else 10_000)
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
