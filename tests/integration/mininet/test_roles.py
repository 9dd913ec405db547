# SPDX-License-Identifier: Apache-2.0
"""Two controllers share the switch: the master is killed (-9), or hangs, amid traffic, and the standby takes over.

Connections that were established, at their origin or migrated, lose no packet by it: every retransmission of their
sockets was a spurious one (the other end had the bytes twice and said so), and no host sent or got a RST.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller.bus_client import BusClient, BusError
from topo import BatonNet, wait_for

from .takeover_lab import DEADLINE, REPOSITORY, SERVICES, SETTINGS, Lab

PORTS = {"one": 6653, "two": 6654}
HOSTS = ("h1", "h2", "h3")
LEASE = 2.0


class Pair(Lab):
    """The network with two controllers, `one` and `two`, each with a run directory of its own."""

    def __init__(self, net, directory, framework):
        super().__init__(net, directory, framework)
        self.run_dirs = {name: net.run_dir / name for name in PORTS}
        self.processes = {}
        targets = [f"unix:{path}/openflow.sock" for path in self.run_dirs.values()]
        net.switch.vsctl("set-controller", "s1", *targets)
        for number in net.switch.vsctl("--bare", "--columns=_uuid", "list", "controller").split():
            net.switch.vsctl("set", "controller", number, "max_backoff=1000", "controller_queue_size=512")

    def start_one(self, name):
        """Start one controller; wait until it tells its role."""
        environment = {**os.environ, **self.net["c0"].environment, "BATON_RUN_DIR": str(self.run_dirs[name])}
        command = [sys.executable, "-m", "controller.manager", "--framework", self.framework]
        command += ["--ofp-tcp-listen-port", str(PORTS[name]), str(REPOSITORY / "apps" / "tcp_migration.py")]
        log = (self.net.run_dir / f"{name}.log").open("ab")
        process = self.net.popen("c0", command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self.processes[name] = process
        wait_for(f"the role of {name}", lambda: self.roles().get(name), DEADLINE, lambda: process.poll() is None)

    def roles(self):
        """Return what each running controller says of itself: `master` with a switch, `standby`, or nothing yet."""
        found = {}
        for name, process in self.processes.items():
            assert process.poll() is None
            with contextlib.suppress(BusError), BusClient(self.run_dirs[name] / "bus.sock") as bus:
                _, end = next(bus.pages())
                found[name] = end.role
        return found

    def wait_roles(self, **expected):
        wait_for(f"roles {expected}", lambda: self.roles() == expected, DEADLINE)

    def wait_told(self, **expected):
        """Wait until the switch's database tells these roles; it is up to five seconds behind."""

        def told():
            found = json.loads(
                self.net.switch.vsctl("--format=json", "--columns=target,role,is_connected", "list", "controller")
            )["data"]
            return {Path(target).parent.name: role for target, role, is_connected in found if is_connected} == expected

        wait_for(f"roles {expected} at the switch", told, DEADLINE)

    def master(self):
        """Wait until there is one master; return its name."""

        def found():
            names = [name for name, role in self.roles().items() if role == "master"]
            return names[0] if len(names) == 1 else None

        return wait_for("a master", found, DEADLINE)

    def end(self, name, number=signal.SIGKILL):
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(DEADLINE)

    def bus(self):
        return self.bus_of(self.master())

    def bus_of(self, name):
        def connect():
            try:
                return BusClient(self.run_dirs[name] / "bus.sock")
            except BusError:
                return None

        return wait_for("the bus", connect, DEADLINE)

    def journal(self, name, event):
        """Return a controller's own records of an event."""
        lines = (self.run_dirs[name] / "events.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith(f'{{"event":"{event}"')]

    def lost_packets(self, bulks):
        """Return what the sockets of all hosts have lost so far, once it stands still while the connections go on.

        That a retransmission was spurious is known a moment after it.
        """
        told = [None]

        def settled():
            for bulk in bulks:
                bulk.flows(50_000)
            told.append(self._lost_packets())
            return told[-1] == told[-2]

        wait_for("all answers", settled, DEADLINE)
        return told[-1]

    def _lost_packets(self):
        """Return how many retransmissions there were, without the spurious ones."""
        lost = 0
        for host in HOSTS:
            told = self.net.run(host, ["ss", "-tinOH"]).stdout
            lost += sum(int(number) for number in re.findall(r"\bretrans:\d+/(\d+)", told))
            lost -= sum(int(number) for number in re.findall(r"\bdsack_dups:(\d+)", told))
        return lost

    def resets(self):
        """Return how many RSTs all hosts have sent, and connections been reset, so far."""
        total = 0
        for host in HOSTS:
            told = self.net.run(host, ["cat", "/proc/net/snmp"]).stdout
            names, values = (line.split()[1:] for line in told.splitlines() if line.startswith("Tcp:"))
            counters = dict(zip(names, values, strict=True))
            total += int(counters["OutRsts"]) + int(counters["EstabResets"])
        return total


@pytest.fixture(params=["ryu", "os_ken"])
def pair(request, tmp_path):
    net = BatonNet(private=True, tso=False)
    shared = net.run_dir / "shared"
    (tmp_path / "baton.toml").write_text(SETTINGS + f'[standby]\ndirectory = "{shared}"\nlease = {LEASE}\n')
    net.environment |= {"BATON_CONFIG": str(tmp_path / "baton.toml"), "BULK_BURST": "1", "BULK_PAUSE": "0.02"}
    with net:
        pair = Pair(net, tmp_path, request.param)
        pair.start_one("one")
        pair.wait_roles(one="master")
        pair.start_one("two")
        pair.wait_roles(one="master", two="standby")
        yield pair


def connections(pair):
    """Open connections: of both modes, at their origins, and migrated to the target."""
    bulks = [pair.bulk(mode) for mode in SERVICES for _ in range(2)]
    for bulk in bulks:
        bulk.flows()
        wait_for("the connection", lambda bulk=bulk: pair.settled(bulk), DEADLINE)
    for bulk in bulks[::2]:
        pair.migrate(bulk, "target")
        bulk.flows()
    return bulks


def where(pair, bulks):
    return [pair.row(bulk).server for bulk in bulks]


def taken_over(pair, name, count):
    """Wait until a controller has read connections off the switch; return what it has found."""
    return wait_for("the takeover", lambda: pair.journal(name, "ConnectionsTakenOver"), DEADLINE)[count - 1]


def test_the_master_is_killed_again_and_again(pair):
    """And each time the old master, started again, is a slave."""
    bulks = connections(pair)
    for turn in range(3):
        old = pair.master()
        new = "two" if old == "one" else "one"
        servers = where(pair, bulks)
        for bulk in bulks:
            bulk.flows()
        lost, resets = pair.lost_packets(bulks), pair.resets()
        pair.end(old)
        pair.wait_roles(**{new: "master"})
        told = wait_for(
            "the takeover", lambda new=new, turn=turn: pair.journal(new, "ConnectionsTakenOver")[turn // 2 :], DEADLINE
        )[0]
        assert (told["served"], told["gated"], told["released"], told["undone"]) == (len(bulks), 0, 0, 0)
        for bulk in bulks:
            bulk.flows()
        pair.start_one(old)
        pair.wait_roles(**{new: "master", old: "standby"})
        for bulk in bulks:
            bulk.flows()
        assert (pair.lost_packets(bulks), pair.resets()) == (lost, resets)
        assert where(pair, bulks) == servers
        # The new master goes on: it moves them, the other way each time.
        for bulk, server, mode in zip(bulks, servers, ["gate", "gate", "observe", "observe"], strict=True):
            pair.migrate(bulk, SERVICES[mode] if server == "target" else "target")
            bulk.flows()
    pair.wait_told(**{new: "master", old: "slave"})
    for bulk in bulks:
        assert len(pair.account(bulk)) == 4 + (bulk in bulks[::2])


def test_a_master_that_hangs_is_deposed_and_wakes_up_as_a_slave(pair):
    bulks = connections(pair)
    servers = where(pair, bulks)
    lost, resets = pair.lost_packets(bulks), pair.resets()
    pair.processes["one"].send_signal(signal.SIGSTOP)
    try:
        wait_for("a master", lambda: pair.journal("two", "ConnectionsTakenOver"), DEADLINE)
        for bulk in bulks:
            bulk.flows()
    finally:
        pair.processes["one"].send_signal(signal.SIGCONT)
    pair.wait_roles(one="standby", two="master")
    for bulk in bulks:
        bulk.flows()
    assert (pair.lost_packets(bulks), pair.resets()) == (lost, resets)
    assert where(pair, bulks) == servers
    pair.wait_told(one="slave", two="master")
    with pair.bus_of("one") as bus:
        _, end = next(bus.pages())
        assert (end.role, bus.connections()) == ("standby", [])
    for bulk in bulks:
        pair.account(bulk)


def test_what_they_had_agreed_on_is_lost_but_the_switch_knows(pair):
    """Both die, and the directory with them: the next generation is above what the switch has heard."""
    bulks = connections(pair)
    for name in ("two", "one"):
        pair.end(name)
    for path in (pair.net.run_dir / "shared").iterdir():
        path.unlink()
    for bulk in bulks:
        bulk.flows()
    pair.start_one("two")
    pair.wait_roles(two="master")
    wait_for("the connections", lambda: all(pair.row(bulk) for bulk in bulks), DEADLINE)
    assert json.loads((pair.net.run_dir / "shared" / "master.json").read_text())["generation"] > 1
    for bulk in bulks:
        pair.account(bulk)


def test_baton_tells_the_role(pair):
    """And what to do at a standby."""
    told = {}
    for name in PORTS:
        environment = {**os.environ, **pair.net["c0"].environment, "BATON_RUN_DIR": str(pair.run_dirs[name])}
        for words in (["connections"], ["connections", "--json"], ["migrate", "1", "--to", "target"]):
            command = [sys.executable, "-m", "controller.cli.main", *words]
            done = pair.net.run("c0", command, env=environment)
            told[name, words[-1]] = done.stdout + done.stderr
    assert "(master)" in told["one", "connections"]
    assert json.loads(told["two", "--json"])["role"] == "standby"
    assert "BATON_RUN_DIR" in told["two", "target"]
    assert "no connection matches" in told["one", "target"]
