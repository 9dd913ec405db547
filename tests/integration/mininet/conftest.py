# SPDX-License-Identifier: Apache-2.0
"""The demo's network with real parts: modified Open vSwitch, Suricata or Snort, the controller on either framework."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from frameworks import need

from topo import SERVER1, SERVER2, BatonNet, wait_for

REPOSITORY = Path(__file__).resolve().parents[3]
DEADLINE = 60
SERVERS = {"server1": ("h1", SERVER1), "server2": ("h2", SERVER2)}


class Bench:
    """A running network with what a test wants to ask it."""

    def __init__(self, net):
        self.net = net
        self.rules = net.run_dir / "rules" / "baton.rules"
        shutil.copytree(REPOSITORY / "snort_rules", self.rules.parent)
        self.servers = {}

    def start_server(self, name):
        """Start a server of the demo and wait until it listens; its log is kept over restarts."""
        node, _ = SERVERS[name]
        log = self.net.run_dir / f"{name}.jsonl"
        before = len(self.log(name, "listening"))
        command = [sys.executable, f"servers/{name}.py", "--quiet", "--log", str(log)]
        server = self.servers[name] = self.net.popen(node, command)
        wait_for(name, lambda: len(self.log(name, "listening")) > before, DEADLINE, lambda: server.poll() is None)

    def stop_server(self, name):
        server = self.servers.pop(name)
        server.terminate()
        server.wait(DEADLINE)

    def log(self, name, event, peer=None):
        """Return what a server wrote about an event (of one client)."""
        path = self.net.run_dir / f"{name}.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        told = [json.loads(line) for line in lines]
        return [fact for fact in told if fact["event"] == event and peer in (None, fact.get("peer"))]

    def client(self, *arguments):
        """Start a client in h3."""
        command = [sys.executable, "client/client.py", "--json", *arguments]
        return self.net.popen("h3", command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def report(self, client):
        out, err = client.communicate(timeout=DEADLINE)
        assert out, err
        return json.loads(out)

    def ask(self, *arguments):
        """Run a client to its end and return its report."""
        return self.report(self.client(*arguments))

    def events(self, report=None, name=None):
        """Return the journal's records, of one client's connection or of one event's name if given."""
        path = self.net.run_dir / "events.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        if report is not None:
            client = f"10.0.0.3:{report['local_port']}>"
            records = [record for record in records if str(record.get("connection", "")).startswith(client)]
        return [record for record in records if name in (None, record["event"])]

    def wait_closed(self, report):
        """Wait until the controller has freed the connection and return how it ended."""
        closed = wait_for("ConnectionClosed", lambda: self.events(report, "ConnectionClosed"), DEADLINE)
        return closed[0]["reason"]

    def wait_received(self, name, report):
        """Wait until a server has seen the end of the connection and return how many bytes it received."""
        peer = f"10.0.0.3:{report['local_port']}"
        return sum(fact["received"] for fact in wait_for("closed", lambda: self.log(name, "closed", peer), DEADLINE))

    def connection_flows(self):
        """Return the flows of single connections that s1 holds now."""
        flows = self.net.switch.ofctl("dump-flows", "--no-stats", "s1").splitlines()
        return [flow for flow in flows if "tcp" in flow and "tp_src=" in flow and "tp_dst=" in flow]


def servers_of(report):
    """Return which server gave each answer."""
    return [exchange["server"] for exchange in report["exchanges"]]


def patient_settings(directory):
    """Write the shipped settings with timeouts that a busy machine keeps: who serves must not depend on its speed."""
    text = (REPOSITORY / "baton.toml").read_text()
    assert "verdict_timeout = 0.1 " in text
    path = directory / "baton.toml"
    path.write_text(text.replace("verdict_timeout = 0.1 ", "handshake_timeout = 1.0\nverdict_timeout = 1.0 "))
    return path


@pytest.fixture(scope="module", params=["ryu", "os_ken"])
def bench(request):
    need(request.param)
    with BatonNet(private=True) as net:
        bench = Bench(net)
        net.environment["BATON_CONFIG"] = str(patient_settings(net.run_dir))
        for name in SERVERS:
            bench.start_server(name)
        net.start_controller(request.param)
        net.start_analyser("--rules", str(bench.rules.parent))
        yield bench


@pytest.fixture
def new_bench():
    """Make a bench of a test's own network: servers run; controller and analyser are yet to start."""

    def make(net):
        bench = Bench(net)
        net.environment["BATON_CONFIG"] = str(patient_settings(net.run_dir))
        for name in SERVERS:
            bench.start_server(name)
        return bench

    return make
