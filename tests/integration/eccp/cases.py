# SPDX-License-Identifier: Apache-2.0
"""Daemons in namespaces, and downloads through their tunnel, for the tests beside this file.

a -- wifi -- r -- b          a has a second link, cell, to r; r routes (and holds the boxes)
  -- cell -/
"""

import json
import re
import sys

from controller.eccp.lab import Lab, wait_for

SIZE = 16_000_000
PYTHON = sys.executable


def build(**boxes: tuple[str, ...]) -> Lab:
    """Hosts a (two links), b and the router r between them.

    ``boxes`` puts a box of `controller.eccp.transport.box` with these options, ``wifi=("--ms", "30")``, into a link.
    """
    lab = Lab()
    for name in ("a", "r", "b"):
        lab.namespace(name)
    for name in ("wifi", "cell"):
        if name in boxes:
            lab.namespace(f"box{name}")
            lab.link("a", name, f"box{name}", "in")
            lab.link(f"box{name}", "out", "r", f"r{name}")
            lab.spawn(f"box{name}", PYTHON, "-m", "controller.eccp.transport.box", "in", "out", *boxes[name])
        else:
            lab.link("a", name, "r", f"r{name}")
    lab.link("b", "wan", "r", "rwan")
    for name, interface, address in (
        ("a", "wifi", "10.1.0.2/24"), ("a", "cell", "10.2.0.2/24"), ("b", "wan", "10.3.0.2/24"),
        ("r", "rwifi", "10.1.0.1/24"), ("r", "rcell", "10.2.0.1/24"), ("r", "rwan", "10.3.0.1/24"),
    ):  # fmt: skip
        lab.address(name, interface, address)
    lab.ip("a", "route", "add", "default", "via", "10.1.0.1", "dev", "wifi", "metric", "1")
    lab.ip("a", "route", "add", "default", "via", "10.2.0.1", "dev", "cell", "metric", "2")
    lab.ip("b", "route", "add", "default", "via", "10.3.0.1")
    return lab


def connect(lab: Lab, *arguments: str) -> None:
    """Daemons at a and b, connected, and the HTTP server behind b's inner address."""
    a, b = lab.identity("a"), lab.identity("b")
    lab.daemon("b", "b", "--inner", "10.77.0.2/24", "--authorize", a, *arguments)
    lab.daemon(
        "a", "a", "--inner", "10.77.0.1/24", "--connect", f"10.3.0.2:4500#{b}",
        "--probe-after", "0.2", *arguments,
    )  # fmt: skip
    lab.wait_connected("a", "b")
    lab.spawn("b", PYTHON, "-m", "controller.eccp.transfer", "serve", "10.77.0.2", "8000")
    wait_for(lambda: "10.77.0.2:8000" in lab.execute("b", "ss", "-ltn"), 10, "the HTTP server")


class Download:
    """A download in the background."""

    def __init__(self, lab: Lab, size: int = SIZE, rate: float = 8e6) -> None:
        self._path = lab.run_dir / "download.json"
        with self._path.open("wb") as out:
            self.process = lab.spawn(
                "a", PYTHON, "-m", "controller.eccp.transfer", "get", "10.77.0.2", "8000", str(size), "--rate",
                str(rate), stdout=out,
            )  # fmt: skip
        self._lab = lab
        wait_for(self.received, 10, "the first byte of the download")

    def received(self) -> int:
        """Bytes that the client's TCP has got so far (0 before the connection)."""
        text = self._lab.execute("a", "ss", "-tnieH", "dst", "10.77.0.2:8000")
        found = re.search(r"bytes_received:(\d+)", text)
        return int(found.group(1)) if found else 0

    def wait_more(self, count: int = 1_000_000) -> None:
        """Wait until another ``count`` bytes have come."""
        before = self.received()
        wait_for(lambda: self.received() > before + count or self.process.poll() is not None, 30, "the download hangs")

    def result(self) -> dict[str, object]:
        """The client's verdict."""
        self.process.wait(90)
        return dict(json.loads(self._path.read_text()))


def flow(lab: Lab, daemon: str) -> dict[str, object]:
    """The daemon's first flow of its first established connection."""
    connections = [c for c in lab.ask(daemon, "status")["connections"] if c["established"]]
    return dict(connections[0]["flows"][0])


def moves(lab: Lab, daemon: str, who: str) -> int:
    """How many moves of ``who`` the daemon has seen completed."""
    return sum(e["event"] == "FlowMoved" and e["who"] == who for e in lab.ask(daemon, "events")["events"])
