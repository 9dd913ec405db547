# SPDX-License-Identifier: Apache-2.0
"""Records what passes the switch's ports (one pcap each) and its OpenFlow channel, and reads the pcaps again."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dpkt

from topo import BatonNet, TopoError, wait_for

PORT_NAMES = {"h1": "server1", "h2": "server2", "h3": "client", "ids": "analyser"}
"""How the pcap of the switch port towards a node is called."""


@dataclass(frozen=True, slots=True)
class TcpPacket:
    """A TCP segment as seen at a place (a switch port's name, or ``controller``).

    ``time`` is wall-clock seconds; ``inward`` tells that it went into the switch; ``src`` and ``dst`` are
    ``address:port``.
    """

    time: float
    place: str
    inward: bool
    src: str
    dst: str
    seq: int
    ack: int
    flags: int
    payload: bytes

    @property
    def numbers(self) -> tuple[str, str, int, int, int, bytes]:
        """Everything that two sightings of the unchanged segment have in common."""
        return (self.src, self.dst, self.seq, self.ack, self.flags, self.payload)


def decode_frame(frame: bytes, time: float, place: str, inward: bool) -> TcpPacket | None:
    """Decode an Ethernet frame; None when it holds no whole TCP header."""
    try:
        ip = dpkt.ethernet.Ethernet(frame).data
        if not isinstance(ip, dpkt.ip.IP | dpkt.ip6.IP6) or not isinstance(ip.data, dpkt.tcp.TCP):
            return None
    except dpkt.dpkt.Error:
        return None
    tcp = ip.data
    ends = (dpkt.utils.inet_to_str(address) for address in (ip.src, ip.dst))
    src, dst = (f"{address}:{port}" for address, port in zip(ends, (tcp.sport, tcp.dport), strict=True))
    return TcpPacket(time, place, inward, src, dst, tcp.seq, tcp.ack, tcp.flags, bytes(tcp.data))


def read_pcap(path: Path, place: str, mac: str | None) -> list[TcpPacket]:
    """Read the TCP segments of one port; ``mac`` is the host's behind it (what it sends goes into the switch)."""
    found = []
    sender = bytes.fromhex(mac.replace(":", "")) if mac else b""
    with path.open("rb") as file, contextlib.suppress(dpkt.dpkt.NeedData, EOFError):
        for time, frame in dpkt.pcap.Reader(file):
            packet = decode_frame(frame, float(time), place, inward=frame[6:12] == sender)
            if packet is not None:
                found.append(packet)
    return found


@contextlib.contextmanager
def recording(net: BatonNet, out: Path) -> Iterator[None]:
    """Write ``out/<place>.pcap`` for every port of s1 and ``out/openflow.txt`` while the context lasts."""
    recorders = [_tcpdump(net, node, out / f"{name}.pcap") for node, name in PORT_NAMES.items()]
    with (out / "openflow.txt").open("wb") as text:
        command = ["ovs-ofctl", "-m", "-O", "OpenFlow14", "snoop", "s1"]
        recorders.append(net.popen("s1", command, stdout=text, stderr=subprocess.STDOUT))
    try:
        yield
    finally:
        for recorder in recorders:
            recorder.send_signal(signal.SIGTERM)
        for recorder in recorders:
            recorder.wait(10)


def _tcpdump(net: BatonNet, node: str, path: Path) -> subprocess.Popen[bytes]:
    """Start tcpdump on s1's port towards a node and wait until it listens."""
    (_, port) = net[node].connectionsTo(net["s1"])[0]
    command = ["tcpdump", "--immediate-mode", "-U", "-n", "-s", "0", "--time-stamp-precision=nano", "-Z", "root"]
    log = path.with_suffix(".log")
    with log.open("wb") as text:
        recorder = net.popen("s1", [*command, "-i", port.name, "-w", str(path)], stdout=text, stderr=text)
    try:
        wait_for("tcpdump", lambda: b"listening on" in log.read_bytes(), 15, lambda: recorder.poll() is None)
    except TopoError as error:
        raise TopoError(f"{error}: {log.read_text(errors='replace').strip()}; is tcpdump installed?") from None
    finally:
        log.unlink(missing_ok=True)
    return recorder
