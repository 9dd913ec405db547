# SPDX-License-Identifier: Apache-2.0
"""ECCP under load: tunnel throughput beside plain TCP on the same veth, and ten thousand connections in a daemon."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks._eccp_lab import INNER_A, INNER_B, PYTHON, daemons
from benchmarks.harness import Bench, BenchmarkError, percentile
from controller.eccp.daemon_settings import load_identity, make_credentials
from controller.eccp.lab import Lab, wait_for
from controller.eccp.outputs import ConnectionEstablished
from controller.eccp.peer import Peer
from controller.eccp.peer_settings import PeerSettings
from controller.eccp.transport.loop import Loop
from controller.eccp.transport.udp import UdpSocket
from controller.wire.eccp import Address

CLOCK = os.sysconf("SC_CLK_TCK")


def throughput(bench: Bench, pairs: int, seconds: float) -> dict[str, Any]:
    """Alternate iperf3 runs: plain TCP on the veth, a tunnel that only moves bytes, the tunnel in clear, sealed."""
    found: dict[str, list[dict[str, float]]] = {"veth": [], "bare": [], "plain": [], "sealed": []}
    with _direct() as veth, _direct("bare") as bare, _direct("--plain") as plain, _direct("sealed") as sealed:
        tunnels = {"bare": (bare, INNER_B), "plain": (plain, INNER_B), "sealed": (sealed, INNER_B)}
        datapaths = {plain.ask(name, "status")["datapath"] for name in ("a", "b")}
        labs = {"veth": (veth, "10.9.0.2"), **tunnels}
        for number in range(pairs):
            for name in labs if number % 2 == 0 else reversed(list(labs)):
                lab, to = labs[name]
                found[name].append(_iperf(lab, to, seconds))
            last = {name: round(runs[-1]["gbit_s"], 2) for name, runs in found.items()}
            bench.progress(f"throughput {number + 1}/{pairs}: {last} Gbit/s")
    rates = {name: [run["gbit_s"] for run in runs] for name, runs in found.items()}
    ratio = {
        name: percentile([a / b for a, b in zip(rates[name], rates["veth"], strict=True)], 0.5) for name in tunnels
    }
    return {
        "gbit_s": {name: round(percentile(series, 0.5), 3) for name, series in rates.items()},
        "best_gbit_s": {name: round(max(series), 3) for name, series in rates.items()},
        "ratio_to_veth": {name: round(value, 3) for name, value in ratio.items()},
        "daemon_cpu_s_per_gbit": {
            name: round(percentile([run["cpu_s_per_gbit"] for run in found[name]], 0.5), 4) for name in ratio
        },
        "datapath": "+".join(sorted(datapaths)),
        "congestion_control": Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        "samples": rates,
    }


class _direct:  # noqa: N801 - used as a function
    """Two hosts on one veth pair, with daemons unless no argument is given."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self._lab = Lab()

    def __enter__(self) -> Lab:
        lab = self._lab
        try:
            for name in ("a", "b"):
                lab.namespace(name)
            lab.link("a", "va", "b", "vb")
            lab.address("a", "va", "10.9.0.1/24")
            lab.address("b", "vb", "10.9.0.2/24")
            if self._arguments == ("bare",):
                for end, inner in (("a", INNER_A), ("b", INNER_B)):
                    outer = ("10.9.0.1", "10.9.0.2")
                    own, other = outer if end == "a" else outer[::-1]
                    lab.spawn(end, PYTHON, "-m", "benchmarks._eccp_bare", f"{inner}/24", own, other)
                wait_for(lambda: _answers(lab), 10, "the bare tunnel")
            elif self._arguments:
                daemons(lab, *(word for word in self._arguments if word.startswith("--")))
            lab.spawn("b", "iperf3", "-s")
            wait_for(lambda: ":5201" in lab.execute("b", "ss", "-ltn"), 10, "iperf3 (apt-get install iperf3)")
        except BaseException:
            lab.close()
            raise
        return lab

    def __exit__(self, *_: object) -> None:
        self._lab.close()


def _answers(lab: Lab) -> bool:
    return "1 received" in lab.execute("a", "sh", "-c", f"ping -c 1 -W 1 {INNER_B} || true")


def _iperf(lab: Lab, to: str, seconds: float) -> dict[str, float]:
    before = _daemon_cpu(lab)
    result = json.loads(lab.execute("a", "iperf3", "-c", to, "-t", str(max(1, round(seconds))), "-J"))
    gbit = result["end"]["sum_received"]["bytes"] * 8 / 1e9
    spent = _daemon_cpu(lab) - before
    return {
        "gbit_s": result["end"]["sum_received"]["bits_per_second"] / 1e9, "cpu_s_per_gbit": spent / max(gbit, 1e-9)
    }  # fmt: skip


def _daemon_cpu(lab: Lab) -> float:
    """CPU seconds that the laboratory's daemons have used."""
    total = 0.0
    for process in lab.processes:
        command = " ".join(map(str, process.args))
        if process.poll() is None and ("controller.cli.eccp" in command or "_eccp_bare" in command):
            total += _cpu(process.pid)
    return total


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


def many(bench: Bench, count: int) -> dict[str, Any]:
    """``count`` connections to one daemon from one process; how fast they open, what they cost at rest."""
    with Lab() as lab:
        lab.namespace("s")
        identity = load_identity(lab.run_dir / "client.key")
        public = identity.public_key().public_bytes_raw()
        lab.daemon("s", "s", "--inner", "10.77.0.1/24", "--authorize", public.hex(), "--loopback", "--keepalive", "60")
        server = next(p for p in lab.processes if p.poll() is None)
        resident = _resident(server.pid)
        lab.spawn(
            "s", PYTHON, "-m", "benchmarks._eccp_load", str(lab.run_dir / "client.key"), lab.identity("s"), str(count)
        )
        began = time.monotonic()
        opened = 0
        while opened < count and time.monotonic() - began < 60 + count / 20:
            time.sleep(0.5)
            opened = lab.ask("s", "count")["established"]
            bench.progress(f"{opened} of {count} connections open")
        lasted = time.monotonic() - began
        if opened < count:
            raise BenchmarkError(f"only {opened} of {count} connections opened within {lasted:.0f} s")
        grown = _resident(server.pid) - resident
        cpu = _cpu(server.pid)
        time.sleep(5)
        idle = (_cpu(server.pid) - cpu) / 5
    return {
        "connections": count,
        "seconds_to_open": round(lasted, 2),
        "opened_per_second": round(count / lasted, 1),
        "kib_per_connection": round(grown / count / 1024, 2),
        "cpu_share_at_rest": round(idle, 4),
    }


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def client(key: Path, server: bytes, count: int) -> None:
    """In a process of its own beside the daemon: open ``count`` connections, a few at a time, and keep them."""
    credentials = make_credentials(load_identity(key), None, frozenset({server}))
    peer = Peer(PeerSettings(credentials=credentials, random=os.urandom, keepalive=60.0, open_timeout=60.0))
    loop = Loop(peer, None)
    udp = UdpSocket("127.0.0.1", 0)
    loop.add_socket(udp)
    started = established = 0

    def note() -> None:
        nonlocal established
        established += sum(isinstance(notice, ConnectionEstablished) for notice in peer.take_notices())

    loop.on_notices = note
    while True:
        while started < count and started - established < 64:
            peer.connect(Address("127.0.0.1", 4500), udp.own, time.monotonic(), expected=server)
            started += 1
        loop.flush()
        loop.run_once(0.02)


if __name__ == "__main__":
    client(Path(sys.argv[1]), bytes.fromhex(sys.argv[2]), int(sys.argv[3]))
