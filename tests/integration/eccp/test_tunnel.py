# SPDX-License-Identifier: Apache-2.0
"""Daemons in namespaces: unmodified TCP programs keep their connections while addresses change."""

import json
import re
import signal
from collections.abc import Iterator

import pytest
from integration.eccp.cases import PYTHON, SIZE, Download, build, connect, flow, moves

from controller.eccp.lab import Lab, run, wait_for


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


def test_ends_with_different_data_paths_understand_each_other(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = {"a": "c", "b": "python"}
    identities = {name: lab.identity(name) for name in paths}
    arguments = {
        "b": ("--inner", "10.77.0.2/24", "--authorize", identities["a"]),
        "a": ("--inner", "10.77.0.1/24", "--connect", f"10.3.0.2:4500#{identities['b']}"),
    }
    for name, words in arguments.items():
        monkeypatch.setenv("BATON_ECCP_DATAPATH", paths[name])
        lab.daemon(name, name, *words)
    assert {name: lab.ask(name, "status")["datapath"] for name in paths} == paths
    lab.wait_connected("a", "b")
    for server, client, inner in (("b", "a", "10.77.0.2"), ("a", "b", "10.77.0.1")):
        lab.spawn(server, PYTHON, "-m", "controller.eccp.transfer", "serve", inner, "8000")
        wait_for(lambda server=server: ":8000" in lab.execute(server, "ss", "-ltn"), 10, "the HTTP server")
        text = lab.execute(client, PYTHON, "-m", "controller.eccp.transfer", "get", inner, "8000", str(SIZE))
        assert json.loads(text)["right"], text
    for name in paths:
        assert lab.ask(name, "status")["refused"] == {}


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
