# SPDX-License-Identifier: Apache-2.0
"""Whatever strangers, targets and clients send, on the real switch: connections of others are never worse for it.

Malformed alerts are met in `test_migration.py`, malformed options and headers besides by the fuzzing of every decoder
(`tests/fuzz/test_wire.py`).
"""

import contextlib
import json
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controller.core.events import MigrationCompleted, MigrationRequested
from controller.core.segment import ConnectionKey, Endpoint
from topo import HOSTS, BatonNet, HostSpec, wait_for

from .hand import ENDED, Hand, bus_of, moved, outcome, serve
from .raw_peer import WAYS
from .test_any_moment import set_in, until_there
from .test_observe import DEADLINE, SETTINGS, Bulk, Lab, account

RAW = str(Path(__file__).with_name("raw_peer.py"))
RAW_ADDRESS = "10.0.0.77"
HALF_OPEN = 200
MORE = """
[servers.lines1]
address = "10.0.0.1"
port = 11112
[servers.lines2]
address = "10.0.0.2"
port = 22225
[[services]]
name = "lines"
origin = "lines1"
mode = "observe"
handshake_timeout = 2.0
[limits]
half_open = 200
syn_rate = 400
"""
RAW_SERVERS = "".join(
    f'[servers.{way}]\naddress = "{RAW_ADDRESS}"\nport = {23_000 + number}\n' for number, way in enumerate(WAYS)
)
REASONS = {
    "wrong_ack": "timeout",
    "broken_options": "timeout",
    "wrong_reset": "timeout",
    "right_reset": "refused",
    "no_proof": "timeout",
    "wrong_number": "timeout",
    "no_options": "options",
    "small": "mss",
    "talks_in_its_synack": "banner",
    "silent": "timeout",
}
FORGER = HostSpec("h4", "10.0.0.4/8", "02:00:00:00:00:04")
PORTS = {way: 23_000 + number for number, way in enumerate(WAYS)}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    directory = tmp_path_factory.mktemp("bad-input")
    settings = directory / "baton.toml"
    settings.write_text(SETTINGS + MORE + RAW_SERVERS)
    net = BatonNet(private=True, hosts=[*HOSTS, FORGER])
    net.environment["BATON_CONFIG"] = str(settings)
    with net:
        net.start_controller("os_ken")
        serve(net, "h1", "10.0.0.1", 11_112, "lines1")
        serve(net, "h2", "10.0.0.2", 22_225, "lines2")
        yield Lab(net, directory)
        assert "Traceback" not in (net.run_dir / "controller.log").read_text()


@pytest.fixture
def bus(lab):
    with bus_of(lab.net) as client:
        yield client


@pytest.fixture
def bulk(lab, request):
    bulk = Bulk(lab.net, lab.directory / re.sub(r"\W", "-", request.node.name))
    bulk.flows()
    return bulk


def key_of(bulk):
    return ConnectionKey(Endpoint("10.0.0.3", bulk.port), Endpoint("10.0.0.1", 11_111))


