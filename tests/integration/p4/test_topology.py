# SPDX-License-Identifier: Apache-2.0
"""`topo.py --p4`: P4 switches before the servers, in the path and otherwise unnoticed, whichever target runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from vectors.p4 import scenarios as sc
from vectors.p4.client import Client
from vectors.p4.frames import TCP, UDP, address
from vectors.p4.record import BUILD
from vectors.p4.targets import TARGETS

from testbed import p4
from topo import BatonNet

SERVERS = {"p1": "10.0.0.1", "p2": "10.0.0.2"}
PORT = 5_999
LISTENER = f"""
import socket
server = socket.create_server(("", {PORT}))
connection, _ = server.accept()
while connection.recv(65536):
    pass
"""
CALLER = f"""
import socket, sys, time
deadline = time.monotonic() + 20
while True:
    try:
        connection = socket.create_connection((sys.argv[1], {PORT}), 5)
        break
    except ConnectionRefusedError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.05)
connection.sendall(bytes(20_000))
"""


@pytest.fixture(scope="module", params=TARGETS)
def net(request: pytest.FixtureRequest) -> Iterator[BatonNet]:
    patch = pytest.MonkeyPatch()
    patch.setattr(p4, "target", lambda: request.param)
    with BatonNet(private=True, p4=True) as made:
        made.forward_all()
        yield made
    patch.undo()


@pytest.fixture(scope="module")
def clients(net: BatonNet) -> Iterator[dict[str, Client]]:
    """A P4Runtime client of each switch before a server, its program loaded, forwarding and counting."""
    made = {}
    for name, server in SERVERS.items():
        client = made[name] = Client(net[name].address, BUILD / "flow_state.p4info.txtpb")
        client.start()
        client.push(BUILD / "flow_state.json")
        client.clone_session(1, 509)
        for port in (p4.NETWORK, p4.SERVER):
            match = {"port": (port, 511)}
            client.write(sc.INGRESS + "forward", match, sc.INGRESS + "to_port", {"port": 3 - port}, priority=1)
        for protocol in (TCP, UDP):
            key = {"address": address(server), "protocol": protocol, "port": PORT}
            for table, action in (("destination", "client_to_server"), ("source", "server_to_client")):
                client.write(f"{sc.INGRESS}service_by_{table}", key, sc.INGRESS + action, {"service": 7})
    yield made
    for client in made.values():
        client.stop()


def test_ports_of_s1_lead_to_the_same_hosts(net: BatonNet) -> None:
    assert net.ports() == {1: "h1", 2: "h2", 3: "h3", 4: "ids"}


def test_each_switch_serves_its_owner_alone(net: BatonNet) -> None:
    switches = net.p4_switches()
    assert [switch.name for switch in switches] == ["p1", "p2", "p3"]
    for switch in switches:
        assert Path(switch.address.removeprefix("unix:")).stat().st_mode & 0o777 == 0o600


def test_hosts_reach_each_other_and_each_packet_is_counted(net: BatonNet, clients: dict[str, Client]) -> None:
    """What goes into a switch on either side is what it counts, and comes out."""
    for number, (name, server) in enumerate(SERVERS.items(), 1):
        host = f"h{number}"
        assert net.run("h3", ["ping", "-c", "1", "-W", "5", server]).returncode == 0
        ends = {host: f"{host}-eth0", "s1": net.switch.intfs[number].name}
        witnesses = [watch(net, node, interface, server) for node, interface in ends.items()]
        listener = net.popen(host, [sys.executable, "-c", LISTENER])
        assert net.run("h3", [sys.executable, "-c", CALLER, server]).returncode == 0
        listener.wait(20)
        deadline = time.monotonic() + 20
        while True:
            offered, forwarded = map(sum, zip(*map(ask, witnesses), strict=True))
            counted = clients[name].counters(sc.EVENTS)[14]
            if offered == counted == forwarded or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        if net.p4_switches()[0].target == "embedded":
            assert offered == counted == forwarded
        assert offered >= counted >= forwarded > 20
        for witness in witnesses:
            witness.stdin.close()
            witness.wait(10)


def watch(net: BatonNet, node: str, interface: str, server: str) -> subprocess.Popen[str]:
    """A witness at an interface."""
    command = [sys.executable, "-m", "testbed.p4_witness", interface, f"{server}/tcp/{PORT}/7"]
    witness = net.popen(node, command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert witness.stdout.readline() == "ready\n"
    return witness


def ask(witness: subprocess.Popen[str]) -> tuple[int, int]:
    """Packets that a witness has seen going into the switch, and coming out."""
    witness.stdin.write("\n")
    witness.stdin.flush()
    answer = json.loads(witness.stdout.readline())
    assert answer["lost"] == 0
    return sum(answer["offered"].values()), sum(answer["forwarded"].values())
