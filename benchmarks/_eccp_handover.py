# SPDX-License-Identifier: Apache-2.0
"""Handovers of ECCP: RTTs until the first packet at the new address, the application's gap, 100 moves a second."""

from __future__ import annotations

import socket
import time
from typing import Any

from benchmarks._eccp_lab import INNER_A, PYTHON, Download, base_rtt, build, daemons, events, serve, verdict
from benchmarks.harness import Bench, BenchmarkError, percentile, summary
from controller.eccp.lab import Lab, wait_for

RATE = 2e6  # bytes/s of the download: there is always data on its way


def handover(bench: Bench, delay_ms: float, moves: int, *, early: bool) -> dict[str, Any]:
    """Move ``moves`` times between two addresses while downloading; the samples are in RTTs of the idle path."""
    with build(delay_ms) as lab:
        lab.address("a", "wifi", "10.1.0.3/24")
        rtt = base_rtt(lab)
        daemons(lab, *(() if early else ("--no-early-data",)))
        serve(lab)
        pause = max(0.15, 8 * rtt)
        download = Download(lab, int(RATE * (moves * (pause + 0.05) + 3)), RATE)
        stamps = []
        for number in range(moves):
            stamps.append(time.monotonic())
            lab.ask("a", "move", to=("10.1.0.3", "10.1.0.2")[number % 2])
            time.sleep(pause)
        wait_for(
            lambda: len(events(lab, "a", "FirstData")) >= moves or download.process.poll() is not None, 20, "moves"
        )
        first = [event["seconds"] for event in events(lab, "a", "FirstData")]
        confirmed = [e["seconds"] for e in events(lab, "a", "FlowMoved") if e["who"] == "own"]
        result = download.result()
    if not result["right"] or len(first) < moves:
        raise BenchmarkError(f"the download broke, or only {len(first)} of {moves} moves were seen: {verdict(result)}")
    gaps = [max((gap for at, gap in result["gaps"] if 0 < at - stamp < pause), default=0.0) for stamp in stamps]
    bench.progress(
        f"RTT {rtt * 1000:.2f} ms, {'early data' if early else 'validated only'}: first packet after "
        f"{percentile(first, 0.5) / rtt:.2f} RTT (p50), application's gap {percentile(gaps, 0.5) * 1000:.1f} ms"
    )
    return {
        "rtt_ms": rtt * 1000,
        "first_packet_rtts": [seconds / rtt for seconds in first],
        "confirmed_rtts": [seconds / rtt for seconds in confirmed],
        "gap_ms": [gap * 1000 for gap in gaps],
    }


def describe(found: dict[str, Any]) -> dict[str, Any]:
    """Percentiles of one `handover`."""
    series = ("first_packet_rtts", "confirmed_rtts", "gap_ms")
    return {"rtt_ms": round(found["rtt_ms"], 3)} | {name: summary(found[name]) for name in series}


def churn(bench: Bench, seconds: float, per_second: int = 100) -> dict[str, Any]:
    """Move one connection ``per_second`` times a second under a TCP download and a numbered UDP stream."""
    with build() as lab:
        lab.address("a", "wifi", "10.1.0.3/24")
        rtt = base_rtt(lab)
        daemons(lab)
        serve(lab)
        counter = _Datagrams(lab)
        rate = 4e6
        download = Download(lab, int(rate * seconds), rate)
        began, made = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            lab.ask("a", "move", to=("10.1.0.3", "10.1.0.2")[made % 2])
            made += 1
            ahead = began + made / per_second - time.monotonic()
            if ahead > 0:
                time.sleep(ahead)
        lasted = time.monotonic() - began
        result = download.result()
        lost, sent = counter.stop()
        refused = lab.ask("a", "status")["refused"]
        validated = lab.ask("b", "status")["connections"][0]["flows"][0]["peer_version"] - 1
    bench.progress(
        f"{made} moves in {lasted:.1f} s ({made / lasted:.0f}/s), {validated} the newest validated; TCP "
        f"{'right' if result['right'] else 'WRONG'}, {lost} of {sent} UDP datagrams lost"
    )
    if not result["right"]:
        raise BenchmarkError(f"the download broke under {made} moves: {verdict(result)}")
    return {
        "moves": made,
        "seconds": round(lasted, 2),
        "moves_per_second": round(made / lasted, 1),
        "rtt_ms": round(rtt * 1000, 3),
        "newest_version_validated": validated,
        "tcp_bytes": result["bytes"],
        "tcp_bytes_lost": 0,
        "tcp_longest_gap_ms": result["longest_gap_ms"],
        "udp_datagrams": sent,
        "udp_datagrams_lost": lost,
        "refused": refused,
    }


