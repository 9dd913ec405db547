# SPDX-License-Identifier: Apache-2.0
"""Daemons in namespaces: unmodified TCP programs keep their connections while addresses change.

a -- wifi -- r -- b          a has a second link, cell, to r; r routes (and holds the boxes)
  -- cell -/
"""

import json
import re
import signal
import sys
from collections.abc import Iterator

import pytest

from controller.eccp.lab import Lab, run, wait_for

SIZE = 16_000_000
PYTHON = sys.executable


def build() -> Lab:
    """Hosts a (two links), b and the router r between them."""
    lab = Lab()
    for name in ("a", "r", "b"):
        lab.namespace(name)
    lab.link("a", "wifi", "r", "rwifi")
    lab.link("a", "cell", "r", "rcell")
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


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The three namespaces; everything is gone afterwards."""
    with build() as built:
        yield built


@pytest.mark.parametrize("arguments", [(), ("--plain",)], ids=["sealed", "plain"])
def test_a_download_survives_a_new_address_another_interface_and_a_dead_link(
    lab: Lab, arguments: tuple[str, ...]
) -> None:
    connect(lab, *arguments)
    download = Download(lab)
    lab.address("a", "wifi", "10.1.0.77/24")  # 1. the address changes on the same interface
    lab.ip("a", "addr", "del", "10.1.0.2/24", "dev", "wifi")
    wait_for(lambda: flow(lab, "b")["peer"] == "10.1.0.77:4500", 10, "the new address")
    download.wait_more()
    lab.ask("a", "move", to="cell")  # 2. a hop to the other interface, asked for
    wait_for(lambda: flow(lab, "b")["peer"] == "10.2.0.2:4500", 10, "the hop to cell")
    download.wait_more()
    lab.ip("a", "link", "set", "cell", "down")  # 3. that link dies
    wait_for(lambda: flow(lab, "b")["peer"] == "10.1.0.77:4500", 10, "the way back to wifi")
    result = download.result()
    assert result["right"], result
    assert moves(lab, "a", "own") >= 3
    assert moves(lab, "b", "peer") >= 3


def test_a_silent_path_is_left_for_the_other_interface(lab: Lab) -> None:
    connect(lab)
    download = Download(lab)
    lab.ip("r", "addr", "del", "10.1.0.1/24", "dev", "rwifi")  # beyond the link: a sees nothing but silence
    wait_for(lambda: flow(lab, "b")["peer"] == "10.2.0.2:4500", 20, "fail-over to cell")
    result = download.result()
    assert result["right"], result


def test_both_ends_move_at_once_and_meet_through_the_rendezvous(lab: Lab) -> None:
    lab.namespace("z")
    lab.link("z", "zwan", "r", "rz")
    lab.address("z", "zwan", "10.9.0.2/24")
    lab.address("r", "rz", "10.9.0.1/24")
    lab.ip("z", "route", "add", "default", "via", "10.9.0.1")
    lab.address("r", "rwan", "10.4.0.1/24")
    hosts = [text for host in ("a", "b") for text in ("--authorize", lab.identity(host))]
    lab.daemon("z", "z", *hosts, command="rendezvous")
    connect(lab, "--rendezvous", f"10.9.0.2:4500#{lab.identity('z')}")
    wait_for(lambda: len(lab.ask("z", "status")["connections"]) == 2, 10, "registration")
    download = Download(lab)
    lab.address("a", "wifi", "10.1.0.99/24")
    lab.address("b", "wan", "10.4.0.2/24")
    lab.ip("a", "addr", "del", "10.1.0.2/24", "dev", "wifi")
    lab.ip("b", "addr", "del", "10.3.0.2/24", "dev", "wan")
    lab.ip("b", "route", "replace", "default", "via", "10.4.0.1")
    lab.ip("a", "link", "set", "cell", "down")
    wait_for(lambda: _peer_of(lab, "a", "10.77.0.2") == "10.4.0.2:4500", 30, "b's new address at a")
    wait_for(lambda: _peer_of(lab, "b", "10.77.0.1") == "10.1.0.99:4500", 30, "a's new address at b")
    result = download.result()
    assert result["right"], result


def _peer_of(lab: Lab, daemon: str, inner: str) -> str:
    for connection in lab.ask(daemon, "status")["connections"]:
        if inner in connection["inner"]:
            return str(connection["flows"][0]["peer"])
    return ""


def test_a_nat_rebinds_during_a_download(lab: Lab) -> None:
    lab.namespace("m")
    lab.link("a", "lan", "m", "inside")
    lab.link("m", "outside", "r", "rlan")
    lab.address("a", "lan", "10.6.0.2/24")
    lab.address("r", "rlan", "10.6.0.1/24")
    for interface in ("wifi", "cell"):
        lab.ip("a", "link", "set", interface, "down")
    lab.ip("a", "route", "add", "default", "via", "10.6.0.1", "dev", "lan")
    nat = lab.spawn("m", PYTHON, "-m", "controller.eccp.transport.box", "inside", "outside", "--nat")
    connect(lab)
    download = Download(lab, rate=4e6)
    for _ in range(3):
        before = flow(lab, "b")["peer"]
        nat.send_signal(signal.SIGUSR1)
        wait_for(lambda before=before: flow(lab, "b")["peer"] != before, 20, "the new outer port")
        download.wait_more(500_000)
    result = download.result()
    assert result["right"], result
    assert moves(lab, "a", "own") == 0, "a does not notice its NAT"


def test_one_percent_of_datagrams_lost_costs_single_segments(lab: Lab) -> None:
    lab.namespace("x")
    lab.namespace("y")
    lab.link("x", "xm", "y", "ym")  # x and y talk through a lossy box in m
    for name, interface, address in (("x", "xm", "10.5.0.1/24"), ("y", "ym", "10.5.0.2/24")):
        lab.address(name, interface, address)
    lab.ip("x", "link", "del", "xm")
    lab.namespace("m")
    lab.link("x", "xm", "m", "mx")
    lab.link("y", "ym", "m", "my")
    lab.address("x", "xm", "10.5.0.1/24")
    lab.address("y", "ym", "10.5.0.2/24")
    for name, interface in (("x", "xm"), ("y", "ym")):  # the box is to see single datagrams, and lose single ones
        lab.execute(
            name, "ethtool", "-K", interface, "tx-udp-segmentation", "off", "gso", "off", "tso", "off", "tx", "off"
        )
    lab.spawn("m", PYTHON, "-m", "controller.eccp.transport.box", "mx", "my", "--ms", "1", "--loss", "0.01")
    x, y = lab.identity("x"), lab.identity("y")
    lab.daemon("y", "y", "--inner", "10.77.0.2/24", "--authorize", x)
    lab.daemon("x", "x", "--inner", "10.77.0.1/24", "--connect", f"10.5.0.2:4500#{y}")
    lab.wait_connected("x", "y")
    lab.spawn("y", PYTHON, "-m", "controller.eccp.transfer", "serve", "10.77.0.2", "8000")
    wait_for(lambda: "10.77.0.2:8000" in lab.execute("y", "ss", "-ltn"), 10, "the HTTP server")
    text = lab.execute("x", PYTHON, "-m", "controller.eccp.transfer", "get", "10.77.0.2", "8000", str(SIZE))
    assert json.loads(text)["right"]
    counters = lab.execute("y", "nstat", "-asz", "TcpRetransSegs", "TcpOutSegs")
    retransmitted, sent = (
        int(re.search(rf"{name}\s+(\d+)", counters).group(1)) for name in ("TcpRetransSegs", "TcpOutSegs")
    )  # type: ignore[union-attr]
    assert 0 < retransmitted < 0.06 * sent, "one lost datagram costs about one segment, not a 64 KB frame"


def test_multipath_keeps_a_flow_on_each_interface_and_survives_losing_one(lab: Lab) -> None:
    connect(lab, "--multipath")
    wait_for(lambda: len(lab.ask("b", "status")["connections"][0]["flows"]) == 2, 10, "the second flow")
    flows = lab.ask("a", "status")["connections"][0]["flows"]
    assert {f["own"] for f in flows} == {"10.1.0.2:4500", "10.2.0.2:4500"}
    download = Download(lab)
    lab.ip("a", "link", "set", "wifi", "down")
    download.wait_more()
    result = download.result()
    assert result["right"], result


def test_daemons_end_cleanly_and_say_what_is_wrong(lab: Lab) -> None:
    connect(lab)
    run_dir = {"BATON_RUN_DIR": str(lab.run_dir)}
    cli = [PYTHON, "-m", "controller.cli.eccp"]
    status = run("env", *(f"{k}={v}" for k, v in run_dir.items()), *cli, "status", "--name", "a")
    assert "ESTABLISHED" in status
    reply = lab.ask("a", "status")
    assert "no such" not in json.dumps(reply)
    with pytest.raises(Exception, match="neither an interface nor an address"):
        lab.ask("a", "move", to="nowhere0")
    with pytest.raises(Exception, match="no open flow"):
        lab.ask("a", "move", to="wifi", flow="0123")
    with pytest.raises(Exception, match="unknown command"):
        lab.ask("a", "dance")
    with pytest.raises(RuntimeError, match="already answers"):
        run("env", *(f"{k}={v}" for k, v in run_dir.items()), *cli, "up", "--name", "a", "--foreground", "--inner",
            "10.77.0.1/24", "--identity", str(lab.run_dir / "a.key"), "--authorize", lab.identity("b"))  # fmt: skip
    run("env", *(f"{k}={v}" for k, v in run_dir.items()), *cli, "down", "--name", "a")
    assert not lab.socket("a").exists()
    wait_for(lambda: not lab.ask("b", "status")["connections"], 15, "the connection's end at b")
    assert "eccp-a" not in lab.ip("a", "link", "show")
    with pytest.raises(RuntimeError, match="no daemon answers"):
        run("env", *(f"{k}={v}" for k, v in run_dir.items()), *cli, "status", "--name", "a")


def test_up_goes_into_the_background_and_down_ends_it(lab: Lab) -> None:
    environment = f"BATON_RUN_DIR={lab.run_dir}"
    cli = ("env", environment, PYTHON, "-m", "controller.cli.main", "eccp")
    key = str(lab.run_dir / "solo.key")
    arguments = ("--name", "solo", "--identity", key, "--inner", "10.88.0.1/24", "--authorize", "ab" * 32)
    try:
        assert "solo is up" in lab.execute("a", *cli, "up", *arguments)
        assert "10.1.0.2:4500 on wifi" in lab.execute("a", *cli, "status", "--name", "solo")
        assert "eccp-solo" in lab.ip("a", "link", "show")
        with pytest.raises(RuntimeError, match="already answers"):
            lab.execute("a", *cli, "up", *arguments)
    finally:
        lab.execute("a", *cli, "down", "--name", "solo")
    wait_for(lambda: "eccp-solo" not in lab.ip("a", "link", "show"), 5, "the tunnel device's end")


def test_ipv6_outside_and_inside(lab: Lab) -> None:
    for name, interface, address in (
        ("a", "wifi", "2001:db8:1::2/64"), ("r", "rwifi", "2001:db8:1::1/64"),
        ("b", "wan", "2001:db8:3::2/64"), ("r", "rwan", "2001:db8:3::1/64"),
    ):  # fmt: skip
        lab.ip(name, "addr", "add", address, "dev", interface, "nodad")
    lab.sysctl("r", "net.ipv6.conf.all.forwarding", "1")
    lab.ip("a", "-6", "route", "add", "default", "via", "2001:db8:1::1")
    lab.ip("b", "-6", "route", "add", "default", "via", "2001:db8:3::1")
    a, b = lab.identity("a"), lab.identity("b")
    lab.daemon("b", "b", "--inner", "fd77::2/64", "--authorize", a)
    lab.daemon("a", "a", "--inner", "fd77::1/64", "--connect", f"[2001:db8:3::2]:4500#{b}")
    lab.wait_connected("a", "b")
    assert " 0% packet loss" in lab.execute("a", "ping", "-c", "3", "-i", "0.2", "fd77::2")
    lab.ip("a", "addr", "add", "2001:db8:1::77/64", "dev", "wifi", "nodad")
    lab.ip("a", "addr", "del", "2001:db8:1::2/64", "dev", "wifi")
    wait_for(lambda: flow(lab, "b")["peer"] == "[2001:db8:1::77]:4500", 10, "the new address")
    assert " 0% packet loss" in lab.execute("a", "ping", "-c", "3", "-i", "0.2", "-s", "1300", "fd77::2")