@contextlib.contextmanager
def running(lab, node, *words):
    """Run a raw peer in a host meanwhile."""
    interface = lab.net[node].intfNames()[0]
    command = [sys.executable, RAW, words[0], interface, *words[1:]]
    program = lab.net.popen(node, command, stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "ready\n"
    try:
        yield program
        assert program.poll() is None
    finally:
        program.kill()
        program.wait(DEADLINE)


def line_of(program):
    """Return the next JSON line of a program."""
    assert select.select([program.stdout], [], [], DEADLINE)[0]
    return json.loads(program.stdout.readline())


# ---- targets --------------------------------------------------------------------------------------------------------


def test_every_way_has_its_reason():
    assert set(REASONS) == set(WAYS)


@pytest.mark.parametrize("way", WAYS)
def test_a_target_that_breaks_the_rules_is_refused(lab, bus, bulk, way):
    """A wrong ACK, other options than were offered, a handshake without proof: the stream stays whole, at home."""
    with running(lab, "h2", "target", RAW_ADDRESS, str(PORTS[way]), way):
        end = outcome(bus, key_of(bulk), way)
        assert not isinstance(end, MigrationCompleted)
        assert end.reason == REASONS[way], end
        bulk.flows()
    assert account(lab, bulk) == ["server1"]


# ---- forgers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["h4", "h3"])
def test_nobody_can_answer_for_a_silent_target(lab, bus, bulk, place):
    """SYN-ACKs and proofs with the exact numbers, from the client's own port and from another host's."""
    key = key_of(bulk)
    with running(lab, "h2", "target", RAW_ADDRESS, str(PORTS["silent"]), "silent") as target:
        bus.send(MigrationRequested(time.monotonic(), key, "silent"))
        syn = line_of(target)
        assert syn["port"] == bulk.port
        ends = (RAW_ADDRESS, str(PORTS["silent"]), "10.0.0.3", str(bulk.port))
        with running(lab, place, "answer", *ends, str((syn["seq"] + 1) % 2**32)):
            end = bus.wait_for(lambda event: isinstance(event, ENDED) and event.connection == key, DEADLINE)
        assert end.reason == "timeout", end
        bulk.flows()
    assert account(lab, bulk) == ["server1"]


def test_forged_segments_harm_no_connection(lab, bus, bulk):
    """In everybody's name, any flags, any numbers, also while both ends are stopped: it moves, and is whole."""
    ends = ("10.0.0.3", str(bulk.port), "10.0.0.1", "11111", "10.0.0.2", "22222")
    with running(lab, "h4", "forge", *ends):
        for target in ("server2", "server1") * 3:
            until_there(bus, key_of(bulk), target)
            bulk.flows()
    assert account(lab, bulk) == ["server1", "server2"] * 3 + ["server1"]


# ---- one 4-tuple, two connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["bye", "close", "vanish"])
@pytest.mark.parametrize("place", ["lines1", "lines2"])
def test_a_port_that_is_used_again(lab, bus, end, place):
    """The first connection was closed by its server, by its client, or is still there (the client's host restarted).

    The next one from the same port is another connection, begins at its origin, and can move to where the first was.
    """
    reuse = ["sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1"]
    with set_in(lab.net, "h3", reuse, ["sysctl", "-qw", "net.ipv4.tcp_tw_reuse=2"]):
        hand = Hand(lab.net)
        port = hand.connect("10.0.0.1", 11_112)
        assert hand.ask("one") == "lines1 one\n"
        if place == "lines2":
            moved(bus, hand.key, place)
        assert hand.ask("two") == f"{place} two\n"
        if end == "bye":
            hand.send("bye\n")
            assert hand.read() == ""
        hand.do("vanish" if end == "vanish" else "close")

        def again():
            """TIME_WAIT is left after a second at the soonest."""
            with contextlib.suppress(AssertionError):
                return hand.connect("10.0.0.1", 11_112, port)
            return 0

        assert wait_for("the second connection", again, DEADLINE) == port
        assert hand.ask("three") == "lines1 three\n"
        moved(bus, hand.key, "lines2")
        assert hand.ask("four") == "lines2 four\n"
        hand.do("close")


# ---- floods ---------------------------------------------------------------------------------------------------------


def resident(process):
    """Return a process's resident memory in bytes."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) * 1024


def test_a_flood_of_syns_is_bounded_and_harms_nobody(lab, bus, bulk):
    """Connections that stand and that have moved go on; half-open ones are bounded; new ones get through behind it."""
    moved_one = Bulk(lab.net, lab.directory / "moved-before")
    moved_one.flows()
    until_there(bus, key_of(moved_one), "server2")
    before = resident(lab.net.controller)
    with running(lab, "h4", "flood", "10.0.0.1", "11111", "02:00:00:00:00:01"):

        def is_full():
            flows = lab.net.switch.ofctl("dump-flows", "--no-stats", "s1", "table=1").splitlines()
            return len(flows) > HALF_OPEN

        wait_for("half-open connections", is_full, DEADLINE)
        for _ in range(5):
            bulk.flows()
            moved_one.flows()
            # Two flows for each half-open connection, and some for those that stand and for the servers.
            assert len(lab.net.switch.ofctl("dump-flows", "--no-stats", "s1", "table=1").splitlines()) < 3 * HALF_OPEN
        assert resident(lab.net.controller) - before < 64 << 20
    hand = Hand(lab.net)
    hand.connect("10.0.0.1", 11_112)
    assert hand.ask("after the flood") == "lines1 after the flood\n"
    until_there(bus, key_of(bulk), "server2")
    until_there(bus, key_of(moved_one), "server1")
    bulk.flows()
    moved_one.flows()
    assert account(lab, bulk) == ["server1", "server2"]
    assert account(lab, moved_one) == ["server1", "server2", "server1"]
    assert lab.net.controller.poll() is None
