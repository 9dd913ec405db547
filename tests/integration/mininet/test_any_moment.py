# SPDX-License-Identifier: Apache-2.0
"""Observe mode on the real switch, point by point: what has to be right at the cut, with busy Linux peers."""

import contextlib
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controller.bus_client import NAME, BusClient
from controller.core import seq
from controller.core.events import MigrationCompleted, MigrationFailed, MigrationRequested, MigrationRolledBack
from controller.core.segment import SYN, ConnectionKey, Endpoint
from controller.wire.frame import decode_frame
from topo import BatonNet

from .ports import files_of
from .test_observe import DEADLINE, SETTINGS, Bulk, Lab, account, wait_for

LINES = str(Path(__file__).with_name("line_peer.py"))
MORE = "".join(
    f'[servers.{name}]\naddress = "10.0.0.{host}"\nport = {port}\n'
    for name, host, port in (("full", 2, 22_223), ("greets", 2, 22_224), ("lines1", 1, 11_112), ("lines2", 2, 22_225))
)
MORE += (
    '[[services]]\nname = "lines"\norigin = "lines1"\nmode = "observe"\ncut_policy = "quiet"\nhandshake_timeout = 2.0\n'
)
ENDED = (MigrationCompleted, MigrationFailed, MigrationRolledBack)
MOVES = 100


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    directory = tmp_path_factory.mktemp("any-moment")
    settings = directory / "baton.toml"
    settings.write_text(SETTINGS + MORE)
    net = BatonNet(private=True)
    net.environment["BATON_CONFIG"] = str(settings)
    with net:
        net.start_controller("os_ken")
        for what, node, address, port, name in (
            ("full", "h2", "10.0.0.2", 22_223, ""),
            ("greet", "h2", "10.0.0.2", 22_224, ""),
            ("serve", "h1", "10.0.0.1", 11_112, "lines1"),
            ("serve", "h2", "10.0.0.2", 22_225, "lines2"),
        ):
            command = [sys.executable, LINES, what, address, str(port), name]
            server = net.popen(node, command, stdout=subprocess.PIPE, text=True)
            assert server.stdout.readline().startswith("ready")
        yield Lab(net, directory)


@pytest.fixture
def bus(lab):
    with BusClient(lab.net.run_dir / NAME) as client:
        yield client


@pytest.fixture
def bulk(lab, request):
    bulk = Bulk(lab.net, lab.directory / request.node.name)
    bulk.flows()
    return bulk


def key_of(bulk):
    return ConnectionKey(Endpoint("10.0.0.3", bulk.port), Endpoint("10.0.0.1", 11_111))


def outcome(bus, key, target, cut=None):
    """Ask for a migration and return how it ended."""
    bus.send(MigrationRequested(time.monotonic(), key, target, cut))
    return bus.wait_for(lambda event: isinstance(event, ENDED) and event.connection == key, DEADLINE)


def until_there(bus, key, target):
    """Ask until the connection is there: on a busy machine a freeze may take too long, and is undone."""
    undone = []
    while not isinstance(end := outcome(bus, key, target), MigrationCompleted):
        undone.append(end)
        assert len(undone) < 20, undone
    return end


@contextlib.contextmanager
def set_in(net, node, command, undo):
    """Change something in a host for a while."""
    assert net.run(node, command).returncode == 0
    try:
        yield
    finally:
        assert net.run(node, undo).returncode == 0


def sysctl(net, node, name, value):
    """Set a variable of a host's network for a while."""
    had = net.run(node, ["sysctl", "-n", name]).stdout.strip()
    return set_in(net, node, ["sysctl", "-qw", f"{name}={value}"], ["sysctl", "-qw", f"{name}={had}"])


def stays(lab, bus, bulk, target="server2"):
    """Check that a migration fails and the stream goes on with its origin, whole; return the reason."""
    end = outcome(bus, key_of(bulk), target)
    assert not isinstance(end, MigrationCompleted)
    bulk.flows()
    assert account(lab, bulk) == ["server1"]
    return end.reason.partition(":")[0]


