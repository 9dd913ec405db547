# SPDX-License-Identifier: Apache-2.0
"""Alert datagrams per second, parsed and delivered to an app's handler; latency from alert to event.

`value` is the rate of Snort's datagrams through `apps/alerts.py` in Ryu (OS-Ken where there is no Ryu), each with a
packet of 100 bytes of payload, sent as fast as the socket takes them: from the first send to the last event.
`details` has the same for Suricata's EVE lines and for the other framework; the latency of single alerts, from before
the send to a handler of another app (so without the analyser); and Suricata's own, from a packet put on a wire to
that handler.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from time import monotonic, monotonic_ns, sleep
from typing import Any

from benchmarks._alert_observer import LAST
from benchmarks.harness import Bench, BenchmarkError, Outcome, distribution, summary
from controller.core.segment import ACK, PSH, Endpoint, Segment
from controller.wire.segment import encode_segment
from controller.wire.snort_alert import SnortAlert, encode_snort_alert

REPOSITORY = Path(__file__).resolve().parent.parent
DEADLINE = 120.0
PACE = 0.005
"""Seconds between single alerts: nothing queues, as with a rule that fires now and then."""
PAYLOAD = b"migrate".ljust(100, b".")


def run(bench: Bench) -> Outcome:
    """Measure each framework that is installed, then Suricata if it is."""
    frameworks = [name for name in ("ryu", "os_ken") if find_spec(name)]
    if not frameworks:
        raise BenchmarkError("neither Ryu nor OS-Ken is installed; run `make setup`")
    count, rounds, singles = (2_000, 2, 100) if bench.quick else (20_000, 5, 2_000)
    details: dict[str, Any] = {}
    samples: dict[str, list[float]] = {}
    for framework in frameworks:
        with controller(framework) as place:
            measured: dict[str, Any] = {}
            for kind, connect in (("snort", datagrams), ("eve", lines)):
                with connect(place) as (send, encode):
                    rates = []
                    for number in range(rounds):
                        bench.progress(f"{framework}: {count} alerts by {kind}, round {number + 1} of {rounds}")
                        rates.append(flood(place, send, encode, count))
                    bench.progress(f"{framework}: {singles} single alerts by {kind}")
                    delays = single(place, send, encode, singles)
                samples[f"{framework}_{kind}_latency_us"] = delays
                samples[f"{framework}_{kind}_rate"] = [round(rate) for rate, _ in rates]
                measured[kind] = {
                    "alerts_per_s": round(statistics.median(rate for rate, _ in rates)),
                    "delivered_share": round(min(share for _, share in rates), 4),
                    "latency_us": summary(delays, 1),
                }
            if framework == frameworks[0]:
                measured["suricata"] = suricata(bench, place, samples, 50 if bench.quick else 500)
        details[framework] = measured
    value = details[frameworks[0]]["snort"]["alerts_per_s"]
    latencies = {name: series for name, series in samples.items() if name.endswith("latency_us")}
    return Outcome(value, "alerts/s", details, samples, lambda figure: plot(figure, latencies))


def plot(figure: Any, latencies: dict[str, list[float]]) -> None:
    """All latencies in one panel: they differ by the way they went, not in unit."""
    axes = figure.add_subplot()
    for name, series in latencies.items():
        axes.step(*distribution(series), label=name.removesuffix("_latency_us"), where="post")
    axes.set(xscale="log", xlabel="alert to event, us", ylabel="share of alerts", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.suptitle("alerts")


class Place:
    """A run directory with a controller at work."""

    def __init__(self, directory: Path, process: subprocess.Popen[bytes], log: Path) -> None:
        self.directory = directory
        self.notes = directory / "notes.json"
        self._process = process
        self._log = log

    def wait(self, condition: Callable[[], Any], what: str) -> Any:
        """Poll for something; BenchmarkError when it does not come, with the end of the controller's log."""
        deadline = monotonic() + DEADLINE
        while not (value := condition()):
            if monotonic() > deadline or self._process.poll() is not None:
                tail = self._log.read_text(errors="replace")[-800:]
                raise BenchmarkError(f"waited in vain for {what}; the controller's last words:\n{tail}")
            sleep(0.002)
        return value

    def collect(self, finish: Callable[[], None]) -> list[list[int]]:
        """End the round and return the observer's notes; the end mark is repeated, it may be dropped too."""

        def ended() -> bool:
            if self.notes.exists():
                return True
            finish()
            sleep(0.02)
            return False

        self.wait(ended, "the observer's notes")
        notes: list[list[int]] = json.loads(self.notes.read_text())
        self.notes.unlink()
        return notes


@contextlib.contextmanager
def controller(framework: str) -> Iterator[Place]:
    """Run `apps/alerts.py` and the observer in a process and a run directory of their own."""
    with tempfile.TemporaryDirectory(prefix="baton-bench-") as name:
        directory = Path(name)
        environment = {
            **os.environ,
            "BATON_RUN_DIR": name,
            "BATON_CONFIG": str(REPOSITORY / "baton.toml"),
            "BATON_NOTES": str(directory / "notes.json"),
        }
        log = directory / "controller.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "controller.manager", "--framework", framework, "benchmarks/_alert_observer.py"],
                cwd=REPOSITORY,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        place = Place(directory, process, log)
        try:
            place.wait(lambda: b"listening on" in log.read_bytes(), "the controller")
            yield place
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def packet(number: int) -> bytes:
    """A request as the analyser sees it; its sequence number is `number`."""
    ends = Endpoint("10.0.0.3", 40_000), Endpoint("10.0.0.1", 11_111)
    return encode_segment(Segment(*ends, number, 1, PSH | ACK, 500, payload=PAYLOAD))


