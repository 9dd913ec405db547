# SPDX-License-Identifier: Apache-2.0
"""The network that the ECCP benchmarks share: a mobile host, optional delay boxes on its links, a server."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import Any

from controller.eccp.lab import Lab, wait_for

PYTHON = sys.executable
INNER_A, INNER_B = "10.77.0.1", "10.77.0.2"


def path(lab: Lab, link: str, subnet: int, delay_ms: float) -> None:
    """A link ``link`` of host a to router r, through a delay box unless ``delay_ms`` is 0."""
    if delay_ms:
        box = f"box{link}"
        lab.namespace(box)
        lab.link("a", link, box, "in")
        lab.link(box, "out", "r", f"r{link}")
        lab.spawn(box, PYTHON, "-m", "controller.eccp.transport.box", "in", "out", "--ms", str(delay_ms))
    else:
        lab.link("a", link, "r", f"r{link}")
    lab.address("a", link, f"10.{subnet}.0.2/24")
    lab.address("r", f"r{link}", f"10.{subnet}.0.1/24")
    lab.ip("a", "route", "add", "default", "via", f"10.{subnet}.0.1", "dev", link, "metric", str(subnet))


def build(delay_ms: float = 0.0, links: tuple[str, ...] = ("wifi",)) -> Lab:
    """Host a with ``links`` (subnets 10.1, 10.2, ...), router r, server b at 10.9.0.2."""
    lab = Lab()
    try:
        for name in ("a", "r", "b"):
            lab.namespace(name)
        for subnet, link in enumerate(links, 1):
            path(lab, link, subnet, delay_ms)
        lab.link("b", "wan", "r", "rwan")
        lab.address("b", "wan", "10.9.0.2/24")
        lab.address("r", "rwan", "10.9.0.1/24")
        lab.ip("b", "route", "add", "default", "via", "10.9.0.1")
    except BaseException:
        lab.close()
        raise
    return lab


def daemons(lab: Lab, *arguments: str) -> None:
    """Connected daemons at a and b."""
    a, b = lab.identity("a"), lab.identity("b")
    lab.daemon("b", "b", "--inner", f"{INNER_B}/24", "--authorize", a, *arguments)
    lab.daemon("a", "a", "--inner", f"{INNER_A}/24", "--connect", f"10.9.0.2:4500#{b}", *arguments)
    lab.wait_connected("a", "b")


def serve(lab: Lab, host: str = INNER_B, *wrapper: str) -> None:
    """The HTTP server at b."""
    lab.spawn("b", *wrapper, PYTHON, "-m", "controller.eccp.transfer", "serve", host, "8000")
    wait_for(lambda: ":8000" in lab.execute("b", "ss", "-ltn"), 15, "the HTTP server")


def verdict(result: dict[str, Any]) -> str:
    """A download's result in a line."""
    return str({name: value for name, value in result.items() if name not in {"gaps", "sha256"}})


class Download:
    """A rate-limited download at a, in the background."""

    def __init__(self, lab: Lab, size: int, rate: float, host: str = INNER_B, *wrapper: str) -> None:
        self._out = lab.run_dir / f"download-{time.monotonic_ns()}.json"
        with self._out.open("wb") as out:
            self.process: subprocess.Popen[Any] = lab.spawn(
                "a", *wrapper, PYTHON, "-m", "controller.eccp.transfer", "get", host, "8000", str(size), "--rate",
                str(rate), stdout=out,
            )  # fmt: skip
        wait_for(
            lambda: (
                re.search(r"bytes_received:(\d{6,})", lab.execute("a", "ss", "-tnieH", "dst", f"{host}:8000"))
                or self.process.poll() is not None
            ),
            20,
            "the download's first bytes",
        )

    def result(self, seconds: float = 120) -> dict[str, Any]:
        """The client's verdict."""
        self.process.wait(seconds)
        return dict(json.loads(self._out.read_text().strip().splitlines()[-1]))


def events(lab: Lab, daemon: str, name: str) -> list[dict[str, Any]]:
    """A daemon's events of one name."""
    return [event for event in lab.ask(daemon, "events")["events"] if event["event"] == name]


def base_rtt(lab: Lab, to: str = "10.9.0.2") -> float:
    """Round trip of the path itself in seconds, median of 20 pings outside the tunnel, nothing else on it."""
    wait_for(lambda: "1 received" in lab.execute("a", "sh", "-c", f"ping -c 1 -W 1 {to} || true"), 20, "the path")
    text = lab.execute("a", "ping", "-c", "20", "-i", "0.02", to)
    times = sorted(float(found) for found in re.findall(r"time=([\d.]+)", text))
    return times[len(times) // 2] / 1000
