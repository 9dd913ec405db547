# SPDX-License-Identifier: Apache-2.0
"""Connections a second set up through the controller in gate mode, and what each tracked connection costs in memory.

The rate is of whole connections of real clients: handshake, first request, verdict by a real alert, answer, close. The
memory is that of the core's state alone, for connections that are open and idle.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from typing import Any

from benchmarks.harness import Bench, BenchmarkError, Outcome, summary
from benchmarks.tcp_handoff import REQUESTS, ask
from benchmarks.tcp_throughput import start_server
from controller.config import config_path, load, policy_of
from controller.core.commands import ReadFlows
from controller.core.engine import Engine
from controller.core.events import FlowsReported, HostLocated, SegmentReceived, SwitchConnected
from controller.core.segment import ACK, SYN, Endpoint, Segment, TcpOptions, Timestamps
from topo import SERVER1, BatonNet

AT_ONCE = 20


def track(count: int, traced: bool = True) -> dict[str, float]:
    """Let a core open connections; return microseconds for each; and bytes, if ``traced`` (which costs time)."""
    engine = Engine(policy_of(load(config_path())))
    service = Endpoint(*SERVER1)
    asked = engine.handle(SwitchConnected(0.0, 1, (("ids0", 4),)), 0.0)
    token = next(command.token for command in asked if isinstance(command, ReadFlows))
    engine.handle(FlowsReported(1, token, (), more=False), 0.0)
    engine.handle(HostLocated(1, 1, service.address, "02:00:00:00:00:01"), 0.0)
    options = TcpOptions(1460, 7, True, (), Timestamps(1, 0))
    gc.collect()
    if traced:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    seconds = 0.0
    for number in range(count):
        client = Endpoint(f"10.{number >> 22}.{number >> 14 & 255}.{number >> 6 & 255}", 1_024 + (number & 63))
        syn = Segment(client, service, number, 0, SYN, 64_240, options, eth_dst="02:00:00:00:00:01")
        synack = Segment(service, client, 7, number + 1, SYN | ACK, 65_160, options)
        ack = Segment(client, service, number + 1, 8, ACK, 502, TcpOptions(timestamps=Timestamps(2, 1)))
        began = time.perf_counter()
        for port, segment in ((3, syn), (1, synack), (3, ack)):
            engine.handle(SegmentReceived(1, port, segment), 0.0)
        seconds += time.perf_counter() - began
    used = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    if len(engine.world.connections) != count:
        raise BenchmarkError(f"{len(engine.world.connections)} of {count} connections are tracked")
    each = round(seconds / count * 1e6, 1)
    return {"bytes": round(used / count), "us, memory traced": each} if traced else {"us": each}


def run(bench: Bench) -> Outcome:
    """Measure the memory, then the rate."""
    tracked = 5_000 if bench.quick else 100_000
    count = 100 if bench.quick else 2_000
    details: dict[str, Any] = {"tracked connections": tracked, "each tracked connection": track(tracked)}
    bench.progress(f"each of {tracked} tracked connections: {details['each tracked connection']}")
    with BatonNet(private=True) as net:
        net.start_analyser()
        net.start_controller()
        start_server(net, "h1", *SERVER1, program=REQUESTS)
        ask(net, SERVER1, "please forward", 20, 5)
        began = time.monotonic()
        times = ask(net, SERVER1, "please forward", count, AT_ONCE)
        seconds = time.monotonic() - began
    series = {
        "connect_ms": [(one["connected"] - one["began"]) * 1e3 for one in times],
        "answer_ms": [(one["answered"] - one["sent"]) * 1e3 for one in times],
    }
    details |= {name: summary(values, 3) for name, values in series.items()} | {"at once": AT_ONCE}
    return Outcome(round(count / seconds, 1), "connections/s", details, series)