Way = tuple[Callable[[bytes], Any], Callable[[int, int], bytes]]
"""How to send an alert, and how to make one from a sid and a sequence number."""


@contextlib.contextmanager
def datagrams(place: Place) -> Iterator[Way]:
    """Snort's way."""
    template = bytearray(encode_snort_alert(SnortAlert("MIGRATE", 1, 1, 1, 1, 1, 1.0, False, packet(0))))

    def encode(sid: int, number: int) -> bytes:
        struct.pack_into("=I", template, 65_832, sid)
        struct.pack_into("!I", template, 292 + 38, number)
        return bytes(template)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(place.directory / "snort_alert"))
        yield sender.send, encode


@contextlib.contextmanager
def lines(place: Place) -> Iterator[Way]:
    """Suricata's way."""

    def encode(sid: int, number: int) -> bytes:
        record = {
            "timestamp": "2026-01-01T00:00:00.000000+0000",
            "flow_id": 2060769798287616,
            "in_iface": "ids0",
            "event_type": "alert",
            "src_ip": "10.0.0.3",
            "src_port": 40_000,
            "dest_ip": "10.0.0.1",
            "dest_port": 11_111,
            "proto": "TCP",
            "pkt_src": "wire/pcap",
            "alert": {
                "action": "allowed",
                "gid": 1,
                "signature_id": sid,
                "rev": 1,
                "signature": "MIGRATE",
                "category": "Move the connection to another server",
                "severity": 1,
            },
            "direction": "to_server",
            "packet": base64.b64encode(packet(number)).decode(),
            "packet_info": {"linktype": 1},
        }
        return json.dumps(record, separators=(",", ":")).encode() + b"\n"

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sender:
        sender.connect(str(place.directory / "eve.sock"))
        yield sender.sendall, encode


def flood(
    place: Place, send: Callable[[bytes], Any], encode: Callable[[int, int], bytes], count: int
) -> tuple[float, float]:
    """Send `count` alerts at once; returns (delivered per second, share delivered).

    The alerts are made before: what is measured is the controller, not their making.
    """
    distinct = [encode(sid, sid) for sid in range(1, 101)]
    last = encode(LAST, 0)
    began = monotonic_ns()
    for data in itertools.islice(itertools.cycle(distinct), count):
        send(data)
    notes = place.collect(lambda: send(last))
    return len(notes) / ((max(row[2] for row in notes) - began) / 1e9), len(notes) / count


def single(place: Place, send: Callable[[bytes], Any], encode: Callable[[int, int], bytes], count: int) -> list[float]:
    """Send alerts one by one; returns the microseconds from before each send to its event."""
    sent = {}
    for number in range(1, count + 1):
        data = encode(number, number)
        sent[number] = monotonic_ns()
        send(data)
        sleep(PACE)
    last = encode(LAST, 0)
    return [round((now - sent[sid]) / 1_000, 1) for sid, _, now in place.collect(lambda: send(last))]


SENDER = """
import socket, sys, time
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
for line in sys.stdin:
    frame = bytes.fromhex(line)
    now = time.monotonic_ns()
    wire.send(frame)
    print(now, flush=True)
"""


def suricata(bench: Bench, place: Place, samples: dict[str, list[float]], count: int) -> dict[str, Any]:
    """Suricata between a wire and the controller: from a packet on the wire to the event; why not, where it cannot."""
    if os.geteuid() or not shutil.which("suricata"):
        return {"not measured": "needs root and an installed Suricata"}
    bench.progress(f"Suricata: {count} packets")
    mark = f"baton-bench-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        ip("netns", "add", mark)
        stack.callback(ip, "netns", "delete", mark)
        ip("-n", mark, "link", "add", "wire0", "type", "veth", "peer", "name", "wire1")
        for end in ("wire0", "wire1"):
            ip("-n", mark, "link", "set", end, "up")
        environment = {
            **os.environ,
            "BATON_RUN_DIR": str(place.directory),
            "BATON_CONFIG": str(REPOSITORY / "baton.toml"),
        }
        log = place.directory / "analyser.log"
        with log.open("wb") as output:
            analyser = subprocess.Popen(
                [
                    *(sys.executable, "-m", "controller.analyser", "--engine", "suricata"),
                    "--interface=wire1",
                    "--netns",
                    mark,
                ],
                cwd=REPOSITORY,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        stack.callback(analyser.wait, 30)
        stack.callback(analyser.terminate)
        place.wait(lambda: b"ready\n" in log.read_bytes() or analyser.poll() is not None, "the analyser")
        if analyser.poll() is not None:
            raise BenchmarkError(f"the analyser did not start: {log.read_text(errors='replace')[-800:]}")
        sender = stack.enter_context(
            subprocess.Popen(
                ["ip", "netns", "exec", mark, sys.executable, "-c", SENDER, "wire0"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        assert sender.stdin is not None
        assert sender.stdout is not None
        sent = {}
        for number in range(1, count + 1):
            sender.stdin.write(packet(number).hex() + "\n")
            sender.stdin.flush()
            sent[number] = int(sender.stdout.readline())
            sleep(PACE)
        sender.stdin.close()
        with lines(place) as (send, encode):
            notes = place.collect(lambda: send(encode(LAST, 0)))
    delays = [round((now - sent[seq]) / 1_000, 1) for _, seq, now in notes]
    samples["suricata_packet_latency_us"] = delays
    return {"alerts_share": round(len(delays) / count, 4), "packet_to_event_us": summary(delays, 1)}


def ip(*arguments: str) -> None:
    """Run `ip`; BenchmarkError with its words when it fails."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
