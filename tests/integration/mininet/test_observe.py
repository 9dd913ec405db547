# SPDX-License-Identifier: Apache-2.0
"""Observe mode on the real switch: `baton` moves busy connections there and back, and every byte is accounted for."""

import json
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest
from frameworks import need

from topo import BatonNet, TopoError, wait_for

from .bulk_peer import stream
from .ports import files_of

REPOSITORY = Path(__file__).resolve().parents[3]
PROGRAM = Path(__file__).with_name("bulk_peer.py")
DEADLINE = 60
PLACES = {"server1": ("h1", "10.0.0.1", 11_111), "server2": ("h2", "10.0.0.2", 22_222)}
SETTINGS = """
[servers.server1]
address = "10.0.0.1"
port = 11111

[servers.server2]
address = "10.0.0.2"
port = 22222

[[services]]
name = "bulk"
origin = "server1"
mode = "observe"
handshake_timeout = 2.0
"""
PATIENCE = 150
"""Seconds for moving: on a busy machine a freeze may take too long, is undone, and asked for again."""


ALIKE = 16
"""Bytes in which two servers' streams may agree by chance; each begins with eight zeros."""


class Bulk:
    """A connection of h3 that is busy both ways."""

    def __init__(self, net, directory):
        self.net, self.directory = net, directory
        directory.mkdir()
        command = [sys.executable, str(PROGRAM), "drive", "10.0.0.1", "11111", str(directory)]
        self.process = net.popen("h3", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = json.loads(self.process.stdout.readline())["port"]
        self.name = f"10.0.0.3:{self.port}"

    def size(self):
        return (self.directory / "received").stat().st_size

    def flows(self):
        """Wait until it has received more than just now."""
        (self.directory / "received").touch()
        before = self.size()
        wait_for("more bytes", lambda: self.size() > before + 100_000, DEADLINE)

    def end(self):
        """End it and return what it says of itself."""
        out, _ = self.process.communicate(timeout=DEADLINE)
        return json.loads(out)


class Lab:
    """The network with both servers and the controller."""

    def __init__(self, net, directory):
        self.net, self.directory = net, directory
        for name, (node, address, port) in PLACES.items():
            command = [sys.executable, str(PROGRAM), "serve", address, str(port), name, str(directory)]
            server = net.popen(node, command)
            ready = directory / f"{name}.ready"
            wait_for(name, ready.exists, DEADLINE, lambda server=server: server.poll() is None)

    def baton(self, *words, code=0):
        """Run the operator's command and return its JSON."""
        done = self.popen(*words)
        out, err = done.communicate(timeout=DEADLINE)
        assert code in (None, done.returncode), out + err
        assert "Traceback" not in err
        return json.loads(out)

    def popen(self, *words):
        environment = {**os.environ, "BATON_RUN_DIR": str(self.net.run_dir)}
        command = [sys.executable, "-m", "controller.cli.main", *words, "--json"]
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def until_ok(self, *words):
        """Repeat a command as long as it fails; what was undone in time has to leave no trace."""
        told = {}

        def is_done():
            told.update(self.baton(*words, code=None))
            return told["ok"]

        try:
            wait_for(words[0], is_done, PATIENCE)
        except TopoError as error:
            raise AssertionError(told) from error
        return told

    def parts(self, bulk):
        """Wait until servers are done with a connection; return their files of it in the order of their turns."""

        def parts():
            return files_of(self.directory, bulk.port)

        def are_done():
            return all(path.with_name(path.name + ".sent").exists() for path in parts())

        wait_for("the end of the servers' connections", are_done, DEADLINE)
        return parts()


@pytest.fixture(scope="module", params=["ryu", "os_ken"])
def lab(request, tmp_path_factory):
    need(request.param)
    directory = tmp_path_factory.mktemp("observe")
    settings = directory / "baton.toml"
    settings.write_text(SETTINGS)
    net = BatonNet(private=True)
    net.environment["BATON_CONFIG"] = str(settings)
    with net:
        net.start_controller(request.param)
        yield Lab(net, directory)


def possible(data, at, said):
    """Return how many bytes of what a server said may be those of data at a place: the next one's may look alike."""
    least, most, step = 0, min(len(data) - at, len(said)), 1
    while least < most:  # by growing steps, since most places are wrong at their first bytes
        to = min(least + step, most)
        if data[at + least : at + to] == said[least:to]:
            least, step = to, 2 * step
        else:
            most, step = to - 1, max(1, step // 4)
    return range(max(0, least - ALIKE), least + 1)


def account(lab, bulk):
    """End a connection; check that the servers' parts are the client's stream and its own the servers', to the byte.

    Returns who served it, in order.
    """
    said = bulk.end()
    assert said["error"] == ""
    sent, parts = said["sent"], lab.parts(bulk)
    received = b"".join(part.read_bytes() for part in parts)
    assert len(received) == sent
    assert received == stream("client", sent)
    data = (bulk.directory / "received").read_bytes()
    spoke = [part for part in parts if part.stat().st_size]
    said = [json.loads(part.with_name(part.name + ".sent").read_text()) for part in spoke]
    # What a server wrote and its socket still held at the cut is gone with it, it may be all that it has written.
    ends = {0}
    for part, told in zip(spoke[:-1], said[:-1], strict=True):
        words = stream(part.name, told["sent"])
        ends |= {at + size for at in ends for size in possible(data, at, words)}
    # The last one's is all there.
    assert said[-1]["error"] == ""
    assert len(data) - said[-1]["sent"] in ends
    assert data[len(data) - said[-1]["sent"] :] == stream(spoke[-1].name, said[-1]["sent"])
    return [part.name.rpartition("-")[2] for part in spoke]


def test_a_busy_connection_moves_there_and_back(lab):
    bulk = Bulk(lab.net, lab.directory / "there-and-back")
    bulk.flows()
    versions = []
    for _ in range(3):
        told = lab.until_ok("migrate", bulk.name, "--to", "server2")
        assert (told["result"], told["origin"], told["target"]) == ("MigrationCompleted", "server1", "server2")
        assert told["frozen"] > 0
        versions.append(told["version"])
        bulk.flows()
        (row,) = lab.baton("connections", str(bulk.port))["connections"]
        assert (row["server"], row["origin"], row["version"]) == ("server2", "server1", told["version"])
        told = lab.until_ok("return", bulk.name)
        assert (told["origin"], told["target"]) == ("server2", "server1")
        versions.append(told["version"])
        bulk.flows()
    assert versions == sorted(set(versions))
    assert account(lab, bulk) == ["server1", "server2"] * 3 + ["server1"]


def test_a_drained_server_is_empty_and_nobody_noticed(lab):
    bulks = [Bulk(lab.net, lab.directory / f"drain{number}") for number in range(4)]
    for bulk in bulks:
        bulk.flows()
    told = lab.until_ok("drain", "server1")
    rows = {row["connection"].partition(">")[0]: row["server"] for row in lab.baton("connections")["connections"]}
    assert [rows[bulk.name] for bulk in bulks] == ["server2"] * 4, told
    for bulk in bulks:
        bulk.flows()
    for bulk in bulks:
        assert account(lab, bulk) == ["server1", "server2"]


def test_watching_and_looking_back(lab):
    watcher = lab.popen("watch")
    seen = []
    try:

        def watches():
            """Empty a server that has nothing until the watcher, which takes a moment to start, has seen it."""
            lab.baton("drain", "server2", code=None)
            while select.select([watcher.stdout], [], [], 0)[0]:
                seen.append(json.loads(watcher.stdout.readline())["event"])
            return "DrainCompleted" in seen

        wait_for("the watcher", watches, DEADLINE, lambda: watcher.poll() is None)
    finally:
        watcher.terminate()
        watcher.communicate(timeout=DEADLINE)
    out, _ = lab.popen("events", "--last", "0").communicate(timeout=DEADLINE)
    told = [json.loads(line)["event"] for line in out.splitlines()]
    assert {"DrainRequested", "DrainCompleted"} <= set(told)
    assert not {"StatusRequested", "ConnectionReported", "StatusReported"} & set(told)