def test_moves_a_hundred_times_in_a_row_under_load(lab, bus, bulk):
    """Points 9 and 11: versions rise, deltas compose, no byte is lost or doubled."""
    key, places, ends = key_of(bulk), ("server2", "server1"), []

    def accepted():
        return len(files_of(lab.directory, bulk.port, "*-server?"))

    for turn in range(MOVES):
        before = accepted()
        ends.append(until_there(bus, key, places[turn % 2]))
        # The files are in the order in which the servers' programs have noticed their turns.
        wait_for("the server's program", lambda before=before: accepted() > before, DEADLINE)
        bulk.flows()  # a turn is accounted for by what was heard in it
    versions = [end.version for end in ends]
    assert versions == sorted(set(versions))
    assert all(end.frozen > 0 for end in ends)
    bulk.flows()
    served = account(lab, bulk)
    assert served[0] == "server1"
    assert served == ["server1", "server2"] * (MOVES // 2) + ["server1"]


@pytest.mark.parametrize("option", ["tcp_sack", "tcp_timestamps", "tcp_window_scaling"])
def test_a_target_that_lacks_an_option_is_refused(lab, bus, bulk, option):
    """Point 1."""
    with sysctl(lab.net, "h2", f"net.ipv4.{option}", 0):
        assert stays(lab, bus, bulk) == "options"


def test_a_target_with_smaller_segments_is_refused(lab, bus, bulk):
    """Point 1: its MSS."""
    route = ["ip", "route", "replace", "10.0.0.0/8", "dev", "h2-eth0", "src", "10.0.0.2"]
    with set_in(lab.net, "h2", [*route, "advmss", "1000"], route):
        assert stays(lab, bus, bulk) == "mss"


@pytest.mark.parametrize(("target", "reason"), [("full", "timeout"), ("greets", "banner")])
def test_a_target_that_does_not_stand_or_speaks_first(lab, bus, bulk, target, reason):
    """Point 2: a full accept queue answers the SYN and forgets; a banner would come in the middle of a stream."""
    assert stays(lab, bus, bulk, target) == reason


def test_another_window_scale(lab, bus, bulk):
    """Point 5: the target's buffers are small, so its scale is."""
    with sysctl(lab.net, "h2", "net.ipv4.tcp_rmem", "4096 131072 400000"):
        until_there(bus, key_of(bulk), "server2")
        bulk.flows()
        until_there(bus, key_of(bulk), "server1")
        bulk.flows()
    assert account(lab, bulk) == ["server1", "server2", "server1"]


def test_a_newer_wish_supersedes(lab, bus, bulk):
    """Point 9: two at once; the newer one decides where the connection ends."""
    key = key_of(bulk)
    for target in ("server2", "full", "server2"):
        bus.send(MigrationRequested(time.monotonic(), key, target))
    bus.wait_for(lambda event: isinstance(event, MigrationCompleted) and event.connection == key, DEADLINE)
    bulk.flows()
    (row,) = lab.baton("connections", str(bulk.port))["connections"]
    assert row["server"] == "server2"
    assert account(lab, bulk) == ["server1", "server2"]


def test_the_abandoned_side_is_reset_and_the_client_is_not(lab, bus, bulk):
    """Point 12."""
    until_there(bus, key_of(bulk), "server2")
    first = files_of(lab.directory, bulk.port, "*-server1")[0]
    told = first.with_name(first.name + ".sent")
    wait_for("the old server's end", told.exists, DEADLINE)
    assert "reset" in json.loads(told.read_text())["error"]
    bulk.flows()
    assert account(lab, bulk) == ["server1", "server2"]


def pcap_frames(path):
    """Yield the frames of a capture (the classic format, native byte order)."""
    data = path.read_bytes()
    at = 24
    while at + 16 <= len(data):
        size = int.from_bytes(data[at + 8 : at + 12], sys.byteorder)
        if at + 16 + size > len(data):
            return
        yield data[at + 16 : at + 16 + size]
        at += 16 + size


def test_the_client_sees_the_origins_face(lab, bus, bulk, tmp_path):
    """Point 4, and stealth: across the cut MAC, address, port and TTL stay, and the clock never goes back (PAWS)."""
    path = tmp_path / "client.pcap"
    words = f"src host 10.0.0.1 and tcp dst port {bulk.port}"
    command = ["tcpdump", "-U", "-i", "h3-eth0", "-s", "0", "-w", str(path), words]
    capture = lab.net.popen("h3", command, stderr=subprocess.PIPE, text=True)
    wait_for("the capture", lambda: path.exists() and path.stat().st_size > 10_000, DEADLINE)
    for target in ("server2", "server1"):
        until_there(bus, key_of(bulk), target)
        bulk.flows()
    capture.terminate()
    capture.wait(DEADLINE)
    faces, clocks = set(), []
    for frame in pcap_frames(path):
        segment = decode_frame(frame)
        faces.add((segment.eth_src, segment.src, segment.ttl))
        # What the controller asks and says itself, without data or with closed windows, may carry an older time.
        if segment.window and len(segment.payload) > 1 and not segment.flags & SYN:
            clocks.append(segment.options.timestamps.value)
    assert len(faces) == 1
    assert len(clocks) > 15
    assert all(seq.offset(one, two) >= 0 for one, two in itertools.pairwise(clocks))
    assert account(lab, bulk) == ["server1", "server2", "server1"]


def test_a_line_protocol_moves_at_quiet_moments(lab, bus):
    """The cut policy ``quiet``: every question has its answer, whole, from one server."""
    command = [sys.executable, LINES, "ask", "10.0.0.1", "11112"]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    client = lab.net.popen("h3", command, text=True, **pipes)
    port = json.loads(client.stdout.readline())["port"]
    key = ConnectionKey(Endpoint("10.0.0.3", port), Endpoint("10.0.0.1", 11_112))
    for _ in range(5):
        for target in ("lines2", "lines1"):
            until_there(bus, key, target)
    out, err = client.communicate(timeout=DEADLINE)
    assert client.returncode == 0, err
    told = json.loads(out)["turns"]
    names = [name for name, _ in told]
    assert set(names) == {"lines1", "lines2"}
