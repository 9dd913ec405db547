# SPDX-License-Identifier: Apache-2.0
"""P4Sync: seconds to ship, verify and commit 65,536 entries of 4 bytes under traffic, beside the unsecured copy; more.

`value` is the median on the embedded target with the default suite (polynomial and SipHash); `details` has both targets
where both are there. Under traffic: 1,000 packets a second of 512 flows through the source. A session ends for these
figures when the source's agent has heard that it is committed; suites take turns in the same run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import time
from functools import partial
from typing import Any

from benchmarks._p4sync_lab import FLOWS, RATE, SERVICE, Lab
from benchmarks.harness import Bench, BenchmarkError, Outcome, summary
from controller.p4sync import plan
from controller.p4sync.protocol import ENTRIES, PACKET_BYTES, Array, flow_key
from testbed import p4

SUITES = ("polynomial", "siphash", "none")
"""What the agents call them; `none` is baseline.p4."""
STATE = 4 * ENTRIES
BEFORE = 0.5
"""Seconds of traffic before each session, to compare with."""
Samples = dict[str, list[float]]


def run(bench: Bench) -> Outcome:
    """Each target in turn; the embedded one is always there."""
    if os.geteuid() != 0:
        raise BenchmarkError("the benchmark makes network namespaces; run it as root")
    targets = ["embedded", *(["bmv2"] if shutil.which(p4.BMV2) else [])]
    samples: Samples = {}
    details: dict[str, Any] = {}
    for target in targets:
        details[target] = measure(bench, target, samples)
    if "bmv2" not in targets:
        details["bmv2"] = f"not measured: {p4.BMV2} is not on the PATH"
    value = details["embedded"]["array_seconds"]["polynomial"]["p50"]
    return Outcome(value, "s", details, samples, partial(plot, samples))


def measure(bench: Bench, target: str, samples: Samples) -> dict[str, Any]:
    """All figures of one target."""
    rounds, flows, seconds = (2, 6, 0.5) if bench.quick else (15, 60, 3.0)
    with contextlib.ExitStack() as stack:
        labs = {suite: stack.enter_context(Lab(target, suite)) for suite in SUITES}
        own = arrays(bench, labs, rounds)
        single = one_connection(bench, labs["polynomial"], flows)
        forwarded = [labs["polynomial"].flood(seconds) for _ in range(1 if bench.quick else 3)]
    for name, series in {**own, **single, "packets_per_second": forwarded}.items():
        samples[f"{target} {name}"] = series
    times = {suite: own[f"{suite} array_seconds"] for suite in SUITES}
    baseline = times["none"]
    return {
        "array_seconds": {suite: summary(series) for suite, series in times.items()},
        "secured_over_baseline": {
            suite: round(statistics.median(a / b for a, b in zip(times[suite], baseline, strict=True)), 3)
            for suite in ("siphash", "polynomial")
        },
        "wire_bytes_per_byte": {suite: summary(own[f"{suite} wire_bytes_per_byte"]) for suite in SUITES},
        "forwarded_during_over_before": {
            suite: round(statistics.median(own[f"{suite} forwarded_ratio"]), 3) for suite in SUITES
        },
        "worst_forwarded_during_over_before": {
            suite: round(min(own[f"{suite} forwarded_ratio"]), 3) for suite in SUITES
        },
        "latency_ms_before": summary(own["latency_before_ms"]),
        "latency_ms_during": summary(own["latency_during_ms"]),
        "one_connection_ms": {name: summary(series) for name, series in single.items()},
        "packets_per_second": round(statistics.median(forwarded)),
    }


def arrays(bench: Bench, labs: dict[str, Lab], rounds: int) -> Samples:
    """Ship the clients array from p1 to p2 again and again, suite after suite, under traffic."""
    found: Samples = {name: [] for name in ("latency_before_ms", "latency_during_ms")}
    for suite in labs:
        found |= {f"{suite} {name}": [] for name in ("array_seconds", "wire_bytes_per_byte", "forwarded_ratio")}
    for number in range(rounds):
        for suite, lab in labs.items():
            lab.report()
            lab.rate(RATE)
            time.sleep(BEFORE)
            began = time.monotonic()
            done = lab.agents["p1"].ship("p2", plan.whole_array(Array.CLIENTS))
            ended = time.monotonic()
            lab.rate(0)
            if done["result"] != "committed":
                raise BenchmarkError(f"a session on {lab.target} was {done['result']}: {done['reason']}")
            traffic = lab.report()
            before = [took for sent, took in traffic if sent < began]
            during = [took for sent, took in traffic if began <= sent < ended]
            if not before or not during:
                raise BenchmarkError("no traffic passed the switch: this machine is too busy")
            found[f"{suite} array_seconds"].append(done["committed_seconds"])
            found[f"{suite} wire_bytes_per_byte"].append((done["packets"] + done["resent"]) * PACKET_BYTES / STATE)
            found[f"{suite} forwarded_ratio"].append(delivered(during) / max(delivered(before), 1e-9))
            found["latency_before_ms"] += [took * 1000 for took in before if took is not None]
            found["latency_during_ms"] += [took * 1000 for took in during if took is not None]
        bench.progress(
            f"{labs['none'].target}, round {number + 1} of {rounds}: "
            + ", ".join(f"{suite} {found[f'{suite} array_seconds'][-1]:.3f} s" for suite in labs)
        )
    return found


def delivered(packets: list[float | None]) -> float:
    """The share of packets that came out."""
    return sum(took is not None for took in packets) / len(packets)


def one_connection(bench: Bench, lab: Lab, count: int) -> Samples:
    """Ship single flows, one at a time: idle, and under traffic; ms from the request to the commit."""
    found: Samples = {}
    for name, rate in (("one_connection_under_traffic_ms", RATE), ("one_connection_idle_ms", 0)):
        lab.rate(rate)
        time.sleep(BEFORE)
        series = found[name] = []
        for number in range(count):
            flow = number % FLOWS
            key = flow_key(f"10.10.{flow >> 8}.{flow & 255}", 1_024 + flow, SERVICE)
            done = lab.agents["p1"].ship("p2", plan.single_flows([key], release=False))
            if done["result"] != "committed":
                raise BenchmarkError(f"a flow was not shipped on {lab.target}: {done['reason']}")
            series.append(done["committed_seconds"] * 1000)
        lab.rate(0)
        lab.report()
        bench.progress(f"{lab.target}, {name}: median {statistics.median(series):.1f}")
    return found


def plot(samples: Samples, figure: Any) -> None:
    """Left: seconds for an array, by target and suite; right: ms for one connection's entries."""
    left, right = figure.subplots(1, 2)
    shown = [name for name in samples if name.endswith("array_seconds")]
    left.boxplot([samples[name] for name in shown])
    labels = [name.removesuffix(" array_seconds").replace(" ", "\n") for name in shown]
    left.set_xticks(range(1, len(shown) + 1), labels, fontsize=7)
    left.set(ylabel=f"s for {ENTRIES:,} entries of 4 bytes, under traffic", ylim=(0, None))
    left.grid(alpha=0.3, axis="y")
    for name in (name for name in samples if "one_connection" in name):
        series = sorted(samples[name])
        shares = [(rank + 1) / len(series) for rank in range(len(series))]
        right.step(series, shares, where="post", label=name.replace("one_connection_", "").removesuffix("_ms"))
    right.set(xlabel="one connection's entries, ms", ylabel="share of sessions", xlim=(0, None), ylim=(0, 1))
    right.legend(fontsize=7)
    right.grid(alpha=0.3)