class _Datagrams:
    """A numbered UDP stream from b to a through the tunnel, 500 a second; counts what never comes."""

    SENDER = (
        "import socket,sys,time\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); n=0; t=time.monotonic()\n"
        "while True:\n"
        "    s.sendto(n.to_bytes(8,'big')+bytes(200),(sys.argv[1],9000)); n+=1\n"
        "    time.sleep(max(0,t+n/500-time.monotonic()))\n"
    )
    RECEIVER = (
        "import socket,sys,signal\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind((sys.argv[1],9000)); seen=set()\n"
        "def end(*_):\n"
        "    print(max(seen)-min(seen)+1-len(seen),max(seen)-min(seen)+1,flush=True); sys.exit()\n"
        "signal.signal(signal.SIGTERM,end)\n"
        "while True: seen.add(int.from_bytes(s.recv(2048)[:8],'big'))\n"
    )

    def __init__(self, lab: Lab) -> None:
        self._out = lab.run_dir / "datagrams"
        with self._out.open("wb") as out:
            self._receiver = lab.spawn("a", PYTHON, "-c", self.RECEIVER, INNER_A, stdout=out)
        wait_for(lambda: ":9000" in lab.execute("a", "ss", "-lun"), 10, "the datagram receiver")
        self._sender = lab.spawn("b", PYTHON, "-c", self.SENDER, INNER_A)

    def stop(self) -> tuple[int, int]:
        """Lost and sent datagrams."""
        self._sender.terminate()
        self._sender.wait()
        time.sleep(0.3)  # what is on its way
        self._receiver.terminate()
        self._receiver.wait()
        lost, sent = map(int, self._out.read_text().split())
        return lost, sent


def link_loss(bench: Bench, delay_ms: float, repeats: int) -> dict[str, Any]:
    """The same handover by ECCP and by MPTCP: the first link goes down under a download; the application's gap."""
    gaps: dict[str, list[float]] = {"eccp": [], "mptcp": []}
    for number in range(repeats):
        for way in gaps if number % 2 == 0 else reversed(list(gaps)):
            gaps[way].append(_gap_of(way, delay_ms))
    bench.progress(
        f"link lost at {2 * delay_ms:g} ms RTT: gap ECCP {percentile(gaps['eccp'], 0.5):.0f} ms, "
        f"MPTCP {percentile(gaps['mptcp'], 0.5):.0f} ms (p50)"
    )
    return {"rtt_ms": 2 * delay_ms, **{f"{way}_gap_ms": summary(series) for way, series in gaps.items()}}


def _gap_of(way: str, delay_ms: float) -> float:
    with build(delay_ms, ("wifi", "cell")) as lab:
        if way == "eccp":
            daemons(lab)
            serve(lab)
            download = Download(lab, int(RATE * 4), RATE)
        else:
            wrapper = _mptcp(lab)
            serve(lab, "10.9.0.2", *wrapper)
            download = Download(lab, int(RATE * 4), RATE, "10.9.0.2", *wrapper)
            wait_for(lambda: lab.execute("a", "ss", "-tnH", "dst", "10.9.0.2:8000").count("ESTAB") >= 2, 10, "subflows")
        stamp = time.monotonic()
        lab.ip("a", "link", "set", "wifi", "down")
        result = download.result()
    if not result["right"]:
        raise BenchmarkError(f"{way}: the download broke: {verdict(result)}")
    return max((gap * 1000 for at, gap in result["gaps"] if at > stamp), default=0.0)


def _mptcp(lab: Lab) -> tuple[str, ...]:
    """Set up MPTCP with a subflow on each link; returns the words that make a Python program use it."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close()
    except OSError as error:
        raise BenchmarkError("this kernel has no MPTCP (net.mptcp.enabled)") from error
    for name in ("a", "b"):
        lab.sysctl(name, "net.mptcp.enabled", "1")
        lab.execute(name, "ip", "mptcp", "limits", "set", "subflow", "2", "add_addr_accepted", "2")
    lab.execute("a", "ip", "mptcp", "endpoint", "add", "10.2.0.2", "dev", "cell", "subflow")
    lab.ip("a", "rule", "add", "from", "10.2.0.2", "table", "2")
    lab.ip("a", "route", "add", "default", "via", "10.2.0.1", "dev", "cell", "table", "2")
    shim = lab.run_dir / "sitecustomize.py"
    shim.write_text(
        "import socket\n_plain = socket.socket.__init__\n"
        "def _init(self, family=-1, type=-1, proto=-1, fileno=None):\n"
        "    stream = fileno is None and family in (-1, socket.AF_INET) and type in (-1, socket.SOCK_STREAM)\n"
        "    _plain(self, family, type, 262 if stream and proto in (-1, 0, 6) else proto, fileno)\n"
        "socket.socket.__init__ = _init\n"
    )
    return ("env", f"PYTHONPATH={lab.run_dir}")
